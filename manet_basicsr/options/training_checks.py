"""Checks of the sections ``train`` and ``logger``: optimizers, schedulers, losses and all that a run counts with."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from manet_basicsr.options.reading import Options
from manet_basicsr.options.sections import (
    SWITCH,
    choice_problems,
    is_count,
    is_number,
    registered_problems,
    unknown_keys,
)
from manet_basicsr.options.value_checks import value_problems
from manet_basicsr.utils.errors import last_line


def optimizers(*, with_muon: bool = True) -> dict[str, Any]:
    """List optimizers by name: those of this package's models, or of BasicSR's, which know no Muon."""
    from manet_basicsr.models.muon import Muon

    return {'Adam': torch.optim.Adam, **({'Muon': Muon} if with_muon else {})}


def schedulers() -> dict[str, type]:
    """List BasicSR's schedulers by name."""
    from basicsr.models import lr_scheduler

    return {
        'MultiStepLR': lr_scheduler.MultiStepRestartLR,
        'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
        'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR,
    }


def schedule_problems(train: Mapping[str, Any], known: dict[str, Any]) -> Iterator[str]:
    """Check optimizers and scheduler, which BasicSR's own models have too, by building them for a single number.

    Args:
        train: The section.
        known: The optimizers that the model knows, by name.
    """
    parameters = [torch.zeros(())]
    sections = {key: section for key, section in train.items() if key.startswith('optim_')}
    for key, section in sections.items():
        yield from _built_problems(section, known, f'train.{key}', {'params': parameters})
    if train.get('scheduler') is None:
        yield 'train.scheduler: missing'
        return
    given = {'optimizer': torch.optim.Adam(parameters), 'last_epoch': -1}
    problems = list(_built_problems(train['scheduler'], schedulers(), 'train.scheduler', given))
    yield from problems
    periods, total = train['scheduler'].get('periods') if not problems else None, train.get('total_iter')
    if periods is not None and is_number(total) and sum(periods) < total - 1:
        yield f'train.scheduler.periods: end at iteration {sum(periods)}, before total_iter {total}'


def _built_problems(section: object, classes: dict[str, Any], where: str, given: Mapping[str, Any]) -> Iterator[str]:
    """Check a section against the class that it is for, by its signature and then by building it."""
    problems = list(registered_problems(section, classes, where, given))
    if isinstance(section, dict):
        problems += value_problems(section, where)
    yield from problems
    if not problems and isinstance(section, dict):
        try:
            classes[section['type']](**given, **{key: value for key, value in section.items() if key != 'type'})
        except Exception as error:  # a wrong value is met wherever it is first used
            yield f'{where}: {last_line(error)}'


def train_problems(train: Mapping[str, Any], model: Any) -> Iterator[str]:
    """Check what RestorationModel and the models on it read beside BasicSR's own keys."""
    from basicsr.utils.registry import LOSS_REGISTRY

    yield from unknown_keys(train, model.TRAIN_KEYS, 'train.')
    if train.get('optim_g') is None:
        yield 'train.optim_g: missing'
    known = [group for group in model.LOSSES_NEEDED if set(group) <= set(model.LOSS_KEYS)]
    for needed in known or (model.LOSS_KEYS,):
        if not any(train.get(key) for key in needed):
            yield f'train: expected at least one of {", ".join(needed)}'
    for key in model.LOSS_KEYS:
        if train.get(key) is not None:
            yield from _loss_problems(train[key], dict(iter(LOSS_REGISTRY)), f'train.{key}')
    choices = {
        'amp': (None, False, 'bf16', 'fp16'),
        'channels_last': (*SWITCH, 'auto'),
        'compile': (*SWITCH, 'auto', 'graph', 'reduce-overhead'),
        'on_nonfinite': ('stop', 'skip'),
    }
    yield from choice_problems(train, choices, 'train.')
    if not is_count(train.get('accumulate', 1), 1):
        yield f'train.accumulate: found {train["accumulate"]!r}, expected a whole number, at least 1'
    yield from _reduction_problems(train, model)


