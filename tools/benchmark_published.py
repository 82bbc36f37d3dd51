"""What tools/benchmark.py measures, in the formulation of the authors' released code: each step on the HR grid.

Kernels are drawn one by one with scipy. One kernel for an image blurs it by a grouped convolution at stride 1, a kernel
for each pixel by unfolding the image; both are subsampled afterwards. Kernels are compared as HR-sized tensors.
Everything is in the type of what is given, so float64 in makes it the reference.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import multivariate_normal
from torch import Tensor

KERNEL_SIZE = 21
BLOCK = 40


def kernel(first: float, second: float, angle: float, scale: int) -> np.ndarray:
    """Draw one kernel (21, 21) on the centered grid."""
    size = KERNEL_SIZE - scale + 1
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    covariance = turn @ np.diag([first, second]) @ turn.T
    axis = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing='ij')
    density = multivariate_normal.pdf(np.stack([x, y], axis=-1), [0, 0], covariance)
    density[density < np.finfo(np.float64).eps * density.max()] = 0
    placed = np.zeros((KERNEL_SIZE, KERNEL_SIZE))
    placed[scale - 1 :, scale - 1 :] = density / density.sum()
    return placed


def kernels(variances: Tensor, angles: Tensor, scale: int, dtype: torch.dtype) -> Tensor:
    """Draw kernels (N, 441)."""
    rows = zip(variances.tolist(), angles.tolist(), strict=True)
    drawn = [torch.from_numpy(kernel(first, second, angle, scale)).to(dtype) for (first, second), angle in rows]
    return torch.stack(drawn).flatten(1)


def protocol_kernels(height: int, width: int, scale: int, dtype: torch.dtype) -> Tensor:
    """Make the HR-sized kernels (1, 441, H, W) of type 4."""
    rows, cols = math.ceil(height / BLOCK), math.ceil(width / BLOCK)
    span, least = 2.325 * scale, 0.175 * scale
    whole = torch.empty(1, KERNEL_SIZE**2, height, width, dtype=dtype)
    for row in range(rows):
        for col in range(cols):
            drawn = kernel(span * col / cols + least, span * row / rows + least, math.pi * row / rows, scale)
            area = whole[..., row * BLOCK : (row + 1) * BLOCK, col * BLOCK : (col + 1) * BLOCK]
            area.copy_(torch.from_numpy(drawn).view(1, -1, 1, 1))
    return whole


def upsampled(field: Tensor, scale: int) -> Tensor:
    """Give the kernels of an LR grid to the HR pixels."""
    return F.interpolate(field, scale_factor=scale, mode='nearest')


def blur_variant(hr: Tensor, hr_kernels: Tensor, scale: int) -> Tensor:
    """Blur at every HR pixel with its own kernel (B, 441, H, W), then keep every s-th pixel."""
    batch, channels, height, width = hr.shape
    patches = F.unfold(F.pad(hr, [KERNEL_SIZE // 2] * 4, mode='replicate'), KERNEL_SIZE)
    patches = patches.view(batch, channels, KERNEL_SIZE**2, height * width)
    blurred = (patches * hr_kernels.flatten(2)[:, None]).sum(2)
    return blurred.view(hr.shape)[..., ::scale, ::scale]


def blur_invariant(hr: Tensor, image_kernels: Tensor, scale: int) -> Tensor:
    """Blur each image with its kernel (B, 441, 1, 1) by a convolution at stride 1, then keep every s-th pixel."""
    batch, channels = hr.shape[:2]
    weight = image_kernels.view(batch, 1, 1, KERNEL_SIZE, KERNEL_SIZE).expand(-1, channels, -1, -1, -1).flatten(0, 1)
    padded = F.pad(hr, [KERNEL_SIZE // 2] * 4, mode='replicate').flatten(0, 1)
    return F.conv2d(padded[None], weight, groups=batch * channels).view(hr.shape)[..., ::scale, ::scale]


def kernel_loss(field: Tensor, image_kernels: Tensor, scale: int) -> Tensor:
    """Compare kernels as HR-sized tensors."""
    estimated = upsampled(field, scale)
    true = image_kernels.expand_as(estimated).contiguous()
    return (estimated - true).abs().mean()


def restore(net: Any, lq: Tensor) -> Tensor:
    """Restore an image with a BlindSRNet in one pass; the kernel code is a sum over all taps and components at once."""
    field, generator = net.estimate(lq), net.generator
    code = (generator.pca_matrix * field.unsqueeze(2)).sum(1)
    first = generator.conv_first(lq)
    feature = first
    for block in generator.RRDB_trunk:
        feature = block(feature, code)
    return generator.upsampler(first + generator.trunk_conv(feature))


def lr_psnr(estimated: Tensor, true: Tensor, border: int) -> float:
    """PSNR on Y of 8-bit LR images (1, 3, h, w), without a border."""
    weight = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64).view(3, 1, 1)
    images = [(image[0].double().clamp(0, 1) * 255).round() / 255 for image in (estimated, true)]
    first, second = ((weight * image).sum(0) + 16 for image in images)
    error = (first - second)[border:-border, border:-border].square().mean()
    return float(10 * (255**2 / error).log10())
