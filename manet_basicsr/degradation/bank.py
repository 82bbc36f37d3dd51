"""Measured kernels: a folder of npy, mat and png files."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manet_basicsr.degradation.kernels import check_kernel_grid, place_kernels
from manet_basicsr.degradation.sampler import PROTOCOL_BLOCK, FieldSampler, lr_size, register_field
from manet_basicsr.degradation.values import check_period

BANK_SUFFIXES = ('.npy', '.mat', '.png')
#: Share of a kernel's weight that may lie outside the taps it is cut to.
_LARGEST_LOSS = 0.01
_TINY = 1e-12


@lru_cache(maxsize=8)
def read_bank(folder: str) -> dict[str, NDArray[np.float64]]:
    """Read the kernels of a folder, by a name that tells the file and the place in it, in the order of the names.

    A ``.npy`` file holds one kernel (k, k) or many (N, k, k); a ``.mat`` file likewise in each of its variables, or a
    cell array of kernels; a ``.png`` file is one kernel, grey.

    Args:
        folder: The folder; other files in it are left alone.

    Returns:
        Kernels, each non-negative and summing to 1. They are shared: do not change them.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There is no kernel in it, or a file holds something else; the message names it.
    """
    root = Path(os.path.expanduser(folder))
    if not root.is_dir():
        raise FileNotFoundError(f'{folder} is not a folder of kernels')
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in BANK_SUFFIXES and path.name[0] != '.')
    bank = {name: _normalised(kernel, name) for path in files for name, kernel in _read_file(path).items()}
    if not bank:
        raise ValueError(f'{folder} holds no kernels ({", ".join(BANK_SUFFIXES)})')
    return bank


def _read_file(path: Path) -> dict[str, NDArray[Any]]:
    """Read the kernels of one file, not yet normalised."""
    try:
        if path.suffix.lower() == '.npy':
            arrays = {str(path): np.load(path, allow_pickle=False)}
        elif path.suffix.lower() == '.png':
            image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
            if image is None:
                raise ValueError('damaged, or no PNG')
            arrays = {str(path): np.asarray(image)}
        else:
            from scipy.io import loadmat

            arrays = {f'{path} {name}': array for name, array in loadmat(path).items() if not name.startswith('__')}
    except Exception as error:  # each reader reports damage as exceptions of its own
        raise ValueError(f'{path} cannot be read: {error}') from error
    return {name: kernel for key, array in arrays.items() for name, kernel in _split(key, array).items()}


def _split(name: str, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Give the kernels that an array stands for."""
    if array.dtype == object:
        parts = {f'{name}[{index}]': np.asarray(part) for index, part in enumerate(array.flat)}
        return {key: kernel for inner, part in parts.items() for key, kernel in _split(inner, part).items()}
    if array.ndim == 3:
        return {f'{name}[{index}]': kernel for index, kernel in enumerate(array)}
    return {name: array}


def _normalised(kernel: NDArray[Any], name: str) -> NDArray[np.float64]:
    if kernel.ndim != 2 or kernel.size == 0 or kernel.dtype.kind not in 'fui':
        raise ValueError(f'{name}: found {kernel.dtype} of shape {kernel.shape}, expected kernels (k, k) or (N, k, k)')
    taps = kernel.astype(np.float64)
    if not np.isfinite(taps).all() or taps.min() < -1e-3 * taps.max() or taps.sum() <= 0:
        raise ValueError(f'{name}: expected a kernel of non-negative, finite numbers that sum to more than 0')
    taps = taps.clip(min=0)
    return taps / taps.sum()


