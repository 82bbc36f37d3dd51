"""The blur of the paper's test protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import training_variance_range
from manet_basicsr.degradation.sampler import PROTOCOL_BLOCK, FieldSampler, block_field, lr_size, register_field

PROTOCOL_KINDS = (1, 2, 3, 4, 5, 6)


def invariant_protocol_parameters(scale: int) -> Tensor:
    """Give the nine kernels of the invariant test protocol in their fixed order, that of the suffixes _k0 to _k8.

    l1 ascends through 1, 1+s, 1+2s; for each l1, l2 ascends through the same values up to l1; for each pair the
    angle is 0, then pi/4 (left out where l1 = l2).

    Args:
        scale: Downsampling factor s, at least 1.

    Returns:
        ``(9, 3)`` rows of (l1, l2, angle) in HR px^2 and radians, float32.

    Raises:
        ValueError: If the scale is below 1.

    Source: MANet (ICCV 2021), section 4.2.
    """
    if scale < 1:
        raise ValueError(f'scale must be at least 1, found {scale}')
    steps = (1, 1 + scale, 1 + 2 * scale)
    pairs = [(first, second) for first in steps for second in steps if second <= first]
    return torch.tensor(
        [(*pair, angle) for pair in pairs for angle in (0.0, math.pi / 4) if angle == 0 or pair[0] != pair[1]]
    )


def protocol_parameters(
    kind: int, height: int, width: int, scale: int, generator: torch.Generator | None = None
) -> Tensor:
    """Give the kernel parameters of a spatially variant test type, one kernel for each block of 40 x 40 HR px.

    Args:
        kind: Type 1 to 6. Type 5 is random and draws l1, l2, angle block by block in row-major order.
        height: HR height in px.
        width: HR width in px.
        scale: Downsampling factor s, at least 1.
        generator: Source of randomness of type 5; torch's global one when None.

    Returns:
        ``(rows, cols, 3)`` tensor of (l1, l2, angle) in HR px^2 and radians, float32; ``rows`` is a fortieth of the
        height, rounded up, after the image is cut to a multiple of the scale, ``cols`` likewise.

    Raises:
        ValueError: If the type is unknown, or the image has no LR pixel.

    Source: MANet (ICCV 2021), section 4.3, with the numbers of the authors' release: ``a = 2.325 s``, ``b = 0.175 s``,
    ``r = row / rows``, ``c = col / cols``.
    """
    if isinstance(kind, bool) or kind not in PROTOCOL_KINDS:
        raise ValueError(f'protocol kind must be one of 1 to 6, found {kind!r}')
    lr_height, lr_width = lr_size(height, width, scale)
    # The protocol cuts an image to a multiple of the scale first: what is cut off makes no block.
    height, width = lr_height * scale, lr_width * scale
    rows, cols = math.ceil(height / PROTOCOL_BLOCK), math.ceil(width / PROTOCOL_BLOCK)
    row, col = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64), torch.arange(cols, dtype=torch.float64), indexing='ij'
    )
    low, high = training_variance_range(scale)
    smallest, largest = torch.full_like(row, low), torch.full_like(row, high)
    down, across = low + (high - low) * row / rows, low + (high - low) * col / cols
    upright, turned = torch.zeros_like(row), math.pi * row / rows
    if kind == 1:
        planes = (largest, down, upright)
    elif kind == 2:
        planes = (across, down, upright)
    elif kind == 3:
        planes = (largest, smallest, turned)
    elif kind == 4:
        planes = (across, down, turned)
    elif kind == 5:
        uniform = torch.rand(rows, cols, 3, generator=generator).double()
        planes = (low + (high - low) * uniform[..., 0], low + (high - low) * uniform[..., 1], math.pi * uniform[..., 2])
    else:
        planes = (largest, smallest, math.pi / 4 + math.pi / 2 * ((row + col) % 2))
    return torch.stack(planes, dim=2).float()


def protocol_field(
    kind: int,
    height: int,
    width: int,
    scale: int,
    kernel_size: int = 21,
    alignment: str = 'centered',
    generator: torch.Generator | None = None,
) -> Tensor:
    """Make the kernel field of a spatially variant test type.

    Args:
        kind: Type 1 to 6, as :func:`protocol_parameters` describes them.
        height: HR height in px.
        width: HR width in px.
        scale: Downsampling factor s, at least 1.
        kernel_size: Side k of the kernels in taps.
        alignment: ``centered`` or ``published``.
        generator: Source of randomness of type 5; torch's global one when None.

    Returns:
        Kernel field ``(1, k*k, height // scale, width // scale)``, float32.

    Raises:
        ValueError: If the type is unknown, the image has no LR pixel, or as :func:`anisotropic_gaussian_kernels` does.
    """
    parameters = protocol_parameters(kind, height, width, scale, generator)
    field = block_field(parameters, height, width, scale, kernel_size, alignment)
    return field.expand(-1, -1, *lr_size(height, width, scale))


@register_field('protocol')
@dataclass(frozen=True)
class ProtocolSampler(FieldSampler):
    """A spatially variant field of the test protocol, as :func:`protocol_parameters` describes it.

    Args:
        kind: Type 1 to 6. (Kind 0 of an option file stands for nine fixed fields, see
            :func:`invariant_protocol_parameters`.)

    Raises:
        ValueError: If the type is unknown.

    Examples:
        >>> field = ProtocolSampler(4).draw(96, 128, scale=4)  # blocks of 40x40 HR px are 10x10 LR pixels
        >>> first, same, next_one = field[..., 0, 0], field[..., 9, 9], field[..., 0, 10]
        >>> field.shape, torch.equal(first, same), torch.equal(first, next_one)
        (torch.Size([1, 441, 24, 32]), True, False)
    """

    kind: int

    def __post_init__(self) -> None:
        if isinstance(self.kind, bool) or self.kind not in PROTOCOL_KINDS:
            raise ValueError(f'kind must be one of 1 to 6, found {self.kind!r}')

    @property
    def varies(self) -> bool:
        return True

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        return protocol_parameters(self.kind, height, width, scale, generator)
