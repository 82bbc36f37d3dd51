"""The manifest of a test set on disk: which kernel field made each LR image, and out of which HR image.

A JSON file beside the LR images::

    {"format": "manet_basicsr kernels 1", "scale": 4, "kernel_size": 21, "alignment": "centered",
     "images": {"baby_k0": {"gt": "baby", "kernels": [[[1.0, 1.0, 0.0]]]}, ...}}

``kernels`` has a row for each row of 40x40 HR px blocks and in it ``[variance 1, variance 2, angle]`` for each block,
or a single kernel for the whole image. Variances are in HR px^2, angles in radians.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from manet_basicsr.degradation.fields import block_field
from manet_basicsr.degradation.kernels import check_kernel_grid
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

    def field(self, name: str, height: int, width: int) -> torch.Tensor:
        """Make the kernel field ``(1, k*k, h, w)`` or ``(1, k*k, 1, 1)`` of an LR image.

        Args:
            name: The LR image.
            height: Height of its HR image in px.
            width: Width of its HR image in px.

        Raises:
            ValueError: If the entry's kernels do not cover the image.
        """
        return block_field(self.images[name].kernels, height, width, self.scale, self.kernel_size, self.alignment)


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest."""
    header = {'format': FORMAT, 'scale': manifest.scale, 'kernel_size': manifest.kernel_size}
    # A line an image: with an indent, each number would have its own.
    lines = [
        f'{json.dumps(name)}: {json.dumps({"gt": entry.gt, "kernels": entry.kernels.tolist()})}'
        for name, entry in manifest.images.items()
    ]
    begin = json.dumps({**header, 'alignment': manifest.alignment}).removesuffix('}')
    with atomic_path(path) as temporary:
        temporary.write_text(f'{begin}, "images": {{\n' + ',\n'.join(lines) + '\n}}\n', encoding='utf-8')


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
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f'{path} is not a whole manifest of kernels: {error!r}') from error
    try:
        check_kernel_grid(manifest.kernel_size, manifest.scale, manifest.alignment)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    for name, entry in images.items():
        shape = tuple(entry.kernels.shape)
        if len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ValueError(f"{path}: '{name}' has kernels of shape {shape}, expected (rows, columns, 3)")
        if not (entry.kernels.abs() < math.inf).all() or not (entry.kernels[..., :2] > 0).all():
            raise ValueError(f"{path}: '{name}' has variances that are not positive, or an angle that is no number")
    return manifest
