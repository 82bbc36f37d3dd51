"""Images of any usual kind as batches for networks, and back."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.data.alpha import fill_hidden_colours

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


def image_to_batch(image: Any) -> tuple[Tensor, np.ndarray | None]:
    """Turn an image into a batch (B, 3, h, w) in [0, 1] on the CPU, and its alpha, if any, as it is.

    Colours under alpha 0 are replaced by those of the nearest visible pixels.

    Args:
        image: As in :func:`manet_basicsr.restore`.

    Raises:
        TypeError: It is neither an array nor a tensor.
        ValueError: It has another shape, type or range.
    """
    if isinstance(image, Tensor):
        return _tensor_to_batch(image), None
    if not isinstance(image, np.ndarray):
        is_path = isinstance(image, (str, os.PathLike))
        hint = 'manet_basicsr.restoration.photographs.read_photograph(path).pixels' if is_path else 'np.asarray'
        raise TypeError(f'found a {type(image).__name__}, expected an array or a tensor; {hint} makes one')
    fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    of_type = image.dtype.kind == 'f' or (image.dtype.kind == 'u' and image.dtype.itemsize <= 4)
    if not fits or image.size == 0 or not of_type:
        raise ValueError(
            f'found an array of shape {image.shape} and type {image.dtype}, expected (h, w), (h, w, 3) or (h, w, 4), '
            'uint8, uint16, uint32 or floating point'
        )
    image = np.asarray(image)  # no matrix, no masked array
    alpha = None
    if image.ndim == 3 and image.shape[2] == 4:
        alpha = image[..., 3]
        if alpha.dtype.kind == 'f':
            _check_range(torch.from_numpy(alpha.astype(np.float32)), 'alpha')
        image = fill_hidden_colours(image)
    color = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]
    planes = torch.from_numpy(np.require(color.transpose(2, 0, 1), np.float32, ['C', 'W']))[None]
    if image.dtype.kind == 'f':
        _check_range(planes, 'values')
    else:
        planes /= float(np.iinfo(image.dtype).max)
    return planes, alpha


def _tensor_to_batch(image: Tensor) -> Tensor:
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape or not image.is_floating_point():
        raise ValueError(
            f'found a tensor of shape {tuple(image.shape)} and type {image.dtype}, expected (3, h, w) or '
            '(B, 3, h, w), floating point'
        )
    lq = image.detach().to('cpu', torch.float32)
    _check_range(lq, 'values')
    return lq if lq.ndim == 4 else lq[None]


def _check_range(numbers: Tensor, what: str) -> None:
    low, high = (value.item() for value in numbers.aminmax())
    if not -0.01 <= low <= high <= 1.01:  # room for the ringing of a resampling; not finite fails, too
        raise ValueError(f'found {what} from {low:g} to {high:g}, expected floating point images in [0, 1]')


def result_size(size: Sequence[int], scale: float) -> tuple[int, int]:
    """Return height and width of an image that is made so many times as large."""
    height, width = size
    return math.floor(height * scale + 0.5), math.floor(width * scale + 0.5)


def reduce_to(sr: Tensor, size: tuple[int, int]) -> Tensor:
    """Reduce a restored batch by bicubic interpolation that is antialiased; one of that size is returned as it is.

    Args:
        sr: (B, C, H, W) in [0, 1].
        size: Height and width, at most those of the batch.
    """
    if tuple(sr.shape[-2:]) == size:
        return sr
    return F.interpolate(sr, size=size, mode='bicubic', antialias=True).clamp_(0, 1)


def batch_to_image(sr: Tensor, image: np.ndarray | Tensor, lq: Tensor, alpha: np.ndarray | None) -> Any:
    """Turn a restored batch into what the image given was; grey stays grey, however it is stored.

    Args:
        sr: (B, 3, s * h, s * w) in [0, 1].
        image: The image that was restored.
        lq: What :func:`image_to_batch` made of it.
        alpha: That of the result, (s * h, s * w), or None.
    """
    if isinstance(image, Tensor):
        restored = sr.to(image.device, image.dtype)
        return restored if image.ndim == 4 else restored[0]
    pixels = sr[0].permute(1, 2, 0).contiguous().numpy()
    if image.ndim == 2 or (lq[:, :1] == lq[:, 1:]).all():
        pixels = pixels @ _LUMA
        pixels = pixels if image.ndim == 2 else np.repeat(pixels[..., None], 3, axis=2)
    if image.dtype.kind != 'f':
        largest = np.iinfo(image.dtype).max
        pixels = pixels.astype(np.float64) if image.dtype.itemsize > 2 else pixels  # float32 has 24 bits
        pixels *= largest
        np.rint(pixels, out=pixels)
        np.minimum(pixels, largest, out=pixels)  # the weights of grey add up to a little more than 1
    pixels = pixels.astype(image.dtype)
    if alpha is None:
        return pixels
    # Stacking makes the bytes' order the machine's.
    return np.dstack([pixels, alpha]).astype(image.dtype, copy=False)
