"""Filling in what follows from an option file's values: folders, defaults, phases, the name of a short run."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.reading import Options
from manet_basicsr.utils.files import atomic_path
from manet_basicsr.weights import is_address, is_within_blind, resolve_weights, weights_address

#: Iterations of a run that is only to show that everything works: two checkpoints, two validations.
DEBUG_ITERATIONS = 16
_DEBUG_EVERY = 8
#: Sections of a network that are networks themselves, and their keys that say where weights are.
PARTS, LOADING = ('estimator', 'generator'), ('pretrained', 'param_key')
_BEGINNING = ('resume_state', 'pretrain_network_', 'param_key_', 'strict_load_')  # of path
_DERIVED = ('dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path')
_DERIVED_FOLDERS = ('log', 'visualization', 'models', 'training_states')


def resolve(
    options: Options,
    *,
    root_path: str,
    is_train: bool,
    auto_resume: bool = False,
    debug: bool = False,
    rank: int = 0,
    world_size: int = 1,
    distributed: bool = False,
) -> Options:
    """Fill in what follows from checked options, as BasicSR does.

    Args:
        options: Options without problems (:func:`manet_basicsr.options.checks.check`), with a ``manual_seed`` where
            draws are to be repeatable; they are not changed.
        root_path: Folder below which ``experiments`` and ``results`` lie where ``path`` does not say.
        is_train: Whether to train or to test.
        auto_resume: Whether to go on from the newest whole state.
        debug: Whether to make a short run of another name, without tensorboard.
        rank: Number of this process.
        world_size: Number of processes.
        distributed: Whether the processes exchange gradients; there may be one.

    Returns:
        New options, with which BasicSR builds datasets and models.

    Raises:
        OptionError: They ask for more GPUs than there are, or for several in one process of a training of this package.
    """
    options = copy.deepcopy(options)
    options.update(dist=distributed, rank=rank, world_size=world_size)
    options.update(auto_resume=auto_resume, is_train=is_train, root_path=root_path)
    if debug:
        _shorten(options)
    _count_gpus(options)
    _fill_in_datasets(options)
    options['path'] = _resolved_paths(options)
    if is_train:
        options['logger'].setdefault('use_tb_logger', False)
    else:
        options['val'] = {'save_img': False, 'suffix': None, **(options.get('val') or {})}
    return options


def run_folder(options: Mapping[str, Any], root_path: str, *, is_train: bool, debug: bool = False) -> str:
    """Return the folder of a run, ``ROOT/NAME``, for options that are resolved or not; of a short run if ``debug``.

    BasicSR joins ``path.experiments_root`` with the name, too: the root is where several runs lie side by side.
    """
    kind = 'experiments' if is_train else 'results'
    root = (options.get('path') or {}).get(f'{kind}_root') or os.path.join(root_path, kind)
    name = str(options.get('name'))
    return os.path.join(os.path.expanduser(root), _debug_name(name) if debug else name)


def forget_pretrained(network: Mapping[str, Any]) -> Options:
    """Return a network's section whose parts start from no files, because weights of the whole replace them."""
    return {
        key: without_weights(part) if key in PARTS and isinstance(part, dict) else part for key, part in network.items()
    }


def without_weights(part: Mapping[str, Any]) -> Options:
    """Return the section of a network's part without the keys that say where its weights are."""
    return {key: value for key, value in part.items() if key not in LOADING}


def forget_beginning(options: Options) -> None:
    """Take out what a run began with, in place: a run that goes on reads all its weights from its own folder."""
    paths = options['path'] = dict(options.get('path') or {})
    kept = paths.get('ignore_resume_networks') or []
    for key in [key for key in options if key.startswith('network_') and key not in kept]:
        label = key.removeprefix('network_')
        for name in (f'pretrain_network_{label}', f'param_key_{label}', f'strict_load_{label}'):
            paths.pop(name, None)
        if isinstance(options[key], dict):
            options[key] = forget_pretrained(options[key])


def restore_beginning(options: Options, begun: Mapping[str, Any]) -> None:
    """Put in what a run began with, in place, instead of the state and the weights from which it goes on.

    Args:
        options: Of the run that goes on.
        begun: Those that it began with, as :func:`write_resolved` wrote them.
    """
    paths, first = dict(options['path']), begun.get('path')
    first = first if isinstance(first, dict) else {}
    for key in [*paths, *first]:
        if key.startswith(_BEGINNING):
            paths.pop(key, None)
            paths.update({key: first[key]} if key in first and not _is_within(first[key], paths) else {})
    options['path'] = paths
    for key in (key for key in options if key.startswith('network_')):
        network, first_network = options[key], begun.get(key)
        if not isinstance(network, dict) or not isinstance(first_network, dict):
            continue
        for part in PARTS:
            first_part = first_network.get(part)
            if isinstance(network.get(part), dict) and isinstance(first_part, dict):
                began_with = {name: first_part[name] for name in LOADING if name in first_part}
                network = {**network, part: {**network[part], **began_with}}
        options[key] = network


