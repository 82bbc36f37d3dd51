"""Gaussian blur, the same for the whole image: random, as for training, or fixed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import sample_kernel_parameters, training_variance_range
from manet_basicsr.degradation.sampler import FieldSampler, register_field
from manet_basicsr.degradation.values import check_number, check_pair, check_variance_range


@register_field('invariant')
@dataclass(frozen=True)
class InvariantSampler(FieldSampler):
    """One random kernel for the whole image, drawn as for training.

    Args:
        variance: Smallest and largest variance in HR px^2.

    Raises:
        ValueError: If the range is not ``0 < min <= max``.

    Examples:
        >>> field = InvariantSampler((0.7, 10)).draw(96, 128, scale=4, generator=torch.Generator().manual_seed(0))
        >>> field.shape
        torch.Size([1, 441, 1, 1])
    """

    variance: tuple[float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'variance', check_variance_range(self.variance))

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        variances, angles = sample_kernel_parameters(1, self.variance, generator)
        return torch.cat([variances, angles[:, None]], dim=1).view(1, 1, 3)


@register_field('fixed')
@dataclass(frozen=True)
class FixedSampler(FieldSampler):
    """The same kernel for every image.

    Args:
        variances: The variances (l1, l2) in HR px^2, positive.
        angle: Angle of the first axis in radians.

    Raises:
        ValueError: If a variance is not positive or the angle not a finite number.

    Examples:
        >>> from manet_basicsr.degradation import kernel_covariances
        >>> field = FixedSampler((4, 1)).draw(96, 128, scale=4)
        >>> kernel_covariances(field[:, :, 0, 0]).diagonal(dim1=1, dim2=2).round(decimals=2)
        tensor([[4., 1.]], dtype=torch.float64)
    """

    variances: tuple[float, float]
    angle: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'variances', check_pair('variances', self.variances))
        object.__setattr__(self, 'angle', check_number('angle', self.angle))
        if min(self.variances) <= 0:
            raise ValueError(f'variances must be positive (HR px^2), found {list(self.variances)}')

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.tensor([*self.variances, self.angle]).view(1, 1, 3)


def fixed_field(scale: int, kernel_size: int = 21, alignment: str = 'centered') -> Tensor:
    """Give the isotropic kernel in the middle of the training range, as a field (1, k*k, 1, 1)."""
    middle = sum(training_variance_range(scale)) / 2
    field = FixedSampler((middle, middle))
    return field.draw(scale, scale, scale=scale, kernel_size=kernel_size, alignment=alignment)
