"""Test sets on disk: LR images as SVDegradationDataset degrades them on the fly, and a manifest of their kernels.

A set is a folder ``OUTPUT/x4/invariant`` of PNG files, named after their HR images (``NAME_k0.png`` .. ``NAME_k8.png``
in the invariant protocol), with their kernels in ``kernels.json`` (see :mod:`manet_basicsr.data.manifest`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from manet_basicsr.data.manifest import Manifest, ManifestEntry, write_manifest
from manet_basicsr.data.preparation import ConflictError, encode_png, refuse_same_names
from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset
from manet_basicsr.files import atomic_folder, remove_leftovers
from manet_basicsr.sampling import SampleIndex, mix_seed, sample_generator

#: The names of the protocol's sets, and the ``kind`` of their fields in an option file.
KINDS = {'invariant': 0, **{f'type{kind}': kind for kind in range(1, 7)}}
MANIFEST_NAME = 'kernels.json'


@dataclass(frozen=True)
class Corruption:
    """What the sets of one run have in common besides their images.

    Args:
        alignment: ``centered`` or ``published``.
        kernel_size: Side of the kernels in taps.
        noise: Range of the standard deviation of Gaussian noise, on the 0..255 scale.
        jpeg: Range of JPEG quality, or None.
        seed: Of what is drawn; None for the draws of an option file.
    """

    alignment: str = 'centered'
    kernel_size: int = 21
    noise: tuple[float, float] = (0.0, 0.0)
    jpeg: tuple[int, int] | None = None
    seed: int | None = None

    def degradation(self, kind: int) -> dict[str, Any]:
        """Give the ``degradation`` section of an option file that degrades on the fly like this."""
        return {
            'kernel_size': self.kernel_size,
            'alignment': self.alignment,
            'field': {'type': 'protocol', 'kind': kind},
            'noise': list(self.noise),
            'jpeg': None if self.jpeg is None else list(self.jpeg),
        }

    def suffix(self) -> str:
        """Name what differs from the plain protocol, such as ``_published_noise15_jpeg70-100``."""
        words = [] if self.alignment == 'centered' else [self.alignment]
        words += [] if self.kernel_size == 21 else [f'k{self.kernel_size}']
        words += [f'noise{_range_name(self.noise)}'] if self.noise[1] > 0 else []
        words += [] if self.jpeg is None else [f'jpeg{_range_name(self.jpeg)}']
        words += [] if self.seed is None else [f'seed{self.seed}']
        return ''.join(f'_{word}' for word in words)


def _range_name(numbers: tuple[float, float]) -> str:
    low, high = numbers
    return f'{low:g}' if low == high else f'{low:g}-{high:g}'


def write_testsets(
    images: str | os.PathLike[str],
    output: Path,
    *,
    scales: Sequence[int] = (4,),
    sets: Sequence[str] = tuple(KINDS)[:6],
    corruption: Corruption | None = None,
    overwrite: bool = False,
    progress: Callable[[Iterator[Any], int], Iterator[Any]] = lambda names, total: names,
) -> list[Path]:
    """Write the protocol's test sets, ``output/x{scale}/{set}``; all of them appear, or none.

    As long as ``corruption.seed`` is None, their LR images and kernels are bit by bit those which SVDegradationDataset
    gives in a test with ``field: {type: protocol, kind: N}``.

    Args:
        images: Folder or LMDB of HR images.
        output: Where the sets go; made if missing.
        scales: Downsampling factors.
        sets: Names of the sets, some of :data:`KINDS`.
        corruption: Alignment, noise, JPEG and seed.
        overwrite: Replace existing sets.
        progress: Wraps the iteration over the samples, given with their number.

    Returns:
        The folders of the sets.

    Raises:
        ConflictError: A set exists, what is in its place is no test set, or two images would have one name.
        BadSampleError: An image is damaged or too small.
        ValueError: An argument is out of its range, or there are no images.
        FileNotFoundError: There are no such images.
    """
    corruption = corruption or Corruption()
    planned = {
        output / f'x{scale}' / f'{name}{corruption.suffix()}': _open_dataset(images, scale, KINDS[name], corruption)
        for scale in scales
        for name in sets
    }
    for target in planned:
        _refuse_target(target, overwrite)
    for parent in {target.parent for target in planned}:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
    with ExitStack() as stack:
        folders = [stack.enter_context(atomic_folder(target, overwrite=overwrite)) for target in planned]
        written = (
            _write_set(dataset, folder, corruption) for dataset, folder in zip(planned.values(), folders, strict=True)
        )
        for _ in progress(chain.from_iterable(written), sum(map(len, planned.values()))):
            pass
    return list(planned)


def _open_dataset(
    images: str | os.PathLike[str], scale: int, kind: int, corruption: Corruption
) -> SVDegradationDataset:
    """Open the images as a test would, and refuse names that would be the same in one folder."""
    dataset = SVDegradationDataset(
        {
            'phase': 'test',
            'scale': scale,
            'dataroot_gt': os.fspath(images),
            'degradation': corruption.degradation(kind),
        }
    )
    refuse_same_names((_file_name(name), Path(name)) for name in dataset.images.names)
    return dataset


def _file_name(name: str) -> str:
    """Give the name in a folder of an image whose key in an LMDB may have subfolders."""
    return name.replace('/', '_')


def _refuse_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise ConflictError(f'output {target} exists; remove it, choose another folder or give --force to replace it')
    if not (target / MANIFEST_NAME).is_file():
        raise ConflictError(f'output {target} has no {MANIFEST_NAME}, so it is no test set; remove it yourself')


def _write_set(dataset: SVDegradationDataset, folder: Path, corruption: Corruption) -> Iterator[str]:
    """Write the images of a set, yielding the name of each, and its manifest."""
    entries = {}
    for index in range(len(dataset)):
        # The dataset's own draws of a test, unless a seed asks for others.
        seeded = index if corruption.seed is None else SampleIndex(index, mix_seed(corruption.seed, index))
        sample, parameters = dataset.degrade_sample(index, sample_generator(seeded))
        gt_name = dataset.gt_name(index)
        name = f'{_file_name(gt_name)}{dataset.lq_suffix(index)}'
        pixels = (sample['lq'] * 255).round().byte().permute(1, 2, 0).numpy()
        (folder / f'{name}.png').write_bytes(encode_png(np.ascontiguousarray(pixels[..., ::-1]), compression_level=3))
        entries[name] = ManifestEntry(gt_name, parameters)
        yield name
    manifest = Manifest(dataset.scale, corruption.kernel_size, corruption.alignment, entries)
    write_manifest(manifest, folder / MANIFEST_NAME)
