from __future__ import annotations

import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from torch.utils.data import DataLoader, Dataset

from manet_basicsr.data.sampling import IterationSampler, SampleIndex, SeededDataset, mix_seed, sample_generator


def drawn(sampler: IterationSampler) -> list[tuple[int, int]]:
    return [(int(index), index.seed) for index in sampler]


# ------------------------------------------------------------------------------------------------------- SampleIndex


def test_a_sample_index_is_an_int_to_whoever_does_not_know_it() -> None:
    index = SampleIndex(2, 99)
    assert index == 2
    assert isinstance(index, int)
    assert ['a', 'b', 'c'][index] == 'c'
    assert divmod(index, 2) == (1, 0)


def test_a_sample_index_keeps_its_seed_when_sent_to_a_worker() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        index = pickle.loads(pickle.dumps(SampleIndex(2, 99), protocol))
        assert (index, index.seed) == (2, 99)


def test_seeds_of_neighbours_have_nothing_in_common() -> None:
    seeds = [mix_seed(seed, epoch, position) for seed in range(10) for epoch in range(10) for position in range(10)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds])
    # Fair coins: 1,000 throws are within 5 standard deviations of one half.
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.08


def test_seeds_are_the_same_on_every_machine() -> None:
    assert mix_seed(0, 1, 2) == mix_seed(*(int(part) for part in np.arange(3)))
    assert mix_seed(0) == 2_631_537_505_891_389_924


def first_draw(*args: Any, **kwargs: Any) -> float:
    return float(torch.rand((), generator=sample_generator(*args, **kwargs), dtype=torch.float64))


def test_the_generator_of_a_sample_follows_its_seed_and_that_of_a_plain_index_the_index() -> None:
    assert first_draw(SampleIndex(1, 7)) == first_draw(SampleIndex(2, 7)) != first_draw(SampleIndex(1, 8))
    assert first_draw(1) == first_draw(1) != first_draw(2)
    assert first_draw(SampleIndex(1, 7), random_without_seed=True) == first_draw(SampleIndex(1, 7))


def test_a_plain_index_in_training_is_seeded_by_torch_which_loaders_seed_anew() -> None:
    torch.manual_seed(0)
    first, second = (first_draw(1, random_without_seed=True) for _ in range(2))
    torch.manual_seed(0)
    assert first == first_draw(1, random_without_seed=True) != second


# -------------------------------------------------------------------------------------------------- IterationSampler


def test_each_epoch_has_every_sample_once_in_another_order() -> None:
    indices = [index for index, _ in drawn(IterationSampler(12, 4, 9))]
    epochs = [indices[:12], indices[12:24], indices[24:]]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_all_iterations_are_reached_and_batches_run_on_across_epochs() -> None:
    sampler = IterationSampler(17, 16, 300)  # a loader that drops the last batch has one iteration an epoch
    indices = [index for index, _ in drawn(sampler)]
    assert len(indices) == len(sampler) == 300 * 16
    counts = Counter(indices)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_a_dataset_smaller_than_a_batch_fills_it_over_several_epochs() -> None:
    samples = drawn(IterationSampler(3, 8, 2))
    assert len(samples) == 16
    assert [sorted(index for index, _ in samples[epoch : epoch + 3]) for epoch in (0, 3, 6, 9, 12)] == [[0, 1, 2]] * 5
    assert len({seed for _, seed in samples}) == 16


def test_no_two_samples_of_a_run_have_the_same_seed() -> None:
    seeds = [seed for _, seed in drawn(IterationSampler(10, 4, 100, enlarge_ratio=3))]
    assert len(set(seeds)) == 400


@pytest.mark.parametrize('enlarge_ratio', [1, 3])
def test_another_seed_is_another_run_and_the_same_seed_the_same_run(enlarge_ratio: int) -> None:
    first, again, other = (
        drawn(IterationSampler(10, 4, 10, seed=seed, enlarge_ratio=enlarge_ratio)) for seed in (1, 1, 2)
    )
    assert first == again
    assert not {seed for _, seed in first} & {seed for _, seed in other}
    assert [index for index, _ in first] != [index for index, _ in other]


def test_dataset_enlarge_ratio_repeats_each_sample_so_many_times_an_epoch() -> None:
    sampler = IterationSampler(5, 5, 6, enlarge_ratio=3)
    samples = drawn(sampler)
    assert sampler.samples_per_epoch == 15
    for epoch in (samples[:15], samples[15:]):
        assert Counter(index for index, _ in epoch) == dict.fromkeys(range(5), 3)
    assert [sampler.epoch_of(iteration) for iteration in range(1, 7)] == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(('dataset_size', 'batch_size'), [(10, 4), (3, 8), (12, 4)])
@pytest.mark.parametrize('start_iter', [0, 1, 3, 6, 7])
def test_a_run_begun_in_the_middle_goes_on_where_the_whole_run_would_be(
    dataset_size: int, batch_size: int, start_iter: int
) -> None:
    whole = drawn(IterationSampler(dataset_size, batch_size, 7, seed=5))
    resumed = IterationSampler(dataset_size, batch_size, 7, seed=5, start_iter=start_iter)
    assert drawn(resumed) == whole[start_iter * batch_size :]
    assert len(resumed) == (7 - start_iter) * batch_size


