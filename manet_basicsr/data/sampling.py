"""The order of training samples and the randomness of each: a pure function of the seed and the iteration.

BasicSR seeds its workers once, so that draws repeat every epoch, depend on the number of workers, and start again at
every resume. Here one sampler runs over the whole training, from any iteration to the last, and every index carries the
seed of its own sample. A run is then the same for any number of workers and validations, a resumed run goes on in the
middle of an epoch where the uninterrupted one would be, and the last iteration is always reached, also where a set is
smaller than a batch.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, get_worker_info


class SampleIndex(int):
    """An index into a dataset that carries the seed of its sample; to a stock dataset it is a plain ``int``."""

    seed: int

    def __new__(cls, index: int, seed: int) -> SampleIndex:
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self), self.seed


def mix_seed(*parts: int) -> int:
    """Hash integers to a 63-bit seed, so that neighbouring iterations and seeds have nothing in common."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1


def sample_generator(index: int, *, random_without_seed: bool = False) -> torch.Generator:
    """Give the random generator of one sample.

    Args:
        index: A :class:`SampleIndex`, whose seed counts, or a plain index.
        random_without_seed: For a plain index, seed from torch's global generator (which a DataLoader seeds anew for
            every worker and epoch) and not from the index alone.
    """
    if isinstance(index, SampleIndex):
        seed = index.seed
    elif random_without_seed:
        seed = int(torch.randint(2**62, ()))
    else:
        seed = mix_seed(int(index))
    return torch.Generator().manual_seed(seed)


class IterationSampler(Sampler[SampleIndex]):
    """The samples of iterations ``start_iter + 1 .. total_iter`` for one process.

    Each epoch is a permutation of the dataset, ``enlarge_ratio`` times over; batches run on across its end. In one
    iteration the processes take neighbouring pieces of it, so none has a sample of another.

    Args:
        dataset_size: Samples in the dataset, at least 1.
        batch_size: Samples an iteration in this process.
        total_iter: Last iteration.
        start_iter: Iterations already done.
        seed: Seed of the run.
        rank: Number of this process.
        world_size: Number of processes.
        enlarge_ratio: BasicSR's ``dataset_enlarge_ratio``.
    """

    def __init__(
        self,
        dataset_size: int,
        batch_size: int,
        total_iter: int,
        *,
        start_iter: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        enlarge_ratio: int = 1,
    ) -> None:
        if dataset_size < 1:
            raise ValueError('the training set is empty')
        if not enlarge_ratio > 0:
            raise ValueError(f'dataset_enlarge_ratio: found {enlarge_ratio!r}, expected a number above 0')
        self.dataset_size = dataset_size
        self.batch_size = batch_size
        self.total_iter = total_iter
        self.start_iter = start_iter
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.samples_per_epoch = max(1, int(dataset_size * enlarge_ratio))

    def epoch_of(self, iteration: int) -> int:
        """Give the epoch, from 0, in which an iteration, from 1, begins."""
        return (iteration - 1) * self.batch_size * self.world_size // self.samples_per_epoch

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, epoch))
        return torch.randperm(self.samples_per_epoch, generator=generator).remainder_(self.dataset_size).tolist()

    def __iter__(self) -> Iterator[SampleIndex]:
        epoch, order = -1, []
        for iteration in range(self.start_iter, self.total_iter):
            first = (iteration * self.world_size + self.rank) * self.batch_size
            for position in range(first, first + self.batch_size):
                if position // self.samples_per_epoch != epoch:
                    epoch = position // self.samples_per_epoch
                    order = self._order(epoch)
                yield SampleIndex(order[position % self.samples_per_epoch], mix_seed(self.seed, epoch, position))

    def __len__(self) -> int:
        return max(0, self.total_iter - self.start_iter) * self.batch_size


@contextmanager
def _global_states_kept() -> Iterator[None]:
    """Leave the global generators of Python, numpy and torch (on the CPU) as they were."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)


class SeededDataset(Dataset[Any]):
    """A dataset whose samples depend on their index's seed alone, also where it draws from a global generator.

    Stock BasicSR datasets crop and flip with the global ``random``; this seeds the global generators of Python, numpy
    and torch before each sample. In the process of the training itself they are afterwards as they were, so that a run
    is the same with and without workers. Ours use none of them.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, SampleIndex):
            return self.dataset[index]
        # A worker draws for nothing but samples.
        states: AbstractContextManager[None] = nullcontext() if get_worker_info() else _global_states_kept()
        with states:
            random.seed(index.seed)
            np.random.seed(index.seed & 0xFFFFFFFF)
            torch.default_generator.manual_seed(index.seed)
            return self.dataset[index]

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]
