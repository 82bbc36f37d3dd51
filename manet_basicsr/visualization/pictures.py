"""Pictures of kernels: over the image that they blur, and side by side with the truth.

A kernel is drawn as the trail that a point of light leaves, so a moving light is seen to move as it does in the image.
Images are cross-correlated with kernels, hence a trail is the kernel turned by 180 degrees.
"""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

from manet_basicsr.data.alpha import flatten_on_white

Picture = np.ndarray  # (H, W, 3) uint8, BGR as OpenCV has it


def as_shown(image: np.ndarray, longest: int) -> np.ndarray:
    """Make an image, as :func:`flatten_on_white` takes it, what a page shows: uint8, no longer than so many px."""
    flat = flatten_on_white(image)
    largest = 1.0 if flat.dtype.kind == 'f' else float(np.iinfo(flat.dtype).max)
    pixels = np.rint(flat / largest * 255).clip(0, 255).astype(np.uint8)
    factor = longest / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = [max(1, round(side * factor)) for side in pixels.shape[1::-1]]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def kernel_tile(kernel: Tensor, size: int) -> Picture:
    """Draw the trail of one kernel, brightest where it weighs most.

    Args:
        kernel: ``(k*k,)`` or ``(k, k)``.
        size: Side of the tile in px.
    """
    side = round(kernel.numel() ** 0.5)
    taps = kernel.detach().float().cpu().reshape(side, side).flip(0, 1).numpy()
    taps = np.nan_to_num(taps, posinf=0)  # of a training that diverged; black
    grey = (taps * (255 / max(float(taps.max()), 1e-12))).clip(0, 255).astype(np.uint8)
    return cv2.resize(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO), (size, size), interpolation=cv2.INTER_NEAREST)


def kernels_over_image(image: Picture, field: Tensor, kernels_across: int = 12, tile: int = 64) -> Picture:
    """Draw a grid of kernels over a dimmed image, each centred at the pixel that it belongs to.

    Args:
        image: ``(h, w, 3)`` LR image, BGR uint8.
        field: Kernel field ``(k*k, h, w)`` or ``(k*k, 1, 1)``.
        kernels_across: Kernels along the longer side, at most.
        tile: Side of a kernel's tile in px of the picture.

    Returns:
        The picture, about ``kernels_across * tile`` px long.
    """
    height, width = image.shape[:2]
    step = max(1, -(-max(height, width) // kernels_across))
    factor = tile / step
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    picture = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST) // 2
    inner = tile - 6
    for row in range(min(step // 2, height // 2), height, step):
        for column in range(min(step // 2, width // 2), width, step):
            kernel = field[:, min(row, field.shape[1] - 1), min(column, field.shape[2] - 1)]
            top, left = (round((pixel + 0.5) * factor) - inner // 2 for pixel in (row, column))
            _paste(picture, kernel_tile(kernel, inner), top, left)
    return picture


def _paste(picture: Picture, tile: Picture, top: int, left: int) -> None:
    """Lay a tile on a picture in place, the brighter of both at each pixel, cut at the border."""
    bottom, right = min(top + tile.shape[0], picture.shape[0]), min(left + tile.shape[1], picture.shape[1])
    top_cut, left_cut = max(-top, 0), max(-left, 0)
    region = picture[top + top_cut : bottom, left + left_cut : right]
    np.maximum(region, tile[top_cut : bottom - top, left_cut : right - left], out=region)


def kernels_beside_image(
    image: Picture, estimated: Tensor, true: Tensor, points: list[tuple[int, int]], caption: str, tile: int = 126
) -> Picture:
    """Draw an LR image with numbered points, and beside it the true and the estimated kernel at each of them.

    Args:
        image: ``(h, w, 3)`` LR image, BGR uint8.
        estimated: Kernel field ``(k*k, h, w)``.
        true: Kernel field ``(k*k, h, w)`` or ``(k*k, 1, 1)``.
        points: ``(row, column)`` LR pixels.
        caption: What to write below.
        tile: Side of a kernel's tile in px.
    """
    factor = max(1, round(3.2 * tile / max(image.shape[:2])))
    enlarged = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    panels = np.zeros((2 * (tile + 26) + 8, len(points) * (tile + 8), 3), np.uint8)
    for number, (row, column) in enumerate(points, start=1):
        centre = (column * factor + factor // 2, row * factor + factor // 2)
        _label(enlarged, str(number), (centre[0] + 6, centre[1] + 6))
        cv2.circle(enlarged, centre, 4, (0, 0, 0), -1, cv2.LINE_AA)
        cv2.circle(enlarged, centre, 3, (255, 255, 255), -1, cv2.LINE_AA)
        left = (number - 1) * (tile + 8) + 4
        for line, (name, field) in enumerate((('true', true), ('estimated', estimated))):
            kernel = field[:, min(row, field.shape[1] - 1), min(column, field.shape[2] - 1)]
            top = 26 + line * (tile + 26)
            panels[top : top + tile, left : left + tile] = kernel_tile(kernel, tile)
            _label(panels, f'{number} {name}', (left, top - 8))
    height = max(len(enlarged), len(panels))
    parts = [np.pad(part, ((0, height - len(part)), (0, 8), (0, 0))) for part in (enlarged, panels)]
    picture = np.pad(np.concatenate(parts, axis=1), ((0, 30), (0, 0), (0, 0)))
    _label(picture, caption, (6, len(picture) - 10))
    return picture


def _label(picture: Picture, text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
