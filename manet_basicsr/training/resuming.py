"""Finding the training state that a run goes on from, and its networks."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from manet_basicsr.options.errors import OptionError, problems_of
from manet_basicsr.options.reading import Options
from manet_basicsr.options.resolving import forget_beginning, run_folder
from manet_basicsr.training.checkpoints import load_state, newest_whole_state, saved_iterations


def network_labels(opt: Options, ignored: Collection[str] = ()) -> list[str]:
    """Return what the files of a run's networks begin with, such as ``net_g``."""
    return [key.replace('network_', 'net_') for key in opt if key.startswith('network_') and key not in ignored]


def _resumed_labels(opt: Options) -> list[str]:
    return network_labels(opt, opt['path'].get('ignore_resume_networks') or [])


def forget_beginning_of_resumed(options: Options, root_path: str, *, auto_resume: bool, debug: bool = False) -> bool:
    """Before the checks: a run that goes on needs nothing of what it began with, which may be gone by now.

    Args:
        options: Options as read; changed in place where the run has states to go on from.
        root_path: Folder below which ``experiments`` lies.
        auto_resume: Whether to go on from the newest state of the run's folder.
        debug: Whether the run is a short one, which has a folder of its own.

    Returns:
        Whether it goes on, or would if it were no short run.
    """
    paths = options.get('path')
    if not all(isinstance(section, (dict, type(None))) for section in (paths, options.get('network_g'))):
        return False  # the checks will say so
    roots = (paths or {}).get('experiments_root'), (paths or {}).get('ignore_resume_networks') or []
    if not isinstance(roots[0], (str, type(None))) or not isinstance(roots[1], list):
        return False
    states = os.path.join(run_folder(options, root_path, is_train=True, debug=debug), 'training_states')
    given = None if debug else (paths or {}).get('resume_state')
    goes_on = given is not None or (auto_resume and bool(saved_iterations(states)))
    if goes_on:
        forget_beginning(options)
    return goes_on or (paths or {}).get('resume_state') is not None


def find_resume_state(opt: Options) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the training state to go on from, and point BasicSR at its networks.

    Args:
        opt: Resolved options; ``path.resume_state`` and ``path.pretrain_network_*`` are set.

    Returns:
        The state, or None to start anew, and what to tell the user.

    Raises:
        OptionError: The state that ``path.resume_state`` names cannot be read, is beyond ``train.total_iter``, or lies
            apart from its networks.
    """
    notes: list[str] = []
    path = opt['path'].get('resume_state')
    if opt['auto_resume']:
        folders = opt['path']['training_states'], opt['path']['models']
        newest, notes = newest_whole_state(*folders, _resumed_labels(opt))
        if notes and newest is None:
            where = opt['path']['experiments_root']
            raise OptionError([*notes, f'no state is whole; remove {where}, or give another name, to begin anew'])
        path = opt['path']['resume_state'] = str(newest) if newest else path
    if path is None:
        return None, notes
    with problems_of('path.resume_state'):
        state = load_state(path)
    if state.get('manual_seed') not in (None, opt['manual_seed']):
        notes.append(f'manual_seed: {state["manual_seed"]}, with which the run began')
        opt['manual_seed'] = state['manual_seed']
    if state['iter'] > opt['train']['total_iter']:
        expected = f'at least the {state["iter"]:,d} iterations of {path}'
        raise OptionError([f'train.total_iter: found {opt["train"]["total_iter"]}, expected {expected}'])
    _point_at_networks(opt, Path(path), state['iter'])
    return state, notes


def _point_at_networks(opt: Options, state: Path, iteration: int) -> None:
    """Set the weights of each network to the file that was saved with the state, in the state's own run."""
    forget_beginning(opt)  # a run's own files have BasicSR's keys, and fit, whatever it once started from
    for label in _resumed_labels(opt):
        file = state.absolute().parent.parent / 'models' / f'{label}_{iteration}.pth'
        if not file.is_file():
            raise OptionError([f'path.resume_state: found {state}, but not {file}, which was saved with it'])
        opt['path'][f'pretrain_network_{label.removeprefix("net_")}'] = str(file)


def goes_on_in_place(opt: Options) -> bool:
    """Tell whether the state to go on from is one of the run's own; else the run is a new one that begins there."""
    path = opt['path'].get('resume_state')
    folder = Path(opt['path']['training_states'])
    return path is not None and folder.is_dir() and Path(path).resolve().parent == folder.resolve()
