"""Crops of one image, drawn the more often the more detail they show."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.degradation import blur_downsample, build_field_sampler

_LUMA = (0.299, 0.587, 0.114)
_BORDER = 5
_SHARE = 0.97


def grey(image: Tensor) -> Tensor:
    """Give the brightness (1, 1, h, w) of a colour image (1, 3, h, w)."""
    return (image * image.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def halved(image: Tensor) -> Tensor:
    """Reduce an image (1, 3, h, w) bicubically by 2, rounding sizes down."""
    field = build_field_sampler({'type': 'bicubic'}).draw(2, 2, scale=2)
    return blur_downsample(image, field.to(image.device), 2)


def gradients(plane: Tensor) -> tuple[Tensor, Tensor]:
    """Give the central differences (1, 1, h, w) along rows and columns; one-sided at the border."""
    down, across = torch.gradient(plane, dim=(2, 3))
    return down, across


def quantile(numbers: Tensor, share: float) -> Tensor:
    """Give what ``torch.quantile`` gives, which takes 2^24 numbers and no more."""
    rank = share * (numbers.numel() - 1)
    low, high = (numbers.flatten().kthvalue(place + 1).values for place in (math.floor(rank), math.ceil(rank)))
    return low.lerp(high, rank % 1)


def draw_places(weights: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Draw places (number,) with replacement by weights (n,), as ``torch.multinomial``, which takes 2^24 of them.

    Args:
        weights: On the CPU, none negative, of a sum above 0.
        number: Of draws.
        generator: Source of randomness on the CPU.
    """
    below = weights.double().cumsum(0)
    below /= below[-1].clone()
    return torch.searchsorted(below, torch.rand(number, dtype=torch.float64, generator=generator), right=True)


def _peaks(plane: Tensor) -> Tensor:
    """Give an almost binary map of the largest three hundredths of a plane, without its border, that sums to 1."""
    inner = torch.zeros_like(plane)
    middle = (..., slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
    inner[middle] = plane[middle]
    threshold = quantile(inner, _SHARE)
    larger = inner[inner > threshold]
    if larger.numel() == 0:
        return torch.zeros_like(inner)
    peaks = inner.clamp(threshold, larger.min()) - threshold
    return peaks / peaks.sum().clamp(min=1e-12)


def detail_map(image: Tensor) -> Tensor:
    """Say where a colour image (1, 3, h, w) has detail: (1, 1, h, w), not negative."""
    down, across = gradients(grey(image))
    peaks = _peaks(across.abs()) + _peaks(down.abs()) + _peaks(torch.hypot(down, across))
    return F.avg_pool2d(peaks, 5, 1, 2)


def crop_corners(
    image: Tensor, side: int, number: int, generator: torch.Generator, size: torch.Size | None = None
) -> Tensor:
    """Draw where crops are taken, with the density of an image's detail.

    Args:
        image: ``(1, 3, h, w)``, whose detail counts.
        side: Of the crops.
        number: Of crops.
        generator: Source of randomness on the CPU.
        size: Of the image that is cropped, if it is larger than ``image``; its detail is that of the nearest pixel.

    Returns:
        ``(number, 2)``, upper left corners at even positions.
    """
    details = detail_map(image)
    if size is not None:
        details = F.interpolate(details, tuple(size))
    height, width = details.shape[-2:]
    half = side // 2
    density = F.avg_pool2d(details, half | 1, 1, (half | 1) // 2)[0, 0]
    inside = torch.zeros_like(density)
    inside[half : height - half, half : width - half] = 1
    density = (density * inside).cpu()
    if not density.sum() > 0:
        density = torch.ones(height, width)
    centres = draw_places(density.flatten(), number, generator)
    rows = (centres // width - half).clamp(0, height - side)
    columns = (centres % width - half).clamp(0, width - side)
    return torch.stack([rows, columns], 1) // 2 * 2


def crop_at(image: Tensor, corner: Tensor, side: int) -> Tensor:
    """Cut a square out of an image (1, C, h, w)."""
    top, left = corner.tolist()
    return image[..., top : top + side, left : left + side]
