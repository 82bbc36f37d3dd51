"""Checks of a whole option file before any data or model loads, which report every problem at once.

What a section may hold is read off the code it is for: the signature of the registered network, loss, scheduler or
optimizer. Only keys that no signature names are listed here. Options of models and datasets that are not ours are
checked for what BasicSR itself needs and otherwise left alone.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeGuard

import torch

from manet_basicsr.models.muon import Muon
from manet_basicsr.options.network_checks import network_problems
from manet_basicsr.options.reading import Options, nearest
from manet_basicsr.weights import SHIPPED, resolve_weights

_TOP_KEYS = frozenset(
    'name model_type scale num_gpu manual_seed datasets network_g path train val logger dist_params '
    'find_unused_parameters'.split()
)
_PATH_KEYS = frozenset(
    'pretrain_network_g param_key_g strict_load_g resume_state ignore_resume_networks experiments_root '
    'results_root'.split()
)
_LOGGER_KEYS = frozenset('print_freq save_checkpoint_freq keep_checkpoints use_tb_logger wandb'.split())
_VAL_KEYS = frozenset('val_freq save_img pbar suffix tile metrics'.split())
_DIST_KEYS = frozenset('backend port'.split())
_SWITCH = (True, False)
_BACKENDS = ('disk', 'lmdb', 'memcached')
_LARGEST_SEED = 2**31  # numpy takes twice as much, and each process adds its rank
_LOADER_KEYS = frozenset(
    'name type phase scale batch_size_per_gpu num_worker_per_gpu dataset_enlarge_ratio prefetch_mode '
    'num_prefetch_queue pin_memory persistent_workers'.split()
)


def find_problems(options: Options, *, is_train: bool) -> list[str]:
    """List everything wrong with an option file, each with its key, what was found and what was expected.

    Args:
        options: The options as read, not yet resolved.
        is_train: Whether they are for training.
    """
    return list(_form_problems(options)) or list(_problems(options, is_train))


def _form_problems(options: Options) -> Iterator[str]:
    """Check what all other checks build on: sections that are sections, with keys that are words."""
    sections: list[tuple[str, object]] = [('', options)]
    sections += [(key, options.get(key)) for key in ('datasets', 'path', 'train', 'logger', 'val', 'dist_params')]
    sections += [(key, content) for key, content in options.items() if str(key).startswith('network_')]
    datasets = options.get('datasets')
    if isinstance(datasets, dict):
        sections += [(f'datasets.{key}', {} if content is None else content) for key, content in datasets.items()]
    for where, content in sections:
        if content is not None and not isinstance(content, dict):
            yield f'{where}: found {content!r}, expected a section'
        for key in content if isinstance(content, dict) else ():
            if not isinstance(key, str):
                yield f'{where}{"." if where else ""}{key}: found a key that is no word'


def _problems(options: Options, is_train: bool) -> Iterator[str]:
    from basicsr.utils.registry import MODEL_REGISTRY

    from manet_basicsr.models.restoration_model import RestorationModel

    needed = ['name', 'model_type', 'datasets', 'network_g', *(['train', 'logger'] if is_train else [])]
    yield from (f'{key}: missing' for key in needed if options.get(key) is None)
    yield from _name_problems(options.get('name'))
    yield from _number_problems(options)
    models = dict(iter(MODEL_REGISTRY))
    model_type = options.get('model_type')
    if model_type is not None:
        yield from _unknown_name(model_type, models, 'model_type')
    model = models.get(model_type, object) if isinstance(model_type, str) else object
    ours = inspect.isclass(model) and issubclass(model, RestorationModel)
    if ours:
        yield from _unknown_keys(options, _TOP_KEYS, '')
        yield from _unknown_keys(options.get('path') or {}, _PATH_KEYS, 'path.')
        yield from _unknown_keys(options.get('logger') or {}, _LOGGER_KEYS, 'logger.')
        yield from _unknown_keys(options.get('val') or {}, _VAL_KEYS, 'val.')
        yield from _unknown_keys(options.get('dist_params') or {}, _DIST_KEYS, 'dist_params.')
    for key, network in options.items():
        if key.startswith('network_') and network is not None:
            found = list(_network_problems(network, key))
            yield from found
            if not found and isinstance(network, dict):
                yield from network_problems(network, key, options)
    yield from _dataset_problems(options, is_train)
    if not ours:
        yield from _device_problems(options.get('datasets') or {}, model_type)
    yield from _path_problems(options.get('path') or {})
    yield from _val_problems(options.get('val') or {})
    if is_train:
        train = options.get('train') or {}
        yield from _schedule_problems(train, {'Muon': Muon} if ours else {})
        if ours:
            yield from _train_problems(train, model)
        yield from _count_problems(options)


def _name_problems(name: object) -> Iterator[str]:
    if name is None:
        return
    if not isinstance(name, str):
        yield f'name: found {name!r}, expected text'
    elif not name.strip('. ') or '/' in name or '\0' in name:
        # The folder of this name is renamed when a run begins anew.
        yield f'name: found {name!r}, expected the name of a folder below experiments/ or results/'


def _is_count(value: object, least: int = 0) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number_problems(options: Options) -> Iterator[str]:
    number, seed, scale = (options.get(key) for key in ('num_gpu', 'manual_seed', 'scale'))
    if 'num_gpu' in options and number != 'auto' and not _is_count(number):
        yield f'num_gpu: found {number!r}, expected auto or a whole number'
    if seed is not None and not (_is_count(seed) and seed < _LARGEST_SEED):
        yield f'manual_seed: found {seed!r}, expected a whole number below {_LARGEST_SEED}'
    if scale is not None and not _is_count(scale, 1):
        yield f'scale: found {scale!r}, expected a whole number, at least 1'


def _choice_problems(section: Mapping[str, Any], choices: Mapping[str, Collection[Any]], where: str) -> Iterator[str]:
    """Check keys that, where they are given, take one of a few values."""
    for key, allowed in choices.items():
        # 1 == True in Python, not in an option file.
        if key in section and not any(type(section[key]) is type(value) and section[key] == value for value in allowed):
            words = ', '.join('~' if value is None else str(value).lower() for value in allowed)
            yield f'{where}{key}: found {section[key]!r}, expected one of {words}'


def _unknown_name(name: object, known: Mapping[str, Any], where: str) -> Iterator[str]:
    # BasicSR's registries also try the name with the suffix that it gives to duplicates.
    if not isinstance(name, str) or (name not in known and f'{name}_basicsr' not in known):
        yield f"{where}: '{name}' is not registered{nearest(name, known)}"


def _unknown_keys(section: Mapping[str, Any], known: Collection[str], where: str) -> Iterator[str]:
    yield from (f'{where}{key}: unknown key{nearest(key, known)}' for key in section if key not in known)


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
    registered = known.get(section['type']) if isinstance(section['type'], str) else None
    if registered is not None:
        arguments = {key: value for key, value in section.items() if key != 'type' and key not in extra}
        yield from _call_problems(registered, arguments, f'{where}.', given)


def _network_problems(network: object, where: str, extra: Collection[str] = ()) -> Iterator[str]:
    from basicsr.utils.registry import ARCH_REGISTRY

    yield from _registered_problems(network, ARCH_REGISTRY, where, extra=extra)
    if isinstance(network, dict) and network.get('type') == 'BlindSRNet':
        for part in [part for part in ('estimator', 'generator') if part in network]:
            yield from _network_problems(network[part], f'{where}.{part}', ('pretrained', 'param_key'))
            if isinstance(network[part], dict):
                yield from _missing_file(network[part].get('pretrained'), f'{where}.{part}.pretrained')
    if isinstance(network, dict):
        yield from _missing_file(network.get('pca_path'), f'{where}.pca_path')


def _missing_file(path: object, where: str) -> Iterator[str]:
    if path is not None and not isinstance(path, str):
        yield f'{where}: found {path!r}, expected a path'
    elif path is not None and path.startswith(SHIPPED):
        try:
            resolve_weights(path)
        except FileNotFoundError as error:
            yield f'{where}: {error}'
    elif path is not None and not os.path.exists(os.path.expanduser(path)):
        yield f'{where}: {path} does not exist'


def _dataset_problems(options: Options, is_train: bool) -> Iterator[str]:
    from basicsr.utils.registry import DATASET_REGISTRY

    from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset

    datasets = options.get('datasets')
    if datasets == {}:
        yield 'datasets: empty, expected a section for each set of images'
    names: list[object] = []
    for section, content in (datasets or {}).items():
        dataset = content or {}
        where = f'datasets.{section}'
        phase = section.split('_')[0]
        expected = ('train', 'val') if is_train else ('test', 'val')
        if phase not in expected:
            yield f"{where}: unknown phase '{phase}', expected {' or '.join(expected)}{nearest(phase, expected)}"
        yield from (f'{where}.{key}: missing' for key in ('name', 'type') if dataset.get(key) is None)
        name = dataset.get('name')
        if phase != 'train' and name is not None and name in names:
            yield f'{where}.name: {name!r} is the name of another set, too; results go by it'
        names += [name] if phase != 'train' else []
        if name is not None and (not isinstance(name, str) or '..' in name.split('/') or os.path.isabs(name)):
            yield f'{where}.name: found {name!r}, expected the name of a folder'
        if dataset.get('type') is not None:
            yield from _unknown_name(dataset['type'], dict(iter(DATASET_REGISTRY)), f'{where}.type')
        yield from _loader_problems(dataset, phase, f'{where}.')
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file', 'kernels'):
            yield from _missing_file(dataset.get(key), f'{where}.{key}')
        if dataset.get('type') == SVDegradationDataset.__name__:
            yield from _unknown_keys(dataset, _LOADER_KEYS | SVDegradationDataset.KEYS, f'{where}.')
            yield from _choice_problems(dataset, dict.fromkeys(('use_hflip', 'use_rot'), _SWITCH), f'{where}.')
            resolved = {**dataset, 'phase': phase, 'scale': options.get('scale')}
            yield from (f'{where}.{problem}' for problem in SVDegradationDataset.problems(resolved))


def _device_problems(datasets: Mapping[str, Any], model_type: object) -> Iterator[str]:
    """Check that no stock model gets batches which ours alone degrade."""
    for section, dataset in datasets.items():
        if (dataset or {}).get('degrade_on') == 'device':
            yield (
                f'datasets.{section}.degrade_on: device needs a model of manet_basicsr such as RestorationModel: found '
                f'model_type {model_type}, expected loader'
            )


def _loader_problems(dataset: Mapping[str, Any], phase: str, where: str) -> Iterator[str]:
    """Check what BasicSR builds a loader with."""
    backend = dataset.get('io_backend')
    if backend is not None and (not isinstance(backend, dict) or backend.get('type') not in _BACKENDS):
        yield f'{where}io_backend: found {backend!r}, expected a section with a type, one of {", ".join(_BACKENDS)}'
    yield from _choice_problems(dataset, {'prefetch_mode': (None, 'cpu', 'cuda')}, where)
    yield from _choice_problems(dataset, dict.fromkeys(('pin_memory', 'persistent_workers'), _SWITCH), where)
    if phase != 'train':
        return
    for key, least in (('batch_size_per_gpu', 1), ('num_worker_per_gpu', 0)):
        if key not in dataset:
            yield f'{where}{key}: missing'
        elif not _is_count(dataset[key], least):
            yield f'{where}{key}: found {dataset[key]!r}, expected a whole number, at least {least}'
    ratio = dataset.get('dataset_enlarge_ratio', 1)
    if not _is_number(ratio) or not 0 < ratio < math.inf:
        yield f'{where}dataset_enlarge_ratio: found {ratio!r}, expected a positive number'
    queue = dataset.get('num_prefetch_queue', 1)
    if not _is_count(queue, 1):
        yield f'{where}num_prefetch_queue: found {queue!r}, expected a whole number, at least 1'
    if dataset.get('persistent_workers') and dataset.get('num_worker_per_gpu') == 0:
        yield f'{where}persistent_workers: found true, expected false where num_worker_per_gpu is 0'
    if dataset.get('prefetch_mode') == 'cuda' and not dataset.get('pin_memory'):
        yield f'{where}pin_memory: found {dataset.get("pin_memory")!r}, expected true for prefetch_mode cuda'


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _path_problems(paths: Mapping[str, Any]) -> Iterator[str]:
    for key, value in paths.items():
        if 'pretrain_network' in key or key == 'resume_state':
            yield from _missing_file(value, f'path.{key}')
        elif key in ('experiments_root', 'results_root', 'param_key_g') and not isinstance(value, (str, type(None))):
            yield f'path.{key}: found {value!r}, expected text'
    yield from _choice_problems(paths, {'strict_load_g': _SWITCH}, 'path.')
    ignored = paths.get('ignore_resume_networks') or []
    if not isinstance(ignored, list) or not all(isinstance(name, str) for name in ignored):
        yield f'path.ignore_resume_networks: found {ignored!r}, expected a list of names such as network_g'


def _val_problems(val: Mapping[str, Any]) -> Iterator[str]:
    from basicsr.utils.registry import METRIC_REGISTRY

    yield from _choice_problems(val, {'save_img': _SWITCH, 'pbar': (None, *_SWITCH)}, 'val.')
    if val.get('tile') is not None and not _is_count(val['tile'], 1):
        yield f'val.tile: found {val["tile"]!r}, expected LR pixels, or ~ for whole images'
    metrics = val.get('metrics') or {}
    if not isinstance(metrics, dict):
        yield f'val.metrics: found {metrics!r}, expected a section for each metric'
        return
    # What a validation passes to every metric, beside the arguments in the options.
    supplied = ('img', 'img2', 'field', 'field_gt', 'gt', 'scale', 'lr_images', 'kwargs', 'unused')
    for name, metric in metrics.items():
        yield from _registered_problems(metric, METRIC_REGISTRY, f'val.metrics.{name}', supplied, ('better',))
        if isinstance(metric, dict):
            yield from _choice_problems(metric, {'better': ('higher', 'lower')}, f'val.metrics.{name}.')


def _schedule_problems(train: Mapping[str, Any], more_optimizers: Mapping[str, Any]) -> Iterator[str]:
    """Check optimizers and scheduler, which BasicSR's own models have too, by building them for a single number.

    Args:
        train: The section.
        more_optimizers: Optimizers by name that the model knows beside BasicSR's.
    """
    from basicsr.models import lr_scheduler

    schedulers = {
        'MultiStepLR': lr_scheduler.MultiStepRestartLR,
        'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
        'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR,
    }
    parameters = [torch.zeros(())]
    sections = {key: section for key, section in train.items() if key.startswith('optim_')}
    optimizers = {'Adam': torch.optim.Adam, **more_optimizers}
    for key, section in sections.items():
        yield from _built_problems(section, optimizers, f'train.{key}', {'params': parameters})
    if train.get('scheduler') is None:
        yield 'train.scheduler: missing'
        return
    given = {'optimizer': torch.optim.Adam(parameters), 'last_epoch': -1}
    problems = list(_built_problems(train['scheduler'], schedulers, 'train.scheduler', given))
    yield from problems
    periods, total = train['scheduler'].get('periods') if not problems else None, train.get('total_iter')
    if periods is not None and _is_number(total) and sum(periods) < total - 1:
        yield f'train.scheduler.periods: end at iteration {sum(periods)}, before total_iter {total}'


def _built_problems(section: object, classes: dict[str, Any], where: str, given: Mapping[str, Any]) -> Iterator[str]:
    """Check a section against the class that it is for, by its signature and then by building it."""
    problems = list(_registered_problems(section, classes, where, given))
    for key, value in section.items() if isinstance(section, dict) else ():
        values = value if isinstance(value, list) else [value]
        if key != 'type' and not all(isinstance(number, (int, float, type(None))) for number in values):
            problems.append(f'{where}.{key}: found {value!r}, expected numbers')
    yield from problems
    if not problems and isinstance(section, dict):
        try:
            classes[section['type']](**given, **{key: value for key, value in section.items() if key != 'type'})
        except Exception as error:  # a wrong value is met wherever it is first used
            yield f'{where}: {str(error) or type(error).__name__}'


def _train_problems(train: Mapping[str, Any], model: Any) -> Iterator[str]:
    """Check what RestorationModel and the models on it read beside BasicSR's own keys."""
    from basicsr.utils.registry import LOSS_REGISTRY

    yield from _unknown_keys(train, model.TRAIN_KEYS, 'train.')
    if train.get('optim_g') is None:
        yield 'train.optim_g: missing'
    if not any(train.get(key) for key in model.LOSS_KEYS):
        yield f'train: expected at least one of {", ".join(model.LOSS_KEYS)}'
    for key in model.LOSS_KEYS:
        if train.get(key) is not None:
            yield from _registered_problems(train[key], LOSS_REGISTRY, f'train.{key}')
    choices = {'amp': (None, False, 'bf16', 'fp16'), 'channels_last': _SWITCH, 'compile': (*_SWITCH, 'reduce-overhead')}
    choices['on_nonfinite'] = ('stop', 'skip')
    yield from _choice_problems(train, choices, 'train.')
    if not _is_count(train.get('accumulate', 1), 1):
        yield f'train.accumulate: found {train["accumulate"]!r}, expected a whole number, at least 1'
    decay = train.get('ema_decay', 0)
    if not _is_number(decay) or not 0 <= decay < 1:
        yield f'train.ema_decay: found {decay!r}, expected a number from 0 to below 1'
    if not _is_number(train.get('warmup_iter', -1)):
        yield f'train.warmup_iter: found {train["warmup_iter"]!r}, expected a number of iterations, -1 for none'


