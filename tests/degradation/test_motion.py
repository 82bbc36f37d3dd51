"""Kernels of motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.degradation import MotionSampler, anisotropic_gaussian_kernels, kernel_covariances
from manet_basicsr.degradation.motion import TRAJECTORIES, motion_kernels, random_paths
from tests.degradation.drawing import centre_of_mass, draw, problem_of


def test_camera_motion_changes_smoothly_and_an_object_has_a_border() -> None:
    camera, thing = (draw(MotionSampler((1.5, 6), trajectory, variant=True)) for trajectory in ('camera', 'object'))
    steps = [max(field.diff(dim=axis).abs().sum(1).max() for axis in (2, 3)) for field in (camera, thing)]
    assert steps[0] < 0.3 < steps[1]
    assert len(thing[0].flatten(1).unique(dim=1).T) == 2  # the object, and the scene that is still


def test_paths_begin_to_repeat_nowhere_and_keep_to_their_radius() -> None:
    for trajectory in ('camera', 'object'):
        paths = random_paths(200, trajectory, torch.Generator().manual_seed(1))
        torch.testing.assert_close(paths.mean(1), torch.zeros(200, 2), atol=1e-5, rtol=0)
        torch.testing.assert_close(paths.norm(dim=2).amax(1), torch.ones(200))
        assert len(paths.flatten(1).unique(dim=0)) == 200
    kind = MotionSampler((2, 6), variant=True)
    for seed in range(20):
        parameters = kind.parameters(96, 128, scale=4, generator=torch.Generator().manual_seed(seed))
        assert parameters.view(24, 32, -1, 2).norm(dim=3).max() <= 6


def test_motion_without_length_is_a_gaussian() -> None:
    still = MotionSampler((1e-6, 1e-6), variance=2.0)
    gaussian = anisotropic_gaussian_kernels(torch.tensor([[2.0, 2.0]]), torch.zeros(1))
    torch.testing.assert_close(draw(still)[0, :, 0, 0], gaussian[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize('trajectory', TRAJECTORIES)
@pytest.mark.parametrize(('scale', 'variance', 'within'), [(1, 0.175, 0.15), (2, 0.35, 0.01), (4, 0.7, 1e-3)])
def test_kernels_have_the_middle_and_the_variances_of_their_paths(
    scale: int, variance: float, within: float, trajectory: str
) -> None:
    paths = 3 * random_paths(500, trajectory, torch.Generator().manual_seed(0))
    kernels = motion_kernels(paths, variance, 21, scale, 'centered')
    # A Gaussian of 0.175 px^2 falls between the taps: without moving them back, the kernels are up to 0.09 px off.
    offset = (scale - 1) / 2
    assert (centre_of_mass(kernels.T[None, ..., None]) - offset).abs().max() < 1e-5
    expected = paths.mT @ paths / paths.shape[1] + variance * torch.eye(2)
    assert (kernel_covariances(kernels) - expected).abs().max() < within


@pytest.mark.parametrize('scale', [1, 4])
def test_a_point_that_falls_between_the_taps_is_drawn_all_the_same(scale: int) -> None:
    kernels = motion_kernels(
        0.3 * random_paths(20, 'camera', torch.Generator().manual_seed(0)), 1e-3, 21, scale, 'centered'
    )
    torch.testing.assert_close(kernels.sum(1), torch.ones(20))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'type': 'motion', 'radius': [6, 1]},
            'radius must be [min, max] with 0 < min <= max (HR px), found [6.0, 1.0]',
        ),
        (
            {'type': 'motion', 'radius': [1, 2], 'variance': 40},
            'variance must be below 18.06 HR px^2 (kernel_size 21, scale 4), found 40',
        ),
        ({'type': 'motion', 'radius': [1, 8]}, 'radius must be at most 6.83 HR px (kernel_size 21, scale 4), found 8'),
        ({'type': 'motion', 'radius': [1, 6], 'variant': 1}, 'variant must be true or false, found 1'),
        ({'type': 'motion', 'radius': [1, 6], 'variance': 0}, 'variance must be positive (HR px^2), found 0'),
        (
            {'type': 'motion', 'radius': [1, 6], 'trajectory': 'hand'},
            "trajectory 'hand' is not one of camera, object",
        ),
    ],
)
def test_wrong_options_are_one_clear_line_before_anything_is_read(
    photos: Path, options: dict[str, Any], message: str
) -> None:
    assert problem_of(options, photos) == f'degradation.field.{message}'


def test_kernels_are_data_also_where_networks_have_half_precision() -> None:
    paths = 4 * random_paths(50, 'camera', torch.Generator().manual_seed(0))
    expected = motion_kernels(paths, 0.5, 21, 4, 'centered')
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(motion_kernels(paths, 0.5, 21, 4, 'centered'), expected)
