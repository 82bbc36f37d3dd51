"""Checks of a whole option file before any data or model loads, which report every problem at once.

What a section may hold is read off the code it is for: the signature of the registered network, loss, scheduler or
optimizer. Only keys that no signature names are listed, in :mod:`keys`. Options of models and datasets that are not
ours are checked for what BasicSR itself needs and otherwise left alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from manet_basicsr.options.beginning_checks import beginning_problems, untrained_problems
from manet_basicsr.options.dataset_checks import dataset_problems, device_problems, kernel_problems
from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.keys import DIST, LOGGER, METRIC_INPUTS, PATH, STOCK_METRIC_INPUTS, TOP, VAL
from manet_basicsr.options.network_checks import network_problems, parts_of
from manet_basicsr.options.reading import Options
from manet_basicsr.options.resolving import LOADING, is_ours, model_class
from manet_basicsr.options.sections import (
    SWITCH,
    choice_problems,
    is_count,
    missing_file,
    missing_weights,
    registered_problems,
    unknown_keys,
    unregistered_name,
)
from manet_basicsr.options.training_checks import count_problems, optimizers, schedule_problems, train_problems
from manet_basicsr.options.value_checks import metric_problems, value_problems

_MISSPELT = re.compile(r"(?:(.*)\.)?(?:[^.]+: unknown key|(\w+) key '.*' is not one of .*); did you mean '(.*)'\?")
_LARGEST_SEED = 2**31  # numpy takes twice as much, and each process adds its rank


def find_problems(options: Options, *, is_train: bool, goes_on: bool = False) -> list[str]:
    """List everything wrong with an option file, each with its key, what was found and what was expected.

    Args:
        options: The options as read, not yet resolved.
        is_train: Whether they are for training.
        goes_on: Whether the training goes on from a state, which has all weights.
    """
    problems = list(_form_problems(options)) or list(_problems(options, is_train))
    if not problems and not is_train:
        problems = list(untrained_problems(options))
    elif not problems and not goes_on and is_ours(options['model_type']):
        problems = list(beginning_problems(options))
    return _said_once(problems, options)


def ignored_keys(options: Options) -> list[str]:
    """List the keys that change nothing in a run of BasicSR's own models, as where ``model_type`` alone was changed."""
    if not model_class(options['model_type']).__module__.startswith('basicsr.'):
        return []  # a plugin's may read them
    sections = {'train': ('amp', 'channels_last', 'compile', 'accumulate', 'on_nonfinite'), 'val': ('tile',)}
    given = {f'{name}.{key}': (options.get(name) or {}).get(key) for name, keys in sections.items() for key in keys}
    return [
        f'{key}: {value} has no effect with {options["model_type"]}, only with models of manet_basicsr'
        for key, value in given.items()
        if value is True or value not in (None, False, 1, 'auto', 'stop')
    ]


def _said_once(problems: list[str], options: Options) -> list[str]:
    """Leave out that a key is missing where another line has found it misspelt."""
    absences = []
    for match in filter(None, map(_MISSPELT.match, problems)):
        *sections, meant = filter(None, match.groups())
        if _has(options, '.'.join([*sections, meant])):
            continue  # what is wrong in it is another problem
        where, key = (re.escape('.'.join(words)) for words in (sections, [*sections, meant]))
        absences.append(rf'{key}(\.\w+)*: (missing|found None|expected at least one)')
        absences.append(rf'{where}: expected at least one of .*\b{meant}\b')
    return [problem for problem in problems if not any(re.match(absence, problem) for absence in absences)]


def _has(options: Options, path: str) -> bool:
    """Tell whether there is a key, given by its path of keys."""
    *sections, last = path.split('.')
    section: Any = options
    for key in sections:
        section = section.get(key) if isinstance(section, dict) else None
    return isinstance(section, dict) and last in section


def check(options: Options, *, is_train: bool, goes_on: bool = False) -> None:
    """Refuse options in which anything is wrong.

    Args:
        options: The options as read, not yet resolved.
        is_train: Whether they are for training.
        goes_on: Whether the training goes on from a state.

    Raises:
        OptionError: With every problem found.
    """
    problems = find_problems(options, is_train=is_train, goes_on=goes_on)
    if problems:
        raise OptionError(problems)


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

    needed = ['name', 'model_type', 'datasets', 'network_g', *(['train', 'logger'] if is_train else [])]
    yield from (f'{key}: missing' for key in needed if options.get(key) is None)
    yield from _name_problems(options.get('name'))
    yield from _number_problems(options)
    model_type = options.get('model_type')
    if model_type is not None:
        yield from unregistered_name(model_type, dict(iter(MODEL_REGISTRY)), 'model_type')
    model = model_class(model_type)
    ours, is_stock = is_ours(model_type), model.__module__.startswith('basicsr.')
    if ours:
        yield from unknown_keys(options, TOP, '')
        yield from unknown_keys(options.get('path') or {}, PATH, 'path.')
        yield from unknown_keys(options.get('logger') or {}, LOGGER, 'logger.')
        yield from unknown_keys(options.get('val') or {}, VAL, 'val.')
        yield from unknown_keys(options.get('dist_params') or {}, DIST, 'dist_params.')
    for key, network in options.items():
        if key.startswith('network_') and network is not None:
            found = list(_network_problems(network, key))
            yield from found
            if not found and isinstance(network, dict):
                yield from network_problems(network, key, options)
    if ours and is_train:
        yield from _generator_of_loss_problems(options)
    yield from dataset_problems(options, is_train)
    yield from kernel_problems(options.get('datasets') or {}, model_type)
    if not ours:
        yield from device_problems(options.get('datasets') or {}, model_type)
    yield from _path_problems(options.get('path') or {})
    yield from _val_problems(options.get('val') or {}, STOCK_METRIC_INPUTS if is_stock else METRIC_INPUTS)
    if is_train:
        train = options.get('train') or {}
        yield from schedule_problems(train, optimizers(with_muon=ours))
        if ours:
            yield from train_problems(train, model)
        else:
            losses = {key: loss for key, loss in train.items() if key.endswith('_opt') and isinstance(loss, dict)}
            for key, loss in losses.items():
                yield from value_problems(loss, f'train.{key}')
        yield from count_problems(options, getattr(model, 'LEAST_IMAGES', 1))


