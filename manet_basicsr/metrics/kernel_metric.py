"""How well a kernel field is estimated: against the true one, and by the LR image it makes.

The arguments are the ones that BasicSR's validation knows; every metric gets all of them, hence ``**unused``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from basicsr.metrics.psnr_ssim import calculate_psnr, calculate_ssim
from basicsr.utils import tensor2img
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor

from manet_basicsr.degradation import blur_downsample

SSIM_WINDOW = 11

#: The 8-bit images (h, w, 3) that the estimated and the true field make of the HR image.
LRImages = tuple[np.ndarray, np.ndarray]


@METRIC_REGISTRY.register()
@torch.no_grad()
def calculate_kernel_psnr(*, field: Tensor, field_gt: Tensor, **unused: Any) -> float:
    """PSNR of a kernel field, ``10 log10(1 / MSE)``, the MSE over all taps and positions of one image.

    Args:
        field: The estimated field, (1, k*k, h, w) or without the batch dimension, k odd.
        field_gt: The true one, of the same size or with h = w = 1. Its kernels may have another odd number of taps a
            side: the smaller ones are surrounded by zeros.
        unused: What the validation knows besides.

    Returns:
        Decibels; inf for an exact match.

    Raises:
        ValueError: If the shapes are no fields of one image or do not fit each other.

    Examples:
        >>> point = torch.zeros(441, 1, 1).index_fill(0, torch.tensor(220), 1)
        >>> square = torch.full((441, 1, 1), 1 / 441)
        >>> round(calculate_kernel_psnr(field=square, field_gt=point), 2)
        26.45
    """
    estimated, true = _one_image('field', field), _one_image('field_gt', field_gt)
    taps = max(estimated.shape[1], true.shape[1])
    surrounded = [_surround(kernels, taps) for kernels in (estimated, true)]
    if surrounded[0].shape[1] != surrounded[1].shape[1] or not _sizes_fit(estimated, true):
        raise ValueError(
            f'field has shape {tuple(field.shape)}, field_gt {tuple(field_gt.shape)}, expected k*k taps with k odd, on '
            'grids of one size'
        )
    estimated, true = surrounded
    # Each tap's mean first: a float64 mean of all at once would copy the field to float64.
    error = (estimated.float() - true.float()).square_().mean((0, 2, 3)).mean(dtype=torch.float64)
    return float('inf') if error == 0 else float(-10 * error.log10())


@METRIC_REGISTRY.register()
def calculate_lr_psnr(
    *,
    field: Tensor,
    field_gt: Tensor,
    gt: Tensor,
    scale: int,
    crop_border: int | None = None,
    lr_images: LRImages | None = None,
    **unused: Any,
) -> float:
    """PSNR between the LR images that the estimated and the true field make of the HR image (MANet, ICCV 2021).

    Both LR images are rounded to 8 bits and compared on Y (BT.601).

    Args:
        field: The estimated field, (1, k*k, h, w) or without the batch dimension.
        field_gt: The true one, of the same size or with h = w = 1.
        gt: The HR image, (1, C, H, W) or (C, H, W), RGB, values in [0, 1].
        scale: Downsampling factor.
        crop_border: LR pixels left out at each side; None for ``scale``.
        lr_images: What :func:`make_lr_images` gives for these arguments, where it is known already.
        unused: What the validation knows besides.

    Returns:
        Decibels; inf for an exact match.

    Raises:
        ValueError: If the shapes are not of one image, or nothing is left inside the border.

    Examples:
        >>> gt = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> point = torch.zeros(441, 1, 1).index_fill(0, torch.tensor(220), 1)
        >>> square = torch.full((441, 1, 1), 1 / 441)
        >>> round(calculate_lr_psnr(field=square, field_gt=point, gt=gt, scale=4), 2)
        15.81
        >>> calculate_lr_psnr(field=point, field_gt=point, gt=gt, scale=4)
        inf
    """
    images = lr_images or make_lr_images(field, field_gt, gt, scale)
    return _compare_lr(calculate_psnr, 1, images, scale if crop_border is None else crop_border)


@METRIC_REGISTRY.register()
def calculate_lr_ssim(
    *,
    field: Tensor,
    field_gt: Tensor,
    gt: Tensor,
    scale: int,
    crop_border: int | None = None,
    lr_images: LRImages | None = None,
    **unused: Any,
) -> float:
    """SSIM between the LR images that the estimated and the true field make of the HR image (MANet, ICCV 2021).

    Args:
        field: As in :func:`calculate_lr_psnr`, and so for all that follow.
        field_gt: The true field.
        gt: The HR image.
        scale: Downsampling factor.
        crop_border: LR pixels left out at each side; None for ``scale``.
        lr_images: What :func:`make_lr_images` gives for these arguments, where it is known already.
        unused: What the validation knows besides.

    Returns:
        At most 1, which is an exact match.

    Raises:
        ValueError: As in :func:`calculate_lr_psnr`; the window needs 11 LR pixels inside the border.

    Examples:
        >>> gt = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> point = torch.zeros(441, 1, 1).index_fill(0, torch.tensor(220), 1)
        >>> square = torch.full((441, 1, 1), 1 / 441)
        >>> round(calculate_lr_ssim(field=square, field_gt=point, gt=gt, scale=4), 2)
        0.05
        >>> calculate_lr_ssim(field=point, field_gt=point, gt=gt, scale=4)
        1.0
    """
    images = lr_images or make_lr_images(field, field_gt, gt, scale)
    return _compare_lr(calculate_ssim, SSIM_WINDOW, images, scale if crop_border is None else crop_border)


@torch.no_grad()
def make_lr_images(field: Tensor, field_gt: Tensor, gt: Tensor, scale: int) -> LRImages:
    """Make the LR images that the metrics compare, once for all of them.

    Args:
        field: As in :func:`calculate_lr_psnr`, and so for all that follow.
        field_gt: The true field.
        gt: The HR image.
        scale: Downsampling factor.

    Raises:
        ValueError: If the shapes are not of one image.
    """
    hr = _one_image('gt', gt)
    estimated, clean = (
        tensor2img(blur_downsample(hr, _one_image(name, kernels).to(hr), scale))
        for name, kernels in (('field', field), ('field_gt', field_gt))
    )
    return estimated, clean


def _compare_lr(compare: Callable[..., float], smallest: int, lr_images: LRImages, border: int) -> float:
    estimated, clean = lr_images
    inside = min(clean.shape[:2]) - 2 * border
    if border < 0 or inside < smallest:
        raise ValueError(
            f'the LR image has {clean.shape[0]}x{clean.shape[1]} pixels, crop_border is {border}: '
            f'expected at least {smallest}x{smallest} pixels inside a border of 0 or more'
        )
    return float(compare(estimated, clean, crop_border=border, test_y_channel=True))


def _surround(field: Tensor, taps: int) -> Tensor:
    """Surround the kernels of a field (1, k*k, h, w) with zeros up to so many taps, where that is possible."""
    own, side = math.isqrt(field.shape[1]), math.isqrt(taps)
    if own == side or own % 2 == 0 or side % 2 == 0 or own**2 != field.shape[1]:
        return field
    margin = (side - own) // 2
    return F.pad(field.unflatten(1, (own, own)), (0, 0, 0, 0, *[margin] * 4)).flatten(1, 2)


def _one_image(name: str, tensor: Tensor) -> Tensor:
    batched = tensor.unsqueeze(0) if tensor.dim() == 3 else tensor
    if batched.dim() != 4 or batched.shape[0] != 1:
        raise ValueError(f'{name} has shape {tuple(tensor.shape)}, expected one image, (1, C, h, w) or (C, h, w)')
    return batched


def _sizes_fit(first: Tensor, second: Tensor) -> bool:
    sizes = {tuple(first.shape[-2:]), tuple(second.shape[-2:])} - {(1, 1)}
    return len(sizes) <= 1
