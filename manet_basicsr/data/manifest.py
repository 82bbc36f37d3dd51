"""The manifest of a test set on disk: which kernel field made each LR image, and out of which HR image.

A JSON file beside the LR images::

    {"format": "manet_basicsr kernels 1", "scale": 4, "kernel_size": 21, "alignment": "centered",
     "images": {"baby_k0": {"gt": "baby", "kernels": [[[1.0, 1.0, 0.0]]]}, ...}}

``kernels`` has a row for each row of 40x40 HR px blocks and in it ``[variance 1, variance 2, angle]`` for each block, or
a single kernel for the whole image. Variances are in HR px^2, angles in radians.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from manet_basicsr.files import atomic_path

FORMAT = 'manet_basicsr kernels 1'


@dataclass(frozen=True)
class ManifestEntry:
    """One LR image: the name of its HR image, and its kernels' parameters ``(rows, columns, 3)``."""

    gt: str
    kernels: torch.Tensor


@dataclass(frozen=True)
class Manifest:
    """A test set's kernels: what they have in common, and an entry for each LR image by its name without suffix."""

    scale: int
    kernel_size: int
    alignment: str
    images: dict[str, ManifestEntry]


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest."""
    images = {name: {'gt': entry.gt, 'kernels': entry.kernels.tolist()} for name, entry in manifest.images.items()}
    header = {'format': FORMAT, 'scale': manifest.scale, 'kernel_size': manifest.kernel_size}
    content = {**header, 'alignment': manifest.alignment, 'images': images}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a manifest; says what is wrong in it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: no such manifest of kernels') from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f'{path} is not a manifest of kernels: {error}') from error
    if not isinstance(content, dict) or content.get('format') != FORMAT:
        raise ValueError(f"{path} is not a manifest of kernels: expected format '{FORMAT}'")
    try:
        images = {
            str(name): ManifestEntry(str(entry['gt']), torch.tensor(entry['kernels'], dtype=torch.float64))
            for name, entry in content['images'].items()
        }
        manifest = Manifest(int(content['scale']), int(content['kernel_size']), str(content['alignment']), images)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f'{path} is not a whole manifest of kernels: {error!r}') from error
    for name, entry in images.items():
        if entry.kernels.ndim != 3 or entry.kernels.shape[2] != 3:
            raise ValueError(f"{path}: '{name}' has kernels of shape {tuple(entry.kernels.shape)}, expected (rows, columns, 3)")
    return manifest
