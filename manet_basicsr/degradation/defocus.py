"""Defocus blur: the disk that a point of light out of focus leaves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import check_kernel_grid, place_kernels
from manet_basicsr.degradation.sampler import FieldSampler, linear_weights, lr_size, register_field
from manet_basicsr.degradation.values import check_number, check_period, check_radius, check_radius_range, uniform


def disk_kernels(radii: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
    """Draw disks with a soft edge one tap wide, ``clip(radius + 1/2 - |v|, 0, 1)``.

    Args:
        radii: ``(N,)`` in HR px, at least 1 and at most ``(kernel_size - scale) / 2``. Radius r has the variance
            ``r^2 / 4`` along each axis and up to 0.15 px^2 more by the soft edge: at x4 radius 1.7 has 0.85 instead of
            0.72, 6.3 has 10.06 instead of 9.92.
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


@register_field('defocus')
@dataclass(frozen=True)
class DefocusSampler(FieldSampler):
    """Defocus blur: disks, whose variance along each axis is about a quarter of the radius squared.

    Args:
        radius: Smallest and largest radius in HR px, at least 1.
        period: None for one disk an image; otherwise radii drawn at points so many HR px apart are interpolated, as of
            a scene whose depth changes smoothly.

    Raises:
        ValueError: If the range is not ``1 <= min <= max`` or the period below 1.

    Examples:
        >>> field = DefocusSampler((2, 2)).draw(96, 128, scale=4)
        >>> field.shape, (field > 0).sum().item()
        (torch.Size([1, 441, 1, 1]), 16)
    """

    radius: tuple[float, float]
    period: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'radius', check_radius_range(self.radius, least=1))
        if self.period is not None:
            object.__setattr__(self, 'period', check_number('period', self.period))
            check_period(float(self.period))

    @property
    def varies(self) -> bool:
        return self.period is not None

    def check(self, kernel_size: int, scale: int) -> None:
        check_radius(self.radius[1], (kernel_size - scale) / 2, kernel_size, scale)

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        lr_height, lr_width = lr_size(height, width, scale)
        if self.period is None:
            return uniform(self.radius, (1, 1, 1), generator)
        down, across = linear_weights(lr_height, scale / self.period), linear_weights(lr_width, scale / self.period)
        return (down @ uniform(self.radius, (down.shape[1], across.shape[1]), generator) @ across.T)[..., None]

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        return disk_kernels(parameters[:, 0], kernel_size, scale, alignment)

    def block(self, scale: int) -> int:
        return scale
