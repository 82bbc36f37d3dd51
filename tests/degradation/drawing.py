"""What the tests of blurs share: drawing a field, and looking at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.degradation import FieldSampler


def draw(field: FieldSampler, alignment: str = 'centered', seed: int = 0, scale: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return field.draw(96, 128, scale=scale, alignment=alignment, generator=generator)


def centre_of_mass(field: torch.Tensor) -> torch.Tensor:
    """(2, h, w) rows and columns, from the middle of the taps."""
    taps = field[0].double().view(21, 21, *field.shape[2:])
    axis = torch.arange(21, dtype=torch.float64) - 10
    return torch.stack([torch.einsum('yxhw,y->hw', taps, axis), torch.einsum('yxhw,x->hw', taps, axis)])


def problem_of(options: dict[str, Any], photos: Path) -> str:
    """What a test set says about a wrong ``degradation.field``, before anything is read."""
    try:
        SVDegradationDataset.check(
            {'phase': 'test', 'scale': 4, 'dataroot_gt': str(photos), 'degradation': {'field': options}}
        )
    except ValueError as error:
        return str(error)
    raise AssertionError(f'{options} are accepted')
