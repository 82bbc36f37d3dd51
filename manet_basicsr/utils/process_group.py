"""Joining the processes of one training: torchrun's and Slurm's, with and without GPUs."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import torch


def init_dist(launcher: str, backend: str | None = None, port: int | None = None, **kwargs: Any) -> None:
    """Join the process group that a launcher set up, in the place of BasicSR's function of this name.

    Args:
        launcher: ``pytorch`` (torchrun) or ``slurm``.
        backend: Of torch.distributed; None and ``nccl`` mean gloo where there is no GPU.
        port: Of the first process; for Slurm.
        **kwargs: For ``torch.distributed.init_process_group``.

    Raises:
        ValueError: The launcher is unknown.
    """
    if launcher == 'slurm':
        read_slurm_environment(port)
    elif launcher != 'pytorch':
        raise ValueError(f"launcher '{launcher}' is not one of pytorch, slurm")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', os.environ['RANK'])) % torch.cuda.device_count())
    if backend in (None, 'nccl'):
        backend = 'nccl' if torch.cuda.is_available() else 'gloo'
    torch.distributed.init_process_group(backend, **kwargs)


def read_slurm_environment(port: int | None) -> None:
    """Translate Slurm's variables into those that torch reads.

    Raises:
        OSError: There is no ``scontrol``.
        ValueError: It does not know the nodes.
    """
    environment = os.environ
    words = ['scontrol', 'show', 'hostnames', environment['SLURM_NODELIST']]
    hosts = subprocess.run(words, capture_output=True, text=True, check=False)
    if hosts.returncode:
        raise ValueError(f'{" ".join(words)} failed: {" ".join(hosts.stderr.split())}')
    environment['MASTER_ADDR'] = hosts.stdout.split()[0]
    if port is not None:
        environment['MASTER_PORT'] = str(port)
    environment.setdefault('MASTER_PORT', '29500')
    environment['RANK'] = environment['SLURM_PROCID']
    environment['WORLD_SIZE'] = environment['SLURM_NTASKS']
    environment['LOCAL_RANK'] = environment.get('SLURM_LOCALID', '0')
