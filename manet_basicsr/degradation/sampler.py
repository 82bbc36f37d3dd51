"""What all blurs share: the sampler of kernel fields, its registry, and fields made of blocks.

A field is drawn in two steps. Random numbers make *parameters* ``(rows, cols, P)`` for each cell of some grid, a few
numbers that can be stored or sent anywhere; from these the kernels follow without chance. The parameters of Gaussians
are (l1, l2, angle).

A blur is one module of this folder: a frozen dataclass that derives from :class:`FieldSampler`, whose fields are the
option keys, under ``@register_field('its_type')``. Every module of the folder is imported with the package, so a new
file is all that a new blur needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import anisotropic_gaussian_kernels
from manet_basicsr.utils.messages import unknown_name

#: Makes the kernels (N, k*k) of parameters (N, P), given kernel size, scale and alignment.
KernelMaker = Callable[[Tensor, int, int, str], Tensor]

#: Side in HR px of the blocks that have a kernel each, in the test protocol.
PROTOCOL_BLOCK = 40
# 32,768 kernels take 100 to 400 MB while they are being made, whatever the size of the image.
_KERNELS_AT_ONCE = 2**15


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
    lr_height, lr_width = lr_size(height, width, scale)
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
    if parameters.requires_grad and torch.is_grad_enabled():
        made = torch.cat([kernels(some, kernel_size, scale, alignment) for some in cells.split(_KERNELS_AT_ONCE)])
        return made.T.reshape(kernel_size**2, -1, rows, cols).transpose(0, 1).contiguous()
    field = torch.empty(kernel_size**2, len(cells), device=parameters.device)
    for taps, some in zip(field.split(_KERNELS_AT_ONCE, dim=1), cells.split(_KERNELS_AT_ONCE), strict=True):
        taps.copy_(kernels(some, kernel_size, scale, alignment).T)
    return field.view(kernel_size**2, -1, rows, cols).transpose(0, 1).contiguous()


def distinct_kernels(make: KernelMaker, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
    """Make the kernels (N, k*k) of parameters (N, P), many of which are the same."""
    if parameters.device.type != 'cpu' or parameters.requires_grad or parameters.dtype != torch.float32:
        # To find out which are the same would make the host wait, and gradients do not go through it.
        return make(parameters, kernel_size, scale, alignment)
    # By a number for each row, whose order takes a third of the time that the rows' own takes.
    bits = parameters.contiguous().view(torch.int32).long()
    numbers = (bits * 1_000_003 ** torch.arange(bits.shape[1])).sum(1)
    distinct, places = torch.unique(numbers, return_inverse=True)
    chosen = parameters[torch.empty_like(distinct).scatter_(0, places, torch.arange(len(places)))]
    if not torch.equal(chosen[places], parameters):  # two rows of one number
        return make(parameters, kernel_size, scale, alignment)
    return make(chosen, kernel_size, scale, alignment)[places]


def lr_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """Give the LR height and width of an image of so many HR px; what is left of a division is no LR pixel.

    Raises:
        ValueError: If the scale is below 1, or a side shorter than it.
    """
    if scale < 1:
        raise ValueError(f'scale must be at least 1, found {scale}')
    if min(height, width) < scale:
        raise ValueError(f'an image of {height} x {width} has no LR pixel at scale {scale}')
    return height // scale, width // scale


def linear_weights(positions: int, step: float) -> Tensor:
    """Give the weights (positions, points) of linear interpolation at positions ``step`` apart, points 1 apart."""
    at = torch.arange(positions) * step
    points = torch.arange(math.floor((positions - 1) * step) + 2)
    return (1 - (at[:, None] - points).abs()).clamp(min=0)


@dataclass(frozen=True)
class FieldSampler:
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

    @property
    def varies(self) -> bool:
        """Whether an image gets several kernels, and not one for all of it."""
        return False

    def is_gaussian_blocks(self, scale: int) -> bool:
        """Tell whether the parameters are those of Gaussians for the protocol's blocks, all that they need be read."""
        own = type(self).kernels is FieldSampler.kernels and type(self).make is FieldSampler.make
        return own and self.block(scale) == PROTOCOL_BLOCK

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
        own = type(self).kernels is not FieldSampler.kernels
        kernels = self.kernels if own else gaussian_kernels
        return block_field(parameters, height, width, scale, kernel_size, alignment, self.block(scale), kernels)

    def make_batch(
        self,
        parameters: Sequence[Tensor],
        height: int,
        width: int,
        *,
        scale: int,
        kernel_size: int = 21,
        alignment: str = 'centered',
        device: torch.device | str = 'cpu',
    ) -> Tensor:
        """Make the fields of several images at once.

        Args:
            parameters: What was drawn for each image, ``(rows, cols, P)``, on the CPU.
            height: HR height in px.
            width: HR width in px.
            scale: Downsampling factor.
            kernel_size: Side k of the kernels in taps.
            alignment: ``centered`` or ``published``.
            device: Where the kernels are made; the host does not wait for it.

        Returns:
            Field ``(B, k*k, height // scale, width // scale)`` or ``(B, k*k, 1, 1)``, on ``device``.
        """
        together = torch.stack(tuple(parameters))
        if together.device.type == 'cpu' and torch.device(device).type == 'cuda':
            together = together.pin_memory()  # otherwise the host would wait until larger ones are copied
        together = together.to(device, non_blocking=True)
        return self.make(together, height, width, scale=scale, kernel_size=kernel_size, alignment=alignment)

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
            ValueError: If the image has no LR pixel, or as :meth:`check` and :func:`anisotropic_gaussian_kernels` do.
        """
        self.check(kernel_size, scale)
        parameters = self.parameters(height, width, scale=scale, generator=generator)
        return self.make(parameters, height, width, scale=scale, kernel_size=kernel_size, alignment=alignment)


FIELD_TYPES: dict[str, type[FieldSampler]] = {}
"""The samplers by the ``type`` that an option file names them with."""

_Sampler = TypeVar('_Sampler', bound=type[FieldSampler])


def register_field(name: str) -> Callable[[_Sampler], _Sampler]:
    """Register a sampler as a ``type`` of ``degradation.field``.

    Raises:
        ValueError: If another sampler has that name.
    """

    def register(sampler: _Sampler) -> _Sampler:
        if name in FIELD_TYPES:
            raise ValueError(
                f'field type {name!r} is registered twice: {FIELD_TYPES[name].__name__}, {sampler.__name__}'
            )
        FIELD_TYPES[name] = sampler
        return sampler

    return register


def build_field_sampler(options: Mapping[str, Any]) -> FieldSampler:
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
        raise ValueError(f"degradation.field lacks the key 'type', one of {', '.join(sorted(FIELD_TYPES))}")
    name = options['type']
    if not isinstance(name, str) or name not in FIELD_TYPES:
        raise ValueError(unknown_name('degradation.field', name, sorted(FIELD_TYPES)))
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
