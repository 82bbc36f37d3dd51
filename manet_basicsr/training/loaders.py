"""Loaders of a run: training samples from any iteration on, and the sets that are validated."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.prefetch_dataloader import CPUPrefetcher, CUDAPrefetcher
from basicsr.utils import get_root_logger

from manet_basicsr.data.sampling import IterationSampler, SeededDataset
from manet_basicsr.options.errors import OptionError, problems_of
from manet_basicsr.options.reading import Options
from manet_basicsr.training.interruption import ignore_signals


def build_loaders(opt: Options, start_iter: int) -> tuple[Any, IterationSampler, list[Any]]:
    """Build the training loader from an iteration on, its sampler, and the validation loaders.

    Raises:
        OptionError: A dataset cannot be built, or there is none to train on.
    """
    train, validation = None, []
    for section, dataset_opt in opt['datasets'].items():
        with problems_of(f'datasets.{section}'):
            if section.split('_')[0] == 'train':
                train = _build_train_loader(opt, dataset_opt, start_iter)
            else:
                loader = build_dataloader(build_dataset(dataset_opt), dataset_opt)
                get_root_logger().info(f'Validation images in {dataset_opt["name"]}: {len(loader.dataset)}')
                validation.append(loader)
    if train is None:
        raise OptionError(['datasets.train: missing'])
    return *train, validation


def _build_train_loader(opt: Options, dataset_opt: Options, start_iter: int) -> tuple[Any, IterationSampler]:
    if not torch.cuda.is_available():
        dataset_opt = {**dataset_opt, 'pin_memory': False}  # torch warns of it
    if not dataset_opt['num_worker_per_gpu']:
        # Samples seed the global generators, which a prefetching thread would do while the network draws.
        dataset_opt = {**dataset_opt, 'prefetch_mode': None}
    dataset = build_dataset(dataset_opt)
    # Without distributed training BasicSR's DataParallel splits one batch among the GPUs.
    batch_size = dataset_opt['batch_size_per_gpu'] * (1 if opt['dist'] else max(1, opt['num_gpu']))
    sampler = IterationSampler(
        len(dataset),
        batch_size,
        int(opt['train']['total_iter']),
        start_iter=start_iter,
        seed=opt['manual_seed'],
        rank=opt['rank'],
        world_size=opt['world_size'],
        enlarge_ratio=dataset_opt.get('dataset_enlarge_ratio', 1),
    )
    loader = build_dataloader(
        SeededDataset(dataset), dataset_opt, num_gpu=opt['num_gpu'], dist=opt['dist'], sampler=sampler
    )
    loader.worker_init_fn = ignore_signals
    # It draws a seed for its workers, also at a resume: not from the generator that the run goes on with.
    loader.generator = torch.Generator().manual_seed(opt['manual_seed'])
    batch = batch_size * opt['world_size']
    get_root_logger().info(
        'Training statistics:'
        f'\n\tTraining images: {len(dataset):,d}'
        f'\n\tBatch: {batch} ({dataset_opt["batch_size_per_gpu"]} a GPU, {opt["world_size"]} processes)'
        f'\n\tIterations: {sampler.total_iter:,d}, {sampler.samples_per_epoch / batch:,.1f} an epoch'
        f'\n\tEpochs: {sampler.total_iter * batch / sampler.samples_per_epoch:,.1f}'
    )
    return loader, sampler


class _Prefetcher(CUDAPrefetcher):
    """BasicSR's, telling the allocator that batches made on the copying stream are used on the training's.

    BasicSR waits for the device in every iteration, so that it needs not know.
    """

    def next(self) -> Any:
        """Return the next batch."""
        batch = super().next()
        for value in (batch or {}).values():
            if torch.is_tensor(value) and value.is_cuda:
                value.record_stream(torch.cuda.current_stream())
        return batch


def start_prefetching(loader: Any, opt: Options) -> CPUPrefetcher | CUDAPrefetcher:
    """Start the loader's workers, and copying ahead where ``prefetch_mode: cuda`` asks for it.

    Raises:
        OptionError: There is no such mode.
    """
    mode = opt['datasets']['train'].get('prefetch_mode')
    if mode == 'cuda' and torch.cuda.is_available():
        return _Prefetcher(loader, opt)
    if mode not in (None, 'cpu', 'cuda'):
        raise OptionError([f"datasets.train.prefetch_mode: found '{mode}', expected cpu, cuda or ~"])
    return CPUPrefetcher(loader)
