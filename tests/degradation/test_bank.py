"""Kernels that are not Gaussians: motion, defocus and measured ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.degradation import (
    BankSampler,
    DefocusSampler,
    FieldSampler,
    MotionSampler,
    anisotropic_gaussian_kernels,
    blur_downsample,
    build_field_sampler,
)
from manet_basicsr.degradation.bank import bank_kernels, read_bank
from manet_basicsr.degradation.motion import random_paths


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lopsided kernels in every format: 1 in a png, 2 in an npy, 2 in a mat file with a cell array."""
    folder = tmp_path_factory.mktemp('bank')
    comet = np.outer(np.arange(1.0, 9), [0.5, 1, 0.5])
    cv2.imwrite(str(folder / 'comet.png'), (comet * 30).astype(np.uint8))
    np.save(folder / 'steps.npy', np.stack([np.triu(np.ones((6, 6))), np.tril(np.ones((6, 6)))]))
    cell = np.empty((1, 2), dtype=object)
    cell[0, 0], cell[0, 1] = np.eye(7), comet.T
    savemat(folder / 'cell.mat', {'kernels': cell})
    (folder / 'readme.txt').write_text('where they come from')
    return folder


def fields(folder: Path) -> list[FieldSampler]:
    return [
        MotionSampler((1.5, 6)),
        MotionSampler((1.5, 6), trajectory='object'),
        MotionSampler((1.5, 6), variant=True),
        MotionSampler((1.5, 6), trajectory='object', variant=True),
        DefocusSampler((1.7, 6.3)),
        DefocusSampler((1.7, 6.3), period=40),
        BankSampler(str(folder)),
        BankSampler(str(folder), period=40),
    ]


NUMBER = 8