def _is_within(value: object, paths: Mapping[str, Any]) -> bool:
    """Tell whether a value is a path within the run's own folder, from where it went on and did not begin."""
    folder = os.path.join(os.path.abspath(paths['experiments_root']), '')
    return isinstance(value, str) and os.path.abspath(value).startswith(folder)


def write_resolved(options: Options, path: str | Path) -> None:
    """Write options as they are used, with all forced values and defaults; the file is an option file again."""
    with atomic_path(path) as temporary:
        text = yaml.safe_dump(_without_derived(options), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding='utf-8')


def _without_derived(options: Options) -> Options:
    """Leave out what :func:`resolve` adds beside the user's keys."""
    paths = {key: weights_address(value) for key, value in options['path'].items() if key not in _DERIVED_FOLDERS}
    key = 'experiments_root' if options['is_train'] else 'results_root'
    root = os.path.dirname(paths.pop(key))  # of the run's own folder; the user's key is the folder around it
    if root != os.path.join(options['root_path'], key.removesuffix('_root')):
        paths[key] = root
    return {**{key: value for key, value in options.items() if key not in _DERIVED}, 'path': paths}


def _debug_name(name: str) -> str:
    return name if name.startswith('debug') else f'debug_{name}'


def _shorten(options: Options) -> None:
    """Make a short run of its own name, which writes, validates and saves soon."""
    options['name'] = _debug_name(options['name'])
    if not options['is_train']:
        return
    options['train']['total_iter'] = min(options['train']['total_iter'], DEBUG_ITERATIONS)
    (options.get('path') or {}).pop('resume_state', None)  # of a run that may be longer
    options['logger'].update(print_freq=1, save_checkpoint_freq=_DEBUG_EVERY, use_tb_logger=False, wandb=None)
    if options.get('val'):
        options['val']['val_freq'] = _DEBUG_EVERY


def model_class(model_type: object) -> type:
    """Return the class that is registered for a ``model_type``; ``object`` where there is none, or a function."""
    from basicsr.utils.registry import MODEL_REGISTRY

    model = dict(iter(MODEL_REGISTRY)).get(model_type) if isinstance(model_type, str) else None
    return model if inspect.isclass(model) else object


def is_ours(model_type: object) -> bool:
    """Tell whether a ``model_type`` is a model of this package, or of a plugin that is one of its kind."""
    from manet_basicsr.models.restoration_model import RestorationModel

    return issubclass(model_class(model_type), RestorationModel)


def _count_gpus(options: Options) -> None:
    available = torch.cuda.device_count()
    by_itself = options['is_train'] and not options['dist']
    if options.get('num_gpu', 'auto') == 'auto':
        options['num_gpu'] = min(available, 1) if by_itself else available
    if options['dist']:
        return
    if options['num_gpu'] > available:
        raise OptionError([f'num_gpu: found {options["num_gpu"]}, but there are {available}; try auto'])
    # DataParallel's copies of a compiled network would all run the first one's weights, and precision is each thread's.
    if options['num_gpu'] > 1 and by_itself and is_ours(options['model_type']):
        raise OptionError([f'num_gpu: found {options["num_gpu"]}, expected 1 or a process each, started by torchrun'])


def _fill_in_datasets(options: Options) -> None:
    for section, dataset in options['datasets'].items():
        dataset['phase'] = section.split('_')[0]
        if 'scale' in options:
            dataset['scale'] = options['scale']
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file', 'kernels'):
            if dataset.get(key) is not None:
                dataset[key] = os.path.expanduser(dataset[key])


def _resolved_paths(options: Options) -> Options:
    paths = dict(options.get('path') or {})
    is_train = options['is_train']
    root = run_folder(options, options['root_path'], is_train=is_train)
    for key, value in paths.items():
        if value is not None and ('resume_state' in key or 'pretrain_network' in key or key.endswith('s_root')):
            # Shipped weights become a plain path, for BasicSR's own models to find them, too; but no path says that
            # only the estimator of a blind network is meant.
            shipped = 'pretrain_network' in key and is_address(value) and not is_within_blind(value)
            paths[key] = str(resolve_weights(value)) if shipped else os.path.expanduser(value)
    paths['experiments_root' if is_train else 'results_root'] = paths['log'] = root
    paths['visualization'] = os.path.join(root, 'visualization')
    if is_train:
        paths['models'] = os.path.join(root, 'models')
        paths['training_states'] = os.path.join(root, 'training_states')
    return paths
