"""The training loop: BasicSR's, made exact over kills and resumes.

BasicSR's own loop has no place for what a long run needs: it restarts an epoch at a resume, ends before ``total_iter``
where the last batch of an epoch is dropped, and knows no signals. This one asks the sampler for the iterations that are
left, and nothing else; option files, registries, datasets and models stay BasicSR's.
"""

from __future__ import annotations

import datetime
import math
import shlex
import signal
import sys
import time
from os import path as osp
from pathlib import Path
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
from basicsr.utils.options import dict2str

from manet_basicsr.data.sampling import IterationSampler, SeededDataset
from manet_basicsr.models.finite import NonFiniteError, describe
from manet_basicsr.options.reading import OptionError, Options, problems_of, write_resolved
from manet_basicsr.training.checkpoints import (
    load_state,
    newest_whole_state,
    prune_checkpoints,
    restore_training_state,
    saved_iterations,
)
from manet_basicsr.training.interruption import StopAgreement, collected_signals, end_workers, ignore_signals
from manet_basicsr.utils.files import atomic_path, remove_leftovers

# How often to look, at least, whether the numbers are still finite: each look waits for the device.
_LONGEST_UNSEEN = 100


class Interrupted(SystemExit):
    """Ends a training that was asked to stop, after it has saved."""


def _network_labels(opt: Options) -> list[str]:
    """Give what the files of a run's networks begin with, such as ``net_g``."""
    kept = opt['path'].get('ignore_resume_networks') or []
    return [key.replace('network_', 'net_') for key in opt if key.startswith('network_') and key not in kept]


def find_resume_state(opt: Options) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the training state to go on from, and point BasicSR at its networks.

    Args:
        opt: Resolved options; ``path.resume_state`` and ``path.pretrain_network_*`` are set.

    Returns:
        The state, or None to start anew, and what to tell the user.

    Raises:
        OptionError: The state that ``path.resume_state`` names cannot be read, or is beyond ``train.total_iter``.
    """
    notes: list[str] = []
    path = opt['path'].get('resume_state')
    if opt['auto_resume']:
        folders = opt['path']['training_states'], opt['path']['models']
        newest, notes = newest_whole_state(*folders, _network_labels(opt))
        if notes and newest is None:
            raise OptionError([*notes, '--auto_resume: no state is whole; without it a new run begins'])
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
    if opt['path'].get('resume_state'):
        check_resume(opt, state['iter'])
        kept = opt['path'].get('ignore_resume_networks') or []
        for key in [key for key in opt['path'] if key.startswith('param_key_')]:
            if f'network_{key.removeprefix("param_key_")}' not in kept:
                opt['path'][key] = 'params'  # whatever the run once started from, its own files have this
    return state, notes


@master_only
def _prepare_folders(opt: Options, option_file: str, resumed: bool) -> None:
    options_text = Path(option_file).read_text(encoding='utf-8')  # it may lie in a folder that is moved aside
    if not resumed:
        make_exp_dirs(opt)
        if opt['logger'].get('use_tb_logger') and 'debug' not in opt['name']:
            mkdir_and_rename(osp.join(opt['root_path'], 'tb_logger', opt['name']))
    root = opt['path']['experiments_root']
    if not osp.isdir(root):
        raise OptionError([f'path.resume_state: {root}, the folder of its experiment, does not exist'])
    header = f'# GENERATE TIME: {time.asctime()}\n# CMD:\n# {shlex.join(sys.argv)}\n\n'
    with atomic_path(osp.join(root, osp.basename(option_file))) as temporary:
        temporary.write_text(header + options_text.removeprefix(header), encoding='utf-8')
    write_resolved(opt, osp.join(root, 'resolved.yml'))


@master_only
def _tidy(opt: Options) -> None:
    """Remove what killed runs left half-written."""
    for folder in (opt['path'][key] for key in ('experiments_root', 'models', 'training_states')):
        for leftover in remove_leftovers(folder):
            get_root_logger().info(f'Removed {leftover}, which a killed run left half-written.')


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


class _Prefetcher(CUDAPrefetcher):
    """BasicSR's, telling the allocator that batches made on the copying stream are used on the training's.

    BasicSR waits for the device in every iteration, so that it needs not know.
    """

    def next(self) -> Any:
        """Give the next batch."""
        batch = super().next()
        for value in (batch or {}).values():
            if torch.is_tensor(value) and value.is_cuda:
                value.record_stream(torch.cuda.current_stream())
        return batch


def _prefetcher(loader: Any, opt: Options) -> CPUPrefetcher | CUDAPrefetcher:
    mode = opt['datasets']['train'].get('prefetch_mode')
    if mode == 'cuda' and torch.cuda.is_available():
        return _Prefetcher(loader, opt)
    if mode not in (None, 'cpu', 'cuda'):
        raise OptionError([f"datasets.train.prefetch_mode: found '{mode}', expected cpu, cuda or ~"])
    return CPUPrefetcher(loader)


def _validate(model: Any, loaders: list[Any], opt: Options, current_iter: int, tb_logger: Any) -> None:
    for loader in loaders:
        model.validation(loader, current_iter, tb_logger, opt['val'].get('save_img', False))


def train_pipeline(opt: Options, option_file: str) -> None:
    """Train as resolved options say, from the beginning or from a training state.

    Args:
        opt: What :func:`manet_basicsr.options.reading.resolve` gave.
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
    _tidy(opt)
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
        with collected_signals() as received:
            _train(opt, model, loader, sampler, val_loaders, tb_logger, received)
    finally:
        if tb_logger:
            tb_logger.close()


