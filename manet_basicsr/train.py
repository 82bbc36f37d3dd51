"""The training loop: BasicSR's, made exact over kills and resumes.

BasicSR's own loop has no place for what a long run needs: it restarts an epoch at a resume, ends before ``total_iter``
where the last batch of an epoch is dropped, and knows no signals. This one asks the sampler for the iterations that are
left, and nothing else; option files, registries, datasets and models stay BasicSR's.
"""

from __future__ import annotations

import datetime
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import path as osp
from types import FrameType
from typing import Any

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.prefetch_dataloader import CPUPrefetcher, CUDAPrefetcher
from basicsr.models import build_model
from basicsr.train import init_tb_loggers
from basicsr.utils import (
    AvgTimer,
    MessageLogger,
    check_resume,
    get_env_info,
    get_root_logger,
    get_time_str,
    make_exp_dirs,
    mkdir_and_rename,
)
from basicsr.utils.dist_util import master_only
from basicsr.utils.options import copy_opt_file, dict2str

from manet_basicsr.checkpoints import load_state, newest_whole_state, restore_training_state
from manet_basicsr.options import OptionError, Options, problems_of, write_resolved
from manet_basicsr.sampling import IterationSampler, SeededDataset


class Interrupted(SystemExit):
    """Ends a training that was asked to stop, after it has saved."""


def find_resume_state(opt: Options) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the training state to go on from, and point BasicSR at its networks.

    Args:
        opt: Resolved options; ``path.resume_state`` and ``path.pretrain_network_*`` are set.

    Returns:
        The state, or None to start anew, and what to tell the user.

    Raises:
        OptionError: The state that ``path.resume_state`` names cannot be read.
    """
    notes: list[str] = []
    path = opt['path'].get('resume_state')
    if opt['auto_resume']:
        networks = [key.replace('network_', 'net_') for key in opt if key.startswith('network_')]
        newest, notes = newest_whole_state(opt['path']['training_states'], opt['path']['models'], networks)
        path = opt['path']['resume_state'] = str(newest) if newest else path
    if path is None:
        return None, notes
    with problems_of('path.resume_state'):
        state = load_state(path)
    if opt['path'].get('resume_state'):
        check_resume(opt, state['iter'])
        kept = opt['path'].get('ignore_resume_networks') or []
        for key in [key for key in opt['path'] if key.startswith('param_key_')]:
            if f'network_{key.removeprefix("param_key_")}' not in kept:
                opt['path'][key] = 'params'  # whatever the run once started from, its own files have this
    return state, notes


@master_only
def _prepare_folders(opt: Options, option_file: str, resumed: bool) -> None:
    if not resumed:
        make_exp_dirs(opt)
        if opt['logger'].get('use_tb_logger') and 'debug' not in opt['name']:
            mkdir_and_rename(osp.join(opt['root_path'], 'tb_logger', opt['name']))
    root = opt['path']['experiments_root']
    if not osp.isdir(root):
        raise OptionError([f'path.resume_state: {root}, the folder of its experiment, does not exist'])
    copy_opt_file(option_file, root)
    write_resolved(opt, osp.join(root, 'resolved.yml'))


def _build_train_loader(opt: Options, dataset_opt: Options, start_iter: int) -> tuple[Any, IterationSampler]:
    if not torch.cuda.is_available():
        dataset_opt = {**dataset_opt, 'pin_memory': False}  # torch warns of it
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
    batch = batch_size * opt['world_size']
    get_root_logger().info(
        'Training statistics:'
        f'\n\tTraining images: {len(dataset):,d}'
        f'\n\tBatch: {batch} ({dataset_opt["batch_size_per_gpu"]} a GPU, {opt["world_size"]} processes)'
        f'\n\tIterations: {sampler.total_iter:,d}, {sampler.samples_per_epoch / batch:,.1f} an epoch'
        f'\n\tEpochs: {sampler.total_iter * batch / sampler.samples_per_epoch:,.1f}'
    )
    return loader, sampler


def build_loaders(opt: Options, start_iter: int) -> tuple[Any, IterationSampler, list[Any]]:
    """Build the training loader from an iteration on, its sampler, and the validation loaders."""
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


def _prefetcher(loader: Any, opt: Options) -> CPUPrefetcher | CUDAPrefetcher:
    mode = opt['datasets']['train'].get('prefetch_mode')
    if mode == 'cuda' and torch.cuda.is_available():
        if not opt['datasets']['train'].get('pin_memory'):
            raise OptionError(['datasets.train.pin_memory: prefetch_mode cuda needs it to be true'])
        return CUDAPrefetcher(loader, opt)
    if mode not in (None, 'cpu', 'cuda'):
        raise OptionError([f"datasets.train.prefetch_mode: found '{mode}', expected cpu, cuda or ~"])
    return CPUPrefetcher(loader)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list instead of dying of them; a second one kills as ever."""
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        for watched, handler in before.items():
            signal.signal(watched, handler)

    before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for watched, handler in before.items():
            signal.signal(watched, handler)


