"""Gaussian blur that changes smoothly over the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from manet_basicsr.degradation.sampler import FieldSampler, linear_weights, lr_size, register_field
from manet_basicsr.degradation.values import check_number, check_period, check_variance_range


def smooth_parameters(
    height: int,
    width: int,
    scale: int,
    variance: tuple[float, float],
    period: float = 96,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw kernel parameters that change smoothly over the image.

    Kernels are drawn as for training at the points of a grid ``period`` HR px apart and interpolated between them. The
    kernel of each pixel has the distribution of the drawn ones, :func:`sample_kernel_parameters`, which a mean of
    covariances would draw together to its middle. So what is interpolated bilinearly are three standard normal numbers,
    divided by the root of the sum of the squared weights, which are standard normal again::

        (l1 - min) / (max - min) = Phi(n1)
        (l2 - min) / (l1 - min)  = exp(-(n2^2 + n3^2) / 2)
        angle                    = atan2(n3, n2) / 2

    The second and the third line are the radius and the direction of one normal vector, thus uniform and independent;
    where the vector is zero and has no direction, l1 = l2 and the kernel needs none.

    Args:
        height: HR height in px.
        width: HR width in px.
        scale: Downsampling factor s, at least 1.
        variance: Smallest and largest variance in HR px^2.
        period: Distance of the grid points in HR px.
        generator: Source of randomness on the CPU; torch's global one when None.

    Returns:
        ``(height // scale, width // scale, 3)`` tensor of (l1, l2, angle) for each LR pixel, with
        min <= l2 <= l1 <= max in HR px^2 and the angle in [0, pi], float32.

    Raises:
        ValueError: If the range of variances or the period is not positive, or the image has no LR pixel.
    """
    check_variance_range(variance)
    check_period(period)
    lr_height, lr_width = lr_size(height, width, scale)
    down, across = (linear_weights(side, scale / period).double() for side in (lr_height, lr_width))
    # In float64, and never 0: the values at the grid points come back to the last digit of float32.
    uniform = torch.rand(down.shape[1] * across.shape[1], 3, generator=generator).double().clamp(min=2.0**-25)
    radius, direction = (-2 * uniform[:, 1].log()).sqrt(), 2 * math.pi * uniform[:, 2]
    normal = torch.stack([torch.special.ndtri(uniform[:, 0]), radius * direction.cos(), radius * direction.sin()])
    down, across = (weights / torch.linalg.vector_norm(weights, dim=1, keepdim=True) for weights in (down, across))
    interpolated = down @ normal.view(3, down.shape[1], across.shape[1]) @ across.T
    low, high = variance
    first = low + (high - low) * torch.special.ndtr(interpolated[0])
    second = low + (first - low) * (-(interpolated[1] ** 2 + interpolated[2] ** 2) / 2).exp()
    return torch.stack([first, second, torch.atan2(interpolated[2], interpolated[1]) / 2 % math.pi], dim=2).float()


@register_field('smooth')
@dataclass(frozen=True)
class SmoothSampler(FieldSampler):
    """A random field that changes smoothly over the image, as :func:`smooth_parameters` describes it.

    Args:
        variance: Smallest and largest variance in HR px^2.
        period: Distance in HR px over which the kernels change.

    Raises:
        ValueError: If the range is not ``0 < min <= max`` or the period below 1.

    Examples:
        >>> sampler = SmoothSampler((0.7, 10), period=96)
        >>> sampler.draw(96, 128, scale=4, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([1, 441, 24, 32])
    """

    variance: tuple[float, float]
    period: float = 96.0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'variance', check_variance_range(self.variance))
        object.__setattr__(self, 'period', check_number('period', self.period))
        check_period(self.period)

    @property
    def varies(self) -> bool:
        return True

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        return smooth_parameters(height, width, scale, self.variance, self.period, generator)

    def block(self, scale: int) -> int:
        return scale