def _train(
    opt: Options,
    model: Any,
    loader: Any,
    sampler: IterationSampler,
    val_loaders: list[Any],
    tb_logger: Any,
    received: list[int],
) -> None:
    agreement = StopAgreement(received, opt['dist'])
    prefetcher = _prefetcher(loader, opt)
    start_time = time.time()
    try:
        _iterate(opt, model, prefetcher, sampler, val_loaders, tb_logger, agreement)
    finally:
        # Left to the interpreter's end, workers and it may wait for each other.
        end_workers(prefetcher)
    logger = get_root_logger()
    logger.info(f'End of training. Time consumed: {datetime.timedelta(seconds=int(time.time() - start_time))}')
    logger.info('Save the latest model.')
    _save(opt, model, -1, -1)
    if opt.get('val') and sampler.total_iter % opt['val']['val_freq'] != 0:
        _validate(model, val_loaders, opt, sampler.total_iter, tb_logger)


def _iterate(
    opt: Options,
    model: Any,
    prefetcher: Any,
    sampler: IterationSampler,
    val_loaders: list[Any],
    tb_logger: Any,
    agreement: StopAgreement,
) -> None:
    """Do the iterations that are left, with what belongs to each."""
    message_logger = MessageLogger(opt, sampler.start_iter, tb_logger)
    message_logger.max_iters += 1  # its estimate counts one too few, and is negative at the end
    data_timer, iter_timer = AvgTimer(), AvgTimer()
    forecast = _Forecast(sampler)
    report = _BadSampleReport(prefetcher.ori_loader.dataset, opt)
    warmup_iter = opt['train'].get('warmup_iter', -1)
    print_freq, save_freq = (opt['logger'][key] for key in ('print_freq', 'save_checkpoint_freq'))
    for current_iter in range(sampler.start_iter + 1, sampler.total_iter + 1):
        batch = prefetcher.next()
        data_timer.record()
        model.update_learning_rate(current_iter, warmup_iter=warmup_iter)
        model.feed_data(batch)
        model.optimize_parameters(current_iter)
        iter_timer.record()
        forecast.note(current_iter, iter_timer.get_current_time())
        epoch = sampler.epoch_of(current_iter)
        if current_iter == sampler.start_iter + 1:
            message_logger.reset_start_time()
        number = agreement.ask()
        is_last = current_iter == sampler.total_iter
        print_due, save_due = current_iter % print_freq == 0, current_iter % save_freq == 0 or bool(number)
        val_due = bool(opt.get('val')) and current_iter % opt['val']['val_freq'] == 0
        if print_due:
            times = {'time': iter_timer.get_avg_time(), 'data_time': data_timer.get_avg_time()}
            rates = {'lrs': model.get_current_learning_rate()}
            message_logger({'epoch': epoch, 'iter': current_iter, **rates, **times, **model.get_current_log()})
        due = print_due or save_due or val_due or is_last or current_iter % _LONGEST_UNSEEN == 0
        _check_finite(opt, model, batch, current_iter, due)
        if print_due or is_last:
            report.update()
        if val_due:
            _validate(model, val_loaders, opt, current_iter, tb_logger)
        if save_due:
            # After the validation, whose best results belong to this iteration's state.
            get_root_logger().info('Saving models and training states.')
            _save(opt, model, epoch, current_iter)
        if number:
            name = signal.Signals(number).name
            get_root_logger().info(f'{name}: saved at iter {current_iter:,d}; go on with --auto_resume.')
            raise Interrupted(128 + number)
        data_timer.start()
        iter_timer.start()
    agreement.finish()


