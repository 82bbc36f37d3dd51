"""Option files: read without running code, changed from the command line without evaluating, checked as a whole.

The format, the flags and their meaning are BasicSR's. :func:`parse_options` has the shape of BasicSR's own, so that it
can stand in for it.
"""

from __future__ import annotations

import argparse
import difflib
import os
import random
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from manet_basicsr.weights import SHIPPED, resolve_weights, weights_address

Options = dict[str, Any]


class OptionError(Exception):
    """What is wrong with a command's options, a line for each problem; the command line shows them and exits with 2."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__('\n'.join(self.problems))


def nearest(word: object, choices: Iterable[object]) -> str:
    """Say what was probably meant: ``; did you mean 'invariant'?``, or nothing where no choice is near."""
    close = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1)
    return f"; did you mean '{close[0]}'?" if close else ''


@contextmanager
def problems_of(*where: str) -> Iterator[None]:
    """Turn a complaint about user input into an :class:`OptionError` that says where to change it."""
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, KeyError, TypeError) as error:
        words = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise OptionError([': '.join([*where, str(words)])]) from error


class _OptionLoader(yaml.SafeLoader):
    """YAML without code, that refuses a key given twice and reads ``1e-4`` as a number."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        # Here and not where the mapping is constructed: a merge changes the nodes, and may repeat keys.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen and key.tag != 'tag:yaml.org,2002:merge':
                problem = f"key '{key.value}' is given twice in one section"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        # The last of a key counts. PyYAML keeps all, which merges of merges multiply.
        last = {(key.tag, key.value): (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
        node.value = [pair for pair in node.value if not isinstance(pair[0], yaml.ScalarNode)] + list(last.values())


# YAML 1.1 wants a point and a sign in a number with an exponent; nobody who writes lr: 2e-4 means a string.
_OptionLoader.add_implicit_resolver(
    'tag:yaml.org,2002:float',
    re.compile(r'^[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)[eE][-+]?[0-9]+$'),
    list('-+.0123456789'),
)

_LARGEST = 100_000  # values in an option file; the shipped ones have about a hundred
_DEEPEST = 50  # sections in sections


def _without_aliases(value: Any) -> Any:
    """Copy what YAML gave, with a copy of its own for each alias: sections are changed in place later.

    Raises:
        ValueError: Aliases of aliases, or one of its own section, make it too large.
    """
    left = _LARGEST

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEEPEST:
            raise ValueError(f'more than {_LARGEST:,d} values, or {_DEEPEST} sections in sections, with all aliases')
        if isinstance(value, dict):
            return {key: copy(content, depth + 1) for key, content in value.items()}
        if isinstance(value, list):
            return [copy(content, depth + 1) for content in value]
        return value

    return copy(value, 0)


def read_yaml(text: str) -> Any:
    """Parse YAML as option files have it: safe tags only, no key twice, ``1e-4`` a number, each alias a copy.

    Raises:
        ValueError: It is not such YAML; one line with the place.
    """
    try:
        return _without_aliases(yaml.load(text, Loader=_OptionLoader))
    except RecursionError as error:
        raise ValueError('nested too deeply') from error
    except Exception as error:  # a tag that does not fit its value, such as !!bool maybe, ends in any type of error
        mark = getattr(error, 'problem_mark', None)
        place = f'line {mark.line + 1}: ' if mark is not None else ''
        words = getattr(error, 'problem', None) or str(error) or type(error).__name__
        raise ValueError(f'{place}{" ".join(words.split())}') from error


def load_options(path: str | Path) -> Options:
    """Read an option file.

    Raises:
        OptionError: There is no such file, or it is no YAML mapping.
    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except OSError as error:
        raise OptionError([f'{path}: cannot read the option file ({error.strerror})']) from error
    except ValueError as error:
        raise OptionError([f'{path}: is no text in UTF-8 ({error})']) from error
    with problems_of(str(path)):
        options = read_yaml(text)
    if not isinstance(options, dict):
        raise OptionError([f'{path}: found {type(options).__name__}, expected sections such as name, datasets, train'])
    return options


def force(options: Options, entries: Iterable[str]) -> None:
    """Change options in place as ``--force_yml`` asks.

    Args:
        options: The options; the sections on the way to a key must exist.
        entries: ``section:key=value``, split at the first ``=``; the value is a YAML scalar or flow collection.

    Raises:
        OptionError: An entry has no ``=``, its value is no YAML, or a section on its way does not exist.
    """
    for entry in entries:
        path, separator, value = entry.partition('=')
        *sections, key = (part.strip() for part in path.split(':'))
        if not separator or not all((*sections, key)):
            raise OptionError([f"--force_yml '{entry}': expected section:key=value"])
        place = options
        for section in sections:
            if not isinstance(place.get(section), dict):
                known = [name for name, content in place.items() if isinstance(content, dict)]
                raise OptionError([f"--force_yml '{entry}': there is no section '{section}'{nearest(section, known)}"])
            place = place[section]
        with problems_of(f"--force_yml '{entry}'"):
            place[key] = read_yaml(value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add BasicSR's flags to a parser."""
    parser.add_argument('-opt', required=True, metavar='FILE', help='option file (YAML)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='job launcher')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest whole state, if there is one')
    parser.add_argument('--debug', action='store_true', help="a short run under the name 'debug_NAME', with tracebacks")
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument(
        '--force_yml', nargs='+', default=None, metavar='KEY=VALUE', help='change options: train:total_iter=300 ...'
    )


def _set_up_processes(options: Options, launcher: str) -> None:
    from basicsr.utils.dist_util import get_dist_info, init_dist

    options['dist'] = launcher != 'none'
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise OptionError(['--launcher pytorch: RANK is not set, expected a start by torchrun'])
    if options['dist']:
        with problems_of(f'--launcher {launcher}'):
            init_dist(launcher, **(options.get('dist_params') or {}))
    options['rank'], options['world_size'] = get_dist_info()


def _set_up_datasets(options: Options) -> None:
    for section, dataset in options['datasets'].items():
        dataset['phase'] = section.split('_')[0]
        if 'scale' in options:
            dataset['scale'] = options['scale']
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file', 'kernels'):
            if dataset.get(key) is not None:
                dataset[key] = os.path.expanduser(dataset[key])


def _set_up_paths(options: Options, root_path: str, is_train: bool) -> None:
    paths = options['path'] = dict(options.get('path') or {})
    for key, value in paths.items():
        if value is not None and ('resume_state' in key or 'pretrain_network' in key or key.endswith('s_root')):
            # Shipped weights become a plain path, for BasicSR's own models to find them, too.
            shipped = 'pretrain_network' in key and value.startswith(SHIPPED)
            paths[key] = str(resolve_weights(value)) if shipped else os.path.expanduser(value)
    kind = 'experiments' if is_train else 'results'
    root = paths.get(f'{kind}_root') or os.path.join(root_path, kind, options['name'])
    paths[f'{kind}_root'] = paths['log'] = root
    paths['visualization'] = os.path.join(root, 'visualization')
    if is_train:
        paths['models'] = os.path.join(root, 'models')
        paths['training_states'] = os.path.join(root, 'training_states')


def _set_up_debugging(options: Options, debug: bool) -> None:
    if debug and not options['name'].startswith('debug'):
        options['name'] = f'debug_{options["name"]}'
    if 'debug' in options['name'] and options['is_train']:
        options['logger'].update(print_freq=1, save_checkpoint_freq=8)
        if options.get('val'):
            options['val']['val_freq'] = 8


def resolve(args: argparse.Namespace, root_path: str, *, is_train: bool) -> Options:
    """Read, change and check the options of a command, and fill in what follows from them.

    Args:
        args: What :func:`add_arguments` parsed.
        root_path: Folder below which ``experiments`` and ``results`` lie.
        is_train: Whether to train or to test.

    Raises:
        OptionError: With every problem found.
    """
    from basicsr.utils import set_random_seed

    from manet_basicsr.options.checks import find_problems

    options = load_options(args.opt)
    force(options, args.force_yml or [])
    problems = find_problems(options, is_train=is_train)
    if problems:
        raise OptionError([f'{args.opt}: {problem}' for problem in problems])
    _set_up_processes(options, args.launcher)
    if options.get('manual_seed') is None:
        options['manual_seed'] = random.SystemRandom().randint(1, 10000)
        if options['dist']:  # one seed for all: the processes share one order of samples
            seed = [options['manual_seed']]
            torch.distributed.broadcast_object_list(seed)
            options['manual_seed'] = seed[0]
    set_random_seed(options['manual_seed'] + options['rank'])
    options['auto_resume'] = args.auto_resume
    options['is_train'] = is_train
    options['root_path'] = root_path
    _set_up_debugging(options, args.debug)
    available = torch.cuda.device_count()
    if options.get('num_gpu', 'auto') == 'auto':
        options['num_gpu'] = available
    if options['num_gpu'] > 1 and not options['dist'] and (options.get('train') or {}).get('amp'):
        raise OptionError([f'{args.opt}: train.amp: with several GPUs it needs torchrun and --launcher pytorch'])
    if options['num_gpu'] > available and not options['dist']:
        raise OptionError([f'{args.opt}: num_gpu: found {options["num_gpu"]}, but there are {available}; try auto'])
    _set_up_datasets(options)
    _set_up_paths(options, root_path, is_train)
    if is_train:
        options['logger'].setdefault('use_tb_logger', False)
    else:
        options['val'] = {'save_img': False, 'suffix': None, **(options.get('val') or {})}
    return options


def parse_options(root_path: str, is_train: bool = True) -> tuple[Options, argparse.Namespace]:
    """Parse the command line as BasicSR's function of this name does, without its ``exec`` and ``eval``."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args()
    return resolve(args, root_path, is_train=is_train), args


def write_resolved(options: Options, path: str | Path) -> None:
    """Write options as they are used, after ``--force_yml`` and all defaults; the file is an option file again."""
    from manet_basicsr.utils.files import atomic_path

    with atomic_path(path) as temporary:
        text = yaml.safe_dump(_without_derived(options), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding='utf-8')


def _without_derived(options: Options) -> Options:
    """Leave out what :func:`resolve` adds beside the user's keys."""
    derived = ('dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path')
    folders = ('experiments_root', 'results_root', 'log', 'visualization', 'models', 'training_states')
    paths = {key: weights_address(value) for key, value in options['path'].items() if key not in folders}
    return {**{key: value for key, value in options.items() if key not in derived}, 'path': paths}
