"""Alpha: colours that nobody sees, an image on white paper, and the enlarged alpha of a restored image."""

from __future__ import annotations

import cv2
import numpy as np


def fill_hidden_colours(pixels: np.ndarray) -> np.ndarray:
    """Replace the colours under alpha 0 by those of the nearest visible pixel.

    What programs save there (black, noise) is seen by nobody, but whatever looks at neighbours, such as a network or a
    resampling, carries it into visible pixels.

    Args:
        pixels: ``(h, w, 4)``, RGB with alpha, any numeric type; or an image without alpha.

    Returns:
        The same with filled colours and the same alpha; ``pixels`` itself if nothing or everything is hidden.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 4:
        return pixels
    visible = pixels[..., 3] > 0
    if visible.all() or not visible.any():
        return pixels
    # Each pixel is given the number of the visible pixel (0 in this mask) that is nearest to it.
    mask = (~visible).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(
        mask, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )  # fmt: skip
    place = np.zeros(nearest.max() + 1, np.int64)
    place[nearest[visible]] = np.flatnonzero(visible)
    filled = pixels.copy()
    filled[~visible, :3] = pixels.reshape(-1, 4)[place[nearest[~visible]], :3]
    return filled


def flatten_on_white(pixels: np.ndarray) -> np.ndarray:
    """Show an image as it looks on white paper, for what has no alpha.

    Args:
        pixels: ``(h, w)``, ``(h, w, 3)`` or ``(h, w, 4)``, unsigned integers or floating point in [0, 1].

    Returns:
        ``colour * alpha + white * (1 - alpha)``, of the same type, without alpha; what has none as it is.
    """
    if pixels.ndim == 2 or pixels.shape[2] != 4:
        return pixels
    white = 1.0 if pixels.dtype.kind == 'f' else float(np.iinfo(pixels.dtype).max)
    alpha = pixels[..., 3:].astype(np.float32) / white
    flat = white - (white - pixels[..., :3]) * alpha
    return (flat if pixels.dtype.kind == 'f' else np.rint(flat)).astype(pixels.dtype)


def enlarge(image: np.ndarray, scale: int, alignment: str = 'centered') -> np.ndarray:
    """Enlarge an image by OpenCV's cubic interpolation, on the grid that it was sampled on; it is not clipped.

    LR pixel i lies at HR position ``s i + (s-1)/2``, which is what OpenCV takes for granted, or, in the ``published``
    alignment, at ``s i - (s-1)/2``: then what OpenCV makes is moved by s - 1 px to the upper left, and what moves in
    repeats the edge.

    Args:
        image: ``(h, w)`` or ``(h, w, C)``, floating point.
        scale: Upsampling factor, at least 1.
        alignment: ``published``, or any other word for the usual grid.

    Returns:
        ``(scale * h, scale * w)`` or ``(scale * h, scale * w, C)``.
    """
    height, width = (scale * side for side in image.shape[:2])
    shift = scale - 1 if alignment == 'published' else 0
    # One more pixel at the bottom and the right, for what moves in.
    padded = np.pad(image, [(0, 1), (0, 1), (0, 0)][: image.ndim], mode='edge')
    larger = np.asarray(cv2.resize(padded, (width + scale, height + scale), interpolation=cv2.INTER_CUBIC))
    return larger[shift : shift + height, shift : shift + width]


def enlarge_alpha(alpha: np.ndarray, scale: int, alignment: str = 'centered') -> np.ndarray:
    """Enlarge alpha ``(h, w)``, unsigned integers or floating point in [0, 1], as :func:`enlarge` does; clipped."""
    # float32 has 24 bits
    larger = enlarge(alpha.astype(np.float64 if alpha.dtype.itemsize > 2 else np.float32), scale, alignment)
    if alpha.dtype.kind == 'f':
        return larger.clip(0, 1).astype(alpha.dtype)
    return np.rint(larger).clip(0, np.iinfo(alpha.dtype).max).astype(alpha.dtype)
