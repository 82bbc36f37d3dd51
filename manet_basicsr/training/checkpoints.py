"""Training states: what is in them, how they are written, and which one a run goes on from."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.utils import set_random_seed

from manet_basicsr.data.sampling import mix_seed
from manet_basicsr.utils.errors import NonFiniteError, first_line
from manet_basicsr.utils.files import atomic_path
from manet_basicsr.utils.tensors import not_finite


def save_atomically(content: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint aside, flush it to disk and rename it: a kill leaves the file of before or the new one.

    Args:
        content: What ``torch.save`` takes; everything in it must load with ``weights_only=True``.
        path: The file.

    Raises:
        NonFiniteError: A tensor in it has NaN or infinity: nothing could go on from it.
        WriteError: It cannot be written, as on a full disk; the file of before is untouched.
    """
    if name := not_finite(content):
        raise NonFiniteError(f'{path}: found {name} not finite (NaN or infinite), which is not saved')
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def network_state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Give a network's state dict on the CPU, without the prefix of a wrapper."""
    return {key.removeprefix('module.'): value.cpu() for key, value in network.state_dict().items()}


def _random_state() -> dict[str, Any]:
    numpy_state = np.random.get_state(legacy=False)
    return {
        'python': random.getstate(),
        'numpy': {**numpy_state, 'state': {**numpy_state['state'], 'key': numpy_state['state']['key'].tolist()}},
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    random.setstate(state['python'])
    key = np.array(state['numpy']['state']['key'], dtype=np.uint32)
    np.random.set_state({**state['numpy'], 'state': {**state['numpy']['state'], 'key': key}})
    torch.set_rng_state(state['torch'])
    if len(state['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state['cuda'])


def training_state(model: Any, epoch: int, current_iter: int) -> dict[str, Any]:
    """Collect what a run needs to go on exactly, beside its networks.

    BasicSR's keys (``epoch``, ``iter``, ``optimizers``, ``schedulers``), and the record of best metrics, the loss
    scaler, the random generators and whether the iteration is still to be validated, which BasicSR forgets.
    """
    state = {
        'epoch': epoch,
        'iter': current_iter,
        'optimizers': [optimizer.state_dict() for optimizer in model.optimizers],
        'schedulers': [scheduler.state_dict() for scheduler in model.schedulers],
        'random': _random_state(),
        'manual_seed': model.opt.get('manual_seed'),
        'validation_pending': getattr(model, 'validation_pending', False),
    }
    if hasattr(model, 'best_metric_results'):
        state['best_metric_results'] = _plain(model.best_metric_results)
    if hasattr(model, 'grad_scaler'):
        state['grad_scaler'] = model.grad_scaler.state_dict()
    return state


def _plain(record: Any) -> Any:
    """Turn numpy's numbers, which stock metrics give and a weights-only load refuses, into Python's."""
    if isinstance(record, dict):
        return {key: _plain(value) for key, value in record.items()}
    return record.item() if isinstance(record, np.generic) else record


def restore_training_state(model: Any, state: dict[str, Any]) -> None:
    """Give a model built from the saved networks the rest of a training state; BasicSR's own states serve too.

    Moments and the position in the schedule are the state's. Rates, betas, weight decay and the schedule itself are the
    options', which may have changed since: at its position, the run goes on as if it had always had them.

    Raises:
        ValueError: The state is of a model with other optimizers or schedulers.
    """
    fitted = {
        **state,
        'optimizers': [
            _with_present_options(saved, optimizer)
            for saved, optimizer in _pairs(state['optimizers'], model.optimizers, 'optimizers')
        ],
        'schedulers': [
            scheduler.state_dict() for _, scheduler in _pairs(state['schedulers'], model.schedulers, 'schedulers')
        ],
    }
    model.resume_training(fitted)
    for saved, scheduler in zip(state['schedulers'], model.schedulers, strict=True):
        _move_to(scheduler, saved.get('last_epoch', state['iter'] - 1))
    model.best_metric_results = _records_that_fit(state.get('best_metric_results', {}), model.opt)
    model.validation_pending = bool(state.get('validation_pending', False))
    if state.get('grad_scaler') and hasattr(model, 'grad_scaler'):
        model.grad_scaler.load_state_dict(state['grad_scaler'])
    if model.opt.get('world_size', 1) > 1:
        # The state is rank 0's: the others would draw what it draws.
        seed = mix_seed(model.opt['manual_seed'], state['iter'], model.opt['rank'])
        set_random_seed(seed % 2**32)
    elif 'random' in state:
        _restore_random_state(state['random'])


def _pairs(saved: list[Any], present: list[Any], what: str) -> Iterator[tuple[Any, Any]]:
    if len(saved) != len(present):
        raise ValueError(
            f'the training state does not fit this model: found {len(saved)} {what}, expected {len(present)}'
        )
    return zip(saved, present, strict=True)


def _with_present_options(saved: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return a saved optimizer's state with the options of the present one: its moments, and rates of today."""
    groups = optimizer.state_dict()['param_groups']
    found, expected = ([len(group['params']) for group in one] for one in (saved['param_groups'], groups))
    if found != expected:
        raise ValueError(
            f'the training state does not fit this model: found {found} parameters in the groups of its optimizer, '
            f'expected {expected}'
        )
    for group, before in zip(groups, saved['param_groups'], strict=True):
        if group.get('amsgrad') and not before.get('amsgrad'):
            raise ValueError('the training state has no moments for amsgrad: true, expected false')
    return {**saved, 'param_groups': groups}


def _move_to(scheduler: Any, position: int) -> None:
    """Move a new scheduler to a position, by the rates of all positions before: some are made of the one before."""
    groups = scheduler.optimizer.param_groups
    for group, rate in zip(groups, scheduler.base_lrs, strict=True):
        group['lr'] = rate
    for epoch in range(position + 1):
        scheduler.last_epoch = epoch
        for group, rate in zip(groups, scheduler.get_lr(), strict=True):
            group['lr'] = rate
    scheduler._step_count = position + 1
    scheduler._last_lr = [group['lr'] for group in groups]


def _records_that_fit(records: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Keep the best results of the sets whose metrics are still those of the options."""
    metrics = (options.get('val') or {}).get('metrics') or {}
    expected = {name: content.get('better', 'higher') for name, content in metrics.items()}
    return {
        dataset: record
        for dataset, record in records.items()
        if {name: best['better'] for name, best in record.items()} == expected
    }


def load_state(path: str | Path) -> dict[str, Any]:
    """Read a training state on the CPU (optimizers move it to their parameters' device).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no training state, or damaged, or what it holds is not finite.
    """
    try:
        state = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: no such training state') from None
    except Exception as error:  # torch reports damage as any of five exception types
        raise ValueError(f'{path} is not a whole training state ({first_line(error)})') from error
    if not isinstance(state, dict) or not {'iter', 'optimizers', 'schedulers'} <= state.keys():
        raise ValueError(f'{path} is not a training state: it has no iter, optimizers and schedulers')
    if name := not_finite(state['optimizers']):
        raise ValueError(f'{path}: {name} of the optimizers is not finite (NaN or infinite)')
    if not isinstance(state['iter'], int):
        raise ValueError(f'{path} is not a training state: its iter is {state["iter"]!r}')
    return state


def saved_iterations(states_folder: str | Path) -> list[int]:
    """List the iterations of the training states in a folder, newest first."""
    folder = Path(states_folder)
    if not folder.is_dir():
        return []
    matches = (re.fullmatch(r'(\d+)\.state', name) for name in os.listdir(folder))
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def newest_whole_state(
    states_folder: str | Path, models_folder: str | Path, networks: list[str]
) -> tuple[Path | None, list[str]]:
    """Find the newest training state that loads and whose network files load.

    Args:
        states_folder: ``training_states`` of an experiment.
        models_folder: ``models`` of an experiment.
        networks: Labels of the networks to be there, such as ``net_g``.

    Returns:
        The state's path or ``None``, and a line for each newer one that was passed over.
    """
    passed_over = []
    for iteration in saved_iterations(states_folder):
        path = Path(states_folder) / f'{iteration}.state'
        try:
            load_state(path)
            for network in networks:
                file = Path(models_folder) / f'{network}_{iteration}.pth'
                if name := not_finite(torch.load(file, map_location='cpu', weights_only=True)):
                    raise ValueError(f'{file}: {name} is not finite (NaN or infinite)')
        except Exception as error:  # whatever is wrong with it, an older one may be whole
            passed_over.append(f'{path} passed over: {first_line(error)}')
        else:
            return path, passed_over
    return None, passed_over


def prune_checkpoints(
    states_folder: str | Path, models_folder: str | Path, networks: list[str], *, newest: int, keep: int
) -> list[Path]:
    """Remove old training states and their networks, after a new one was saved.

    Only what is older than ``newest`` is counted and removed: a later state was passed over when the run went on from
    an earlier one, and does not count as one to go on from. Files of other names stay.

    Args:
        states_folder: ``training_states`` of an experiment.
        models_folder: ``models`` of an experiment.
        networks: Labels of the networks, such as ``net_g``.
        newest: The iteration just saved, which stays.
        keep: How many states to keep, at least 1.

    Returns:
        The removed files.
    """
    kept = {iteration for iteration in saved_iterations(states_folder) if iteration < newest}
    kept = {newest, *sorted(kept, reverse=True)[: keep - 1]}
    # States first: one without its network would not be whole.
    patterns = [(Path(states_folder), re.compile(r'(\d+)\.state'))]
    patterns += [(Path(models_folder), re.compile(rf'{re.escape(label)}_(\d+)\.pth')) for label in networks]
    removed = []
    for folder, pattern in patterns:
        for name in sorted(os.listdir(folder)):
            match = pattern.fullmatch(name)
            if match and int(match[1]) < newest and int(match[1]) not in kept:
                (folder / name).unlink()
                removed.append(folder / name)
    return removed