def test_a_sampler_gives_the_same_again_when_iterated_again() -> None:
    sampler = IterationSampler(10, 4, 7)
    assert drawn(sampler) == drawn(sampler)


@pytest.mark.parametrize('world_size', [2, 3])
def test_processes_share_each_iteration_without_overlap_and_make_the_run_of_one(world_size: int) -> None:
    one = drawn(IterationSampler(10, 2 * world_size, 9, seed=3))
    parts = [drawn(IterationSampler(10, 2, 9, seed=3, rank=rank, world_size=world_size)) for rank in range(world_size)]
    together = [sample for step in range(9) for part in parts for sample in part[2 * step : 2 * step + 2]]
    assert together == one


def test_the_epoch_counts_the_samples_of_all_processes() -> None:
    sampler = IterationSampler(12, 2, 9, world_size=3)
    assert [sampler.epoch_of(iteration) for iteration in range(1, 8)] == [0, 0, 1, 1, 2, 2, 3]


def test_an_empty_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match='the training set is empty'):
        IterationSampler(0, 4, 10)


def test_a_dataset_enlarge_ratio_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match='dataset_enlarge_ratio: found 0, expected a number above 0'):
        IterationSampler(4, 4, 10, enlarge_ratio=0)


def test_a_run_that_is_past_its_end_has_no_samples() -> None:
    sampler = IterationSampler(4, 4, 10, start_iter=12)
    assert len(sampler) == len(drawn(sampler)) == 0


def test_the_order_neither_uses_nor_changes_a_global_state() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = drawn(IterationSampler(10, 4, 7))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert drawn(IterationSampler(10, 4, 7)) == first


# ----------------------------------------------------------------------------------------------------- SeededDataset


class _Draws(Dataset[torch.Tensor]):
    """Draws from every global generator, as stock datasets do."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))], dtype=torch.float64)


@pytest.mark.filterwarnings('ignore:This DataLoader will create 3 worker')
def test_a_dataset_that_draws_from_global_states_is_the_same_with_any_workers() -> None:
    runs = []
    for workers in (0, 1, 3):
        sampler = IterationSampler(5, 2, 10, seed=4)
        runs.append(torch.cat(list(DataLoader(SeededDataset(_Draws()), 2, sampler=sampler, num_workers=workers))))
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])
    assert all(len(column.unique()) == 20 for column in runs[0].T)


def test_the_global_states_of_the_training_process_stay_as_they_are() -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    before, seeded = states(), SeededDataset(_Draws())
    assert torch.equal(seeded[SampleIndex(1, 7)], seeded[SampleIndex(2, 7)])
    assert states() == before
    with pytest.raises(ZeroDivisionError):
        SeededDataset(_Fails())[SampleIndex(1, 7)]
    assert states() == before


class _Fails(_Draws):
    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(()) / (1 // 0)


def test_a_plain_index_leaves_a_dataset_to_its_own_draws() -> None:
    seeded = SeededDataset(_Draws())
    assert len(seeded) == 5
    assert not torch.equal(seeded[1], seeded[1])


@pytest.mark.parametrize('as_lmdb', [False, True])
@pytest.mark.filterwarnings('ignore:This DataLoader will create 3 worker')
def test_basicsr_s_own_paired_dataset_becomes_repeatable(photos: Path, photos_lmdb: Path, as_lmdb: bool) -> None:
    root = str(photos_lmdb if as_lmdb else photos)
    opt = {
        'name': 'pairs',
        'type': 'PairedImageDataset',
        'phase': 'train',
        'scale': 1,
        'dataroot_gt': root,
        'dataroot_lq': root,
        'io_backend': {'type': 'lmdb' if as_lmdb else 'disk'},
        'gt_size': 32,
        'use_hflip': True,
        'use_rot': True,
        'batch_size_per_gpu': 2,
        'prefetch_mode': None,
        'pin_memory': False,
    }
    runs = []
    for workers, start_iter in ((0, 0), (1, 0), (3, 0), (1, 4)):
        data = SeededDataset(build_dataset(opt))
        sampler = IterationSampler(len(data), 2, 8, seed=6, start_iter=start_iter)
        loader_opt = {**opt, 'num_worker_per_gpu': workers}
        loader = build_dataloader(data, loader_opt, num_gpu=1, sampler=sampler, seed=workers)
        runs.append(torch.cat([batch['gt'] for batch in loader]))
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])
    assert torch.equal(runs[0][8:], runs[3])
    assert len(runs[0].flatten(1).unique(dim=0)) == 16


def test_basicsr_s_own_single_image_dataset_takes_a_seeded_index(photos: Path) -> None:
    opt = {'name': 'photos', 'type': 'SingleImageDataset', 'dataroot_lq': str(photos), 'io_backend': {'type': 'disk'}}
    data = SeededDataset(build_dataset({**opt, 'phase': 'test'}))
    assert torch.equal(data[SampleIndex(2, 9)]['lq'], data[2]['lq'])
