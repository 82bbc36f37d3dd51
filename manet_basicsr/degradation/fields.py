"""Kernel fields: which blur kernel lies behind each LR pixel.

A field is drawn in two steps. Random numbers make *parameters* ``(rows, cols, 3)``, the (l1, l2, angle) of each cell of
some grid, a few numbers that can be stored or sent anywhere; from these the kernels follow without chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import (
    anisotropic_gaussian_kernels,
    check_variance_range,
    sample_kernel_parameters,
    training_variance_range,
    unknown_name,
)

PROTOCOL_BLOCK = 40
PROTOCOL_KINDS = (1, 2, 3, 4, 5, 6)
# 32,768 kernels take some 100 MB while they are being made, whatever the size of the image.
_KERNELS_AT_ONCE = 2**15


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
        ``(ceil(height / 40), ceil(width / 40), 3)`` tensor of (l1, l2, angle) in HR px^2 and radians, float32.

    Raises:
        ValueError: If the type is unknown, or the image has no LR pixel.

    Source: MANet (ICCV 2021), section 4.3, with the numbers of the authors' release: ``a = 2.325 s``, ``b = 0.175 s``,
    ``r = row / rows``, ``c = col / cols``.
    """
    if isinstance(kind, bool) or kind not in PROTOCOL_KINDS:
        raise ValueError(f'protocol kind must be one of 1 to 6, found {kind!r}')
    _lr_size(height, width, scale)
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


