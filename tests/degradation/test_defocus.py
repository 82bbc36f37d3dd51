"""Disks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.degradation import DefocusSampler, kernel_covariances
from manet_basicsr.degradation.defocus import disk_kernels
from tests.degradation.drawing import draw, problem_of


@pytest.mark.parametrize('radius', [2.0, 4.5, 6.3])
def test_a_disk_has_the_variance_of_its_radius_and_is_flat_inside(radius: float) -> None:
    kernel = draw(DefocusSampler((radius, radius)))[0, :, 0, 0].view(21, 21)
    axis = torch.arange(21.0) - 11.5
    variance = (kernel.sum(0) * axis.square()).sum()
    assert variance == pytest.approx(radius**2 / 4, rel=0.1)  # the soft edge adds about 1/12
    inside = kernel[torch.hypot(axis[:, None], axis) < radius - 0.5]
    torch.testing.assert_close(inside, inside[:1].expand_as(inside))
    assert 1 / kernel.max() == pytest.approx(math.pi * radius**2, rel=0.1)


@pytest.mark.parametrize(('radius', 'variance'), [(1.7, 0.852), (6.3, 10.057)])
def test_the_soft_edge_of_a_disk_adds_the_variance_that_is_told(radius: float, variance: float) -> None:
    assert kernel_covariances(disk_kernels(torch.tensor([radius]), 21, 4, 'centered'))[0, 0, 0] == pytest.approx(
        variance, abs=1e-3
    )


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'type': 'defocus', 'radius': [0.5, 6]},
            'radius must be [min, max] with 1 <= min <= max (HR px), found [0.5, 6.0]',
        ),
        ({'type': 'defocus', 'radius': [1, 9]}, 'radius must be at most 8.50 HR px (kernel_size 21, scale 4), found 9'),
        ({'type': 'defocus', 'radius': [1, 6], 'period': 0}, 'period must be at least 1 (HR px), found 0'),
    ],
)
def test_wrong_options_are_one_clear_line_before_anything_is_read(
    photos: Path, options: dict[str, Any], message: str
) -> None:
    assert problem_of(options, photos) == f'degradation.field.{message}'
