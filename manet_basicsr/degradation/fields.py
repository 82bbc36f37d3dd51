"""Kernel fields: which blur kernel lies behind each LR pixel.

A field is drawn in two steps. Random numbers make *parameters* ``(rows, cols, P)`` for each cell of some grid, a few
numbers that can be stored or sent anywhere; from these the kernels follow without chance. The parameters of Gaussians
are (l1, l2, angle).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from manet_basicsr.degradation.bank import bank_kernels
from manet_basicsr.degradation.defocus import disk_kernels
from manet_basicsr.degradation.kernels import (
    anisotropic_gaussian_kernels,
    check_variance_range,
    sample_kernel_parameters,
    training_variance_range,
    unknown_name,
)
from manet_basicsr.degradation.motion import (
    PATH_POINTS,
    TRAJECTORIES,
    motion_kernels,
    passing_object_paths,
    random_paths,
    roll_paths,
)

#: Makes the kernels (N, k*k) of parameters (N, P), given kernel size, scale and alignment.
KernelMaker = Callable[[Tensor, int, int, str], Tensor]

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
    _check_period(period)
    lr_height, lr_width = _lr_size(height, width, scale)
    down, across = (_linear_weights(side, scale / period).double() for side in (lr_height, lr_width))
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


def _linear_weights(positions: int, step: float) -> Tensor:
    """Give the weights (positions, points) of linear interpolation at positions ``step`` apart, points 1 apart."""
    at = torch.arange(positions) * step
    points = torch.arange(math.floor((positions - 1) * step) + 2)
    return (1 - (at[:, None] - points).abs()).clamp(min=0)


def gaussian_kernels(parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
    """Make the kernels (N, k*k) of parameters (N, 3), rows of (l1, l2, angle), as the other arguments say."""
    return anisotropic_gaussian_kernels(parameters[:, :2], parameters[:, 2], kernel_size, scale, alignment)


def block_field(
    parameters: Tensor,
    height: int,
    width: int,
    scale: int,
    kernel_size: int = 21,
    alignment: str = 'centered',
    block: int = PROTOCOL_BLOCK,
    kernels: KernelMaker = gaussian_kernels,
) -> Tensor:
    """Make the kernel field whose parameters are given for blocks of HR pixels.

    LR pixel (i, j) has the kernel of the block ``(s i // block, s j // block)`` in which its HR position lies.

    Args:
        parameters: ``(rows, cols, 3)`` tensor of (l1, l2, angle) in HR px^2 and radians, or ``(B, rows, cols, 3)`` for
            a batch of images; ``rows = cols = 1`` is one kernel for the whole image, and ``block = scale`` gives each
            LR pixel its own.
        height: HR height in px.
        width: HR width in px.
        scale: Downsampling factor s, at least 1.
        kernel_size: Side k of the kernels in taps.
        alignment: ``centered`` or ``published``.
        block: Side of the blocks in HR px.
        kernels: What the parameters mean, where they are not those of Gaussians and so not three.

    Returns:
        Kernel field ``(B, k*k, height // scale, width // scale)``, or ``(B, k*k, 1, 1)`` from single kernels, float32,
        on the device of the parameters; B is 1 where the parameters have no batch.

    Raises:
        ValueError: If the parameters have a wrong shape or do not cover the image, or as
            :func:`anisotropic_gaussian_kernels` does.
    """
    if parameters.ndim not in (3, 4) or (kernels is gaussian_kernels and parameters.shape[-1] != 3):
        raise ValueError(
            f'parameters must have shape (rows, cols, 3) or (B, rows, cols, 3), found {tuple(parameters.shape)}'
        )
    lr_height, lr_width = _lr_size(height, width, scale)
    field = _cell_kernels(parameters, scale, kernel_size, alignment, kernels)
    rows, cols = field.shape[2:]
    if (rows, cols) == (1, 1) or ((rows, cols) == (lr_height, lr_width) and block == scale):
        return field
    if (lr_height - 1) * scale // block >= rows or (lr_width - 1) * scale // block >= cols:
        raise ValueError(
            f'parameters of {rows} x {cols} blocks of {block} px do not cover an image of {height} x {width} px'
        )
    block_rows = torch.arange(lr_height, device=field.device) * scale // block
    block_cols = torch.arange(lr_width, device=field.device) * scale // block
    # Columns first, while there are few rows; what remains is to copy whole rows, by an index because index_select
    # goes row by row, and its threads wait for each other after each.
    return field.index_select(3, block_cols)[:, :, block_rows]


def _cell_kernels(parameters: Tensor, scale: int, kernel_size: int, alignment: str, kernels: KernelMaker) -> Tensor:
    """Make the kernel of each cell ([B,] rows, cols, P) as a field (B, k*k, rows, cols)."""
    rows, cols, numbers = parameters.shape[-3:]
    cells = parameters.reshape(-1, numbers)
    field = torch.empty(kernel_size**2, len(cells), device=parameters.device)
    for taps, some in zip(field.split(_KERNELS_AT_ONCE, dim=1), cells.split(_KERNELS_AT_ONCE), strict=True):
        taps.copy_(kernels(some, kernel_size, scale, alignment).T)
    return field.view(kernel_size**2, -1, rows, cols).transpose(0, 1).contiguous()


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
        """Draw the parameters which :meth:`make` makes the field of.

        Args:
            height: HR height in px.
            width: HR width in px.
            scale: Downsampling factor.
            generator: Source of randomness on the CPU; torch's global one when None.

        Returns:
            ``(rows, cols, P)`` tensor, float32; of Gaussians (l1, l2, angle) in HR px^2 and radians.
        """
        raise NotImplementedError

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        """Make the kernels (N, k*k) of parameters (N, P); of Gaussians unless a class says otherwise."""
        return gaussian_kernels(parameters, kernel_size, scale, alignment)

    def check(self, kernel_size: int, scale: int) -> None:
        """Refuse kernels that do not fit into so many taps.

        Raises:
            ValueError: They do not.
        """

    def block(self, scale: int) -> int:
        """Give the side in HR px of the blocks that the parameters are for.

        Args:
            scale: Downsampling factor.

        Returns:
            The argument ``block`` of :func:`block_field`.
        """
        return PROTOCOL_BLOCK

    def is_gaussian_blocks(self, scale: int) -> bool:
        """Tell whether the parameters are those of Gaussians for the protocol's blocks, all that they need be read."""
        return type(self).kernels is Field.kernels and self.block(scale) == PROTOCOL_BLOCK

    def make(
        self,
        parameters: Tensor,
        height: int,
        width: int,
        *,
        scale: int,
        kernel_size: int = 21,
        alignment: str = 'centered',
    ) -> Tensor:
        """Make the kernel field of parameters that were drawn; arguments and result are those of :meth:`draw`."""
        # By identity, so that block_field checks what it knows the shape of.
        own = type(self).kernels is not Field.kernels
        kernels = self.kernels if own else gaussian_kernels
        return block_field(parameters, height, width, scale, kernel_size, alignment, self.block(scale), kernels)

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
        return self.make(parameters, height, width, scale=scale, kernel_size=kernel_size, alignment=alignment)


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


@dataclass(frozen=True)
class MotionField(Field):
    """Motion blur: a Gaussian dragged along the path of the camera or of an object during the exposure.

    Invariant, every image has one path. Variant, a ``camera`` also rolls about a point of the image, so that the path
    changes smoothly from pixel to pixel, and an ``object`` passes in front of a still scene.

    Args:
        radius: Smallest and largest distance in HR px of a path's farthest point from its centre of mass.
        trajectory: ``camera`` (a shaking hand) or ``object`` (a straight or slightly bent passage).
        variant: Whether the kernels change over the image.
        variance: Of the Gaussian, in HR px^2.

    Raises:
        ValueError: If the range is not ``0 < min <= max``, or a value out of its range.
    """

    radius: tuple[float, float]
    trajectory: str = 'camera'
    variant: bool = False
    variance: float = 0.7

    def __post_init__(self) -> None:
        object.__setattr__(self, 'radius', _radius_range(self.radius))
        object.__setattr__(self, 'variance', _number('variance', self.variance))
        if self.trajectory not in TRAJECTORIES:
            raise ValueError(unknown_name('trajectory', self.trajectory, TRAJECTORIES))
        if not isinstance(self.variant, bool):
            raise ValueError(f'variant must be true or false, found {self.variant!r}')
        if self.variance <= 0:
            raise ValueError(f'variance must be positive (HR px^2), found {self.variance:g}')

    def check(self, kernel_size: int, scale: int) -> None:
        # Two standard deviations of the stroke: what is cut off beyond does not move the centre of mass.
        _check_radius(self.radius[1], (kernel_size - scale) / 2 - 2 * math.sqrt(self.variance), kernel_size, scale)

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        lr_height, lr_width = _lr_size(height, width, scale)
        radius = _uniform(self.radius, (), generator)
        if not self.variant:
            return radius * random_paths(1, self.trajectory, generator).view(1, 1, -1)
        paths = roll_paths if self.trajectory == 'camera' else passing_object_paths
        return radius * paths(height, width, scale, generator).reshape(lr_height, lr_width, -1)

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        return motion_kernels(parameters.view(-1, PATH_POINTS, 2), self.variance, kernel_size, scale, alignment)

    def block(self, scale: int) -> int:
        return scale


@dataclass(frozen=True)
class DefocusField(Field):
    """Defocus blur: disks, whose variance along each axis is a quarter of the radius squared.

    Args:
        radius: Smallest and largest radius in HR px, at least 1.
        period: None for one disk an image; otherwise radii drawn at points so many HR px apart are interpolated, as of
            a scene whose depth changes smoothly.

    Raises:
        ValueError: If the range is not ``1 <= min <= max`` or the period not positive.
    """

    radius: tuple[float, float]
    period: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, 'radius', _radius_range(self.radius, least=1))
        if self.period is not None:
            object.__setattr__(self, 'period', _number('period', self.period))
            _check_period(float(self.period))

    def check(self, kernel_size: int, scale: int) -> None:
        _check_radius(self.radius[1], (kernel_size - scale) / 2, kernel_size, scale)

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        lr_height, lr_width = _lr_size(height, width, scale)
        if self.period is None:
            return _uniform(self.radius, (1, 1, 1), generator)
        down, across = _linear_weights(lr_height, scale / self.period), _linear_weights(lr_width, scale / self.period)
        return (down @ _uniform(self.radius, (down.shape[1], across.shape[1]), generator) @ across.T)[..., None]

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        return disk_kernels(parameters[:, 0], kernel_size, scale, alignment)

    def block(self, scale: int) -> int:
        return scale


@dataclass(frozen=True)
class BankField(Field):
    """Kernels drawn from a folder of measured ones, as :func:`manet_basicsr.degradation.bank.read_bank` reads it.

    Args:
        folder: The folder of npy, mat and png files.
        period: None for one kernel an image; otherwise the side in HR px of blocks that have a kernel each.

    Raises:
        ValueError: If the folder is no path or the period no positive whole number.
    """

    folder: str
    period: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str):
            raise ValueError(f'folder must be a path, found {self.folder!r}')
        if self.period is not None and (isinstance(self.period, bool) or not isinstance(self.period, int)):
            raise ValueError(f'period must be a whole number (HR px), found {self.period!r}')
        if self.period is not None:
            _check_period(self.period)

    def check(self, kernel_size: int, scale: int) -> None:
        try:
            bank_kernels(self.folder, kernel_size, scale, 'centered')
        except FileNotFoundError as error:
            raise ValueError(f'folder: {error}') from error

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        _lr_size(height, width, scale)
        size = (1, 1) if self.period is None else (math.ceil(height / self.period), math.ceil(width / self.period))
        return torch.rand(*size, 1, generator=generator)

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        kernels = bank_kernels(self.folder, kernel_size, scale, alignment).to(parameters.device)
        # A share of the bank rather than a number in it: the bank is not read to draw.
        return kernels[(parameters[:, 0] * len(kernels)).long()]

    def block(self, scale: int) -> int:
        return PROTOCOL_BLOCK if self.period is None else self.period


FIELD_TYPES: dict[str, type[Field]] = {
    'bank': BankField,
    'defocus': DefocusField,
    'fixed': FixedField,
    'invariant': InvariantField,
    'motion': MotionField,
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
    if not 1 <= period < math.inf:
        raise ValueError(f'period must be at least 1 (HR px), found {period:g}')


def _radius_range(value: object, least: float = 0) -> tuple[float, float]:
    low, high = _pair('radius', value)
    if not (least <= low <= high and low > 0):
        expected = f'{least:g} <= min' if least else '0 < min'
        raise ValueError(f'radius must be [min, max] with {expected} <= max (HR px), found [{low}, {high}]')
    return low, high


def _check_radius(radius: float, largest: float, kernel_size: int, scale: int) -> None:
    if radius > largest:
        raise ValueError(
            f'radius must be at most {largest:.2f} HR px (kernel_size {kernel_size}, scale {scale}), found {radius:g}'
        )


def _uniform(limits: tuple[float, float], size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    low, high = limits
    return low + (high - low) * torch.rand(size, generator=generator)
