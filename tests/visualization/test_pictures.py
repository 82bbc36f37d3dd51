"""Pictures of kernels: their size, where each kernel lies, and the edges."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from manet_basicsr.degradation import blur_downsample, protocol_field
from manet_basicsr.degradation.motion import motion_kernels
from manet_basicsr.utils.replacements import write_image
from manet_basicsr.visualization.figures import kernel_grid
from manet_basicsr.visualization.pictures import kernel_tile, kernels_beside_image, kernels_over_image


def dark(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def point_kernels(height: int, width: int, size: int = 5) -> torch.Tensor:
    """Make a field of kernels that are a single point in the middle."""
    field = torch.zeros(size**2, height, width)
    field[size**2 // 2] = 1
    return field


def test_trail_is_brightest_where_it_weighs_most() -> None:
    kernel = torch.zeros(5, 5)
    kernel[3, 1] = 0.9
    kernel[1, 3] = 0.1
    tile = kernel_tile(kernel, 50).astype(int).sum(2)
    assert tile.shape == (50, 50)
    brightest = np.argwhere(tile == tile.max())
    assert brightest.min(0).tolist() == [10, 30] and brightest.max(0).tolist() == [19, 39]
    assert tile[35, 15] > tile[5, 5]  # the lesser tap is seen too


@pytest.mark.parametrize('alignment', ['centered', 'published'])
def test_kernel_is_drawn_as_the_trail_that_a_point_of_light_leaves(alignment: str) -> None:
    time = torch.linspace(0, 1, 32)
    path = torch.stack([8 * time**3, 4 * time**3], dim=1)  # it stays long at its upper left end
    kernel = motion_kernels((path - path.mean(0))[None], 0.5, 21, 1, alignment)
    light = torch.zeros(1, 1, 41, 41)
    light[..., 20, 20] = 1
    trail = blur_downsample(light, kernel.view(1, 441, 1, 1), 1)[0, 0, 10:31, 10:31]
    brightest = kernel_tile(kernel[0], 21).astype(int).sum(2).argmax()
    assert brightest == trail.argmax() != trail.flip(0, 1).argmax()
    grid = kernel_grid(kernel[0].view(441, 1, 1))
    np.testing.assert_allclose(grid, trail, atol=1e-6)


@pytest.mark.parametrize('kernel', [torch.zeros(9), torch.full((9,), torch.nan), torch.full((9,), torch.inf)])
@pytest.mark.filterwarnings('error')
def test_kernel_without_a_largest_value_is_black(kernel: torch.Tensor) -> None:
    assert (kernel_tile(kernel, 9) == kernel_tile(torch.zeros(9), 9)).all()


def test_kernel_of_any_type_is_drawn() -> None:
    kernel = torch.rand(25, requires_grad=True)
    assert (kernel_tile(kernel, 20) == kernel_tile(kernel.double().detach(), 20)).all()
    assert kernel_tile(kernel.half(), 20).dtype == np.uint8


@pytest.mark.parametrize(
    ('height', 'width'), [(1, 1), (1, 40), (40, 1), (2, 500), (5000, 1), (12, 12), (13, 13), (120, 80), (33, 97)]
)
def test_picture_over_an_image_has_its_shape_and_kernels(height: int, width: int) -> None:
    for field in (point_kernels(height, width), point_kernels(1, 1)):
        picture = kernels_over_image(dark(height, width), field, kernels_across=12, tile=64)
        longer = max(picture.shape[:2])
        assert min(64, 12 * 64 * 0.5) <= longer <= 12 * 64
        # To a pixel of the picture; at least one pixel where the image is very narrow.
        assert abs(picture.shape[0] - max(1, longer * height / max(height, width))) <= 1
        assert abs(picture.shape[1] - max(1, longer * width / max(height, width))) <= 1
        assert picture.max() > 200  # a kernel is there


def centres(picture: np.ndarray) -> list[list[int]]:
    """Give the middle (row, column) of each spot of the brightest colour."""
    bright = (picture.astype(int).sum(2) > 500).astype(np.uint8)
    _, _, _, middles = cv2.connectedComponentsWithStats(bright)
    return sorted([round(y), round(x)] for x, y in middles[1:])


def test_each_kernel_lies_centred_over_its_pixel() -> None:
    # An image of 2 x 3 px is enlarged 64 times: the middle of its first pixel is at (32, 32).
    picture = kernels_over_image(dark(2, 3), point_kernels(2, 3), tile=64)
    assert picture.shape == (128, 192, 3)
    expected = [[row, column] for row in (32, 96) for column in (32, 96, 160)]
    np.testing.assert_allclose(centres(picture), expected, atol=1)  # tiles have an even side


def test_each_kernel_is_that_of_its_pixel() -> None:
    field = torch.zeros(9, 2, 2)
    field[0, 0, 0] = field[2, 0, 1] = field[6, 1, 0] = field[8, 1, 1] = 1  # each towards its corner
    field = field.flip(0)  # trails are
    spots = np.array(centres(kernels_over_image(dark(2, 2), field, tile=66)))
    assert spots.shape == (4, 2)
    np.testing.assert_allclose(spots, [[13, 13], [13, 119], [119, 13], [119, 119]], atol=2)


def test_image_is_seen_dimmed_between_the_kernels() -> None:
    image = np.full((20, 20, 3), 200, np.uint8)
    picture = kernels_over_image(image, torch.zeros(9, 1, 1))
    assert (picture == 100).mean() > 0.9
    assert image.min() == 200  # the caller's image is as it was


def test_kernels_beside_an_image_fit_for_any_image_and_field() -> None:
    for height, width in ((1, 1), (7, 300), (300, 7), (60, 80)):
        estimated = protocol_field(4, height * 4, width * 4, 4)[0]
        points = [(0, 0), (height - 1, width - 1)]
        picture = kernels_beside_image(dark(height, width), estimated, estimated[:, :1, :1], points, 'caption')
        assert picture.dtype == np.uint8
        assert picture.shape[0] >= 2 * 126 and picture.shape[1] >= 2 * 126


def test_point_is_drawn_in_the_middle_of_its_pixel() -> None:
    image = dark(4, 4)
    picture = kernels_beside_image(image, torch.zeros(9, 4, 4), torch.zeros(9, 1, 1), [(1, 2)], '')
    factor = round(3.2 * 126 / 4)
    white = np.argwhere((picture[: 4 * factor, : 4 * factor] == 255).all(2) & True)
    middle = [1 * factor + factor // 2, 2 * factor + factor // 2]
    assert (np.abs(white - middle).max(1) <= 3).sum() >= 20  # a disc of radius 3


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp'])
def test_picture_is_written_in_the_format_of_its_suffix(tmp_path: Path, suffix: str) -> None:
    picture = kernels_over_image(dark(8, 8), point_kernels(1, 1))
    write_image(picture, tmp_path / f'p{suffix}')
    read = cv2.imread(str(tmp_path / f'p{suffix}'))
    assert read.shape == picture.shape
    assert suffix == '.jpg' or (read == picture).all()


@pytest.mark.parametrize('name', ['p', 'p.xyz'])
def test_picture_in_no_known_format_is_an_os_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match='cannot encode an image'):
        write_image(dark(8, 8), tmp_path / name)
    assert not list(tmp_path.iterdir())
