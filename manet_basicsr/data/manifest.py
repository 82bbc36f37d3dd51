"""The manifest of a test set on disk: which kernel field made each LR image, and out of which HR image.

A JSON file beside the LR images::

    {"format": "manet_basicsr kernels 1", "scale": 4, "kernel_size": 21, "alignment": "centered",
     "images": {"baby_k0": {"gt": "baby", "kernels": [[[1.0, 1.0, 0.0]]]}, ...}}

``kernels`` has a row for each row of 40x40 HR px blocks and in it ``[variance 1, variance 2, angle]`` for each block,
or a single kernel for the whole image. Variances are in HR px^2, angles in radians.

Other blur has too many numbers for that, up to 64 for each LR pixel. There the manifest says how they were drawn, a
``degradation.field`` and for each image the seed, and a reader draws them again::

    {"format": "manet_basicsr kernels 2", "scale": 4, "kernel_size": 21, "alignment": "centered",
     "field": {"type": "defocus", "radius": [1.67, 6.32]},
     "images": {"baby": {"gt": "baby", "seed": 8235..., "sharpness": 0.0147}, ...}}

The folder of a bank is one beside the manifest. ``sharpness``, as :func:`sharpness_of` gives it, tells kernels that are
not the writer's, as another generator of random numbers or another bank would make them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from manet_basicsr.degradation import block_field, build_field_sampler
from manet_basicsr.degradation.kernel_files import map_paths
from manet_basicsr.degradation.kernels import check_kernel_grid
from manet_basicsr.utils.files import atomic_path

FORMAT = 'manet_basicsr kernels 1'
DRAWN_FORMAT = 'manet_basicsr kernels 2'


@dataclass(frozen=True)
class ManifestEntry:
    """One LR image of Gaussians: the name of its HR image, and their parameters ``(rows, columns, 3)``."""

    gt: str
    kernels: torch.Tensor


@dataclass(frozen=True)
class DrawnEntry:
    """One LR image: the name of its HR image, the seed of its kernels' draws, and what :func:`sharpness_of` gave."""

    gt: str
    seed: int
    sharpness: float


@dataclass(frozen=True)
class Manifest:
    """A test set's kernels: what they have in common, and an entry for each LR image by its name without suffix.

    Attributes:
        scale: Downsampling factor.
        kernel_size: Side of the kernels in taps.
        alignment: ``centered`` or ``published``.
        images: The entries, all :class:`ManifestEntry` or, of drawn kernels, all :class:`DrawnEntry`.
        blur: Of drawn kernels the ``degradation.field`` that they are drawn from, otherwise None.
    """

    scale: int
    kernel_size: int
    alignment: str
    images: Mapping[str, ManifestEntry | DrawnEntry]
    blur: Mapping[str, Any] | None = None

    def check_scale(self, scale: int, path: str) -> None:
        """Raise ValueError if the test set, read from a path, is for another scale."""
        if self.scale != scale:
            raise ValueError(f'{path} is for scale {self.scale}, found scale: {scale}')

    def field(self, name: str, height: int, width: int) -> torch.Tensor:
        """Make the kernel field ``(1, k*k, h, w)`` or ``(1, k*k, 1, 1)`` of an LR image.

        Args:
            name: The LR image.
            height: Height of its HR image in px.
            width: Width of its HR image in px.

        Raises:
            ValueError: If the entry's kernels do not cover the image, or other ones are drawn than were written.
        """
        entry = self.images[name]
        if isinstance(entry, ManifestEntry):
            return block_field(entry.kernels, height, width, self.scale, self.kernel_size, self.alignment)
        blur = build_field_sampler(self.blur or {})
        generator = torch.Generator().manual_seed(entry.seed)
        field = blur.draw(
            height,
            width,
            scale=self.scale,
            kernel_size=self.kernel_size,
            alignment=self.alignment,
            generator=generator,
        )
        found = sharpness_of(field)
        # Processors differ in the last digits of a sine; other draws differ in the first ones.
        if not math.isclose(found, entry.sharpness, rel_tol=1e-3):
            raise ValueError(
                f'found kernels of sharpness {found:.6g}, expected {entry.sharpness:.6g}: those that made the image '
                'were drawn by another version of torch or of this package, or from another bank; make the set anew'
            )
        return field