@lru_cache(maxsize=8)
def bank_kernels(folder: str, kernel_size: int, scale: int, alignment: str) -> Tensor:
    """Lay the kernels of a folder on the grid of a kernel field.

    A measured kernel is a point spread function: in the ``centered`` alignment the image is convolved with it. Its
    centre of mass is moved to the centre, for a kernel that also moves the image cannot be told from an image that was
    elsewhere. At even scales the centre lies between taps, so a kernel of odd size moves by half a pixel, which blurs
    it: a single point becomes two, which have a variance of 0.25 px^2 along each axis. A smooth kernel gains less (a
    Gaussian of 2 px^2 0.001, one of 0.7 px^2 0.03), because it is interpolated by cubics where these gain less than
    lines.

    Args:
        folder: As for :func:`read_bank`.
        kernel_size: Side k of the kernels in taps.
        scale: Downsampling factor.
        alignment: ``centered`` or ``published``.

    Returns:
        ``(N, k*k)`` kernels, each summing to 1. They are shared: do not change them.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: As :func:`read_bank` does, or if more than a hundredth of a kernel would be cut off.
    """
    check_kernel_grid(kernel_size, scale, alignment)
    size = kernel_size - scale + 1
    laid = []
    for name, taps in read_bank(folder).items():
        centred = _centred(taps, size)
        if centred.sum() < 1 - _LARGEST_LOSS:
            rows, columns = taps.shape
            raise ValueError(
                f'{name}: of a kernel of {rows}x{columns} taps {1 - centred.sum():.0%} would be cut off by '
                f'{size}x{size} taps (kernel_size {kernel_size}, scale {scale}); choose a larger kernel_size'
            )
        laid.append(torch.from_numpy(centred.astype(np.float32)))
    return place_kernels(torch.stack(laid), scale, alignment)


def _centred(taps: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Move the centre of mass to the middle of ``size x size`` taps; what lies outside is cut off."""
    # Cubics keep the variance, but clipping what they make negative may move the centre by some hundredths: lines last.
    candidates = [_resampled(taps, size, _line), _resampled(_resampled(taps, size, _cubic), size, _line)]
    return min(candidates, key=_spread)


def _resampled(
    taps: NDArray[np.float64], size: int, weights: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Interpolate so that the centre of mass is in the middle of ``size x size`` taps, none of them negative."""
    for _ in range(2):  # rows, then columns
        profile = taps.sum(1)
        positions = np.arange(len(profile)) - profile @ np.arange(len(profile)) / max(profile.sum(), _TINY)
        moved = weights(np.abs(np.arange(size)[:, None] - (size - 1) / 2 - positions)) @ taps
        kept = moved.clip(0)
        taps = (kept * (moved.sum() / max(kept.sum(), _TINY))).T
    return taps


def _line(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 - distances).clip(0)


def _cubic(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys's cubic convolution with a = -1/2, which reproduces parabolas and so adds no variance."""
    near = (1.5 * distances - 2.5) * distances**2 + 1
    far = ((2.5 - 0.5 * distances) * distances - 4) * distances + 2
    return np.where(distances < 1, near, np.where(distances < 2, far, 0))


def _spread(taps: NDArray[np.float64]) -> float:
    """Give the sum of the variances along both axes, about the middle."""
    axis = np.arange(len(taps)) - (len(taps) - 1) / 2
    return float((taps.sum(0) + taps.sum(1)) @ axis**2 / max(taps.sum(), _TINY))


@register_field('bank')
@dataclass(frozen=True)
class BankSampler(FieldSampler):
    """Kernels drawn from a folder of measured ones, as :func:`manet_basicsr.degradation.bank.read_bank` reads it.

    Args:
        folder: The folder of npy, mat and png files.
        period: None for one kernel an image; otherwise the side in HR px of blocks that have a kernel each.

    Raises:
        ValueError: If the folder is no path or the period no positive whole number.
    """

    folder: str
    period: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str):
            raise ValueError(f'folder must be a path, found {self.folder!r}')
        if self.period is not None and (isinstance(self.period, bool) or not isinstance(self.period, int)):
            raise ValueError(f'period must be a whole number (HR px), found {self.period!r}')
        if self.period is not None:
            check_period(self.period)

    def check(self, kernel_size: int, scale: int) -> None:
        try:
            bank_kernels(self.folder, kernel_size, scale, 'centered')
        except FileNotFoundError as error:
            raise ValueError(f'folder: {error}') from error

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        lr_size(height, width, scale)
        size = (1, 1) if self.period is None else (math.ceil(height / self.period), math.ceil(width / self.period))
        return torch.rand(*size, 1, generator=generator)

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        kernels = bank_kernels(self.folder, kernel_size, scale, alignment).to(parameters.device)
        # A share of the bank rather than a number in it: the bank is not read to draw.
        return kernels[(parameters[:, 0] * len(kernels)).long()]

    def block(self, scale: int) -> int:
        return PROTOCOL_BLOCK if self.period is None else self.period
