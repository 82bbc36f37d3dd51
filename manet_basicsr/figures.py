"""Figures for papers: an LR image, its restoration, and the kernels that were found, with matplotlib."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from manet_basicsr.files import atomic_path

FIGURE_SUFFIXES = ('.png', '.pdf')
_LONGEST = 1600  # px of an image in a figure
_GAP = 2  # taps between kernels


def kernel_grid(field: Tensor, across: int = 9) -> np.ndarray:
    """Lay kernels of a field side by side, each as bright as the brightest tap of all, at the places it has them.

    Args:
        field: Kernel field ``(k*k, h, w)``.
        across: Kernels along the longer side, at most.

    Returns:
        ``(H, W)`` float32, NaN between the kernels.
    """
    taps, height, width = field.shape
    size = math.isqrt(taps)
    step = max(height, width) / across
    rows, columns = (_centres(side, max(1, min(side, round(side / step)))) for side in (height, width))
    picked = field[:, rows][:, :, columns].float().cpu().numpy().reshape(size, size, len(rows), len(columns))
    padded = np.pad(picked.transpose(2, 0, 3, 1), ((0, 0), (0, _GAP), (0, 0), (0, _GAP)), constant_values=np.nan)
    return padded.reshape(len(rows) * (size + _GAP), len(columns) * (size + _GAP))[:-_GAP, :-_GAP]


def _centres(length: int, count: int) -> list[int]:
    """Give the middles of so many equal parts of a range."""
    return [int((index + 0.5) * length / count) for index in range(count)]


def write_comparison(path: str | Path, image: np.ndarray, restored: np.ndarray, field: Tensor) -> None:
    """Write the figure: LR image, restored image and kernel grid side by side.

    Args:
        path: The file, ``.png`` (300 dots per inch) or ``.pdf``; it appears whole or not at all.
        image: LR image, grey, RGB or RGB with alpha (which is left out), uint8, uint16 or floating point in [0, 1].
        restored: The restored image, likewise.
        field: Kernel field ``(1, k*k, h, w)``.

    Raises:
        ValueError: matplotlib is not installed, or the suffix is another.
    """
    if Path(path).suffix not in FIGURE_SUFFIXES:
        raise ValueError(f'{path}: a figure ends in one of {", ".join(FIGURE_SUFFIXES)}')
    figure = _draw(image, restored, field)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=300, bbox_inches='tight', pad_inches=0.02)


def _draw(image: np.ndarray, restored: np.ndarray, field: Tensor) -> Any:
    try:
        from matplotlib.figure import Figure  # not pyplot: no screen, and no figures that stay in memory
    except ImportError as error:
        raise ValueError('figures need the package matplotlib: pip install matplotlib') from error
    height, width = image.shape[:2]
    figure = Figure(figsize=(7.2, 7.2 / 3 * height / width + 0.3))
    axes = figure.subplots(1, 3, gridspec_kw={'wspace': 0.03})
    scale = restored.shape[1] // width
    titles = (f'LR, {width}$\\times${height}', f'restored, $\\times${scale}', 'estimated kernels')
    axes[0].imshow(_displayed(image), interpolation='nearest')
    axes[1].imshow(_displayed(restored), interpolation='antialiased')
    axes[2].imshow(kernel_grid(field[0]), cmap='magma', interpolation='nearest', vmin=0)
    axes[2].set_facecolor('white')
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=8, pad=3)
        axis.set_axis_off()
    return figure


def _displayed(image: np.ndarray) -> np.ndarray:
    """Make an image RGB uint8, and no larger than a figure needs."""
    largest = 1.0 if image.dtype.kind == 'f' else float(np.iinfo(image.dtype).max)
    pixels = np.rint(image / largest * 255).astype(np.uint8)
    pixels = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels[..., :3]
    factor = _LONGEST / max(pixels.shape[:2])
    if factor >= 1:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
