"""Trainings by the package's option files, shortened for a CPU, for tools/choices.py and tools/peers_train.py."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from manet_basicsr.options.forcing import force
from manet_basicsr.options.reading import load_options

ROOT = Path(__file__).resolve().parents[1]
MUON: dict[str, Any] = {'train:optim_g': {'type': 'Muon', 'lr': 0.02, 'weight_decay': 0, 'adam_lr': 1e-3}}
#: What a training without a GPU has, with its rate on half a cosine to 0, and no validation of its own.
ON_CPU: dict[str, Any] = {
    'num_gpu': 0,
    'train:amp': None,
    'train:ema_decay': 0,
    'train:warmup_iter': 50,
    'datasets:train:degrade_on': 'loader',
    'datasets:train:prefetch_mode': None,
    'datasets:train:num_worker_per_gpu': 0,
    'datasets:train:pin_memory': False,
    'path:pretrain_network_g': None,
    'logger:save_checkpoint_freq': 200,
    'logger:use_tb_logger': False,
    'val': None,
}
#: What of that a GPU changes.
ON_GPU: dict[str, Any] = {
    **ON_CPU,
    'num_gpu': 1,
    'train:amp': 'bf16',
    'train:compile': 'graph',
    'datasets:train:degrade_on': 'device',
    'datasets:train:prefetch_mode': 'cuda',
    'datasets:train:num_worker_per_gpu': 2,
    'datasets:train:pin_memory': True,
    'logger:print_freq': 200,
    'logger:save_checkpoint_freq': 1000,
}
#: Trainings that run now, and whether they are to end.
_RUNNING: set[subprocess.Popen[bytes]] = set()
stopping = threading.Event()
#: What an experiment that is there must agree in with what is asked for.
_BUDGET = (
    ('train', 'total_iter'),
    ('train', 'optim_g', 'lr'),
    *(('datasets', 'train', key) for key in ('batch_size_per_gpu', 'gt_size', 'dataroot_gt')),
)
_FORCED = tuple(':'.join(path[:2]) for path in _BUDGET)


def network_of(output: Path, name: str) -> Path:
    """Return where a training leaves its network.

    Args:
        output: Folder of the trainings.
        name: Of the training.
    """
    return output / 'experiments' / name / 'models/net_g_latest.pth'


def stop_all() -> None:
    """Ask all trainings that run to save their states and to end, and let none begin."""
    stopping.set()
    for process in list(_RUNNING):
        process.terminate()


def train(
    output: Path, name: str, file: Path, iterations: int, changes: Mapping[str, Any], *, on_gpu: bool = False
) -> Path:
    """Train by an option file, go on with a training that was interrupted, or leave one as it is that is done.

    Args:
        output: Folder of the trainings, absolute.
        name: Of the training.
        file: The option file.
        iterations: Of the training.
        changes: What else is changed in the file, as ``--force_yml`` has it.
        on_gpu: Whether on a GPU, in bfloat16.

    Returns:
        The network.

    Raises:
        ValueError: A training of this name has another length, batch, crop or other images.
        subprocess.CalledProcessError: The training failed.
    """
    made = network_of(output, name)
    forced = {
        **(ON_GPU if on_gpu else ON_CPU),
        'name': name,
        'train:total_iter': iterations,
        'train:scheduler': {
            'type': 'CosineAnnealingRestartLR', 'periods': [iterations], 'restart_weights': [1], 'eta_min': 1e-7,
        },
        **changes,
    }  # fmt: skip
    resolved = made.parents[1] / 'resolved.yml'
    if resolved.is_file():
        _check_budget(resolved, forced)
    if not (made.is_file() or stopping.is_set()):
        # JSON is YAML in a line.
        words = [f'{key}={json.dumps(value)}' for key, value in forced.items()]
        command = [sys.executable, '-m', 'manet_basicsr', 'train', '-opt', str(file)]
        with subprocess.Popen([*command, '--auto_resume', '--force_yml', *words], cwd=output) as process:
            _RUNNING.add(process)
            if stopping.is_set():
                process.terminate()
            try:
                code = process.wait()
            finally:
                _RUNNING.discard(process)
        if code:
            raise subprocess.CalledProcessError(code, name)
    return made


def _check_budget(resolved: Path, forced: Mapping[str, Any]) -> None:
    found, wanted = load_options(resolved), load_options(resolved)
    force(wanted, [f'{key}={json.dumps(value)}' for key, value in forced.items() if key.startswith(_FORCED)])
    for path in _BUDGET:
        value, asked = (reduce(getitem, path, options) for options in (found, wanted))
        if asked != value:
            raise ValueError(
                f'{resolved}: found {path[-1]} {value}, expected {asked}; name another OUTPUT, or remove the folder'
            )
