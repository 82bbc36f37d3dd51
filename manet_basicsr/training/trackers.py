"""Tensorboard and Weights & Biases: where a run's numbers go beside its log."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Callable
from typing import Any

from basicsr.utils import get_root_logger

from manet_basicsr.options.reading import Options
from manet_basicsr.training.run_folder import tensorboard_folder
from manet_basicsr.utils.errors import last_line


class _Lasting:
    """Tensorboard's writer; that it fails, as on a full disk, is said once and costs the run nothing else."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self._failed = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._writer, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except Exception as error:
                if not self._failed:
                    self._failed = True
                    get_root_logger().warning(f'tensorboard has no more from here on: {last_line(error)}')
                return None

        return call


def start_trackers(opt: Options, start_iter: int) -> Any:
    """Start what the options ask for, in the first process.

    Args:
        opt: Resolved options.
        start_iter: Iterations already done; what was written beyond them is of a run that was stopped, and is hidden.

    Returns:
        Tensorboard's writer, or None.
    """
    if opt['rank'] != 0 or not opt['logger'].get('use_tb_logger'):
        return None
    wandb_opt = opt['logger'].get('wandb') or {}
    if wandb_opt.get('project') is not None:  # first: it then copies what tensorboard gets
        _start_wandb(opt, wandb_opt)
    from torch.utils.tensorboard import SummaryWriter

    purge = start_iter + 1 if start_iter else None
    return _Lasting(SummaryWriter(log_dir=str(tensorboard_folder(opt)), purge_step=purge))


def _start_wandb(opt: Options, wandb_opt: Options) -> None:
    wandb: Any = importlib.import_module('wandb')

    resume_id = wandb_opt.get('resume_id')
    # basicsr 1.4.2 draws it by wandb.util, which wandb no longer has.
    identity = resume_id or secrets.token_hex(4)
    wandb.init(
        id=identity,
        resume='allow' if resume_id else 'never',
        name=opt['name'],
        config=opt,
        project=wandb_opt['project'],
        sync_tensorboard=True,
    )
    get_root_logger().info(f'Use wandb logger with id={identity}; project={wandb_opt["project"]}.')
