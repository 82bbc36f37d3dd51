"""Fields for training whose kernels change within a crop, or from crop to crop in kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from manet_basicsr.degradation.fields import FIELD_TYPES, Field, KernelMaker, build_field, gaussian_kernels
from manet_basicsr.degradation.kernels import check_variance_range, sample_kernel_parameters

#: Stands in for the parameters of kernels that are made and not used; every kind of kernel can be made of it.
_NEUTRAL = 0.5


@dataclass(frozen=True)
class CollageField(Field):
    """Blocks with sharp borders, each with a random kernel of its own.

    Height and width of the blocks are drawn for each image, and so is the offset of their grid. The kernel of every
    pixel has the distribution of ``invariant``: that of the paper's training, which shows a network the same kernels
    but never two of them at once.

    Args:
        variance: Smallest and largest variance in HR px^2.
        block: Smallest and largest side of the blocks in HR px, whole numbers.

    Raises:
        ValueError: If the range of variances is not ``0 < min <= max``, or that of sides not ``1 <= min <= max``.
    """

    variance: tuple[float, float]
    #: 6 to 24 LR px at x4; a MANet of one block a level sees 22.
    block_size: tuple[int, int] = (24, 96)

    def __post_init__(self) -> None:
        low, high = _numbers('variance', self.variance, 2)
        check_variance_range((low, high))
        object.__setattr__(self, 'variance', (low, high))
        smallest, largest = _numbers('block_size', self.block_size, 2)
        if not (1 <= smallest <= largest and smallest.is_integer() and largest.is_integer()):
            expected = '[min, max] of whole numbers with 1 <= min <= max (HR px)'
            raise ValueError(f'block_size must be {expected}, found {self.block_size!r}')
        object.__setattr__(self, 'block_size', (int(smallest), int(largest)))

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        rows, columns = (self._blocks_of_pixels(side // scale, scale, generator) for side in (height, width))
        grid = int(rows[-1]) + 1, int(columns[-1]) + 1
        variances, angles = sample_kernel_parameters(grid[0] * grid[1], self.variance, generator)
        blocks = torch.cat([variances, angles[:, None]], dim=1).view(*grid, 3)
        # For each pixel rather than each block: the images of a batch have different blocks.
        return blocks[rows[:, None], columns]

    def _blocks_of_pixels(self, pixels: int, scale: int, generator: torch.Generator | None) -> Tensor:
        """Draw a division of a side into blocks and return the number of each LR pixel's block ``(pixels,)``."""
        smallest, largest = self.block_size
        side = int(torch.randint(smallest, largest + 1, (), generator=generator))
        offset = int(torch.randint(side, (), generator=generator))
        return (torch.arange(pixels) * scale + offset) // side

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        return _distinct_kernels(gaussian_kernels, parameters, kernel_size, scale, alignment)

    def block(self, scale: int) -> int:
        return scale


@dataclass(frozen=True)
class MixtureField(Field):
    """One of several kinds of field, drawn anew for each image.

    Parameters are ``(rows, columns, 1 + P)``: the number of the kind, and its parameters followed by zeros. They are
    for each LR pixel unless every kind has one kernel an image, so that the images of a batch have parameters and
    fields of one shape, whatever kinds they got.

    Args:
        of: The kinds, each as ``degradation.field`` describes one.
        weights: How often each is drawn, in proportion; None for equally often.

    Raises:
        ValueError: If a kind is wrong, there are none, or not as many positive weights.
    """

    of: Sequence[Mapping[str, Any]]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.of, list | tuple) or not self.of:
            raise ValueError(f'of must be a list of fields like {{type: invariant, ...}}, found {self.of!r}')
        number = len(self.kinds)
        weights = _numbers('weights', [1] * number if self.weights is None else self.weights, number)
        if min(weights) <= 0:
            raise ValueError(f'weights must be positive, found {self.weights!r}')
        object.__setattr__(self, 'of', tuple(dict(options) for options in self.of))
        object.__setattr__(self, 'weights', tuple(weights))

    @cached_property
    def kinds(self) -> tuple[Field, ...]:
        """The kinds of field, in the order of ``of``."""
        return tuple(_build_kind(number, options) for number, options in enumerate(self.of))

    def check(self, kernel_size: int, scale: int) -> None:
        for number, kind in enumerate(self.kinds):
            try:
                kind.check(kernel_size, scale)
            except ValueError as error:
                raise ValueError(f'of[{number}].{error}') from error

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        # All kinds are drawn, and one is taken: so the shape is the same for every image.
        drawn = [kind.parameters(height, width, scale=scale, generator=generator) for kind in self.kinds]
        assert self.weights is not None
        number = int(torch.multinomial(torch.tensor(self.weights), 1, generator=generator))
        chosen = drawn[number]
        if any(parameters.shape[:2] != (1, 1) for parameters in drawn):
            chosen = _for_each_pixel(chosen, height // scale, width // scale, scale, self.kinds[number].block(scale))
        rows, columns, numbers = chosen.shape
        result = torch.zeros(rows, columns, 1 + max(parameters.shape[2] for parameters in drawn))
        result[..., 0] = number
        result[..., 1 : 1 + numbers] = chosen
        return result

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        return _distinct_kernels(self._kernels_of_kinds, parameters, kernel_size, scale, alignment)

    def _kernels_of_kinds(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        kernels = torch.zeros(len(parameters), kernel_size**2, device=parameters.device)
        unused = torch.Generator()  # draws from it tell how many parameters each kind has
        for number, kind in enumerate(self.kinds):
            own = parameters[:, :1] == number
            width = kind.parameters(scale, scale, scale=scale, generator=unused).shape[2]
            numbers = parameters[:, 1 : 1 + width]
            # Which rows are whose is known on the device alone: without waiting for it, all are made of each kind.
            made = kind.kernels(numbers.where(own, _NEUTRAL), kernel_size, scale, alignment)
            kernels = kernels.where(~own, made)
        return kernels

    def block(self, scale: int) -> int:
        return scale


def _build_kind(number: int, options: Mapping[str, Any]) -> Field:
    try:
        return build_field(options)
    except ValueError as error:
        raise ValueError(f'of[{number}]{str(error).removeprefix("degradation.field")}') from None


def _numbers(setting: str, value: object, length: int) -> list[float]:
    """Return a list of finite numbers as floats, or refuse what is none."""
    numbers = list(value) if isinstance(value, list | tuple) else []
    is_number = [isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers]
    if len(numbers) != length or not all(is_number):
        raise ValueError(f'{setting} must be a list of {length} finite numbers, found {value!r}')
    return [float(number) for number in numbers]


def _for_each_pixel(parameters: Tensor, lr_height: int, lr_width: int, scale: int, block: int) -> Tensor:
    """Repeat the parameters (rows, columns, P) of blocks, or of one kernel, for each LR pixel in them."""
    if parameters.shape[:2] == (1, 1):
        return parameters.expand(lr_height, lr_width, -1)
    rows, columns = (torch.arange(side) * scale // block for side in (lr_height, lr_width))
    return parameters[rows[:, None], columns]


def _distinct_kernels(make: KernelMaker, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
    """Make the kernels (N, k*k) of parameters (N, P), many of which are the same."""
    if parameters.device.type != 'cpu':
        # To find out which are the same would make the host wait.
        return make(parameters, kernel_size, scale, alignment)
    distinct, places = torch.unique(parameters, dim=0, return_inverse=True)
    kernels = make(distinct, kernel_size, scale, alignment)
    return kernels[places]


FIELD_TYPES['collage'] = CollageField
FIELD_TYPES['mixture'] = MixtureField
