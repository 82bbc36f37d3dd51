"""BasicSR's face of training: ``train_pipeline``, and the file that is started as ``python manet_basicsr/train.py``.

BasicSR's own loop has no place for what a long run needs: it restarts an epoch at a resume, ends before ``total_iter``
where the last batch of an epoch is dropped, and knows no signals. This one asks the sampler for the iterations that are
left (:mod:`manet_basicsr.training.loop`); option files, registries, datasets and models stay BasicSR's.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

if __name__ == '__main__':
    # Started as a file, its own folder comes first on the path, and everything in it would be importable by itself.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.argv.insert(1, 'train')
    sys.exit(importlib.import_module('manet_basicsr_commands').basicsr())

import logging
from os import path as osp
from typing import Any
from urllib.error import URLError

import torch
from basicsr.models import build_model
from basicsr.utils import get_env_info, get_root_logger, get_time_str
from basicsr.utils.options import dict2str

from manet_basicsr.options.checks import ignored_keys
from manet_basicsr.options.errors import OptionError, problems_of
from manet_basicsr.options.reading import Options
from manet_basicsr.training.checkpoints import restore_training_state
from manet_basicsr.training.interruption import (
    StopAgreement,
    collected_signals,
    end_workers,
    workers_killed_on_failure,
)
from manet_basicsr.training.loaders import build_loaders, start_prefetching
from manet_basicsr.training.loop import TrainingLoop
from manet_basicsr.training.resuming import find_resume_state, goes_on_in_place
from manet_basicsr.training.run_folder import locked_run, prepare_run_folder, tidy, wait_for_folders
from manet_basicsr.training.trackers import start_trackers
from manet_basicsr.utils.errors import BadSampleError, NonFiniteError, RunStoppedError, last_line, ran_out_of_memory

_EXPLAINED = (OptionError, RunStoppedError, BadSampleError, NonFiniteError, OSError)


def train_pipeline(opt: Options, option_file: str) -> None:
    """Train as resolved options say, from the beginning or from a training state.

    Args:
        opt: What :func:`manet_basicsr.options.resolving.resolve` gave.
        option_file: The file it came from, copied to the experiment.

    Raises:
        OptionError: The options do not fit the data, the files or each other, or another run has this name.
        RunStoppedError: The training failed on its way; everything due before is saved.
        Interrupted: After SIGTERM or SIGINT, once everything is saved.
    """
    torch.backends.cudnn.benchmark = True
    with locked_run(opt):
        state, notes = find_resume_state(opt)
        prepare_run_folder(opt, option_file, in_place=goes_on_in_place(opt))
        wait_for_folders(opt)
        log_file = osp.join(opt['path']['log'], f'train_{opt["name"]}_{get_time_str()}.log')
        logger = get_root_logger(log_file=log_file)
        try:
            logger.info(get_env_info())
            logger.info(dict2str(opt))
            for note in [*notes, *ignored_keys(opt)]:
                logger.warning(note)
            tidy(opt)
            _train(opt, state)
        except (Exception, KeyboardInterrupt) as error:
            _log_reason(logger, error)
            raise


def _train(opt: Options, state: dict[str, Any] | None) -> None:
    """Build loaders and model, and do the iterations that are left."""
    start_iter = int(state['iter']) if state else 0
    loader, sampler, val_loaders = build_loaders(opt, start_iter)
    model = _build_model(opt)
    if state:
        with problems_of('path.resume_state'):
            restore_training_state(model, state)
        get_root_logger().info(f'Resuming training from iter: {start_iter:,d}.')
    tb_logger = start_trackers(opt, start_iter)
    try:
        with collected_signals() as received:
            agreement = StopAgreement(received, opt['dist'])
            with workers_killed_on_failure():
                prefetcher = start_prefetching(loader, opt)
            try:
                TrainingLoop(opt, model, prefetcher, sampler, val_loaders, tb_logger, agreement).run()
            finally:
                # Left to the interpreter's end, workers and it may wait for each other.
                end_workers(prefetcher)
    finally:
        if tb_logger:
            tb_logger.close()


def _build_model(opt: Options) -> Any:
    try:
        with problems_of('model'):
            return build_model(opt)
    except URLError as error:  # of torchvision, whose VGG a perceptual loss compares by
        folder = osp.join(torch.hub.get_dir(), 'checkpoints')
        raise OptionError(
            [
                f'train.perceptual_opt: the weights of its VGG cannot be downloaded ({error.reason}); put the file '
                f'vgg19-dcbb9e9d.pth of torchvision into {folder}'
            ]
        ) from error


def _log_reason(logger: logging.Logger, error: BaseException) -> None:
    """End the run's log with the reason why the run ended; an error of the program's own with its traceback."""
    if isinstance(error, KeyboardInterrupt):
        logger.error('The run ended: interrupted')
        return
    words = str(error) if isinstance(error, OptionError) else last_line(error)
    is_explained = isinstance(error, _EXPLAINED) or ran_out_of_memory(error)
    logger.error(f'The run ended: {words}', exc_info=None if is_explained else error)