def _validate(model: Any, loaders: list[Any], opt: Options, current_iter: int, tb_logger: Any) -> None:
    for loader in loaders:
        model.validation(loader, current_iter, tb_logger, opt['val'].get('save_img', False))


def train_pipeline(opt: Options, option_file: str) -> None:
    """Train as resolved options say, from the beginning or from a training state.

    Args:
        opt: What :func:`manet_basicsr.options.resolve` gave.
        option_file: The file it came from, copied to the experiment.

    Raises:
        OptionError: The options do not fit the data, the files or each other.
        Interrupted: After SIGTERM or SIGINT, once everything is saved.
    """
    torch.backends.cudnn.benchmark = True
    resume_state, notes = find_resume_state(opt)
    _prepare_folders(opt, option_file, resume_state is not None)
    if opt['dist']:
        torch.distributed.barrier()  # the folders are there for all
    log_file = osp.join(opt['path']['log'], f'train_{opt["name"]}_{get_time_str()}.log')
    logger = get_root_logger(log_file=log_file)
    logger.info(get_env_info())
    logger.info(dict2str(opt))
    for note in notes:
        logger.warning(note)
    start_iter = int(resume_state['iter']) if resume_state else 0
    loader, sampler, val_loaders = build_loaders(opt, start_iter)
    with problems_of('model'):
        model = build_model(opt)
    if resume_state:
        with problems_of('path.resume_state'):
            restore_training_state(model, resume_state)
        logger.info(f'Resuming training from iter: {start_iter:,d}.')
    tb_logger = init_tb_loggers(opt) if opt['rank'] == 0 else None
    try:
        with _signals() as received:
            _run(opt, model, loader, sampler, val_loaders, tb_logger, received)
    finally:
        if tb_logger:
            tb_logger.close()


def _run(
    opt: Options,
    model: Any,
    loader: Any,
    sampler: IterationSampler,
    val_loaders: list[Any],
    tb_logger: Any,
    received: list[int],
) -> None:
    logger = get_root_logger()
    message_logger = MessageLogger(opt, sampler.start_iter, tb_logger)
    prefetcher = _prefetcher(loader, opt)
    data_timer, iter_timer = AvgTimer(), AvgTimer()
    start_time = time.time()
    warmup_iter = opt['train'].get('warmup_iter', -1)
    for current_iter in range(sampler.start_iter + 1, sampler.total_iter + 1):
        batch = prefetcher.next()
        data_timer.record()
        model.update_learning_rate(current_iter, warmup_iter=warmup_iter)
        model.feed_data(batch)
        model.optimize_parameters(current_iter)
        iter_timer.record()
        epoch = sampler.epoch_of(current_iter)
        if current_iter == sampler.start_iter + 1:
            message_logger.reset_start_time()
        if current_iter % opt['logger']['print_freq'] == 0:
            times = {'time': iter_timer.get_avg_time(), 'data_time': data_timer.get_avg_time()}
            rates = {'lrs': model.get_current_learning_rate()}
            message_logger({'epoch': epoch, 'iter': current_iter, **rates, **times, **model.get_current_log()})
        save_due = current_iter % opt['logger']['save_checkpoint_freq'] == 0
        if opt.get('val') and current_iter % opt['val']['val_freq'] == 0:
            _validate(model, val_loaders, opt, current_iter, tb_logger)
        if save_due or received:
            # After the validation, whose best results belong to this iteration's state.
            logger.info('Saving models and training states.')
            model.save(epoch, current_iter)
        if received:
            name = signal.Signals(received[0]).name
            logger.info(f'{name}: saved at iter {current_iter:,d}; go on with --auto_resume.')
            raise Interrupted(128 + received[0])
        data_timer.start()
        iter_timer.start()
    logger.info(f'End of training. Time consumed: {datetime.timedelta(seconds=int(time.time() - start_time))}')
    logger.info('Save the latest model.')
    model.save(epoch=-1, current_iter=-1)
    if opt.get('val') and sampler.total_iter % opt['val']['val_freq'] != 0:
        _validate(model, val_loaders, opt, sampler.total_iter, tb_logger)
