"""Checks of a whole option file before any data or model loads, which report every problem at once.

What a section may hold is read off the code it is for: the signature of the registered network, loss, scheduler or
optimizer. Only keys that no signature names are listed here. Options of models and datasets that are not ours are checked
for what BasicSR itself needs and otherwise left alone.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch

from manet_basicsr.options import Options, nearest

_TOP_KEYS = frozenset(
    'name model_type scale num_gpu manual_seed datasets network_g path train val logger dist_params '
    'find_unused_parameters'.split()
)
_PATH_KEYS = frozenset(
    'pretrain_network_g param_key_g strict_load_g resume_state ignore_resume_networks experiments_root results_root'.split()
)
_LOGGER_KEYS = frozenset('print_freq save_checkpoint_freq use_tb_logger wandb'.split())
_VAL_KEYS = frozenset('val_freq save_img pbar suffix metrics'.split())
_LOADER_KEYS = frozenset(
    'name type phase scale batch_size_per_gpu num_worker_per_gpu dataset_enlarge_ratio prefetch_mode num_prefetch_queue '
    'pin_memory persistent_workers'.split()
)


def find_problems(options: Options, *, is_train: bool) -> list[str]:
    """List everything wrong with an option file, each with its key, what was found and what was expected.

    Args:
        options: The options as read, not yet resolved.
        is_train: Whether they are for training.
    """
    return list(_problems(options, is_train))


def _problems(options: Options, is_train: bool) -> Iterator[str]:
    from basicsr.utils.registry import MODEL_REGISTRY

    from manet_basicsr.models.restoration_model import RestorationModel

    needed = ['name', 'model_type', 'datasets', 'network_g', 'path', *(['train', 'logger'] if is_train else [])]
    yield from (f'{key}: missing' for key in needed if key not in options)
    for section in ('datasets', 'network_g', 'path', 'train', 'logger', 'val'):
        content = options.get(section)
        if content is not None and not isinstance(content, dict):
            yield f'{section}: found {content!r}, expected a section'
            return
    if not isinstance(options.get('name', ''), str):
        yield f'name: found {options["name"]!r}, expected text'
    model_type = options.get('model_type')
    if model_type is not None:
        yield from _unknown_name(model_type, dict(iter(MODEL_REGISTRY)), 'model_type')
    model = dict(iter(MODEL_REGISTRY)).get(model_type, object)
    ours = inspect.isclass(model) and issubclass(model, RestorationModel)
    if ours:
        yield from _unknown_keys(options, _TOP_KEYS, '')
        yield from _unknown_keys(options.get('path') or {}, _PATH_KEYS, 'path.')
        yield from _unknown_keys(options.get('logger') or {}, _LOGGER_KEYS, 'logger.')
        yield from _unknown_keys(options.get('val') or {}, _VAL_KEYS, 'val.')
    yield from _network_problems(options.get('network_g'), 'network_g')
    yield from _dataset_problems(options, is_train)
    yield from _path_problems(options.get('path') or {})
    yield from _val_problems(options.get('val') or {})
    if is_train:
        yield from _train_problems(options.get('train') or {}, model.TRAIN_KEYS if ours else None)
        yield from _count_problems(options)


def _unknown_name(name: object, known: Mapping[str, Any], where: str) -> Iterator[str]:
    # BasicSR's registries also try the name with the suffix that it gives to duplicates.
    if name not in known and f'{name}_basicsr' not in known:
        yield f"{where}: '{name}' is not registered{nearest(name, known)}"


def _unknown_keys(section: Mapping[str, Any], known: Collection[str], where: str) -> Iterator[str]:
    yield from (f"{where}{key}: unknown key{nearest(key, known)}" for key in section if key not in known)


def _call_problems(
    function: Callable[..., Any], arguments: Mapping[str, Any], where: str, given: Collection[str] = ()
) -> Iterator[str]:
    """Compare a section with the function or class that it is passed to; ``given`` are filled in by the caller."""
    parameters = inspect.signature(function).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        yield from _unknown_keys(arguments, [p.name for p in parameters if p.name not in given], where)
    for parameter in parameters:
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and parameter.name not in arguments and parameter.name not in given:
            yield f'{where}{parameter.name}: missing'


def _registered_problems(
    section: object, registry: Any, where: str, given: Collection[str] = (), extra: Collection[str] = ()
) -> Iterator[str]:
    """Check a section of the form ``{type: NAME, argument: ...}``."""
    if not isinstance(section, dict) or 'type' not in section:
        yield f'{where}: found {section!r}, expected a section with a type'
        return
    known = dict(iter(registry)) if not isinstance(registry, dict) else registry
    yield from _unknown_name(section['type'], known, f'{where}.type')
    registered = known.get(section['type'])
    if registered is not None:
        arguments = {key: value for key, value in section.items() if key != 'type' and key not in extra}
        yield from _call_problems(registered, arguments, f'{where}.', given)


def _network_problems(network: object, where: str, extra: Collection[str] = ()) -> Iterator[str]:
    from basicsr.utils.registry import ARCH_REGISTRY

    if network is None:
        return
    yield from _registered_problems(network, ARCH_REGISTRY, where, extra=extra)
    if isinstance(network, dict) and network.get('type') == 'BlindSRNet':
        for part in ('estimator', 'generator'):
            yield from _network_problems(network.get(part), f'{where}.{part}', ('pretrained', 'param_key'))
            file = (network.get(part) or {}).get('pretrained') if isinstance(network.get(part), dict) else None
            yield from _missing_file(file, f'{where}.{part}.pretrained')
    if isinstance(network, dict):
        yield from _missing_file(network.get('pca_path'), f'{where}.pca_path')


def _missing_file(path: object, where: str) -> Iterator[str]:
    if path is not None and not os.path.exists(os.path.expanduser(str(path))):
        yield f'{where}: {path} does not exist'


def _dataset_problems(options: Options, is_train: bool) -> Iterator[str]:
    from basicsr.utils.registry import DATASET_REGISTRY

    from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset

    datasets = options.get('datasets') or {}
    if not datasets:
        yield 'datasets: empty, expected a section for each set of images'
    for section, dataset in datasets.items():
        where = f'datasets.{section}'
        phase = str(section).split('_')[0]
        expected = ('train', 'val') if is_train else ('test', 'val')
        if phase not in expected:
            yield f"{where}: unknown phase '{phase}', expected {' or '.join(expected)}{nearest(phase, expected)}"
        if not isinstance(dataset, dict):
            yield f'{where}: found {dataset!r}, expected a section'
            continue
        for key in ('name', 'type'):
            if key not in dataset:
                yield f'{where}.{key}: missing'
        if 'type' in dataset:
            yield from _unknown_name(dataset['type'], dict(iter(DATASET_REGISTRY)), f'{where}.type')
        if phase == 'train':
            for key in ('batch_size_per_gpu', 'num_worker_per_gpu'):
                if key not in dataset:
                    yield f'{where}.{key}: missing'
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file', 'kernels'):
            yield from _missing_file(dataset.get(key), f'{where}.{key}')
        if dataset.get('type') == SVDegradationDataset.__name__:
            yield from _unknown_keys(dataset, _LOADER_KEYS | SVDegradationDataset.KEYS, f'{where}.')
            try:
                SVDegradationDataset.check({**dataset, 'phase': phase, 'scale': options.get('scale')})
            except (ValueError, TypeError) as error:
                yield f'{where}: {error}'


def _path_problems(paths: Mapping[str, Any]) -> Iterator[str]:
    for key, value in paths.items():
        if 'pretrain_network' in key or key == 'resume_state':
            yield from _missing_file(value, f'path.{key}')


def _val_problems(val: Mapping[str, Any]) -> Iterator[str]:
    from basicsr.utils.registry import METRIC_REGISTRY

    metrics = val.get('metrics') or {}
    if not isinstance(metrics, dict):
        yield f'val.metrics: found {metrics!r}, expected a section for each metric'
        return
    # What a validation passes to every metric, beside the arguments in the options.
    supplied = ('img', 'img2', 'field', 'field_gt', 'gt', 'scale', 'kwargs', 'unused')
    for name, metric in metrics.items():
        yield from _registered_problems(metric, METRIC_REGISTRY, f'val.metrics.{name}', supplied, ('better',))


def _train_problems(train: Mapping[str, Any], known: Collection[str] | None) -> Iterator[str]:
    from basicsr.models import lr_scheduler
    from basicsr.utils.registry import LOSS_REGISTRY

    if known is not None:
        yield from _unknown_keys(train, known, 'train.')
        losses = [key for key in train if key.endswith('_opt') and key in known]
        for key in losses:
            if train[key] is not None:
                yield from _registered_problems(train[key], LOSS_REGISTRY, f'train.{key}')
    schedulers = {
        'MultiStepLR': lr_scheduler.MultiStepRestartLR,
        'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
        'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR,
    }
    if 'scheduler' not in train:
        yield 'train.scheduler: missing'
    else:
        yield from _registered_problems(train['scheduler'], schedulers, 'train.scheduler', ('optimizer', 'last_epoch'))
    if known is not None and 'optim_g' not in train:
        yield 'train.optim_g: missing'
    for key in train:
        if key.startswith('optim_'):
            yield from _registered_problems(train[key], {'Adam': torch.optim.Adam}, f'train.{key}', ('params',))


def _count_problems(options: Options) -> Iterator[str]:
    """Check the numbers that the training loop itself counts with."""
    counts = {
        'train.total_iter': (options.get('train') or {}).get('total_iter'),
        'logger.print_freq': (options.get('logger') or {}).get('print_freq'),
        'logger.save_checkpoint_freq': (options.get('logger') or {}).get('save_checkpoint_freq'),
    }
    if options.get('val'):
        counts['val.val_freq'] = options['val'].get('val_freq')
    for where, value in counts.items():
        whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 1 and value == int(value)
        if not whole:
            yield f'{where}: found {value!r}, expected a whole number of iterations, at least 1'
    for section, dataset in (options.get('datasets') or {}).items():
        if str(section).split('_')[0] == 'train' and isinstance(dataset, dict):
            batch = dataset.get('batch_size_per_gpu', 1)
            if not isinstance(batch, int) or batch < 1:
                yield f'datasets.{section}.batch_size_per_gpu: found {batch!r}, expected a whole number, at least 1'
