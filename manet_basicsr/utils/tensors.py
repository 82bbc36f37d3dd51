"""Looking for numbers that are none in what is read and written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def not_finite(content: Any) -> str | None:
    """Name the first tensor with NaN or infinity in nested dicts and lists, such as ``params.conv.weight``.

    A mask of nothing but 0 and minus infinity, as attention has, is none.

    Args:
        content: What ``torch.save`` takes; what is no tensor of floating point is passed over.

    Returns:
        The name, or None where all is finite.
    """
    tensors = (name for name, value in _tensors(content, '') if not (bool(value.isfinite().all()) or _is_mask(value)))
    return next(tensors, None)


def _tensors(content: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        if content.is_floating_point() and content.layout == torch.strided:
            yield name, content.detach()
    elif isinstance(content, (Mapping, list, tuple)):
        items = content.items() if isinstance(content, Mapping) else enumerate(content)
        for key, value in items:
            yield from _tensors(value, f'{name}.{key}' if name else str(key))


def _is_mask(values: Tensor) -> bool:
    return bool(((values == 0) | (values == -math.inf)).all())
