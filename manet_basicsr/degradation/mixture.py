"""Several kinds of blur, one of which is drawn for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from manet_basicsr.degradation.sampler import FieldSampler, build_field_sampler, lr_size, register_field
from manet_basicsr.degradation.values import check_numbers


@register_field('mixture')
@dataclass(frozen=True)
class MixtureSampler(FieldSampler):
    """One of several kinds of field, drawn anew for each image.

    Parameters are ``(rows, columns, 1 + P)``: the number of the kind, and its parameters. Fields are for each LR pixel
    unless every kind has one kernel an image, so that the images of a batch have fields of one shape.

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

    @property
    def varies(self) -> bool:
        return any(kind.varies for kind in self.kinds)

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        numbers = parameters[:, 0].long()
        made = parameters.new_empty(len(parameters), kernel_size**2)
        for number in numbers.unique().tolist():
            rows = numbers == number
            made[rows] = self.kinds[number].kernels(parameters[rows, 1:], kernel_size, scale, alignment)
        return made

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        assert self.weights is not None
        number = int(torch.multinomial(torch.tensor(self.weights), 1, generator=generator))
        drawn = self.kinds[number].parameters(height, width, scale=scale, generator=generator)
        return F.pad(drawn, (1, 0), value=number)

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
        kind = self.kinds[int(parameters[0, 0, 0])]
        own = kind.make(parameters[..., 1:], height, width, scale=scale, kernel_size=kernel_size, alignment=alignment)
        # Of one kernel a view, which the blur takes for what it is.
        return own.expand(-1, -1, *self._grid(height, width, scale))

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
        numbers = torch.tensor([int(of_image[0, 0, 0]) for of_image in parameters])
        field = torch.empty(len(parameters), kernel_size**2, *self._grid(height, width, scale), device=device)
        for number in numbers.unique().tolist():
            rows = (numbers == number).nonzero()[:, 0]
            field[rows.to(device, non_blocking=True)] = self.kinds[number].make_batch(
                [parameters[row][..., 1:] for row in rows],
                height,
                width,
                scale=scale,
                kernel_size=kernel_size,
                alignment=alignment,
                device=device,
            )
        return field

    def _grid(self, height: int, width: int, scale: int) -> tuple[int, int]:
        return lr_size(height, width, scale) if self.varies else (1, 1)


def _build_kind(number: int, options: Mapping[str, Any]) -> FieldSampler:
    try:
        return build_field_sampler(options)
    except ValueError as error:
        raise ValueError(f'of[{number}]{str(error).removeprefix("degradation.field")}') from None
