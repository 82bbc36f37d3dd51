"""Several kinds of blur, one of which is drawn for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from manet_basicsr.degradation.sampler import FieldSampler, build_field_sampler, distinct_kernels, register_field
from manet_basicsr.degradation.values import check_numbers

#: Stands in for the parameters of kernels that are made and not used; every kind of kernel can be made of it.
_NEUTRAL = 0.5


@register_field('mixture')
@dataclass(frozen=True)
class MixtureSampler(FieldSampler):
    """One of several kinds of field, drawn anew for each image.

    Parameters are ``(rows, columns, 1 + P)``: the number of the kind, and its parameters followed by zeros. They are
    for each LR pixel unless every kind has one kernel an image, so that the images of a batch have parameters and
    fields of one shape, whatever kinds they got.

    Args:
        of: The kinds, each as ``degradation.field`` describes one.
        weights: How often each is drawn, in proportion; None for equally often.

    Raises:
        ValueError: If a kind is wrong, there are none, or not as many positive weights.

    Examples:
        >>> kinds = [{'type': 'invariant', 'variance': [0.7, 10]}, {'type': 'defocus', 'radius': [2, 6]}]
        >>> sampler = MixtureSampler(kinds, weights=[3, 1])
        >>> sampler.draw(96, 128, scale=4, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([1, 441, 1, 1])
    """

    of: Sequence[Mapping[str, Any]]
    weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.of, list | tuple) or not self.of:
            raise ValueError(f'of must be a list of fields like {{type: invariant, ...}}, found {self.of!r}')
        number = len(self.kinds)
        weights = check_numbers('weights', [1] * number if self.weights is None else self.weights, number)
        if min(weights) <= 0:
            raise ValueError(f'weights must be positive, found {self.weights!r}')
        object.__setattr__(self, 'of', tuple(dict(options) for options in self.of))
        object.__setattr__(self, 'weights', tuple(weights))

    @cached_property
    def kinds(self) -> tuple[FieldSampler, ...]:
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
        return distinct_kernels(self._kernels_of_kinds, parameters, kernel_size, scale, alignment)

    def _kernels_of_kinds(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        kernels = torch.zeros(len(parameters), kernel_size**2, device=parameters.device)
        unused = torch.Generator()  # draws from it tell how many parameters each kind has
        for number, kind in enumerate(self.kinds):
            own = parameters[:, :1] == number
            width = kind.parameters(scale, scale, scale=scale, generator=unused).shape[2]
            numbers = parameters[:, 1 : 1 + width]
            if parameters.device.type == 'cpu':
                rows = own[:, 0].nonzero()[:, 0]
                if len(rows):
                    kernels[rows] = kind.kernels(numbers[rows], kernel_size, scale, alignment).to(kernels.dtype)
                continue
            # Which rows are whose is known on the device alone: without waiting for it, all are made of each kind.
            made = kind.kernels(numbers.where(own, _NEUTRAL), kernel_size, scale, alignment)
            kernels = kernels.where(~own, made)
        return kernels

    def block(self, scale: int) -> int:
        return scale


def _build_kind(number: int, options: Mapping[str, Any]) -> FieldSampler:
    try:
        return build_field_sampler(options)
    except ValueError as error:
        raise ValueError(f'of[{number}]{str(error).removeprefix("degradation.field")}') from None


def _for_each_pixel(parameters: Tensor, lr_height: int, lr_width: int, scale: int, block: int) -> Tensor:
    """Repeat the parameters (rows, columns, P) of blocks, or of one kernel, for each LR pixel in them."""
    if parameters.shape[:2] == (1, 1):
        return parameters.expand(lr_height, lr_width, -1)
    rows, columns = (torch.arange(side) * scale // block for side in (lr_height, lr_width))
    return parameters[rows[:, None], columns]
