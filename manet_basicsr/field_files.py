"""Kernel fields on disk: one compressed ``.npz`` an image, kernels in float16.

Arrays of a file: ``field`` (k*k, h, w) float16, ``kernel_size``, ``scale``, ``alignment``. Half precision costs at most
0.05 % of a tap's value.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from manet_basicsr.files import atomic_path


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
    """
    taps = field.reshape(-1, *field.shape[-2:]).detach().to('cpu', torch.float16).numpy()
    kernel_size = round(len(taps) ** 0.5)
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
    except (KeyError, ValueError, OSError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f'{path} is not a whole field file: {error}') from error
    if taps.ndim != 3 or len(taps) != kernel_size**2:
        raise ValueError(f'{path}: field of shape {tuple(taps.shape)} with kernel_size {kernel_size}')
    return SavedField((taps / taps.sum(0, keepdim=True))[None], kernel_size, scale, alignment)
