"""A measured lens: kernels at a grid of places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manet_basicsr.degradation import PsfGridSampler, anisotropic_gaussian_kernels, kernel_covariances
from manet_basicsr.degradation.kernel_files import read_kernel_grid
from tests.degradation.drawing import problem_of


@pytest.fixture
def lens(tmp_path: Path) -> Path:
    """A lens that blurs more from left to right (1 to 4 px^2) and from top to bottom (by 2 px^2)."""
    variances = torch.tensor([1.0, 2, 3, 4]).expand(2, 4).clone()
    variances[1] += 2
    kernels = anisotropic_gaussian_kernels(variances.reshape(-1, 1).expand(-1, 2), torch.zeros(8), 21, 1)
    np.save(tmp_path / 'lens.npy', kernels.view(2, 4, 21, 21).numpy())
    return tmp_path / 'lens.npy'


def variances_of(field: torch.Tensor) -> torch.Tensor:
    height, width = field.shape[2:]
    return kernel_covariances(field[0].flatten(1).T)[:, 0, 0].view(height, width).float()


def test_between_the_centres_of_the_cells_variances_are_interpolated(lens: Path) -> None:
    # Kernels with one centre of mass: the variance of their mean is the mean of theirs.
    found = variances_of(PsfGridSampler(str(lens)).draw(80, 160, scale=1))
    row = torch.tensor([0.0, 20, 59.5, 79]).long()
    # Cells are 40 px wide and high: centres at 19.5, 59.5, 99.5 and 139.5.
    expected = torch.stack(
        [1 + ((torch.arange(160) - 19.5) / 40).clamp(0, 3) + 2 * max(0, min(1, (float(y) - 19.5) / 40)) for y in row]
    )
    torch.testing.assert_close(found[row], expected, atol=0.01, rtol=0)  # the Gaussians are cut at 21 taps


def test_an_image_is_a_part_of_a_larger_picture_at_a_random_place(lens: Path) -> None:
    whole = variances_of(PsfGridSampler(str(lens)).draw(80, 160, scale=2))
    sampler = PsfGridSampler(str(lens), size=(80, 160))
    torch.testing.assert_close(variances_of(sampler.draw(80, 160, scale=2)), whole)
    parts = [variances_of(sampler.draw(16, 32, scale=2, generator=torch.Generator().manual_seed(n))) for n in range(9)]
    assert all(part.max() - part.min() < (whole.max() - whole.min()) / 2 for part in parts)
    assert len({round(float(part.mean()), 3) for part in parts}) == 9
    assert min(part.min() for part in parts) >= whole.min() and max(part.max() for part in parts) <= whole.max()
    # A larger image is the whole picture.
    torch.testing.assert_close(sampler.draw(96, 192, scale=2), PsfGridSampler(str(lens)).draw(96, 192, scale=2))


def test_kernels_in_a_row_are_a_grid_where_the_option_says_which(lens: Path, tmp_path: Path) -> None:
    np.save(tmp_path / 'row.npy', np.load(lens).reshape(8, 21, 21))
    same = PsfGridSampler(str(tmp_path / 'row.npy'), grid=(2, 4)).draw(48, 64, scale=4)
    assert torch.equal(same, PsfGridSampler(str(lens)).draw(48, 64, scale=4))


@pytest.mark.parametrize('taps', [19, 21])
def test_a_square_grid_of_kernels_of_any_brightness_is_read_as_it_is_laid_out(taps: int, tmp_path: Path) -> None:
    row = anisotropic_gaussian_kernels(torch.tensor([[3.0, 3.0]]), torch.zeros(1), 21, 1).view(21, 21)
    brightness = torch.linspace(0.5, 1, 25).view(5, 5, 1, 1)
    np.save(tmp_path / 'lens.npy', (brightness * row[:, (21 - taps) // 2 :][:, :taps]).numpy())
    for grid in (None, (5, 5)):
        found = variances_of(PsfGridSampler(str(tmp_path / 'lens.npy'), grid=grid).draw(60, 60, scale=1))
        torch.testing.assert_close(found, torch.full((60, 60), 3.0), atol=0.02, rtol=0)
    matlab = (brightness * row).reshape(25, 21, 21).permute(1, 2, 0)
    np.save(tmp_path / 'matlab.npy', matlab.numpy())
    found = variances_of(PsfGridSampler(str(tmp_path / 'matlab.npy'), grid=(5, 5)).draw(60, 60, scale=1))
    torch.testing.assert_close(found, torch.full((60, 60), 3.0), atol=0.02, rtol=0)
    np.save(tmp_path / 'unclear.npy', matlab.reshape(21, 21, 5, 5).numpy())
    with pytest.raises(ValueError, match='cannot tell which axes are taps'):
        read_kernel_grid(tmp_path / 'unclear.npy')
    colours = brightness[..., None] * row[..., None] * torch.tensor([1, 0.5, 0.8])
    np.save(tmp_path / 'colours.npy', colours.numpy())
    assert read_kernel_grid(tmp_path / 'colours.npy').shape == (5, 5, 21, 21)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'file': 3}, 'file must be a path, found 3'),
        ({'file': '/nowhere.npy'}, 'file: /nowhere.npy is not a file of kernels'),
        ({'grid': [2, 3]}, 'file: LENS: found 8 kernels, an array (2, 4, 21, 21), expected 2 x 3 (grid: [2, 3])'),
        ({'grid': [2, 0.5]}, 'grid must be two whole numbers, at least 1, found [2, 0.5]'),
        ({'size': 100}, 'size must be two whole numbers, at least 1, found 100'),
        ({'grid': [4, 2]}, 'file: LENS: found 8 kernels, an array (2, 4, 21, 21), expected 4 x 2 (grid: [4, 2])'),
        ({'fit': 'skip'}, "fit 'skip' is not one of error, crop"),
    ],
)
def test_wrong_options_are_one_clear_line(options: dict[str, Any], message: str, lens: Path, photos: Path) -> None:
    found = problem_of({'type': 'psf_grid', 'file': str(lens), **options}, photos)
    assert found == f'degradation.field.{message.replace("LENS", str(lens))}'


def test_kernels_that_are_too_large_are_refused_or_cropped(tmp_path: Path, photos: Path) -> None:
    taps = np.random.default_rng(0).random((2, 2, 25, 25))
    np.save(tmp_path / 'wide.npy', taps / taps.sum((2, 3), keepdims=True))
    options = {'type': 'psf_grid', 'file': str(tmp_path / 'wide.npy')}
    assert 'wide.npy[0]: of a kernel of 25x25 taps 4' in problem_of(options, photos)
    field = PsfGridSampler(str(tmp_path / 'wide.npy'), fit='crop').draw(48, 48, scale=4)
    torch.testing.assert_close(field.sum(1), torch.ones(1, 12, 12))


def test_a_real_lens_blurs_its_corners_more_than_its_middle(shared: Path) -> None:
    file = shared / 'data/kernels/lens_oil/63762BB_rgb_9x12x25x25x3_f16.npy'
    found = variances_of(PsfGridSampler(str(file)).draw(180, 240, scale=2, kernel_size=27))
    assert found[40:50, 55:65].mean() < 0.7 * found[:8, :8].mean()


@pytest.mark.parametrize('scale', [1, 2, 4])
@pytest.mark.parametrize('apart', [(0.0, 0.0), (2.0, 0.0), (1.5, -1.0)])
@pytest.mark.parametrize('brightness', [(1, 1, 1), (0.2, 0.7, 0.1)])
def test_the_one_kernel_of_a_place_keeps_how_far_its_colours_are_apart(
    tmp_path: Path, scale: int, apart: tuple[float, float], brightness: tuple[float, ...]
) -> None:
    rows, columns = torch.meshgrid(*[torch.arange(25.0) - 12] * 2, indexing='ij')
    # Red lies further down and right by half of it than green, and blue as far the other way.
    colours = [
        torch.exp(-((rows - apart[0] * place / 2) ** 2 + (columns - apart[1] * place / 2) ** 2) / (2 * 3.0))
        for place in (1, 0, -1)
    ]
    taps = torch.stack([bright * taps / taps.sum() for bright, taps in zip(brightness, colours, strict=True)], -1)
    np.save(tmp_path / 'lens.npy', taps.expand(2, 3, 25, 25, 3).numpy())
    field = PsfGridSampler(str(tmp_path / 'lens.npy'), fit='crop').draw(48, 48, scale=scale, kernel_size=31)
    covariance = kernel_covariances(field[0, :, 0, 0][None])[0]
    # The variance of a mean is that within the colours, and that of their centres: (1/4 + 0 + 1/4) / 3 of the square.
    expected = torch.tensor([[3 + apart[1] ** 2 / 6, 0], [0, 3 + apart[0] ** 2 / 6]])
    expected[0, 1] = expected[1, 0] = apart[0] * apart[1] / 6
    torch.testing.assert_close(covariance.float(), expected, atol=0.02, rtol=0)  # resampling to half pixels adds some
