"""Kernel fields on disk: one compressed ``.npz`` an image, kernels in float16.

Arrays of a file: ``field`` (k*k, h, w) float16, ``kernel_size``, ``scale``, ``alignment``. Half precision costs at most
0.05 % of a tap's value, or 3e-8 where a tap is below 6e-5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import ALIGNMENTS
from manet_basicsr.utils.errors import first_line
from manet_basicsr.utils.files import atomic_path


@dataclass(frozen=True)
class SavedField:
    """A kernel field read from a file.

    Attributes:
        field: Kernel field ``(1, k*k, h, w)``, float32.
        kernel_size: Side of the kernels in taps.
        scale: The LR grid's scale.
        alignment: ``centered``, ``published`` or ``unknown``.
    """

    field: Tensor
    kernel_size: int
    scale: int
    alignment: str


def save_field(path: str | Path, field: Tensor, *, scale: int, alignment: str) -> None:
    """Save a kernel field.

    Args:
        path: The file, ``.npz``; its folder must exist. It appears whole or not at all.
        field: ``(k*k, h, w)`` or ``(1, k*k, h, w)``.
        scale: The LR grid's scale.
        alignment: ``centered``, ``published`` or ``unknown``.

    Raises:
        ValueError: ``field`` has another shape, or kernels that are none, or scale or alignment are none.
    """
    _check_grid(path, scale, alignment)
    taps = (field[0] if field.ndim == 4 and len(field) == 1 else field).detach().to('cpu', torch.float16).numpy()
    kernel_size = math.isqrt(len(taps))
    if taps.ndim != 3 or kernel_size**2 != len(taps):
        raise ValueError(f'field has shape {tuple(field.shape)}, expected (k*k, h, w) or (1, k*k, h, w)')
    sums = taps.sum(0, dtype=np.float32)
    if not (np.isfinite(sums) & (sums > 0)).all():
        raise ValueError(f'{path}: not written, because kernels are not finite or do not sum to more than 0')
    with atomic_path(path) as temporary, temporary.open('wb') as file:
        np.savez_compressed(file, field=taps, kernel_size=kernel_size, scale=scale, alignment=alignment)


def load_field(path: str | Path) -> SavedField:
    """Read a kernel field that ``basicsr test`` or :func:`save_field` wrote.

    Args:
        path: The ``.npz`` file.

    Returns:
        The field in float32, each kernel summing to 1 again, with what it belongs to.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            taps = torch.from_numpy(content['field'].astype(np.float32))
            kernel_size, scale = int(content['kernel_size']), int(content['scale'])
            alignment = str(content['alignment'])
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: no such field file') from None
    except Exception as error:  # numpy, zipfile and zlib report damage as any of ten exception types
        # What numpy adds from its second line or sentence on is advice to read it in a way that runs what it says.
        words = first_line(error).partition('. ')[0]
        raise ValueError(f'{path} is not a whole field file: {words}') from error
    _check_grid(path, scale, alignment)
    if taps.ndim != 3 or kernel_size < 1 or len(taps) != kernel_size**2:
        raise ValueError(f'{path}: field of shape {tuple(taps.shape)} with kernel_size {kernel_size}')
    sums = taps.sum(0, keepdim=True)
    if not (sums.isfinite() & (sums > 0)).all():
        raise ValueError(f'{path}: holds kernels that are not finite or do not sum to more than 0')
    return SavedField((taps / sums)[None], kernel_size, scale, alignment)


def _check_grid(path: str | Path, scale: int, alignment: str) -> None:
    """Refuse what is no grid of a field."""
    known = (*ALIGNMENTS, 'unknown')
    if scale < 1 or alignment not in known:
        raise ValueError(
            f"{path}: found scale {scale}, alignment '{alignment}', expected a scale of at least 1 and an alignment of "
            f'{", ".join(known)}'
        )
