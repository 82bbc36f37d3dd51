"""Tensors of a sample that stay on the host, whatever their shapes, when a batch goes to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map


@dataclass(frozen=True)
class OnHost:
    """A tensor of a sample that is collated to :class:`SeveralOnHost`, and not to a tensor of one shape."""

    tensor: Tensor


@dataclass(frozen=True)
class SeveralOnHost:
    """The tensors of a batch's samples, end to end: one piece of memory goes from a worker to its master, not many.

    Args:
        values: All their values, one after the other.
        shapes: The shape of each.
    """

    values: Tensor
    shapes: Sequence[torch.Size]

    def tensors(self) -> list[Tensor]:
        """Give the tensors, views of :attr:`values`."""
        parts = self.values.split([shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]


def _collate(samples: Sequence[OnHost], **_options: Any) -> SeveralOnHost:
    tensors = [sample.tensor for sample in samples]
    return SeveralOnHost(torch.cat([tensor.flatten() for tensor in tensors]), [tensor.shape for tensor in tensors])


# So every DataLoader collates them, BasicSR's too; torch names this table in default_collate's documentation.
default_collate_fn_map[OnHost] = _collate
