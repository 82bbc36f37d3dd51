"""Defocus blur: the disk that a point of light out of focus leaves."""

from __future__ import annotations

import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import check_kernel_grid, place_kernels


def disk_kernels(radii: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
    """Draw disks with a soft edge one tap wide, ``clip(radius + 1/2 - |v|, 0, 1)``.

    Args:
        radii: ``(N,)`` in HR px, at least 1 and at most ``(kernel_size - scale) / 2``. Radius r has the variance
            ``r^2 / 4`` along each axis.
        kernel_size: Side k of the kernels in taps.
        scale: Downsampling factor.
        alignment: ``centered`` or ``published``.

    Returns:
        ``(N, k*k)`` kernels, each summing to 1, on the device of the radii.
    """
    check_kernel_grid(kernel_size, scale, alignment)
    size = kernel_size - scale + 1
    axis = torch.arange(size, device=radii.device) - (size - 1) / 2
    distance = torch.hypot(axis[:, None], axis)
    return place_kernels((radii[:, None, None] + 0.5 - distance).clamp(0, 1), scale, alignment)