def smooth_parameters(
    height: int,
    width: int,
    scale: int,
    variance: tuple[float, float],
    period: float = 96,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw kernel parameters that change smoothly over the image.

    Kernels are drawn as for training at the points of a grid ``period`` HR px apart, and their covariance matrices are
    interpolated bilinearly. A mean of covariances has its eigenvalues within theirs, and no jump where the angle passes
    pi.

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
    _check_period(period)
    lr_height, lr_width = _lr_size(height, width, scale)
    down, across = _linear_weights(lr_height, scale / period), _linear_weights(lr_width, scale / period)
    variances, angles = sample_kernel_parameters(down.shape[1] * across.shape[1], variance, generator)
    mean, half_difference = variances.sum(1) / 2, (variances[:, 0] - variances[:, 1]) / 2
    # The covariance [[mean + p, q], [q, mean - p]]: (p, q) turns by twice the angle, so 0 and pi are the same.
    anchors = torch.stack([mean, half_difference * (2 * angles).cos(), half_difference * (2 * angles).sin()])
    mean, p, q = down @ anchors.view(3, down.shape[1], across.shape[1]) @ across.T
    half_difference = torch.hypot(p, q)
    low, high = variance
    # Rounding alone can leave the range.
    first, second = (mean + half_difference).clamp(low, high), (mean - half_difference).clamp(low, high)
    return torch.stack([first, second, torch.atan2(q, p) / 2 % math.pi], dim=2)


def _linear_weights(positions: int, step: float) -> Tensor:
    """Give the weights (positions, points) of linear interpolation at positions ``step`` apart, points 1 apart."""
    at = torch.arange(positions) * step
    points = torch.arange(math.floor((positions - 1) * step) + 2)
    return (1 - (at[:, None] - points).abs()).clamp(min=0)


def block_field(
    parameters: Tensor,
    height: int,
    width: int,
    scale: int,
    kernel_size: int = 21,
    alignment: str = 'centered',
    block: int = PROTOCOL_BLOCK,
) -> Tensor:
    """Make the kernel field whose parameters are given for blocks of HR pixels.

    LR pixel (i, j) has the kernel of the block ``(s i // block, s j // block)`` in which its HR position lies.

    Args:
        parameters: ``(rows, cols, 3)`` tensor of (l1, l2, angle) in HR px^2 and radians; ``(1, 1, 3)`` is one kernel
            for the whole image, and ``block = scale`` gives each LR pixel its own.
        height: HR height in px.
        width: HR width in px.
        scale: Downsampling factor s, at least 1.
        kernel_size: Side k of the kernels in taps.
        alignment: ``centered`` or ``published``.
        block: Side of the blocks in HR px.

    Returns:
        Kernel field ``(1, k*k, height // scale, width // scale)``, or ``(1, k*k, 1, 1)`` from a single kernel; float32,
        on the device of the parameters.

    Raises:
        ValueError: If the parameters have a wrong shape or do not cover the image, or as
            :func:`anisotropic_gaussian_kernels` does.
    """
    if parameters.ndim != 3 or parameters.shape[2] != 3:
        raise ValueError(f'parameters must have shape (rows, cols, 3), found {tuple(parameters.shape)}')
    lr_height, lr_width = _lr_size(height, width, scale)
    field = _cell_kernels(parameters, scale, kernel_size, alignment)
    rows, cols = parameters.shape[:2]
    if (rows, cols) == (1, 1) or ((rows, cols) == (lr_height, lr_width) and block == scale):
        return field
    if (lr_height - 1) * scale // block >= rows or (lr_width - 1) * scale // block >= cols:
        raise ValueError(
            f'parameters of {rows} x {cols} blocks of {block} px do not cover an image of {height} x {width} px'
        )
    block_rows = torch.arange(lr_height, device=field.device) * scale // block
    block_cols = torch.arange(lr_width, device=field.device) * scale // block
    # Columns first, while there are few rows; what remains is to copy whole rows.
    return field.index_select(3, block_cols).index_select(2, block_rows)


def _cell_kernels(parameters: Tensor, scale: int, kernel_size: int, alignment: str) -> Tensor:
    """Make the kernel of each cell (rows, cols, 3) as a field (1, k*k, rows, cols)."""
    cells = parameters.reshape(-1, 3)
    kernels = torch.empty(kernel_size**2, len(cells), device=parameters.device)
    for taps, some in zip(kernels.split(_KERNELS_AT_ONCE, dim=1), cells.split(_KERNELS_AT_ONCE), strict=True):
        taps.copy_(anisotropic_gaussian_kernels(some[:, :2], some[:, 2], kernel_size, scale, alignment).T)
    return kernels.view(1, kernel_size**2, *parameters.shape[:2])


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
    return field.expand(-1, -1, *_lr_size(height, width, scale))


def _lr_size(height: int, width: int, scale: int) -> tuple[int, int]:
    if scale < 1:
        raise ValueError(f'scale must be at least 1, found {scale}')
    if min(height, width) < scale:
        raise ValueError(f'an image of {height} x {width} has no LR pixel at scale {scale}')
    return height // scale, width // scale


@dataclass(frozen=True)
class Field:
    """A kind of kernel field, as the key ``degradation.field`` of an option file describes it; its draws are random."""

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw the parameters which :func:`block_field` makes the field of.

        Args:
            height: HR height in px.
            width: HR width in px.
            scale: Downsampling factor.
            generator: Source of randomness on the CPU; torch's global one when None.

        Returns:
            ``(rows, cols, 3)`` tensor of (l1, l2, angle) in HR px^2 and radians, float32.
        """
        raise NotImplementedError

    def block(self, scale: int) -> int:
        """Give the side in HR px of the blocks that the parameters are for.

        Args:
            scale: Downsampling factor.

        Returns:
            The argument ``block`` of :func:`block_field`.
        """
        return PROTOCOL_BLOCK

    def draw(
        self,
        height: int,
        width: int,
        *,
        scale: int,
        kernel_size: int = 21,
        alignment: str = 'centered',
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw a kernel field.

        Args:
            height: HR height in px.
            width: HR width in px.
            scale: Downsampling factor.
            kernel_size: Side k of the kernels in taps.
            alignment: ``centered`` or ``published``.
            generator: Source of randomness on the CPU; torch's global one when None.

        Returns:
            Kernel field ``(1, k*k, height // scale, width // scale)``, or ``(1, k*k, 1, 1)`` where one kernel serves
            the whole image; float32.

        Raises:
            ValueError: If the image has no LR pixel, or as :func:`anisotropic_gaussian_kernels` does.
        """
        parameters = self.parameters(height, width, scale=scale, generator=generator)
        return block_field(parameters, height, width, scale, kernel_size, alignment, self.block(scale))


@dataclass(frozen=True)
class InvariantField(Field):
    """One random kernel for the whole image, drawn as for training.

    Args:
        variance: Smallest and largest variance in HR px^2.

    Raises:
        ValueError: If the range is not ``0 < min <= max``.
    """

    variance: tuple[float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'variance', _pair('variance', self.variance))
        check_variance_range(self.variance)

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        variances, angles = sample_kernel_parameters(1, self.variance, generator)
        return torch.cat([variances, angles[:, None]], dim=1).view(1, 1, 3)


@dataclass(frozen=True)
class FixedField(Field):
    """The same kernel for every image.

    Args:
        variances: The variances (l1, l2) in HR px^2, positive.
        angle: Angle of the first axis in radians.

    Raises:
        ValueError: If a variance is not positive or the angle not a finite number.
    """

    variances: tuple[float, float]
    angle: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'variances', _pair('variances', self.variances))
        object.__setattr__(self, 'angle', _number('angle', self.angle))
        if min(self.variances) <= 0:
            raise ValueError(f'variances must be positive (HR px^2), found {list(self.variances)}')

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.tensor([*self.variances, self.angle]).view(1, 1, 3)


