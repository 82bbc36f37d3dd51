"""Antialiased reduction, as image libraries reduce: an image whose only blur is that of being resized."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import check_kernel_grid
from manet_basicsr.degradation.sampler import FieldSampler, lr_size, register_field


def reduction_kernel(profile: Callable[[Tensor], Tensor], kernel_size: int, scale: int, alignment: str) -> Tensor:
    """Lay the kernel of an antialiased reduction on the grid of a kernel field.

    Along each axis the taps are ``profile(d / s)`` at the distances d from the position of the LR pixel, divided by
    their sum; profiles of two lobes have 4 s taps that are not 0 where s is even.

    Args:
        profile: The interpolating function, 0 from 2 on.
        kernel_size: Side k of the kernel in taps.
        scale: Downsampling factor s.
        alignment: ``centered`` or ``published``.

    Returns:
        ``(1, k*k)`` kernel that sums to 1, with negative taps, float32.
    """
    check_kernel_grid(kernel_size, scale, alignment)
    shift = (scale - 1) / 2 if alignment == 'centered' else (1 - scale) / 2
    distance = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2 - shift
    taps = profile(distance / scale)
    taps = taps / taps.sum()
    return torch.outer(taps, taps).float().view(1, -1)


@dataclass(frozen=True)
class ReductionSampler(FieldSampler):
    """The kernel of an antialiased reduction, the same for every image.

    With it :func:`blur_downsample` gives what resizing gives, but for the border, which it repeats and which MATLAB's
    and BasicSR's ``imresize`` mirror: on the photographs of the tests the outermost LR pixels differ by up to 5 levels
    of 8 bit. A blur of its own it has none, and no parameters: the one number that stands for it is of no account.
    """

    @staticmethod
    def profile(distance: Tensor) -> Tensor:
        """Give the interpolating function at distances of any sign in LR px; it is 0 from 2 on."""
        raise NotImplementedError

    def check(self, kernel_size: int, scale: int) -> None:
        check_kernel_grid(kernel_size, scale, 'centered')
        needed = math.ceil(2 * scale + (scale - 1) / 2) - 1  # from the middle to the farthest tap that may not be 0
        if kernel_size // 2 < needed:
            raise ValueError(
                f'type: a reduction at scale {scale} needs a kernel_size of at least {2 * needed + 1}, found '
                f'{kernel_size}'
            )

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        lr_size(height, width, scale)
        return torch.zeros(1, 1, 1)

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        kernel = _kept_kernel(self.profile, kernel_size, scale, alignment, parameters.device)
        return kernel.expand(len(parameters), -1)


@lru_cache(maxsize=64)
def _kept_kernel(
    profile: Callable[[Tensor], Tensor], kernel_size: int, scale: int, alignment: str, device: torch.device
) -> Tensor:
    """Make the kernel of a reduction once for each device: to send it with every batch would make the host wait."""
    return reduction_kernel(profile, kernel_size, scale, alignment).to(device)


@register_field('bicubic')
@dataclass(frozen=True)
class BicubicSampler(ReductionSampler):
    """Bicubic reduction, as MATLAB's and BasicSR's ``imresize``: what bicubic super-resolution is trained on.

    Source: R. Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2.

    Examples:
        >>> field = BicubicSampler().draw(96, 128, scale=4)
        >>> field.shape, (field != 0).sum().item()
        (torch.Size([1, 441, 1, 1]), 256)
    """

    @staticmethod
    def profile(distance: Tensor) -> Tensor:
        near, far = distance.abs().clamp(max=1), distance.abs().clamp(1, 2)
        inner = (1.5 * near - 2.5) * near**2 + 1
        outer = ((2.5 - 0.5 * far) * far - 4) * far + 2
        return torch.where(distance.abs() < 1, inner, outer)


@register_field('lanczos')
@dataclass(frozen=True)
class LanczosSampler(ReductionSampler):
    """Reduction with Lanczos's window of two lobes, the one that deep image prior (CVPR 2018) assumes.

    Examples:
        >>> field = LanczosSampler().draw(96, 128, scale=2)
        >>> field.shape, (field != 0).sum().item()
        (torch.Size([1, 441, 1, 1]), 64)
    """

    @staticmethod
    def profile(distance: Tensor) -> Tensor:
        return torch.where(distance.abs() < 2, distance.sinc() * (distance / 2).sinc(), 0)