def sharpness_of(field: torch.Tensor) -> float:
    """Give the sum of the squared taps of a kernel, as a mean over the kernels of a field ``(1, k*k, h, w)``."""
    return float(torch.linalg.vector_norm(field)) ** 2 / field[0, 0].numel()


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write a manifest."""
    header: dict[str, Any] = {'format': FORMAT if manifest.blur is None else DRAWN_FORMAT}
    header |= {'scale': manifest.scale, 'kernel_size': manifest.kernel_size, 'alignment': manifest.alignment}
    header |= {} if manifest.blur is None else {'field': dict(manifest.blur)}
    # A line an image: with an indent, each number would have its own.
    lines = [f'{json.dumps(name)}: {json.dumps(_entry_content(entry))}' for name, entry in manifest.images.items()]
    begin = json.dumps(header).removesuffix('}')
    with atomic_path(path) as temporary:
        temporary.write_text(f'{begin}, "images": {{\n' + ',\n'.join(lines) + '\n}}\n', encoding='utf-8')


def _entry_content(entry: ManifestEntry | DrawnEntry) -> dict[str, Any]:
    if isinstance(entry, DrawnEntry):
        return {'gt': entry.gt, 'seed': entry.seed, 'sharpness': entry.sharpness}
    return {'gt': entry.gt, 'kernels': entry.kernels.tolist()}


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a manifest; says what is wrong in it.
    """
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8-sig'))
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: no such manifest of kernels') from None
    except OSError as error:
        raise ValueError(f'{path} is not a manifest of kernels: {error.strerror}') from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f'{path} is not a manifest of kernels: {error}') from error
    if not isinstance(content, dict) or content.get('format') not in (FORMAT, DRAWN_FORMAT):
        raise ValueError(f"{path} is not a manifest of kernels: expected format '{FORMAT}' or '{DRAWN_FORMAT}'")
    is_drawn = content['format'] == DRAWN_FORMAT
    try:
        read_entry = _drawn_entry if is_drawn else _gaussian_entry
        images = {str(name): read_entry(entry) for name, entry in content['images'].items()}
        beside = Path(path).parent
        blur = map_paths(content['field'], lambda name: str(beside / name)) if is_drawn else None
        manifest = Manifest(int(content['scale']), int(content['kernel_size']), str(content['alignment']), images, blur)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f'{path} is not a whole manifest of kernels: {error!r}') from error
    try:
        check_kernel_grid(manifest.kernel_size, manifest.scale, manifest.alignment)
        if blur is not None:
            build_field_sampler(blur).check(manifest.kernel_size, manifest.scale)
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error
    for name, entry in images.items():
        _check_entry(entry, f"{path}: '{name}'")
    return manifest


def _gaussian_entry(entry: Mapping[str, Any]) -> ManifestEntry:
    return ManifestEntry(str(entry['gt']), torch.tensor(entry['kernels'], dtype=torch.float64))


def _drawn_entry(entry: Mapping[str, Any]) -> DrawnEntry:
    return DrawnEntry(str(entry['gt']), int(entry['seed']), float(entry['sharpness']))


def _check_entry(entry: ManifestEntry | DrawnEntry, name: str) -> None:
    """Refuse what no kernels can be made of."""
    if isinstance(entry, DrawnEntry):
        if not 0 <= entry.seed < 2**63:
            raise ValueError(f'{name} has the seed {entry.seed}, expected 0 to below 2^63')
        return
    shape = tuple(entry.kernels.shape)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(f'{name} has kernels of shape {shape}, expected (rows, columns, 3)')
    if not (entry.kernels.abs() < math.inf).all() or not (entry.kernels[..., :2] > 0).all():
        raise ValueError(f'{name} has variances that are not positive, or an angle that is no number')