@dataclass(frozen=True)
class ProtocolField(Field):
    """A spatially variant field of the test protocol, as :func:`protocol_parameters` describes it.

    Args:
        kind: Type 1 to 6. (Kind 0 of an option file stands for nine fixed fields, see
            :func:`invariant_protocol_parameters`.)

    Raises:
        ValueError: If the type is unknown.
    """

    kind: int

    def __post_init__(self) -> None:
        if isinstance(self.kind, bool) or self.kind not in PROTOCOL_KINDS:
            raise ValueError(f'kind must be one of 1 to 6, found {self.kind!r}')

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        return protocol_parameters(self.kind, height, width, scale, generator)


@dataclass(frozen=True)
class SmoothField(Field):
    """A random field that changes smoothly over the image, as :func:`smooth_parameters` describes it.

    Args:
        variance: Smallest and largest variance in HR px^2.
        period: Distance in HR px over which the kernels change.

    Raises:
        ValueError: If the range is not ``0 < min <= max`` or the period not positive.
    """

    variance: tuple[float, float]
    period: float = 96.0

    def __post_init__(self) -> None:
        object.__setattr__(self, 'variance', _pair('variance', self.variance))
        object.__setattr__(self, 'period', _number('period', self.period))
        check_variance_range(self.variance)
        _check_period(self.period)

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        return smooth_parameters(height, width, scale, self.variance, self.period, generator)

    def block(self, scale: int) -> int:
        return scale


FIELD_TYPES: dict[str, type[Field]] = {
    'fixed': FixedField,
    'invariant': InvariantField,
    'protocol': ProtocolField,
    'smooth': SmoothField,
}


def build_field(options: Mapping[str, Any]) -> Field:
    """Make the kind of kernel field that an option file asks for.

    Args:
        options: The value of ``degradation.field``: the ``type``, one of :data:`FIELD_TYPES`, and the arguments of that
            class. It is not changed.

    Returns:
        The kind of field.

    Raises:
        ValueError: If the type or a key is unknown, a key is missing, or a value wrong; the message says what was found
            and expected.
    """
    if not isinstance(options, Mapping):
        raise ValueError(f'degradation.field must be keys and values like {{type: invariant, ...}}, found {options!r}')
    if 'type' not in options:
        raise ValueError(f"degradation.field lacks the key 'type', one of {', '.join(FIELD_TYPES)}")
    name = options['type']
    if not isinstance(name, str) or name not in FIELD_TYPES:
        raise ValueError(unknown_name('degradation.field', name, FIELD_TYPES))
    field_type = FIELD_TYPES[name]
    arguments = {key: value for key, value in options.items() if key != 'type'}
    known = {argument.name: argument.default is MISSING for argument in fields(field_type)}
    for key in arguments:
        if key not in known:
            raise ValueError(unknown_name(f'degradation.field (type {name}): key', key, ['type', *known]))
    for key, required in known.items():
        if required and key not in arguments:
            raise ValueError(f'degradation.field (type {name}) lacks the key {key!r}')
    try:
        return field_type(**arguments)
    except ValueError as error:
        raise ValueError(f'degradation.field.{error}') from None


def _number(setting: str, value: object) -> float:
    """Give a finite number as float, or refuse what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'{setting} must be a finite number, found {value!r}')
    return float(value)


def _pair(setting: str, value: object) -> tuple[float, float]:
    """Give a list of two numbers as tuple, or refuse what is none."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f'{setting} must be a list of two numbers, found {value!r}')
    return _number(setting, value[0]), _number(setting, value[1])


def _check_period(period: float) -> None:
    if not 0 < period < math.inf:
        raise ValueError(f'period must be positive (HR px), found {period:g}')
