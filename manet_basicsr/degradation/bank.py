"""Measured kernels: a folder of files, each of which holds one or many."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manet_basicsr.degradation.kernel_files import KERNEL_SUFFIXES, kernel_files, read_kernel_file
from manet_basicsr.degradation.kernels import check_kernel_grid, place_kernels
from manet_basicsr.degradation.resizing import BicubicSampler
from manet_basicsr.degradation.sampler import PROTOCOL_BLOCK, FieldSampler, lr_size, register_field
from manet_basicsr.degradation.values import check_period
from manet_basicsr.utils.messages import unknown_name

FITS = ('error', 'skip', 'crop')
#: Share of a kernel's weight that may lie outside the taps it is cut to.
LARGEST_LOSS = 0.01
_TINY = 1e-12
#: Steps in which a kernel is moved at most, and how far from the middle, in px, it is when it needs no further one.
_ROUNDS, _STILL = 100, 1e-9
#: Folders that are kept in memory.
_KEPT = 64


def read_bank(folder: str) -> dict[str, NDArray[np.float64]]:
    """Read the kernels of a folder and its subfolders, in the order of the files' names, once a process.

    What lies in a file is found out as :func:`manet_basicsr.degradation.kernel_files.read_kernel_file` describes. A
    file that holds no kernels is left out, with a warning, as long as there are others.

    Args:
        folder: The folder; files without a suffix of kernels are left alone.

    Returns:
        Kernels by a name that tells the file and the place in it, each non-negative and summing to 1. They are shared:
        do not change them.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There is no kernel in it; the message says why the first file gave none.
    """
    return _read_bank(folder, os.path.abspath(folder))


@lru_cache(maxsize=_KEPT)
def _read_bank(folder: str, place: str) -> dict[str, NDArray[np.float64]]:
    # A relative path is told as it was given; kept is what is at its place.
    bank: dict[str, NDArray[np.float64]] = {}
    refused = []
    for path in kernel_files(folder):
        try:
            kernels, remarks = read_kernel_file(path)
        except ValueError as error:
            refused.append(str(error))
            continue
        bank |= kernels
        for remark in remarks:
            warnings.warn(remark, stacklevel=2)
    if not bank:
        raise ValueError(refused[0] if refused else f'{folder} holds no kernels ({", ".join(KERNEL_SUFFIXES)})')
    for problem in refused:
        warnings.warn(f'left out: {problem}', stacklevel=2)
    return bank


def bank_kernels(
    folder: str,
    kernel_size: int,
    scale: int,
    alignment: str,
    fit: str = 'error',
    device: torch.device | str = 'cpu',
) -> Tensor:
    """Lay the kernels of a folder on the grid of a kernel field, as :func:`lay_kernel` lays each, once a process.

    Args:
        folder: As for :func:`read_bank`.
        kernel_size: Side k of the kernels in taps.
        scale: Downsampling factor.
        alignment: ``centered`` or ``published``.
        fit: What becomes of a kernel of which more than a hundredth would be cut off: ``error`` refuses the folder,
            ``skip`` leaves the kernel out with a warning, ``crop`` keeps the taps where it weighs most.
        device: Where the kernels are.

    Returns:
        ``(N, k*k)`` kernels, each summing to 1. They are shared: do not change them.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: As :func:`read_bank` does, or a kernel, or with ``skip`` every one, is too large.
    """
    place = os.path.abspath(folder)
    return _bank_kernels(folder, place, kernel_size, scale, alignment, fit, torch.device(device))


@lru_cache(maxsize=_KEPT)
def _bank_kernels(
    folder: str, place: str, kernel_size: int, scale: int, alignment: str, fit: str, device: torch.device
) -> Tensor:
    if device.type != 'cpu':  # kept there, too: to send them with every batch would make the host wait
        return _bank_kernels(folder, place, kernel_size, scale, alignment, fit, torch.device('cpu')).to(device)
    laid, refused = [], []
    for name, taps in read_bank(folder).items():
        try:
            laid.append(lay_kernel(taps, name, kernel_size, scale, alignment, crop=fit == 'crop'))
        except TooLargeError as error:
            refused.append(error)
    if refused and (fit == 'error' or not laid):
        raise ValueError(str(refused[0]))
    if refused:
        warnings.warn(
            f'left out {len(refused)} of {len(refused) + len(laid)} kernels, first {refused[0]}', stacklevel=2
        )
    return torch.cat(laid)


class TooLargeError(ValueError):
    """A kernel of which too much would be cut off."""


def lay_kernel(
    taps: NDArray[np.float64], name: str, kernel_size: int, scale: int, alignment: str, *, crop: bool = False
) -> Tensor:
    """Lay a measured kernel on the grid of a kernel field.

    A measured kernel is a point spread function: in the ``centered`` alignment the image is convolved with it. Its
    centre of mass is moved to the centre, for a kernel that also moves the image cannot be told from an image that was
    elsewhere. At even scales the centre lies between taps, so a kernel of odd size moves by half a pixel, which blurs
    it: a single point becomes two, which have a variance of 0.25 px^2 along each axis. Others gain less (a
    Gaussian of 2 px^2 0.001, one of 0.7 px^2 0.03, Levin's eight camera shakes 0.15 of their 15 px^2), because they are
    interpolated by cubics where these gain less than lines.

    Args:
        taps: The kernel (h, w), non-negative and summing to 1.
        name: What to call it in messages.
        kernel_size: Side k of the field's kernels in taps.
        scale: Downsampling factor.
        alignment: ``centered`` or ``published``.
        crop: Whether of a kernel that does not fit the heaviest part is taken.

    Returns:
        ``(1, k*k)``, summing to 1.

    Raises:
        TooLargeError: More than a hundredth of it would be cut off.
        ValueError: There is no such grid.
    """
    check_kernel_grid(kernel_size, scale, alignment)
    size = kernel_size - scale + 1
    centred = centre_kernel(_heaviest(taps, size) if crop else taps, size)
    if not crop and centred.sum() < 1 - LARGEST_LOSS:
        rows, columns = taps.shape
        raise TooLargeError(
            f'{name}: of a kernel of {rows}x{columns} taps {1 - centred.sum():.0%} would be cut off by {size}x{size} '
            f'taps (kernel_size {kernel_size}, scale {scale}); choose a larger kernel_size, or fit: crop'
        )
    return place_kernels(torch.from_numpy(centred.astype(np.float32))[None], scale, alignment)


def _heaviest(taps: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Cut out the ``size x size`` taps that sum to the most, or all taps along an axis that has no more."""
    rows, columns = (min(side, size) for side in taps.shape)
    sums = np.lib.stride_tricks.sliding_window_view(taps, (rows, columns)).sum((2, 3))
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return taps[top : top + rows, left : left + columns]


def centre_kernel(taps: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Move the centre of mass of a kernel to the middle of ``size x size`` taps; what lies outside is cut off.

    Args:
        taps: ``(rows, columns)``, not negative, summing to 1.
        size: Side of the result.

    Returns:
        ``(size, size)``, not negative; the sum is what was not cut off.
    """
    by_lines = _resampled(taps, size, _line)
    # Cubics keep the variance, but clipping what they make negative may move the centre by some hundredths: lines last.
    by_cubics = _resampled(_resampled(taps, size, _cubic), size, _line)
    # Of cubics, whose weights are negative in part, the sum does not tell what was cut off.
    by_cubics *= by_lines.sum() / max(by_cubics.sum(), _TINY)
    return min(by_lines, by_cubics, key=_spread)


def _resampled(
    taps: NDArray[np.float64], size: int, weights: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Interpolate so that the centre of mass is in the middle of ``size x size`` taps, none of them negative."""
    axis = np.arange(size) - (size - 1) / 2
    total = max(taps.sum(), _TINY)
    middles = [taps.sum(1 - side) @ np.arange(length) / total for side, length in enumerate(taps.shape)]
    # Both axes at once: what is cut off along one of them moves the centre of the rest along the other, too.
    for _ in range(_ROUNDS):
        down, across = (
            weights(np.abs(axis[:, None] + middle - np.arange(length)))
            for middle, length in zip(middles, taps.shape, strict=True)
        )
        moved = down @ taps @ across.T
        total = max(moved.sum(), _TINY)
        displaced = [moved.sum(1) @ axis / total, moved.sum(0) @ axis / total]
        if max(map(abs, displaced)) < _STILL:
            break
        middles = [middle + distance for middle, distance in zip(middles, displaced, strict=True)]
    kept = moved.clip(0)
    centred: NDArray[np.float64] = kept * (moved.sum() / max(kept.sum(), _TINY))
    return centred


def _line(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 - distances).clip(0)


def _cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys's cubic convolution with a = -1/2, which reproduces parabolas and so adds no variance."""
    return BicubicSampler.profile(torch.from_numpy(distances)).numpy()


def _spread(taps: NDArray[np.float64]) -> float:
    """Give the sum of the variances along both axes, about the middle."""
    axis = np.arange(len(taps)) - (len(taps) - 1) / 2
    return float((taps.sum(0) + taps.sum(1)) @ axis**2 / max(taps.sum(), _TINY))


@register_field('bank')
@dataclass(frozen=True)
class BankSampler(FieldSampler):
    """Kernels drawn from a folder of measured ones, as :func:`manet_basicsr.degradation.bank.read_bank` reads it.

    Args:
        folder: The folder of npy, npz, mat, png, bmp and tif files; those in subfolders count, too.
        period: None for one kernel an image; otherwise the side in HR px of blocks that have a kernel each.
        fit: What becomes of kernels that are too large, as in :func:`bank_kernels`: ``error``, ``skip`` or ``crop``.

    Raises:
        ValueError: If the folder is no path, the period no positive whole number, or fit none of these words.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     np.save(f'{folder}/line.npy', np.full((1, 5), 0.2))
        ...     field = BankSampler(folder).draw(96, 128, scale=1)
        >>> field.reshape(21, 21)[10, 7:14]
        tensor([0.0000, 0.2000, 0.2000, 0.2000, 0.2000, 0.2000, 0.0000])
    """

    folder: str
    period: int | None = None
    fit: str = 'error'

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str) or not self.folder:
            raise ValueError(f'folder must be a path, found {self.folder!r}')
        if self.period is not None and (isinstance(self.period, bool) or not isinstance(self.period, int)):
            raise ValueError(f'period must be a whole number (HR px), found {self.period!r}')
        if self.period is not None:
            check_period(self.period)
        if self.fit not in FITS:
            raise ValueError(unknown_name('fit', self.fit, FITS))

    def check(self, kernel_size: int, scale: int) -> None:
        check_kernel_grid(kernel_size, scale, 'centered')
        try:
            bank_kernels(self.folder, kernel_size, scale, 'centered', self.fit)
        except (FileNotFoundError, ValueError) as error:
            raise ValueError(f'folder: {error}') from error

    @property
    def varies(self) -> bool:
        return self.period is not None

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        lr_size(height, width, scale)
        size = (1, 1) if self.period is None else (math.ceil(height / self.period), math.ceil(width / self.period))
        return torch.rand(*size, 1, generator=generator)

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        kernels = bank_kernels(self.folder, kernel_size, scale, alignment, self.fit, parameters.device)
        # A share of the bank rather than a number in it: the bank is not read to draw.
        return kernels[(parameters[:, 0] * len(kernels)).long()]

    def block(self, scale: int) -> int:
        return PROTOCOL_BLOCK if self.period is None else self.period