def _name_problems(name: object) -> Iterator[str]:
    if name is None:
        return
    if not isinstance(name, str):
        yield f'name: found {name!r}, expected text'
    elif not name.strip('. ') or '/' in name or '\0' in name:
        # The folder of this name is renamed when a run begins anew.
        yield f'name: found {name!r}, expected the name of a folder below experiments/ or results/'


def _number_problems(options: Options) -> Iterator[str]:
    number, seed, scale = (options.get(key) for key in ('num_gpu', 'manual_seed', 'scale'))
    if 'num_gpu' in options and number != 'auto' and not is_count(number):
        yield f'num_gpu: found {number!r}, expected auto or a whole number'
    if seed is not None and not (is_count(seed) and seed < _LARGEST_SEED):
        yield f'manual_seed: found {seed!r}, expected a whole number below {_LARGEST_SEED}'
    if scale is not None and not is_count(scale, 1):
        yield f'scale: found {scale!r}, expected a whole number, at least 1'


def _network_problems(network: Any, where: str, extra: Collection[str] = ()) -> Iterator[str]:
    from basicsr.utils.registry import ARCH_REGISTRY

    yield from registered_problems(network, ARCH_REGISTRY, where, extra=extra)
    for part in parts_of(network):
        yield from _part_problems(network[part], f'{where}.{part}')
    if isinstance(network, dict):
        yield from missing_file(network.get('pca_path'), f'{where}.pca_path')


def _part_problems(part: Any, where: str) -> Iterator[str]:
    """Check the form of a network that is read with its weights, and that they are there."""
    yield from _network_problems(part, where, LOADING)
    if isinstance(part, dict):
        yield from missing_weights(part.get('pretrained'), f'{where}.pretrained')


def _generator_of_loss_problems(options: Options) -> Iterator[str]:
    """Check the generator that a loss looks at images of, as that of a network."""
    loss, where = (options.get('train') or {}).get('indirect_opt'), 'train.indirect_opt.generator'
    if not isinstance(loss, dict) or 'generator' not in loss:
        return  # the loss itself is checked with the others
    generator = loss['generator']
    found = list(_part_problems(generator, where))
    if not found and generator.get('pretrained') is None:
        found.append(f'{where}.pretrained: missing; what is not trained heeds no kernels')
    yield from found
    if not found:
        yield from network_problems(generator, where, options)


def _path_problems(paths: Mapping[str, Any]) -> Iterator[str]:
    for key, value in paths.items():
        if 'pretrain_network' in key:
            yield from missing_weights(value, f'path.{key}')
        elif key == 'resume_state':
            yield from missing_file(value, f'path.{key}')
        elif key in ('experiments_root', 'results_root', 'param_key_g') and not isinstance(value, (str, type(None))):
            yield f'path.{key}: found {value!r}, expected text'
    yield from choice_problems(paths, {'strict_load_g': SWITCH}, 'path.')
    ignored = paths.get('ignore_resume_networks') or []
    if not isinstance(ignored, list) or not all(isinstance(name, str) for name in ignored):
        yield f'path.ignore_resume_networks: found {ignored!r}, expected a list of names such as network_g'


def _val_problems(val: Mapping[str, Any], metric_inputs: Collection[str]) -> Iterator[str]:
    from basicsr.utils.registry import METRIC_REGISTRY

    from manet_basicsr.metrics.pyiqa_metric import pyiqa_problems

    yield from choice_problems(val, {'save_img': SWITCH, 'pbar': (None, *SWITCH)}, 'val.')
    if val.get('tile') is not None and not is_count(val['tile'], 1):
        yield f'val.tile: found {val["tile"]!r}, expected LR pixels, or ~ for whole images'
    metrics = val.get('metrics') or {}
    if not isinstance(metrics, dict):
        yield f'val.metrics: found {metrics!r}, expected a section for each metric'
        return
    for name, metric in metrics.items():
        yield from registered_problems(metric, METRIC_REGISTRY, f'val.metrics.{name}', metric_inputs, ('better',))
        if isinstance(metric, dict):
            yield from choice_problems(metric, {'better': ('higher', 'lower')}, f'val.metrics.{name}.')
            known = dict(iter(METRIC_REGISTRY)).get(str(metric.get('type')))
            yield from metric_problems(metric, f'val.metrics.{name}', known)
            yield from pyiqa_problems(metric, f'val.metrics.{name}')
