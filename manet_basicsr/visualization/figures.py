"""Figures for papers: an LR image, its restoration, and the kernels that were found, with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from manet_basicsr.utils.files import atomic_path
from manet_basicsr.visualization.pictures import as_shown

FIGURE_SUFFIXES = ('.png', '.pdf')
_LONGEST = 1600  # px of an image in a figure
_GAP = 2  # taps between kernels
# Height of a panel by its width, at most and at least: in full, the figure of a strip of 1x500 px would take 24 GB.
_TALLEST, _FLATTEST = 3.0, 0.05


def kernel_grid(field: Tensor, across: int = 9) -> np.ndarray:
    """Lay kernels of a field side by side, each as bright as the brightest tap of all, at the places it has them.

    Each is turned by 180 degrees: so it is the trail of a point of light, see :mod:`.pictures`.

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
    picked = field.flip(0)[:, rows][:, :, columns].float().cpu().numpy().reshape(size, size, len(rows), len(columns))
    padded = np.pad(picked.transpose(2, 0, 3, 1), ((0, 0), (0, _GAP), (0, 0), (0, _GAP)), constant_values=np.nan)
    return padded.reshape(len(rows) * (size + _GAP), len(columns) * (size + _GAP))[:-_GAP, :-_GAP]


def _centres(length: int, count: int) -> list[int]:
    """Give the middles of so many equal parts of a range."""
    return [int((index + 0.5) * length / count) for index in range(count)]


def write_comparison(path: str | Path, image: np.ndarray, restored: np.ndarray, field: Tensor) -> None:
    """Write the figure: LR image, restored image and kernel grid side by side.

    Args:
        path: The file, ``.png`` (300 dots per inch) or ``.pdf``; it appears whole or not at all.
        image: LR image, grey, RGB or RGB with alpha (laid on white), uint8, uint16 or floating point in [0, 1].
        restored: The restored image, likewise.
        field: Kernel field ``(1, k*k, h, w)``.

    Raises:
        ValueError: matplotlib is not installed, or the suffix is another.
    """
    height, width = image.shape[:2]
    titles = (f'LR, {width}x{height}', f'restored, x{restored.shape[1] / width:.3g}', 'estimated kernels')
    write_panels(path, list(zip(titles, (image, restored, field[0]), strict=True)), columns=3, dpi=300)


def write_panels(
    path: str | Path,
    panels: Sequence[tuple[str, np.ndarray | Tensor]],
    *,
    columns: int,
    width: float = 7.2,
    dpi: int = 150,
) -> None:
    """Write a figure of titled panels, row by row.

    Args:
        path: The file, ``.png`` or ``.pdf``; it appears whole or not at all.
        panels: Title and content of each: an image, as :func:`write_comparison` takes them, or a kernel field
            ``(k*k, h, w)``, of which some kernels are drawn, as bright as the square roots of their taps. All of
            about the same shape.
        columns: Panels side by side.
        width: Of the figure, in inches.
        dpi: Dots per inch of a PNG.

    Raises:
        ValueError: matplotlib is not installed, or the suffix is another.
    """
    if Path(path).suffix not in FIGURE_SUFFIXES:
        raise ValueError(f'{path}: a figure ends in one of {", ".join(FIGURE_SUFFIXES)}')
    try:
        from matplotlib.colors import PowerNorm
        from matplotlib.figure import Figure  # not pyplot: no screen, and no figures that stay in memory
    except ImportError as error:
        raise ValueError('figures need the package matplotlib: pip install matplotlib') from error
    rows = math.ceil(len(panels) / columns)
    first = panels[0][1]
    tall, wide = first.shape[-2:] if isinstance(first, Tensor) else first.shape[:2]
    panel = width / columns * min(max(tall / wide, _FLATTEST), _TALLEST)
    figure = Figure(figsize=(width, rows * (panel + 0.25)), layout='constrained')
    for number, (title, content) in enumerate(panels, start=1):
        axis = figure.add_subplot(rows, columns, number)
        if isinstance(content, Tensor):
            # A wide kernel's taps are a hundredth of a narrow one's: the square root shows both.
            norm = PowerNorm(0.5, vmin=0)
            axis.imshow(kernel_grid(content), cmap='magma', interpolation='nearest', norm=norm)
        else:
            # The pixels of an image that is enlarged stay visible.
            enlarged = content.shape[1] < width * dpi / columns
            shown = as_shown(content, _LONGEST)
            colours = np.repeat(shown[..., None], 3, axis=2) if shown.ndim == 2 else shown
            axis.imshow(colours, interpolation='nearest' if enlarged else 'antialiased')
        axis.set_title(title, fontsize=8, pad=3)
        axis.set_axis_off()
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=dpi, bbox_inches='tight', pad_inches=0.02)
