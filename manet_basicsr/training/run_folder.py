"""The folder of a run: locked while it lives, moved aside by the next run of its name, and never anybody else's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch
from basicsr.utils import get_root_logger, get_time_str
from basicsr.utils.dist_util import master_only

from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.reading import Options, load_options
from manet_basicsr.options.resolving import restore_beginning, write_resolved
from manet_basicsr.training.checkpoints import saved_iterations
from manet_basicsr.utils.console import say
from manet_basicsr.utils.errors import WriteError
from manet_basicsr.utils.files import atomic_path, remove_leftovers, write_lines
from manet_basicsr.utils.locks import LockedError, exclusive_lock

# By which a run's folder is known, of this package or of BasicSR: its folder of states, its options or its log.
_MARKS = {
    'experiments_root': ('training_states', 'resolved.yml', 'train_*.log'),
    'results_root': ('test_*.log',),
    'tensorboard': ('events.out.tfevents.*',),
}


@contextmanager
def locked_run(opt: Options) -> Iterator[None]:
    """Keep other processes away from the folder of a run, and let those of this run wait until it is locked.

    Raises:
        OptionError: Another run of this name lives.
        WriteError: Nothing can be written where its folder is to be.
    """
    root = Path(_root(opt))
    if opt['rank'] != 0:
        yield
        return
    with ExitStack() as stack:
        try:
            with _told_where_to_change_it(opt):
                # Beside the folder and not in it: the next run moves the folder aside.
                root.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive_lock(root.with_name(f'.{root.name}.lock')))
        except LockedError as error:
            busy = f'name: {root} is in use by another run ({error}); wait for it, or give another name'
            raise OptionError([busy]) from error
        yield


@contextmanager
def _told_where_to_change_it(opt: Options) -> Iterator[None]:
    """Say of a run's folder that cannot be written which key leads elsewhere."""
    try:
        yield
    except OSError as error:
        elsewhere = f'path.{_root_key(opt)} leads to another folder'
        raise WriteError(_root(opt), f'{error.strerror or error}; {elsewhere}') from error


@master_only
def prepare_run_folder(opt: Options, option_file: str, *, in_place: bool) -> None:
    """Make the folder of a training, or go on in the one that is there, and write the options into it.

    Args:
        opt: Resolved options.
        option_file: The file they came from.
        in_place: Whether the run goes on in its folder; else one that is there is moved aside.

    Raises:
        OptionError: A folder of this name is no run's.
    """
    # A mark at its beginning would be text in the middle of the copy. It may lie in a folder that is moved aside.
    options_text = Path(option_file).read_text(encoding='utf-8-sig')
    if not in_place:
        make_folders(opt)
        if opt['logger'].get('use_tb_logger'):
            move_aside(tensorboard_folder(opt), _MARKS['tensorboard'])
    else:
        _set_later_states_aside(Path(opt['path']['resume_state']))
    root = _root(opt)
    with atomic_path(os.path.join(root, os.path.basename(option_file))) as temporary:
        write_lines(temporary, options_text)
    write_resolved(_as_begun(opt) if in_place else opt, os.path.join(root, 'resolved.yml'))


def _as_begun(opt: Options) -> Options:
    """Return the options of a run that goes on with what it began with, which its folder tells."""
    begun: Options = {}
    with suppress(OptionError, OSError):  # it is lost, or somebody's: then nothing is known of the beginning
        begun = load_options(os.path.join(_root(opt), 'resolved.yml'))
    as_begun = dict(opt)
    restore_beginning(as_begun, begun)
    return as_begun


def _set_later_states_aside(state: Path) -> None:
    """Rename the states behind that from which a run goes on: the next resume would take them for its newest."""
    if not state.stem.isdigit():  # renamed by somebody
        return
    for iteration in saved_iterations(state.parent):
        if iteration > int(state.stem):
            later = state.with_name(f'{iteration}.state')
            later.rename(later.with_name(f'{later.name}_set_aside_{get_time_str()}'))
            say(f'{later} is set aside: the run goes on from {state.name}')


def make_folders(opt: Options) -> None:
    """Make the folders of a training or a test; a run of this name that is there is moved aside.

    Raises:
        OptionError: A folder of this name is no run's.
        WriteError: They cannot be made.
    """
    with _told_where_to_change_it(opt):
        move_aside(Path(_root(opt)), _MARKS[_root_key(opt)])
        for key in ('models', 'training_states', 'log', 'visualization'):
            if opt['path'].get(key):
                os.makedirs(opt['path'][key], exist_ok=True)


def move_aside(folder: Path, marks: tuple[str, ...]) -> None:
    """Rename a run's folder to ``NAME_archived_TIME``, if it is there.

    Raises:
        OptionError: It holds files, but none of a run: it is somebody's.
    """
    if not folder.exists():
        return
    is_empty = folder.is_dir() and not any(path.is_file() for path in folder.rglob('*'))
    if not is_empty and not any(next(folder.glob(mark), None) for mark in marks):
        expected = 'expected a run, or nothing; give another name or another folder'
        raise OptionError([f'name: found {folder}, which holds other files than those of a run, {expected}'])
    archived = folder.with_name(f'{folder.name}_archived_{get_time_str()}')
    number = 1
    while archived.exists():  # of a run that began in the same second
        number += 1
        archived = folder.with_name(f'{folder.name}_archived_{get_time_str()}_{number}')
    say(f'{folder} already exists. It is renamed to {archived}')
    folder.rename(archived)


def tensorboard_folder(opt: Options) -> Path:
    """Return where a run's tensorboard files are: as in BasicSR, or in ``path.experiments_root`` where that is given.

    Runs of one name in different roots have their own.
    """
    above, usual = Path(_root(opt)).parent.resolve(), Path(opt['root_path']).resolve()
    is_usual = above == (usual / 'experiments').resolve()  # which may lead to another disk
    return (usual if is_usual else above) / 'tb_logger' / opt['name']


@master_only
def tidy(opt: Options) -> None:
    """Remove what killed runs left half-written."""
    for folder in (opt['path'][key] for key in ('experiments_root', 'models', 'training_states')):
        for leftover in remove_leftovers(folder):
            get_root_logger().info(f'Removed {leftover}, which a killed run left half-written.')


def wait_for_folders(opt: Options) -> None:
    """Wait until the first process has made the folders for all."""
    if opt['dist']:
        torch.distributed.barrier()


def _root_key(opt: Options) -> str:
    return 'experiments_root' if opt['is_train'] else 'results_root'


def _root(opt: Options) -> str:
    return opt['path'][_root_key(opt)]