def draw(field: FieldSampler, alignment: str = 'centered', seed: int = 0, scale: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return field.draw(96, 128, scale=scale, alignment=alignment, generator=generator)


def centre_of_mass(field: torch.Tensor) -> torch.Tensor:
    """(2, h, w) rows and columns, from the middle of the taps."""
    taps = field[0].double().view(21, 21, *field.shape[2:])
    axis = torch.arange(21, dtype=torch.float64) - 10
    return torch.stack([torch.einsum('yxhw,y->hw', taps, axis), torch.einsum('yxhw,x->hw', taps, axis)])


@pytest.mark.parametrize('number', range(NUMBER))
@pytest.mark.parametrize('scale', [2, 3, 4])
def test_kernels_are_normalised_and_their_centre_of_mass_is_that_of_the_grid(
    folder: Path, number: int, scale: int
) -> None:
    kind = fields(folder)[number]
    if isinstance(kind, MotionSampler | DefocusSampler):
        kind = type(kind)(**{**vars(kind), 'radius': (1.1, 5)})
    for alignment, sign in (('centered', 1), ('published', -1)):
        field = draw(kind, alignment, scale=scale)
        assert field.dtype == torch.float32
        assert field.min() >= 0
        torch.testing.assert_close(field.sum(1), torch.ones_like(field[:, 0]))
        offset = sign * (scale - 1) / 2
        # The tails of a stroke, cut beyond two standard deviations, weigh that little.
        assert (centre_of_mass(field) - offset).abs().max() < 0.05


@pytest.mark.parametrize('number', range(NUMBER))
def test_a_centered_kernel_is_the_published_one_flipped_in_both_axes(folder: Path, number: int) -> None:
    centered, published = (draw(fields(folder)[number], alignment) for alignment in ('centered', 'published'))
    assert torch.equal(centered, published.flip(1))


@pytest.mark.parametrize('number', range(NUMBER))
def test_variant_fields_have_a_kernel_for_each_lr_pixel_and_invariant_ones_a_single_one(
    folder: Path, number: int
) -> None:
    field, again, other = (draw(fields(folder)[number], seed=seed) for seed in (0, 0, 3))
    assert torch.equal(field, again)
    assert not torch.equal(field, other)
    assert field.shape == ((1, 441, 1, 1) if number in (0, 1, 4, 6) else (1, 441, 24, 32))
    if field.shape[2] > 1:
        draws = [field, other, draw(fields(folder)[number], seed=5)]
        assert max((drawn - drawn[:, :, :1, :1]).abs().sum(1).max() for drawn in draws) > 0.2


def test_camera_motion_changes_smoothly_and_an_object_has_a_border(folder: Path) -> None:
    camera, thing = draw(fields(folder)[2]), draw(fields(folder)[3])
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


@pytest.mark.parametrize('radius', [2.0, 4.5, 6.3])
def test_a_disk_has_the_variance_of_its_radius_and_is_flat_inside(radius: float) -> None:
    kernel = draw(DefocusSampler((radius, radius)))[0, :, 0, 0].view(21, 21)
    axis = torch.arange(21.0) - 11.5
    variance = (kernel.sum(0) * axis.square()).sum()
    assert variance == pytest.approx(radius**2 / 4, rel=0.1)  # the soft edge adds about 1/12
    inside = kernel[torch.hypot(axis[:, None], axis) < radius - 0.5]
    torch.testing.assert_close(inside, inside[:1].expand_as(inside))
    assert 1 / kernel.max() == pytest.approx(math.pi * radius**2, rel=0.1)


def test_a_bank_has_the_kernels_of_every_format_in_the_order_of_their_names(folder: Path) -> None:
    bank = read_bank(str(folder))
    names = [Path(name).name for name in bank]
    assert names == ['cell.mat kernels[0]', 'cell.mat kernels[1]', 'comet.png', 'steps.npy[0]', 'steps.npy[1]']
    assert all(taps.sum() == pytest.approx(1) for taps in bank.values())
    np.testing.assert_allclose(bank[str(folder / 'comet.png')], list(bank.values())[1].T, atol=1e-3)
    drawn = torch.cat([draw(BankSampler(str(folder)), seed=seed).flatten(1) for seed in range(40)])
    assert len(drawn.unique(dim=0)) == 5


def test_a_measured_kernel_is_convolved_in_the_centered_alignment(tmp_path: Path) -> None:
    spread = np.zeros((9, 9))
    spread[4, 4], spread[4, 6] = 0.5, 0.5  # a point and its echo two px to the right of it
    np.save(tmp_path / 'echo.npy', spread)
    hr = torch.zeros(1, 1, 41, 41)
    hr[..., 20, 20] = 1
    seen = blur_downsample(hr, bank_kernels(str(tmp_path), 21, 1, 'centered').view(1, 441, 1, 1), 1)[0, 0]
    assert seen.nonzero().tolist() == [[20, 19], [20, 21]]  # about the centre of mass
    lopsided = np.zeros((9, 9))
    lopsided[4, 3:8] = [5, 1, 1, 1, 1]  # bright at the left
    np.save(tmp_path / 'echo.npy', lopsided)
    bank_kernels.cache_clear()
    read_bank.cache_clear()
    seen = blur_downsample(hr, bank_kernels(str(tmp_path), 21, 1, 'centered').view(1, 441, 1, 1), 1)[0, 0]
    assert seen.argmax().item() % 41 < 20


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.npy', b'garbage', 'a.npy cannot be read'),
        ('a.png', b'garbage', 'a.png cannot be read: damaged, or no PNG'),
        ('a.mat', b'garbage', 'a.mat cannot be read'),
        ('a.txt', b'1 2 3', 'holds no kernels (.npy, .mat, .png)'),
    ],
)
def test_a_file_that_holds_no_kernels_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        BankSampler(str(tmp_path)).check(21, 4)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ('taps', 'message'),
    [
        (np.ones(5), r'float64 of shape \(5,\), expected kernels'),
        (np.zeros((5, 5)), 'sum to more than 0'),
        (np.full((5, 5), np.nan), 'non-negative, finite'),
        (np.diag([1.0, -1, 1]), 'non-negative, finite'),
        (np.ones((25, 25)), 'a kernel of 25x25 taps .* would be cut off by 18x18 taps'),
    ],
)
def test_taps_that_are_no_kernel_are_refused_with_their_file(tmp_path: Path, taps: Any, message: str) -> None:
    np.save(tmp_path / 'bad.npy', taps)
    with pytest.raises(ValueError, match=rf'bad\.npy: .*{message}'):
        BankSampler(str(tmp_path)).check(21, 4)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'type': 'motion', 'radius': [6, 1]},
            'radius must be [min, max] with 0 < min <= max (HR px), found [6.0, 1.0]',
        ),
        ({'type': 'motion', 'radius': [1, 8]}, 'radius must be at most 6.83 HR px (kernel_size 21, scale 4), found 8'),
        ({'type': 'motion', 'radius': [1, 6], 'variant': 1}, 'variant must be true or false, found 1'),
        ({'type': 'motion', 'radius': [1, 6], 'variance': 0}, 'variance must be positive (HR px^2), found 0'),
        (
            {'type': 'motion', 'radius': [1, 6], 'trajectory': 'hand'},
            "trajectory 'hand' is not one of camera, object",
        ),
        (
            {'type': 'defocus', 'radius': [0.5, 6]},
            'radius must be [min, max] with 1 <= min <= max (HR px), found [0.5, 6.0]',
        ),
        ({'type': 'defocus', 'radius': [1, 9]}, 'radius must be at most 8.50 HR px (kernel_size 21, scale 4), found 9'),
        ({'type': 'defocus', 'radius': [1, 6], 'period': 0}, 'period must be at least 1 (HR px), found 0'),
        ({'type': 'bank', 'folder': 3}, 'folder must be a path, found 3'),
        ({'type': 'bank', 'folder': '/nowhere'}, 'folder: /nowhere is not a folder of kernels'),
        ({'type': 'bank', 'folder': '/nowhere', 'period': 1.5}, 'period must be a whole number (HR px), found 1.5'),
    ],
)
def test_wrong_options_are_one_clear_line_before_anything_is_read(
    photos: Path, options: dict[str, Any], message: str
) -> None:
    degradation = {'field': options}
    opt = {'phase': 'test', 'scale': 4, 'dataroot_gt': str(photos), 'degradation': degradation}
    with pytest.raises(ValueError) as error:
        SVDegradationDataset.check(opt)
    assert str(error.value) == f'degradation.field.{message}'


@pytest.mark.parametrize('number', range(NUMBER))
def test_the_dataset_trains_and_tests_on_them(folder: Path, photos: Path, number: int) -> None:
    kind = fields(folder)[number]
    field = {'type': type(kind).__name__.removesuffix('Sampler').lower(), **vars(kind)}
    degradation = {'field': {key: list(v) if isinstance(v, tuple) else v for key, v in field.items()}}
    assert build_field_sampler(degradation['field']) == kind
    opt = {'scale': 4, 'dataroot_gt': str(photos), 'degradation': degradation}
    sample = SVDegradationDataset({**opt, 'phase': 'train', 'gt_size': 96})[0]
    assert sample['lq'].shape == (3, 24, 24)
    test = SVDegradationDataset({**opt, 'phase': 'test'})
    assert torch.equal(test[1]['lq'], test[1]['lq'])
    remade = blur_downsample(test[1]['gt'][None], test[1]['kernel'][None], 4)[0]
    assert (remade - test[1]['lq']).abs().max() <= 0.5 / 255 + 1e-6  # rounding to 8 bit
