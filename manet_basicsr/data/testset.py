"""Test sets on disk: LR images as SVDegradationDataset degrades them on the fly, and a manifest of their kernels.

A set is a folder ``OUTPUT/x4/invariant`` of PNG files, named after their HR images (``NAME_k0.png`` .. ``NAME_k8.png``
in the invariant protocol), with their kernels in ``kernels.json`` (see :mod:`manet_basicsr.data.manifest`). A set of
measured kernels has a copy of them in ``bank`` (``bank1``, ... of a mixture of several).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from manet_basicsr.data.manifest import DrawnEntry, Manifest, ManifestEntry, sharpness_of, write_manifest
from manet_basicsr.data.preparation import ConflictError, ExistsError, encode_png, refuse_same_names
from manet_basicsr.data.sampling import SampleIndex, mix_seed, sample_generator
from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset
from manet_basicsr.degradation.kernel_files import kernel_files, map_paths
from manet_basicsr.degradation.sets import PAPER_SETS, fields_of
from manet_basicsr.utils.files import atomic_folder, atomic_path, check_names, remove_leftovers

MANIFEST_NAME = 'kernels.json'
BANK_NAME = 'bank'


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

    def degradation(self, field: Mapping[str, Any]) -> dict[str, Any]:
        """Give the ``degradation`` section of an option file that degrades on the fly like this."""
        return {
            'kernel_size': self.kernel_size,
            'alignment': self.alignment,
            'field': dict(field),
            'noise': list(self.noise),
            'jpeg': None if self.jpeg is None else list(self.jpeg),
        }

    def suffix(self) -> str:
        """Name what differs from the plain set, such as ``_published_noise15_jpeg70-100``."""
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
    sets: Sequence[str] = PAPER_SETS,
    more_fields: Mapping[str, Mapping[str, Any]] | None = None,
    corruption: Corruption | None = None,
    overwrite: bool = False,
    progress: Callable[[Iterator[Any], int], Iterator[Any]] = lambda names, total: names,
) -> list[Path]:
    """Write test sets, ``output/x{scale}/{set}``; all of them appear, or none.

    As long as ``corruption.seed`` is None, their LR images and kernels are bit by bit those which SVDegradationDataset
    gives in a test with the ``degradation.field`` that the set's name stands for.

    Args:
        images: Folder or LMDB of HR images.
        output: Where the sets go; made if missing.
        scales: Downsampling factors.
        sets: Names of the sets, some of :data:`manet_basicsr.degradation.sets.SETS`.
        more_fields: Further sets by name, as ``degradation.field`` of an option file has them.
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
    for name in more_fields or {}:
        if name != Path(name).name or name.startswith('.'):
            raise ValueError(f"name of a set: found '{name}', expected one that a folder can have")
    planned = {
        output / f'x{scale}' / f'{name}{corruption.suffix()}': _open_dataset(images, scale, field, corruption)
        for scale in scales
        for name, field in fields_of(sets, scale, more_fields).items()
    }
    _prepare_folders(planned, overwrite)
    with ExitStack() as stack:
        folders = [stack.enter_context(atomic_folder(target, overwrite=overwrite)) for target in planned]
        written = (
            _write_set(dataset, folder, corruption) for dataset, folder in zip(planned.values(), folders, strict=True)
        )
        for _ in progress(chain.from_iterable(written), sum(map(len, planned.values()))):
            pass
    return list(planned)


def _prepare_folders(planned: Mapping[Path, SVDegradationDataset], overwrite: bool) -> None:
    """Refuse what cannot be written, before the work, and make the folders above the sets."""
    for target in planned:
        _refuse_target(target, overwrite)
    for parent in {target.parent for target in planned}:
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConflictError(f'output {parent} cannot be made ({error.strerror}); choose another folder') from error
        remove_leftovers(parent)
    for target, dataset in planned.items():
        check_names(target.parent, (f'{_lr_name(dataset, index)}.png' for index in range(len(dataset))))


def _open_dataset(
    images: str | os.PathLike[str], scale: int, field: Mapping[str, Any], corruption: Corruption
) -> SVDegradationDataset:
    """Open the images as a test would, and refuse names that would be the same in one folder."""
    dataset = SVDegradationDataset(
        {
            'phase': 'test',
            'scale': scale,
            'dataroot_gt': os.fspath(images),
            'degradation': corruption.degradation(field),
        }
    )
    refuse_same_names((_file_name(name), Path(name)) for name in dataset.images.names)
    return dataset


def _file_name(name: str) -> str:
    """Give the name in a folder of an image whose key in an LMDB may have subfolders."""
    return name.replace('/', '_')


def _lr_name(dataset: SVDegradationDataset, index: int) -> str:
    return f'{_file_name(dataset.gt_name(index))}{dataset.lq_suffix(index)}'


def _refuse_target(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise ExistsError(f'output {target} exists; remove it or choose another folder')
    if not (target / MANIFEST_NAME).is_file():
        raise ConflictError(f'output {target} has no {MANIFEST_NAME}, so it is no test set; remove it yourself')


def _write_set(dataset: SVDegradationDataset, folder: Path, corruption: Corruption) -> Iterator[str]:
    """Write the images of a set, yielding the name of each, and its manifest."""
    is_drawn = not dataset.degradations[0].sampler.is_gaussian_blocks(dataset.scale)
    entries: dict[str, ManifestEntry | DrawnEntry] = {}
    for index in range(len(dataset)):
        # The dataset's own draws of a test, unless a seed asks for others.
        seed = mix_seed(index) if corruption.seed is None else mix_seed(corruption.seed, index)
        sample, parameters = dataset.degrade_sample(index, sample_generator(SampleIndex(index, seed)))
        gt_name = dataset.gt_name(index)
        name = _lr_name(dataset, index)
        pixels = (sample['lq'] * 255).round().byte().permute(1, 2, 0).numpy()
        (folder / f'{name}.png').write_bytes(encode_png(pixels, compression_level=3))
        # The kernels are drawn first, so the seed of all draws is that of theirs.
        drawn = DrawnEntry(gt_name, seed, sharpness_of(sample['kernel'][None]))
        entries[name] = drawn if is_drawn else ManifestEntry(gt_name, parameters)
        yield name
    blur = _with_own_kernels(dataset.opt['degradation']['field'], folder) if is_drawn else None
    manifest = Manifest(dataset.scale, corruption.kernel_size, corruption.alignment, entries, blur)
    write_manifest(manifest, folder / MANIFEST_NAME)


def _with_own_kernels(field: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Copy the kernels that a field is drawn from into the set, which is then whole wherever it is moved to."""
    copies: dict[str, str] = {}

    def copy(path: str) -> str:
        if path in copies:
            return copies[path]
        copies[path] = f'{BANK_NAME}{len(copies) or ""}'
        root = Path(os.path.expanduser(path))
        (folder / copies[path]).mkdir()
        for file in kernel_files(path):
            target = folder / copies[path] / (file.name if file == root else file.relative_to(root))
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target) as partial:
                shutil.copyfile(file, partial)
        if root.is_file():
            copies[path] = f'{copies[path]}/{root.name}'
        return copies[path]

    return map_paths(field, copy)
