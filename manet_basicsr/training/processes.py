"""The processes of a run: started by a launcher, and seeded alike."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from manet_basicsr.options.errors import OptionError, problems_of

_LARGEST_DRAWN_SEED = 10_000


@dataclass(frozen=True)
class Processes:
    """This process among those of its run.

    Attributes:
        distributed: Whether a launcher started them, so that they exchange gradients.
        rank: Number of this one.
        world_size: How many there are.
    """

    distributed: bool = False
    rank: int = 0
    world_size: int = 1


def start_processes(launcher: str, dist_params: Mapping[str, Any] | None = None) -> Processes:
    """Let the processes that a launcher started meet.

    Args:
        launcher: ``none``, ``pytorch`` (torchrun) or ``slurm``.
        dist_params: The section of that name: ``backend``, ``port``.

    Raises:
        OptionError: The launcher has not started this process, or they cannot meet.
    """
    from basicsr.utils.dist_util import get_dist_info, init_dist

    if launcher == 'none':
        return Processes()
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise OptionError(['RANK is not set, expected a start by torchrun'])
    if launcher == 'slurm' and 'SLURM_PROCID' not in os.environ:
        raise OptionError(['SLURM_PROCID is not set, expected a start by srun'])
    with problems_of():
        init_dist(launcher, **(dist_params or {}))
    return Processes(True, *get_dist_info())


def end_processes() -> None:
    """Close what connects this process with the others of its run, if anything does.

    Left to the interpreter's end, gloo's threads are now and then destroyed while they run: the process aborts after
    its work is done, its launcher calls it failed, and the launchers of other machines wait for it. For processes that
    all come here; one that leaves early would break what the others exchange.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()  # a network that exchanges gradients holds the connection, and is part of reference circles
        torch.distributed.destroy_process_group()


@contextmanager
def bare_networks(model: Any) -> Iterator[None]:
    """Take the wrapper that exchanges gradients off a model's networks in a ``with`` block.

    Each call of a wrapped network exchanges its buffers, too. A validation that one process does for all would send
    what the others take for part of their next training step.
    """
    wrapped = {
        name: network
        for name, network in vars(model).items()
        if isinstance(network, torch.nn.parallel.DistributedDataParallel)
    }
    for name, network in wrapped.items():
        setattr(model, name, network.module)
    try:
        yield
    finally:
        for name, network in wrapped.items():
            setattr(model, name, network)


def draw_seed(processes: Processes) -> int:
    """Draw the seed of a run that names none; it is the same in all processes, which share one order of samples."""
    seed = [random.SystemRandom().randint(1, _LARGEST_DRAWN_SEED)]
    if processes.distributed:
        torch.distributed.broadcast_object_list(seed)
    return seed[0]


def seed_generators(seed: int, processes: Processes) -> None:
    """Seed the global generators of Python, numpy and torch, differently in each process."""
    from basicsr.utils import set_random_seed

    set_random_seed(seed + processes.rank)
