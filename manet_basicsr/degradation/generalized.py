"""Blur with other profiles than the Gaussian's: generalised Gaussians, flatter or more pointed, and plateaus."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.degradation.kernels import check_kernel_grid, place_kernels, sample_kernel_parameters, squared_radii
from manet_basicsr.degradation.sampler import FieldSampler, register_field
from manet_basicsr.degradation.values import check_pair, check_variance_range

_LARGEST_SHAPE = 16.0  # a cylinder, or an ellipse; far above, powers overflow


def generalized_kernels(
    parameters: Tensor, kernel_size: int, scale: int, alignment: str, plateau: bool = False
) -> Tensor:
    """Draw ``exp(-q^shape / 2)``, or as plateaus ``1 / (1 + q^shape)``, of ``q = v' C^-1 v``.

    Args:
        parameters: ``(N, 4)``, rows of (l1, l2, angle, shape): those of :func:`anisotropic_gaussian_kernels`, and the
            exponent, positive. Shape 1 is the Gaussian of these variances; others have other variances, which
            :func:`kernel_covariances` tells.
        kernel_size: Side k of the kernels in taps.
        scale: Downsampling factor.
        alignment: ``centered`` or ``published``.
        plateau: Whether to draw plateaus.

    Returns:
        ``(N, k*k)`` kernels, each summing to 1, on the device of the parameters.

    Tails are cut where the square of taps ends, which a wide kernel of small shape fills.

    Source: Real-ESRGAN (ICCVW 2021).
    """
    check_kernel_grid(kernel_size, scale, alignment)
    side = kernel_size - scale + 1
    radii, shape = squared_radii(parameters[:, :2], parameters[:, 2], side), parameters[:, 3:].double()
    # 1 / (1 + r^shape) by its logarithm: where it is narrower than the taps are apart, it would be 0 at all of them.
    logarithms = -F.softplus(shape * radii.log()) if plateau else -(radii**shape) / 2
    spread = logarithms.softmax(1)
    return place_kernels(spread.float().view(-1, side, side), scale, alignment)


@register_field('generalized')
@dataclass(frozen=True)
class GeneralizedSampler(FieldSampler):
    """One random generalised Gaussian for the whole image: pointed with long tails, or flat with a steep edge.

    Args:
        variance: Smallest and largest variance in HR px^2 that the Gaussian of shape 1 would have; drawn as for
            ``invariant``.
        shape: Smallest and largest exponent, 0.5 to 16; 1 is the Gaussian. Its logarithm is drawn uniformly.

    Raises:
        ValueError: If a range is not in ascending order, or a number too small.

    Examples:
        >>> flat = GeneralizedSampler((4, 4), shape=(4, 4)).draw(96, 128, scale=4)
        >>> flat.shape, round((flat.max() / flat[flat > 0.01].mean()).item(), 2)
        (torch.Size([1, 441, 1, 1]), 1.21)
    """

    variance: tuple[float, float]
    shape: tuple[float, float] = (0.5, 4)
    least_shape: ClassVar[float] = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, 'variance', check_variance_range(self.variance))
        smallest, largest = check_pair('shape', self.shape)
        if not self.least_shape <= smallest <= largest <= _LARGEST_SHAPE:
            expected = f'{self.least_shape:g} <= min <= max <= {_LARGEST_SHAPE:g}'
            raise ValueError(f'shape must be [min, max] with {expected}, found {self.shape!r}')
        object.__setattr__(self, 'shape', (smallest, largest))

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        variances, angles = sample_kernel_parameters(1, self.variance, generator)
        low, high = (math.log(limit) for limit in self.shape)
        shapes = (low + (high - low) * torch.rand(1, 1, generator=generator)).exp()
        return torch.cat([variances, angles[:, None], shapes], dim=1).view(1, 1, 4)

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        return generalized_kernels(parameters, kernel_size, scale, alignment)


@register_field('plateau')
@dataclass(frozen=True)
class PlateauSampler(GeneralizedSampler):
    """One random plateau for the whole image: flat in the middle, falling off by a power of the distance.

    Args:
        variance: Smallest and largest square in HR px^2 of the distance at which half of the height is left, along the
            axes; drawn as for ``invariant``.
        shape: Smallest and largest exponent, 1 to 16: the larger, the steeper the edge. Its logarithm is drawn
            uniformly.

    Raises:
        ValueError: If a range is not in ascending order, or a number too small.

    Examples:
        >>> field = PlateauSampler((4, 4), shape=(2, 2)).draw(96, 128, scale=4)
        >>> field.shape, round(field.sum().item(), 3)
        (torch.Size([1, 441, 1, 1]), 1.0)
    """

    shape: tuple[float, float] = (1, 2)
    least_shape: ClassVar[float] = 1.0  # below, most of a plateau would lie outside of any square

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        return generalized_kernels(parameters, kernel_size, scale, alignment, plateau=True)
