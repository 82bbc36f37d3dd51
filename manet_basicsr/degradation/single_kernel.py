"""One kernel for a whole image, as methods find it that know of no fields: laid on the grid of a field."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from manet_basicsr.degradation.bank import LARGEST_LOSS, centre_kernel
from manet_basicsr.degradation.kernels import check_kernel_grid, place_kernels


def field_of_kernel(kernel: Tensor, scale: int, kernel_size: int = 21) -> Tensor:
    """Lay a kernel of any size, found up to a displacement, on the ``centered`` grid of a kernel field.

    Negative taps become 0, the centre of mass moves to ``k//2 + (s-1)/2`` in both axes, as that of every ``centered``
    kernel, what lies outside ``k - s + 1`` taps about it is cut off, and the rest is divided by its sum. A kernel that
    also moves the image cannot be told from an image that was elsewhere; this is the rule of KernelGAN (NeurIPS 2019).
    A warning tells where more is cut off than a measured kernel may lose (1 %): the field is narrower than what was
    found.

    Args:
        kernel: ``(rows, columns)``, to be cross-correlated with the image.
        scale: Downsampling factor s.
        kernel_size: Side k of the kernels of the field.

    Returns:
        The field ``(1, k*k, 1, 1)``, float32.

    Raises:
        ValueError: If the kernel is no matrix of finite numbers, or has no positive tap, or the grid cannot be.
    """
    check_kernel_grid(kernel_size, scale, 'centered')
    if kernel.ndim != 2 or not bool(kernel.isfinite().all()):
        raise ValueError(f'kernel has shape {tuple(kernel.shape)}, expected a matrix of finite numbers')
    taps = kernel.detach().double().cpu().clamp(min=0)
    if taps.sum() <= 0:
        raise ValueError('kernel: found no positive tap, expected a kernel that sums to more than 0')
    size = kernel_size - scale + 1
    centred = centre_kernel(np.asarray(taps / taps.sum()), size)
    if centred.sum() <= 0:
        raise ValueError(f'kernel: found no weight within {size}x{size} taps of its centre of mass')
    if centred.sum() < 1 - LARGEST_LOSS:
        rows, columns = kernel.shape
        warnings.warn(
            f'of the kernel of {rows}x{columns} taps that was found {1 - centred.sum():.0%} is cut off by {size}x{size}'
            f' taps (kernel_size {kernel_size}, scale {scale}): the kernel in use is narrower',
            stacklevel=2,
        )
    spread = torch.from_numpy(centred)[None].flip(1, 2)  # what place_kernels takes is a point spread function
    return place_kernels(spread, scale, 'centered').float().view(1, -1, 1, 1)
