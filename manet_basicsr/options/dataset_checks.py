"""Checks of the sections ``datasets``: what our dataset reads, and what BasicSR builds a loader with."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from manet_basicsr.options.keys import LOADER
from manet_basicsr.options.reading import Options
from manet_basicsr.options.resolving import model_class
from manet_basicsr.options.sections import (
    SWITCH,
    choice_problems,
    is_count,
    is_number,
    missing_file,
    unknown_keys,
    unregistered_name,
)
from manet_basicsr.utils.messages import nearest

_PATHS = ('dataroot_gt', 'dataroot_lq', 'meta_info_file', 'kernels')
_BACKENDS = ('disk', 'lmdb', 'memcached')


def dataset_problems(options: Options, is_train: bool) -> Iterator[str]:
    from basicsr.utils.registry import DATASET_REGISTRY

    from manet_basicsr.data.manifest import read_manifest
    from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset

    datasets = options.get('datasets')
    if datasets == {}:
        yield 'datasets: empty, expected a section for each set of images'
    elif is_train and datasets is not None and 'train' not in datasets:
        yield 'datasets.train: missing'
    names: list[object] = []
    for section, content in (datasets or {}).items():
        dataset = content or {}
        where = f'datasets.{section}'
        phase = section.split('_')[0]
        expected = ('train', 'val') if is_train else ('test', 'val')
        if phase not in expected:
            yield f"{where}: unknown phase '{phase}', expected {' or '.join(expected)}{nearest(phase, expected)}"
        elif phase == 'train' and section != 'train':
            yield f'{where}: found a second name of a set to train on, expected one set, datasets.train'
        yield from (f'{where}.{key}: missing' for key in ('name', 'type') if dataset.get(key) is None)
        name = dataset.get('name')
        if phase != 'train' and name is not None and name in names:
            yield f'{where}.name: {name!r} is the name of another set, too; results go by it'
        names += [name] if phase != 'train' else []
        if name is not None and (not isinstance(name, str) or '..' in name.split('/') or os.path.isabs(name)):
            yield f'{where}.name: found {name!r}, expected the name of a folder'
        if dataset.get('type') is not None:
            yield from unregistered_name(dataset['type'], dict(iter(DATASET_REGISTRY)), f'{where}.type')
        yield from _loader_problems(dataset, phase, f'{where}.')
        for key in _PATHS:
            yield from missing_file(dataset.get(key), f'{where}.{key}')
        if dataset.get('type') == SVDegradationDataset.__name__:
            yield from unknown_keys(dataset, LOADER.keys() | SVDegradationDataset.KEYS, f'{where}.')
            yield from choice_problems(dataset, dict.fromkeys(('use_hflip', 'use_rot'), SWITCH), f'{where}.')
            resolved = {**dataset, 'phase': phase, 'scale': options.get('scale')}
            files = {key: dataset[key] for key in _PATHS if isinstance(dataset.get(key), str)}
            resolved.update({key: os.path.expanduser(file) for key, file in files.items()})
            found = list(SVDegradationDataset.problems(resolved))
            yield from (f'{where}.{problem}' for problem in found)
            if not found and all(os.path.exists(resolved[key]) for key in files):
                try:
                    SVDegradationDataset.open_sets(resolved)
                    if 'kernels' in files:
                        read_manifest(resolved['kernels']).check_scale(resolved['scale'], files['kernels'])
                except (OSError, ValueError) as error:
                    yield f'{where}: {error}'


def device_problems(datasets: Mapping[str, Any], model_type: object) -> Iterator[str]:
    """Check that no stock model gets batches which ours alone degrade."""
    for section, dataset in datasets.items():
        if (dataset or {}).get('degrade_on') == 'device':
            yield (
                f'datasets.{section}.degrade_on: device needs a model of manet_basicsr such as RestorationModel: found '
                f'model_type {model_type}, expected loader'
            )


def uses_kernels(model_type: object) -> bool:
    """Tell whether a model learns by kernels, as its class says."""
    return bool(getattr(model_class(model_type), 'USES_KERNELS', False))


def kernel_problems(datasets: Mapping[str, Any], model_type: object) -> Iterator[str]:
    """Check that models which compare or take kernels train on a set that has them; others' sets may have anything."""
    from basicsr.utils.registry import DATASET_REGISTRY

    from manet_basicsr.models.kernel_conditioned_sr_model import KernelConditionedSRModel

    if not uses_kernels(model_type):
        return
    restores_with_them = issubclass(model_class(model_type), KernelConditionedSRModel)
    known = dict(iter(DATASET_REGISTRY))
    for section, dataset in datasets.items():
        kind = (dataset or {}).get('type')
        registered = known.get(kind) if isinstance(kind, str) else None
        is_stock = registered is not None and registered.__module__.startswith('basicsr.')
        needs = section.split('_')[0] == 'train' or restores_with_them
        if needs and kind == 'SVDegradationDataset' and dataset.get('dataroot_lq') and not dataset.get('kernels'):
            yield f'datasets.{section}.kernels: missing; {model_type} needs the kernels of LR images'
        if needs and is_stock:
            yield f'datasets.{section}.type: {kind} gives no kernels, which {model_type} needs (SVDegradationDataset)'


def _loader_problems(dataset: Mapping[str, Any], phase: str, where: str) -> Iterator[str]:
    """Check what BasicSR builds a loader with."""
    backend = dataset.get('io_backend')
    if backend is not None and (not isinstance(backend, dict) or backend.get('type') not in _BACKENDS):
        yield f'{where}io_backend: found {backend!r}, expected a section with a type, one of {", ".join(_BACKENDS)}'
    elif backend is not None and backend['type'] == 'memcached' and importlib.util.find_spec('mc') is None:
        yield f'{where}io_backend: memcached needs the package mc, which is not installed; expected disk or lmdb'
    yield from choice_problems(dataset, {'prefetch_mode': (None, 'cpu', 'cuda')}, where)
    yield from choice_problems(dataset, dict.fromkeys(('pin_memory', 'persistent_workers'), SWITCH), where)
    if phase != 'train':
        return
    for key, least in (('batch_size_per_gpu', 1), ('num_worker_per_gpu', 0)):
        if key not in dataset:
            yield f'{where}{key}: missing'
        elif not is_count(dataset[key], least):
            yield f'{where}{key}: found {dataset[key]!r}, expected a whole number, at least {least}'
    ratio = dataset.get('dataset_enlarge_ratio', 1)
    if not is_number(ratio) or not 1 <= ratio < math.inf:  # below 1 the same part of the images every time
        yield f'{where}dataset_enlarge_ratio: found {ratio!r}, expected a number, at least 1'
    queue = dataset.get('num_prefetch_queue', 1)
    if not is_count(queue, 1):
        yield f'{where}num_prefetch_queue: found {queue!r}, expected a whole number, at least 1'
    if dataset.get('persistent_workers') and dataset.get('num_worker_per_gpu') == 0:
        yield f'{where}persistent_workers: found true, expected false where num_worker_per_gpu is 0'
    if dataset.get('prefetch_mode') == 'cuda' and not dataset.get('pin_memory'):
        yield f'{where}pin_memory: found {dataset.get("pin_memory")!r}, expected true for prefetch_mode cuda'