def _loss_problems(section: object, losses: dict[str, Any], where: str) -> Iterator[str]:
    """Check a loss; those of BasicSR and of this package are built for a look, but for what has a network."""
    kind = section.get('type') if isinstance(section, dict) else None
    known = losses.get(kind) if isinstance(kind, str) else None
    is_light = known is not None and known.__module__.split('.')[0] in ('basicsr', 'manet_basicsr')
    if is_light and kind not in ('PerceptualLoss', 'IndirectLoss'):
        yield from _built_problems(section, losses, where, {})
        return
    yield from registered_problems(section, losses, where)
    if isinstance(section, dict):
        yield from value_problems(section, where)


def _reduction_problems(train: Mapping[str, Any], model: Any) -> Iterator[str]:
    """Check that losses are one number a batch, and the mean of its parts where it is cut into parts."""
    for key in model.LOSS_KEYS:
        section = train.get(key)
        reduction = section.get('reduction', 'mean') if isinstance(section, dict) else 'mean'
        if reduction == 'none' or not isinstance(reduction, str):
            yield f'train.{key}.reduction: found {reduction!r}, expected mean or sum: a loss is one number'
        elif reduction != 'mean' and train.get('accumulate', 1) != 1:
            yield (
                f'train.{key}.reduction: found {reduction!r}, expected mean: train.accumulate '
                f'{train["accumulate"]!r} averages over the parts of a batch'
            )


def count_problems(options: Options, least_images: int = 1) -> Iterator[str]:
    """Check the numbers that the training loop itself, and every model, counts with.

    Args:
        options: The options as read.
        least_images: How many images the model needs in each part of a batch.
    """
    train, logger, val = (options.get(section) or {} for section in ('train', 'logger', 'val'))
    decay = train.get('ema_decay', 0)
    if not is_number(decay) or not 0 <= decay < 1:
        yield f'train.ema_decay: found {decay!r}, expected a number from 0 to below 1'
    warm_up = train.get('warmup_iter', -1)
    if not is_number(warm_up) or not -1 <= warm_up < math.inf or warm_up != int(warm_up):
        yield f'train.warmup_iter: found {warm_up!r}, expected a number of iterations, -1 for none'
    counts = {'train.total_iter': train.get('total_iter')}
    counts.update({f'logger.{key}': logger.get(key) for key in ('print_freq', 'save_checkpoint_freq')})
    if val:
        counts['val.val_freq'] = val.get('val_freq')
    for where, value in counts.items():
        if not is_number(value) or not 1 <= value < math.inf or value != int(value):
            yield f'{where}: found {value!r}, expected a whole number of iterations, at least 1'
    if logger.get('keep_checkpoints') is not None and not is_count(logger['keep_checkpoints'], 1):
        yield f'logger.keep_checkpoints: found {logger["keep_checkpoints"]!r}, expected a number of states, ~ for all'
    yield from choice_problems(logger, {'use_tb_logger': SWITCH}, 'logger.')
    if logger.get('use_tb_logger') is True and importlib.util.find_spec('tensorboard') is None:
        yield 'logger.use_tb_logger: the package tensorboard is not installed; pip install tensorboard, or false'
    if not isinstance(logger.get('wandb'), (dict, type(None))):
        yield f'logger.wandb: found {logger["wandb"]!r}, expected a section'
    elif (logger.get('wandb') or {}).get('project') is not None and logger.get('use_tb_logger') is not True:
        yield 'logger.wandb.project: needs use_tb_logger: true'
    elif (logger.get('wandb') or {}).get('project') is not None and importlib.util.find_spec('wandb') is None:
        yield 'logger.wandb.project: the package wandb is not installed; pip install wandb, or project: ~'
    yield from _batch_problems(options, least_images)


def _batch_problems(options: Options, least_images: int) -> Iterator[str]:
    """Check that a batch can be cut into parts of equal size, each of enough images."""
    accumulate = (options.get('train') or {}).get('accumulate', 1)
    for section, dataset in (options.get('datasets') or {}).items():
        batch = (dataset or {}).get('batch_size_per_gpu')
        if section.split('_')[0] != 'train' or not is_count(batch, 1) or not is_count(accumulate, 1):
            continue
        if batch % accumulate:
            yield f'train.accumulate: found {accumulate}, expected a divisor of batch_size_per_gpu {batch}'
        elif batch // accumulate < least_images:
            yield (
                f'datasets.{section}.batch_size_per_gpu: found {batch}, expected at least {least_images * accumulate}: '
                f'the model compares {least_images} images, in each part that train.accumulate {accumulate} makes'
            )
