"""Kernel fields made small enough for a page: principal components of the field itself, rounded and deflated."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import kernel_covariances

MOST_COMPONENTS = 32
_MOST_CELLS = 200_000
# Rounding steps of the components, in the mean peak of the kernels, from the finest on.
_STEPS = [0.01 * 2 ** (half / 2) for half in range(11)]
_AT_ONCE = 2**14  # kernels
_LARGEST_LEVEL = 32767


@dataclass(frozen=True)
class CodedField:
    """A kernel field as a page holds it: ``kernel = mean + step * levels @ basis`` at every ``stride``-th LR pixel.

    Attributes:
        mean: ``(k*k,)`` mean kernel, float32.
        basis: ``(m, k*k)`` orthonormal components, float32.
        levels: ``(m, rows, columns)`` int16.
        step: What one level is worth.
        stride: LR pixels between the kernels that are kept.
        tap_error: Root mean square error of the taps, in the peak of their kernel.
        largest_tap_error: The largest one.
        spread_error: Largest error of a standard deviation (of the blur along x or y), in HR px.
        deflated: The levels as bytes: of each component the differences along rows, low bytes, then high bytes; zlib.
    """

    mean: np.ndarray
    basis: np.ndarray
    levels: np.ndarray
    step: float
    stride: int
    tap_error: float
    largest_tap_error: float
    spread_error: float

    deflated: bytes

    @property
    def size(self) -> int:
        """Bytes in all, before they are made text."""
        return len(self.deflated) + self.mean.nbytes + self.basis.nbytes

    def kernels(self) -> np.ndarray:
        """Give the kernels as the page shows them, ``(rows * columns, k*k)``; small negative taps are left in."""
        return _decode(self.mean, self.basis, self.levels, self.step)


def code_field(field: Tensor, most_bytes: int) -> CodedField:
    """Code a field so that it takes no more than so many bytes, as finely as it can be with them.

    Args:
        field: Kernel field ``(1, k*k, h, w)``; ``h = w = 1`` for an invariant kernel.
        most_bytes: Its limit, before the bytes are made text.

    Raises:
        ValueError: The limit is too small for any picture of the field.
    """
    height, width = field.shape[-2:]
    stride = max(1, math.ceil(math.sqrt(height * width / _MOST_CELLS)))
    while True:
        coded = _code_at_stride(field, stride, most_bytes)
        if coded is not None:
            return coded
        if stride >= max(height, width):
            raise ValueError(f'a field of shape {tuple(field.shape)} cannot be made smaller than {most_bytes} bytes')
        stride += max(1, stride // 2)


def _code_at_stride(field: Tensor, stride: int, most_bytes: int) -> CodedField | None:
    """Code one kernel for each ``stride * stride`` LR pixels, with the finest step that keeps to the limit."""
    middle = min(stride // 2, *(side - 1 for side in field.shape[-2:]))
    kept = field[0, :, middle::stride, middle::stride].float().cpu()
    kernels = kept.flatten(1).T.contiguous().numpy()
    mean, basis = _principal_components(kernels)
    codes = ((kernels - mean) @ basis.T).T.reshape(-1, *kept.shape[1:])
    peak = float(kernels.max(1).mean())
    steps = [max(share * peak, float(np.abs(codes).max()) / _LARGEST_LEVEL) for share in _STEPS]
    too_fine, fits = -1, len(steps)
    found: tuple[np.ndarray, np.ndarray, float, bytes] | None = None
    while fits - too_fine > 1:
        tried = (too_fine + fits) // 2
        levels = np.rint(codes / steps[tried]).astype(np.int16)
        used = np.flatnonzero(levels.any((1, 2)))
        deflated = _deflate(levels[used])
        if len(deflated) + mean.nbytes + basis[used].nbytes <= most_bytes:
            fits, found = tried, (basis[used], levels[used], steps[tried], deflated)
        else:
            too_fine = tried
    if found is None:
        return None
    chosen, levels, step, deflated = found
    return CodedField(mean, chosen, levels, step, stride, *_errors(kernels, mean, chosen, levels, step), deflated)


def _deflate(levels: np.ndarray) -> bytes:
    differences = np.diff(levels, axis=2, prepend=np.int16(0)).astype('<u2')
    pairs = differences.view(np.uint8).reshape(*differences.shape, 2)
    return zlib.compress(np.moveaxis(pairs, 3, 1).tobytes(), 6)


def _principal_components(kernels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the mean and the first components of kernels (n, k*k), those that carry most first."""
    mean = kernels.mean(0, dtype=np.float64).astype(np.float32)
    covariance = np.zeros((len(mean), len(mean)))
    for first in range(0, len(kernels), _AT_ONCE):
        part = kernels[first : first + _AT_ONCE] - mean
        covariance += part.T @ part
    _, vectors = np.linalg.eigh(covariance)
    return mean, np.ascontiguousarray(vectors[:, ::-1].T[:MOST_COMPONENTS], np.float32)


def _decode(mean: np.ndarray, basis: np.ndarray, levels: np.ndarray, step: float) -> np.ndarray:
    """Give the kernels (n, k*k) that levels (m, ...) stand for."""
    flat = levels.reshape(len(basis), math.prod(levels.shape[1:]))
    return np.asarray(mean + (flat.T.astype(np.float32) * np.float32(step)) @ basis)


def _errors(
    kernels: np.ndarray, mean: np.ndarray, basis: np.ndarray, levels: np.ndarray, step: float
) -> tuple[float, float, float]:
    """Give the errors that :class:`CodedField` states."""
    total, largest, spread = 0.0, 0.0, 0.0
    flat = levels.reshape(len(basis), len(kernels))
    for first in range(0, len(kernels), _AT_ONCE):
        true = kernels[first : first + _AT_ONCE]
        shown = _decode(mean, basis, flat[:, first : first + _AT_ONCE], step)
        relative = np.abs(shown - true) / np.maximum(true.max(1, keepdims=True), 1e-12)
        total += float(np.square(relative, dtype=np.float64).sum())
        largest = max(largest, float(relative.max()))
        spread = max(spread, float(np.abs(_spreads(shown) - _spreads(true)).max()))
    return math.sqrt(total / kernels.size), largest, spread


def _spreads(kernels: np.ndarray) -> np.ndarray:
    """Give the standard deviations (n, 2) along x and y, in taps."""
    covariances = kernel_covariances(torch.from_numpy(kernels)).numpy()
    return np.sqrt(np.maximum(covariances[:, (0, 1), (0, 1)], 0))