class _Forecast:
    """Logs once, after the first iterations, how long the others will take."""

    def __init__(self, sampler: IterationSampler) -> None:
        self.total_iter = sampler.total_iter
        left = sampler.total_iter - sampler.start_iter
        # The first iteration is slower than all others.
        self.last = sampler.start_iter + 1 + min(20, left // 2)
        self.seconds: list[float] = []

    def note(self, current_iter: int, seconds: float) -> None:
        """Take the time of an iteration."""
        if current_iter > self.last:
            return
        self.seconds.append(seconds)
        left = self.total_iter - current_iter
        if current_iter == self.last and len(self.seconds) > 1 and left:
            each = sum(self.seconds[1:]) / (len(self.seconds) - 1)
            whole = datetime.timedelta(seconds=round(each * left))
            get_root_logger().info(
                f'Expected time: {whole} for the {left:,d} iterations left, {each:.3g} s each; validations and '
                'checkpoints come on top'
            )


class _BadSampleReport:
    """Logs which samples ``on_bad_sample: skip`` replaced, in every process, when there are new ones."""

    def __init__(self, dataset: SeededDataset, opt: Options) -> None:
        source: Any = dataset.dataset
        self.source = source if getattr(source, 'skips_bad_samples', False) else None
        self.opt = opt
        self.known: set[int] = set()

    def update(self) -> None:
        """Name the new ones and count all; with several processes, all must call it."""
        if self.source is None:
            return
        found: list[int] = self.source.bad_samples()
        if self.opt['dist']:
            everywhere: list[list[int]] = [[] for _ in range(self.opt['world_size'])]
            torch.distributed.all_gather_object(everywhere, found)
            found = sorted({index for part in everywhere for index in part})
        new = [index for index in found if index not in self.known]
        self.known.update(new)
        if new and self.opt['rank'] == 0:
            for index in new:
                get_root_logger().warning(f'Bad sample, replaced by another: {self.source.describe_bad_sample(index)}')
            get_root_logger().warning(
                f'{len(self.known)} of {len(self.source)} training samples are bad and were replaced so far '
                '(on_bad_sample: skip).'
            )


def _check_finite(opt: Options, model: Any, batch: dict[str, Any], current_iter: int, due: bool) -> None:
    """Stop before numbers that are not finite are saved; what was saved before stays the newest."""
    try:
        if hasattr(model, 'check_finite'):
            if due:
                model.check_finite(current_iter)
        else:
            # Models of BasicSR's own wait for the device in each iteration anyway.
            values = model.get_current_log()
            if opt['rank'] == 0 and not all(map(math.isfinite, values.values())):
                raise NonFiniteError(describe(current_iter, values, batch.get('lq_path', [])))
    except NonFiniteError as error:
        raise NonFiniteError(f'{error}; {_where_to_go_on(opt)}') from error


def _where_to_go_on(opt: Options) -> str:
    states = saved_iterations(opt['path']['training_states'])
    return f'the newest state is that of iter {states[0]:,d}' if states else 'no state was saved yet'


def _save(opt: Options, model: Any, epoch: int, current_iter: int) -> None:
    """Save networks and state, then remove what ``logger.keep_checkpoints`` counts out.

    Raises:
        OSError: They cannot be written, as on a full disk; those of before are untouched.
    """
    try:
        model.save(epoch, current_iter)
    except OSError as error:
        raise OSError(f'{error}; {_where_to_go_on(opt)}, go on with --auto_resume') from error
    keep = opt['logger'].get('keep_checkpoints')
    if keep and current_iter != -1 and opt['rank'] == 0:
        folders = opt['path']['training_states'], opt['path']['models']
        labels = [key.replace('network_', 'net_') for key in opt if key.startswith('network_')]
        prune_checkpoints(*folders, labels, newest=current_iter, keep=keep)