def _count_problems(options: Options) -> Iterator[str]:
    """Check the numbers that the training loop itself counts with."""
    train, logger, val = (options.get(section) or {} for section in ('train', 'logger', 'val'))
    counts = {'train.total_iter': train.get('total_iter')}
    counts.update({f'logger.{key}': logger.get(key) for key in ('print_freq', 'save_checkpoint_freq')})
    if val:
        counts['val.val_freq'] = val.get('val_freq')
    for where, value in counts.items():
        if not _is_number(value) or not 1 <= value < math.inf or value != int(value):
            yield f'{where}: found {value!r}, expected a whole number of iterations, at least 1'
    if logger.get('keep_checkpoints') is not None and not _is_count(logger['keep_checkpoints'], 1):
        yield f'logger.keep_checkpoints: found {logger["keep_checkpoints"]!r}, expected a number of states, ~ for all'
    yield from _choice_problems(logger, {'use_tb_logger': _SWITCH}, 'logger.')
    if not isinstance(logger.get('wandb'), (dict, type(None))):
        yield f'logger.wandb: found {logger["wandb"]!r}, expected a section'
    elif (logger.get('wandb') or {}).get('project') is not None and logger.get('use_tb_logger') is not True:
        yield 'logger.wandb.project: needs use_tb_logger: true'
    accumulate = train.get('accumulate', 1)
    for section, dataset in (options.get('datasets') or {}).items():
        batch = (dataset or {}).get('batch_size_per_gpu')
        if section.split('_')[0] == 'train' and _is_count(batch, 1) and _is_count(accumulate, 1) and batch % accumulate:
            yield f'train.accumulate: found {accumulate}, expected a divisor of batch_size_per_gpu {batch}'
