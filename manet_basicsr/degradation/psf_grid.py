"""The blur of a measured lens: kernels at a grid of places in the picture, interpolated between them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from manet_basicsr.degradation.bank import lay_kernel
from manet_basicsr.degradation.kernel_files import read_kernel_grid
from manet_basicsr.degradation.sampler import FieldSampler, lr_size, register_field
from manet_basicsr.degradation.values import check_pair
from manet_basicsr.utils.messages import unknown_name

_FITS = ('error', 'crop')
#: Files that are kept in memory.
_KEPT = 64


def grid_kernels(
    file: str,
    grid: tuple[int, int] | None,
    kernel_size: int,
    scale: int,
    alignment: str,
    fit: str = 'error',
    device: torch.device | str = 'cpu',
) -> Tensor:
    """Lay the kernels of a measured lens on the grid of a kernel field, each with its centre of mass in the middle.

    A file is read once a process.

    Args:
        file: A file of one array of kernels, (rows, columns, h, w) or (N, h, w), with colours (3) at the end or
            without; of colours the mean is taken.
        grid: Rows and columns of N kernels, in row-major order; None where the array says it.
        kernel_size: Side k of the kernels in taps.
        scale: Downsampling factor.
        alignment: ``centered`` or ``published``.
        fit: What becomes of a kernel of which more than a hundredth would be cut off: ``error`` refuses the file,
            ``crop`` keeps the taps where it weighs most.
        device: Where the kernels are.

    Returns:
        ``(rows, columns, k*k)`` kernels, each summing to 1. They are shared: do not change them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no such array, ``grid`` is not the one it tells, or a kernel is too large.
    """
    place = os.path.abspath(os.path.expanduser(file))
    return _grid_kernels(file, place, grid, kernel_size, scale, alignment, fit, torch.device(device))


@lru_cache(maxsize=_KEPT)
def _grid_kernels(
    file: str,
    place: str,
    grid: tuple[int, int] | None,
    kernel_size: int,
    scale: int,
    alignment: str,
    fit: str,
    device: torch.device,
) -> Tensor:
    if device.type != 'cpu':  # kept there, too: to send them with every batch would make the host wait
        return _grid_kernels(file, place, grid, kernel_size, scale, alignment, fit, torch.device('cpu')).to(device)
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f'{file} is not a file of kernels')
    measured = read_kernel_grid(path)
    counts = measured.shape[:-2]
    rows, columns = grid or (counts if len(counts) == 2 else (0, 0))
    number = len(measured.reshape(-1, *measured.shape[-2:]))
    if rows * columns != number or (len(counts) == 2 and (rows, columns) != counts):
        expected = (
            f'{rows} x {columns} (grid: [{rows}, {columns}])' if grid else '(rows, columns, h, w), or grid: [., .]'
        )
        raise ValueError(f'{file}: found {number} kernels, an array {measured.shape}, expected {expected}')
    laid = [
        lay_kernel(taps, f'{file}[{place}]', kernel_size, scale, alignment, crop=fit == 'crop')
        for place, taps in enumerate(measured.reshape(-1, *measured.shape[-2:]))
    ]
    return torch.cat(laid).view(rows, columns, -1)


@register_field('psf_grid')
@dataclass(frozen=True)
class PsfGridSampler(FieldSampler):
    """A measured lens: kernels known at a grid of places, between which they are interpolated bilinearly.

    The picture that the lens makes is divided into as many equal cells as there are kernels, and each kernel is that of
    the centre of its cell; beyond the outermost centres kernels stay the same. Without ``size`` every image is the
    whole picture. With it an image is a part of it at a random place, as a crop of a photograph is in training; an
    image that is larger than the picture along an axis is the whole of it there. Parameters are the place of each LR
    pixel, (row, column) as shares of the picture.

    Args:
        file: The kernels, as :func:`grid_kernels` reads them.
        grid: Rows and columns, where the array does not tell them.
        size: Height and width of the picture in HR px, or None.
        fit: What becomes of kernels that are too large, as in :func:`grid_kernels`: ``error`` or ``crop``.

    Raises:
        ValueError: If the file is no path, grid or size no two positive whole numbers, or fit none of these words.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy as np
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f'{folder}/lens.npy', np.full((2, 3, 5, 5), 0.04))  # 2 x 3 kernels of 5x5 taps
        ...     PsfGridSampler(f'{folder}/lens.npy').draw(96, 128, scale=4).shape
        torch.Size([1, 441, 24, 32])
    """

    file: str
    grid: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    fit: str = 'error'

    def __post_init__(self) -> None:
        if not isinstance(self.file, str):
            raise ValueError(f'file must be a path, found {self.file!r}')
        object.__setattr__(self, 'grid', _check_counts('grid', self.grid))
        object.__setattr__(self, 'size', _check_counts('size', self.size))
        if self.fit not in _FITS:
            raise ValueError(unknown_name('fit', self.fit, _FITS))

    def check(self, kernel_size: int, scale: int) -> None:
        try:
            grid_kernels(self.file, self.grid, kernel_size, scale, 'centered', self.fit)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f'file: {error}') from error

    @property
    def varies(self) -> bool:
        return True

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        pixels = lr_size(height, width, scale)
        sides = [count * scale for count in pixels]
        pictures = [max(pair) for pair in zip(sides, self.size or sides, strict=True)]
        places = torch.zeros(2) if self.size is None else torch.rand(2, generator=generator)
        shares = [
            (float(place) * (picture - side) + (torch.arange(count) + 0.5) * scale) / picture
            for count, side, picture, place in zip(pixels, sides, pictures, places, strict=True)
        ]
        return torch.stack(torch.meshgrid(*shares, indexing='ij'), dim=2)

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        grid = grid_kernels(self.file, self.grid, kernel_size, scale, alignment, self.fit, parameters.device)
        down, across = (
            _neighbours(share, count) for share, count in zip(parameters.unbind(1), grid.shape[:2], strict=True)
        )
        kernels = torch.zeros(len(parameters), kernel_size**2, device=parameters.device)
        for row, height in down:
            for column, width in across:
                kernels.addcmul_((height * width)[:, None], grid[row, column])
        return kernels

    def block(self, scale: int) -> int:
        return scale


def _neighbours(shares: Tensor, count: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Give, for places (N,) as shares of a side of so many cells, the two nearest cells and their weights."""
    # From shares of the picture to numbers of cells, whose centres lie at halves.
    places = (shares * count - 0.5).clamp(0, count - 1)
    low = places.floor()
    first = low.long()
    return (first, 1 - (places - low)), ((first + 1).clamp(max=count - 1), places - low)


def _check_counts(setting: str, value: object) -> tuple[int, int] | None:
    """Give two positive whole numbers as tuple, or refuse what is none."""
    if value is None:
        return None
    first, second = check_pair(setting, value) if isinstance(value, Sequence) else (0.0, 0.0)
    if not (first >= 1 and second >= 1 and first.is_integer() and second.is_integer()):
        raise ValueError(f'{setting} must be two whole numbers, at least 1, found {value!r}')
    return int(first), int(second)
