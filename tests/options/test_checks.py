"""Whole option files: every mistake is found, named with its key, and nothing else is."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manet_basicsr.commands.basicsr import main
from manet_basicsr.data.testset import MANIFEST_NAME, write_testsets
from manet_basicsr.models.kernel_l1_model import KernelL1Model
from manet_basicsr.models.single_kernel_models import DANModel
from manet_basicsr.options.checks import find_problems, ignored_keys
from manet_basicsr.options.reading import Options, load_options
from manet_basicsr.options.resolving import forget_pretrained, without_weights
from tests import shortened

ROOT = Path(__file__).resolve().parents[2]
# Those of options/ablation name kernels on disk; tests/options/test_ablation_option_files.py has them.
FILES = sorted(file for file in (ROOT / 'options').rglob('*.yml') if file.parent.name != 'ablation')


def valid(folder: Path) -> Options:
    """Options of a training without a mistake, on an existing folder, which gets an image."""
    (folder / 'image.png').touch()
    degradation = {'kernel_size': 21, 'alignment': 'centered', 'field': {'type': 'invariant', 'variance': [0.7, 10]}}
    images = {'type': 'SVDegradationDataset', 'dataroot_gt': str(folder), 'degradation': degradation}
    loading = {'gt_size': 48, 'batch_size_per_gpu': 4, 'num_worker_per_gpu': 0}
    return copy.deepcopy(
        {
            'name': 'run',
            'model_type': 'KernelL1Model',
            'scale': 4,
            'num_gpu': 'auto',
            'manual_seed': 0,
            'datasets': {'train': {'name': 'Train', **images, **loading}, 'val': {'name': 'Val', **images}},
            'network_g': {'type': 'MANet', 'num_feat': 16},
            'path': {'pretrain_network_g': None, 'strict_load_g': True},
            'train': {
                'total_iter': 3e5,
                'optim_g': {'type': 'Adam', 'lr': 2e-4, 'betas': [0.9, 0.99]},
                'scheduler': {'type': 'MultiStepLR', 'milestones': [100, 200], 'gamma': 0.5},
                'kernel_opt': {'type': 'KernelL1Loss', 'loss_weight': 1.0},
            },
            'val': {'val_freq': 100, 'save_img': False, 'metrics': {'kernel_psnr': {'type': 'calculate_kernel_psnr'}}},
            'logger': {'print_freq': 10, 'save_checkpoint_freq': 100, 'use_tb_logger': True, 'wandb': {}},
        }
    )


def of_images(folder: Path) -> Options:
    """The same for a network that gives images."""
    options = changed(valid(folder), 'model_type', 'RestorationModel')
    options['train']['pixel_opt'] = {'type': 'L1Loss'}
    del options['train']['kernel_opt']
    return options


def changed(options: Options, key: str, value: object) -> Options:
    """Set the key ``section.key`` of options; ``...`` takes it out."""
    *sections, last = key.split('.')
    place = options
    for section in sections:
        place = place[section]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return options


def test_options_without_a_mistake_have_no_problems(tmp_path: Path) -> None:
    assert find_problems(valid(tmp_path), is_train=True) == []


@pytest.mark.parametrize(
    ('key', 'written'),
    [
        ('logger', 'loger'),
        ('logger.print_freq', 'print_frq'),
        ('train', 'trian'),
        ('train.total_iter', 'total_itr'),
        ('train.kernel_opt', 'kernal_opt'),
        ('train.scheduler.milestones', 'milestone'),
        ('datasets.train.degradation', 'degredation'),
        ('datasets.train.degradation.field', 'feild'),
        ('datasets.train.batch_size_per_gpu', 'batch_size_per_gpus'),
    ],
)
def test_a_misspelt_key_is_not_missing_too(key: str, written: str, tmp_path: Path) -> None:
    options = valid(tmp_path)
    place = options
    *sections, last = key.split('.')
    for section in sections:
        place = place[section]
    place[written] = place.pop(last)
    problems = find_problems(options, is_train=True)
    assert len(problems) == (2 if last == 'field' else 1)  # both sets have one degradation
    assert all(written in problem and problem.endswith(f"did you mean '{last}'?") for problem in problems)


def test_what_is_wrong_beside_a_misspelt_key_is_said(tmp_path: Path) -> None:
    options = changed(changed(valid(tmp_path), 'logger.print_frq', 5), 'logger.print_freq', -1)
    assert len(find_problems(options, is_train=True)) == 2
    del changed(options, 'logger.save_checkpoint_freq', ...)['logger']['print_freq']
    assert [problem.split(':')[0] for problem in find_problems(options, is_train=True)] == [
        'logger.print_frq',
        'logger.save_checkpoint_freq',
    ]


def test_what_is_missing_in_a_section_is_said_beside_a_stray_section_of_nearly_its_name(tmp_path: Path) -> None:
    options = changed(valid(tmp_path), 'loggers', {})
    del options['logger']['print_freq']
    found = [problem.split(':')[0] for problem in find_problems(options, is_train=True)]
    assert sorted(found) == ['logger.print_freq', 'loggers']


@pytest.mark.parametrize(
    ('key', 'value', 'problem'),
    [
        # a key that nothing reads, in each of our sections
        ('nane', 1, "nane: unknown key; did you mean 'name'?"),
        ('datasets.train.gt_sise', 1, "datasets.train.gt_sise: unknown key; did you mean 'gt_size'?"),
        ('datasets.train.degradation.nois', [0, 1], "did you mean 'noise'?"),
        ('datasets.train.degradation.field.varianse', 1, "did you mean 'variance'?"),
        ('network_g.num_feet', 1, "network_g.num_feet: unknown key; did you mean 'num_feat'?"),
        ('path.pretrain_network', None, "path.pretrain_network: unknown key; did you mean 'pretrain_network_g'?"),
        ('train.total_iters', 1, "train.total_iters: unknown key; did you mean 'total_iter'?"),
        ('train.pixel_opt', {'type': 'L1Loss'}, 'train.pixel_opt: unknown key'),
        ('train.optim_g.learning_rate', 1, 'train.optim_g.learning_rate: unknown key'),
        ('train.scheduler.milestone', [], "train.scheduler.milestone: unknown key; did you mean 'milestones'?"),
        ('train.kernel_opt.loss_wait', 1, "train.kernel_opt.loss_wait: unknown key; did you mean 'loss_weight'?"),
        ('val.val_frequency', 1, "val.val_frequency: unknown key; did you mean 'val_freq'?"),
        ('logger.print_frequ', 1, "logger.print_frequ: unknown key; did you mean 'print_freq'?"),
        ('dist_params', {'port_number': 1}, 'dist_params.port_number: unknown key'),
        # a name that is not registered
        ('model_type', 'KernelModel', "model_type: 'KernelModel' is not registered; did you mean 'KernelL1Model'?"),
        ('model_type', ['KernelL1Model'], 'model_type: '),
        ('network_g.type', 'MANett', "network_g.type: 'MANett' is not registered; did you mean 'MANet'?"),
        ('network_g.type', {}, "network_g.type: '{}' is not registered"),
        ('datasets.val.type', 'SVDegradation', "did you mean 'SVDegradationDataset'?"),
        ('train.kernel_opt.type', 'KernelLoss', "did you mean 'KernelL1Loss'?"),
        ('train.optim_g.type', 'Adan', "train.optim_g.type: 'Adan' is not registered; did you mean 'Adam'?"),
        ('train.scheduler.type', 'MultiStep', "did you mean 'MultiStepLR'?"),
        ('val.metrics.kernel_psnr.type', 'kernel_psnr', "did you mean 'calculate_kernel_psnr'?"),
        # something that has to be there
        ('name', ..., 'name: missing'),
        ('model_type', None, 'model_type: missing'),
        ('datasets', ..., 'datasets: missing'),
        ('datasets', {}, 'datasets: empty'),
        ('datasets.val', None, 'datasets.val.name: missing'),
        ('network_g', None, 'network_g: missing'),
        ('network_g.type', ..., 'expected a section with a type'),
        ('train', None, 'train: missing'),
        ('train.optim_g', ..., 'train.optim_g: missing'),
        ('train.scheduler', ..., 'train.scheduler: missing'),
        ('train.scheduler.milestones', ..., 'train.scheduler.milestones: missing'),
        ('train.kernel_opt', ..., 'train: expected at least one of kernel_opt, lr_image_opt'),
        ('train.total_iter', ..., 'train.total_iter: found None'),
        ('datasets.train.type', ..., 'datasets.train.type: missing'),
        ('datasets.train.batch_size_per_gpu', ..., 'datasets.train.batch_size_per_gpu: missing'),
        ('datasets.train.degradation', ..., 'degradation: missing'),
        # a file that is not there
        ('datasets.train.dataroot_gt', '/no/images', 'datasets.train.dataroot_gt: /no/images does not exist'),
        ('datasets.val.meta_info_file', '/no/list', 'datasets.val.meta_info_file: /no/list does not exist'),
        ('path.pretrain_network_g', '/no/net.pth', 'path.pretrain_network_g: /no/net.pth does not exist'),
        ('path.resume_state', '/no/1.state', 'path.resume_state: /no/1.state does not exist'),
        ('path.pretrain_network_g', 5, 'path.pretrain_network_g: found 5, expected a path'),
        # a value of the wrong kind or range
        ('name', 5, 'name: found 5, expected text'),
        ('name', '', "name: found '', expected the name of a folder"),
        ('name', '../../home', "name: found '../../home', expected the name of a folder"),
        ('name', '/home', "name: found '/home', expected the name of a folder"),
        ('datasets.val.name', '../x', "datasets.val.name: found '../x'"),
        ('scale', 'x4', "scale: found 'x4', expected a whole number"),
        ('num_gpu', None, 'num_gpu: found None, expected auto or a whole number'),
        ('num_gpu', -1, 'num_gpu: found -1'),
        ('manual_seed', 'random', "manual_seed: found 'random'"),
        ('manual_seed', 2**40, 'manual_seed: found 1099511627776'),
        ('datasets', [], 'datasets: found [], expected a section'),
        ('datasets.val', 'Set5', "datasets.val: found 'Set5', expected a section"),
        ('datasets.trian', {'name': 'x', 'type': 'SVDegradationDataset'}, "unknown phase 'trian'"),
        ('datasets.train.gt_size', 50, 'gt_size: found 50'),
        ('datasets.train.use_hflip', 'no way', "datasets.train.use_hflip: found 'no way', expected one of true, false"),
        ('datasets.train.batch_size_per_gpu', 0, 'batch_size_per_gpu: found 0'),
        ('datasets.train.num_worker_per_gpu', -1, 'num_worker_per_gpu: found -1'),
        ('datasets.train.dataset_enlarge_ratio', 0, 'dataset_enlarge_ratio: found 0'),
        ('datasets.train.dataset_enlarge_ratio', 0.5, 'enlarge_ratio: found 0.5, expected a number, at least 1'),
        ('datasets.train_2', {'name': 'x', 'type': 'SVDegradationDataset'}, 'train_2: found a second name of a set to'),
        (
            'val.metrics',
            {'psnr': {'type': 'calculate_psnr', 'crop_border': 'four'}},
            "val.metrics.psnr.crop_border: found 'four', expected a whole number",
        ),
        (
            'val.metrics',
            {'psnr': {'type': 'calculate_psnr', 'crop_border': -1}},
            'val.metrics.psnr.crop_border: found -1, expected a whole number',
        ),
        ('datasets.train.io_backend', 'lmdb', "train.io_backend: found 'lmdb', expected a section with a type"),
        ('datasets.train.io_backend', {'type': 'memcached'}, 'train.io_backend: memcached needs the package mc'),
        ('datasets.train.prefetch_mode', 'gpu', "train.prefetch_mode: found 'gpu', expected one of ~, cpu, cuda"),
        ('datasets.train.degradation.kernel_size', 20, 'kernel_size: found 20'),
        ('datasets.train.degradation.field.variance', [10, 0.7], 'variance'),
        ('path.strict_load_g', 'no', "path.strict_load_g: found 'no', expected one of true, false"),
        ('path.experiments_root', 5, 'path.experiments_root: found 5, expected text'),
        ('train.total_iter', math.inf, 'train.total_iter: found inf'),
        ('train.total_iter', 0.5, 'train.total_iter: found 0.5'),
        ('train.total_iter', '3e5 ', "train.total_iter: found '3e5 '"),
        ('train.optim_g.lr', 'fast', "train.optim_g.lr: found 'fast', expected a number, at least 0"),
        ('train.optim_g.lr', '2e-4x', "train.optim_g.lr: found '2e-4x', expected a number"),
        ('train.optim_g.lr', None, 'train.optim_g.lr: found None, expected a number'),
        ('train.optim_g.lr', -1, 'train.optim_g.lr: found -1, expected a number, at least 0'),
        ('train.optim_g.lr', math.nan, 'train.optim_g.lr: found nan, expected a number'),
        ('train.optim_g.lr', math.inf, 'train.optim_g.lr: found inf, expected a number'),
        ('train.optim_g.lr', True, 'train.optim_g.lr: found True, expected a number'),
        ('train.optim_g.lr', [1e-4], 'train.optim_g.lr: found [0.0001], expected a number'),
        ('train.optim_g.weight_decay', math.inf, 'train.optim_g.weight_decay: found inf'),
        ('train.optim_g.eps', None, 'train.optim_g.eps: found None'),
        ('train.optim_g.betas', [0.9, 1.5], 'train.optim_g.betas: found [0.9, 1.5], expected two numbers, each from 0'),
        ('train.optim_g.betas', 0.9, 'train.optim_g.betas: found 0.9, expected two numbers'),
        ('train.optim_g.betas', [0.9], 'train.optim_g.betas: found [0.9], expected two numbers'),
        ('train.optim_g.betas', None, 'train.optim_g.betas: found None, expected two numbers'),
        ('train.optim_g.amsgrad', 1, 'train.optim_g.amsgrad: found 1, expected true or false'),
        ('train.optim_g', {'type': 'Muon', 'momentum': 1}, 'train.optim_g.momentum: found 1, expected a number from 0'),
        ('train.optim_g.params', [], 'train.optim_g.params: unknown key'),
        ('train.scheduler.gamma', 'half', "train.scheduler.gamma: found 'half', expected a number"),
        ('train.scheduler.gamma', [], 'train.scheduler.gamma: found [], expected a number'),
        ('train.scheduler.gamma', -1, 'train.scheduler.gamma: found -1, expected a number, at least 0'),
        ('train.scheduler.milestones', 100, 'train.scheduler.milestones: found 100, expected a list of iterations'),
        ('train.scheduler.milestones', [0.5], 'train.scheduler.milestones: found [0.5], expected a list of iterations'),
        ('train.kernel_opt.loss_weight', None, 'train.kernel_opt.loss_weight: found None, expected a number'),
        ('train.kernel_opt.loss_weight', '1e-2x', "train.kernel_opt.loss_weight: found '1e-2x', expected a number"),
        ('train.kernel_opt.loss_weight', math.nan, 'train.kernel_opt.loss_weight: found nan, expected a number'),
        ('train.kernel_opt.reduction', None, 'train.kernel_opt.reduction: found None, expected mean or sum'),
        ('train.kernel_opt.reduction', 'sums', "train.kernel_opt: reduction is 'sums', expected one of"),
        ('train.warmup_iter', 2e-4, 'train.warmup_iter: found 0.0002, expected a number of iterations'),
        ('train.warmup_iter', math.inf, 'train.warmup_iter: found inf, expected a number of iterations'),
        ('train.amp', 'half', "train.amp: found 'half', expected one of ~, false, bf16, fp16"),
        ('train.amp', [], 'train.amp: found [], expected one of'),
        ('train.accumulate', 3, 'train.accumulate: found 3, expected a divisor of batch_size_per_gpu 4'),
        ('train.accumulate', 'x', "train.accumulate: found 'x'"),
        ('train.ema_decay', 1.5, 'train.ema_decay: found 1.5'),
        ('train.warmup_iter', 'x', "train.warmup_iter: found 'x'"),
        ('train.compile', 1, 'train.compile: found 1, expected one of true, false'),
        ('val.pbar', 'yes please', "val.pbar: found 'yes please', expected one of ~, true, false"),
        ('val.metrics', ['psnr'], "val.metrics: found ['psnr'], expected a section for each metric"),
        ('val.metrics.kernel_psnr.better', 'more', "better: found 'more', expected one of higher, lower"),
        ('val.metrics.kernel_psnr', None, 'val.metrics.kernel_psnr: found None, expected a section with a type'),
        ('val.val_freq', True, 'val.val_freq: found True'),
        ('logger.keep_checkpoints', 0, 'logger.keep_checkpoints: found 0, expected a number of states'),
        ('train.on_nonfinite', 'go on', "train.on_nonfinite: found 'go on', expected one of stop, skip"),
        ('datasets.train.on_bad_sample', 'ignore', "on_bad_sample 'ignore' is not one of raise, skip"),
        ('datasets.val.on_bad_sample', 'skip', 'datasets.val.on_bad_sample: skip is for training, expected raise'),
        ('logger.use_tb_logger', 'x', "logger.use_tb_logger: found 'x'"),
        ('logger.wandb', 'project', "logger.wandb: found 'project', expected a section"),
        ('dist_params', 'nccl', "dist_params: found 'nccl', expected a section"),
    ],
)
def test_mistake_is_named_with_its_key(tmp_path: Path, key: str, value: object, problem: str) -> None:
    problems = find_problems(changed(valid(tmp_path), key, value), is_train=True)
    assert any(problem in line for line in problems), problems
    assert all('\n' not in line for line in problems)


def test_periods_that_end_before_the_training_are_refused(tmp_path: Path) -> None:
    scheduler = {'type': 'CosineAnnealingRestartLR', 'periods': [100_000, 100_000], 'restart_weights': [1, 1]}
    options = changed(valid(tmp_path), 'train.scheduler', scheduler)
    (problem,) = find_problems(options, is_train=True)
    assert problem == 'train.scheduler.periods: end at iteration 200000, before total_iter 300000.0'
    assert not find_problems(changed(options, 'train.total_iter', 200_000), is_train=True)
    changed(options, 'train.scheduler.restart_weights', [1])
    assert 'periods and restart_weights should have the same length' in find_problems(options, is_train=True)[0]


@pytest.mark.parametrize(
    ('key', 'value', 'expected'),
    [
        ('periods', None, 'a list of numbers of iterations, each at least 1'),
        ('periods', 7, 'a list of numbers of iterations, each at least 1'),
        ('periods', [0, 300_000], 'a list of numbers of iterations, each at least 1'),
        ('restart_weights', [1, 'x'], 'a list of numbers, each at least 0'),
        ('eta_min', math.nan, 'a number, at least 0'),
    ],
)
def test_a_cosine_s_values_are_checked(tmp_path: Path, key: str, value: object, expected: str) -> None:
    scheduler = {'type': 'CosineAnnealingRestartLR', 'periods': [100_000, 200_000], 'restart_weights': [1, 1]}
    options = changed(valid(tmp_path), 'train.scheduler', {**scheduler, key: value})
    assert find_problems(options, is_train=True) == [f'train.scheduler.{key}: found {value!r}, expected {expected}']


def test_values_of_stock_models_are_checked_too(tmp_path: Path) -> None:
    options = changed(valid(tmp_path), 'model_type', 'SRModel')
    options['train']['pixel_opt'] = {'type': 'L1Loss', 'loss_weight': 'x'}
    options['train'].update(ema_decay='x', warmup_iter=None)
    found = [line for line in find_problems(options, is_train=True) if line.startswith('train.')]
    assert found == [
        "train.pixel_opt.loss_weight: found 'x', expected a number, at least 0",
        "train.ema_decay: found 'x', expected a number from 0 to below 1",
        'train.warmup_iter: found None, expected a number of iterations, -1 for none',
    ]


def test_wandb_without_tensorboard_is_refused(tmp_path: Path) -> None:
    options = changed(changed(valid(tmp_path), 'logger.use_tb_logger', False), 'logger.wandb', {'project': 'manet'})
    assert find_problems(options, is_train=True) == ['logger.wandb.project: needs use_tb_logger: true']


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    options = valid(tmp_path)
    for key, value in (('nane', 1), ('network_g.num_feet', 1), ('val.val_freq', 0), ('train.optim_g.type', 'SGD')):
        changed(options, key, value)
    changed(options, 'datasets.train.dataroot_gt', '/no/images')
    problems = find_problems(options, is_train=True)
    assert len(problems) == 5
    assert len(set(problems)) == 5


def test_testing_needs_neither_training_nor_logging(tmp_path: Path) -> None:
    options = valid(tmp_path)
    options = {key: value for key, value in options.items() if key not in ('train', 'logger', 'val', 'path')}
    options['datasets'] = {'test_0': options['datasets']['val']}
    save_weights(options['network_g'], tmp_path / 'net.pth')
    options['path'] = {'pretrain_network_g': str(tmp_path / 'net.pth')}
    assert find_problems(options, is_train=False) == []
    assert len(find_problems(options, is_train=True)) >= 3


def test_parts_of_a_blind_network_are_checked(tmp_path: Path) -> None:
    options = valid(tmp_path)
    estimator = {'type': 'MANet', 'num_feet': 3, 'pretrained': '/no/net.pth', 'param_key': 'params'}
    options['network_g'] = {'type': 'BlindSRNet', 'estimator': estimator, 'generator': {'type': 'SFTRRDB'}}
    assert find_problems(options, is_train=True) == [
        "network_g.estimator.num_feet: unknown key; did you mean 'num_feat'?",
        'network_g.estimator.pretrained: /no/net.pth does not exist',
        "network_g.generator.type: 'SFTRRDB' is not registered; did you mean 'SFTRRDBNet'?",
    ]


def test_options_of_stock_basicsr_pass(tmp_path: Path) -> None:
    """ESRGAN's and EDSR's option files of BasicSR 1.4.2, with their own keys."""
    pairs = {
        'type': 'PairedImageDataset',
        'dataroot_gt': str(tmp_path),
        'dataroot_lq': str(tmp_path),
        'filename_tmpl': '{}',
        'io_backend': {'type': 'lmdb'},
    }
    loading = {
        'gt_size': 128,
        'use_hflip': True,
        'use_rot': True,
        'num_worker_per_gpu': 6,
        'batch_size_per_gpu': 16,
        'dataset_enlarge_ratio': 100,
        'prefetch_mode': None,
        'mean': [0.4488, 0.4371, 0.404],
        'std': [1.0, 1.0, 1.0],
    }
    options = {
        'name': 'ESRGAN_x4',
        'model_type': 'ESRGANModel',
        'scale': 4,
        'num_gpu': 1,
        'manual_seed': 0,
        'datasets': {'train': {'name': 'DF2K', **pairs, **loading}, 'val': {'name': 'Set14', **pairs}},
        'network_g': {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 64, 'num_block': 23},
        'network_d': {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 64},
        'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None, 'their_own': 'x'},
        'train': {
            'ema_decay': 0.999,
            'optim_g': {'type': 'Adam', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]},
            'optim_d': {'type': 'Adam', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [50000, 100000], 'gamma': 0.5},
            'total_iter': 400000,
            'warmup_iter': -1,
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1e-2, 'reduction': 'mean'},
            'gan_opt': {'type': 'GANLoss', 'gan_type': 'vanilla', 'loss_weight': 5e-3},
            'net_d_iters': 1,
            'net_d_init_iters': 0,
        },
        'val': {
            'val_freq': 5e3,
            'save_img': True,
            'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': False}},
        },
        'logger': {'print_freq': 100, 'save_checkpoint_freq': 5e3, 'use_tb_logger': True, 'wandb': {'project': None}},
        'dist_params': {'backend': 'nccl', 'port': 29500},
    }
    assert find_problems(options, is_train=True) == []
    options['model_type'] = 'SRModel'
    options['train']['scheduler'] = {
        'type': 'CosineAnnealingRestartLR',
        'periods': [250000] * 4,
        'restart_weights': [1] * 4,
        'eta_min': 1e-7,
    }
    assert find_problems(options, is_train=True) == []
    options['network_d']['num_feet'] = 1
    assert find_problems(options, is_train=True) == ["network_d.num_feet: unknown key; did you mean 'num_feat'?"]


def save_weights(network: Any, path: Path) -> None:
    """Save weights that fit a section ``network_g`` or a part of one; a zero each stands for every number."""
    with torch.device('meta'):
        state_dict = build_network(without_weights(forget_pretrained(network))).state_dict()
    torch.save({'params': {key: torch.zeros(()).expand(value.shape) for key, value in state_dict.items()}}, path)


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_shipped_file_passes_where_its_files_exist(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = load_options(file)
    is_train = 'train' in options
    monkeypatch.chdir(tmp_path)
    missing = [problem.split(': ') for problem in find_problems(options, is_train=is_train)]
    assert missing  # there are no datasets here
    for key, problem in missing:
        name, found, _ = problem.partition(' does not exist')
        assert found, problem
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        network = options['network_g']
        if key.startswith('network_g.'):
            save_weights(network[key.split('.')[1]], path)
        elif key == 'path.pretrain_network_g':
            save_weights(network, path)
        elif key.rpartition('.')[2].startswith('dataroot'):
            path.mkdir(exist_ok=True)
            (path / 'meta_info.txt').write_text('image.png (1,1,3) 1\n')
            lmdb.open(str(path), map_size=2**20).close()
            (path / 'image.png').touch()
        else:
            path.touch()
    assert find_problems(options, is_train=is_train) == []


@pytest.mark.parametrize(
    ('files', 'problem'),
    [
        ([], 'holds no images'),
        (['notes.txt'], 'holds no images'),
        (['set.lmdb/meta_info.txt'], 'is not an LMDB: it holds no data.mdb'),
    ],
)
def test_a_folder_without_images_is_named_before_anything_starts(
    tmp_path: Path, files: list[str], problem: str
) -> None:
    root = tmp_path / ('set.lmdb' if files and '/' in files[0] else 'set')
    root.mkdir()
    for name in files:
        (root / Path(name).name).touch()
    options = changed(valid(tmp_path), 'datasets.train.dataroot_gt', str(root))
    (found,) = find_problems(options, is_train=True)
    assert found.startswith(f'datasets.train: {root}') and problem in found


def test_images_that_a_list_names_may_lie_in_subfolders_and_in_a_database_without_its_own(tmp_path: Path) -> None:
    (tmp_path / 'hr/deep').mkdir(parents=True)
    (tmp_path / 'hr/deep/image.png').touch()
    lmdb.open(str(tmp_path / 'hr.lmdb'), map_size=2**20).close()  # without a meta_info.txt
    with lmdb.open(str(tmp_path / 'hr.lmdb'), map_size=2**20) as environment, environment.begin(write=True) as writing:
        writing.put(b'image', b'')
    options = valid(tmp_path)
    for root, name in (('hr', 'deep/image.png'), ('hr.lmdb', 'image.png')):
        (tmp_path / 'list.txt').write_text(f'{name} (1,1,3) 1\n')
        options['datasets']['train'] |= {
            'dataroot_gt': str(tmp_path / root),
            'meta_info_file': str(tmp_path / 'list.txt'),
        }
        if root == 'hr.lmdb':
            options['datasets']['train']['io_backend'] = {'type': 'lmdb'}
        assert find_problems(options, is_train=True) == []


# ------------------------------------------------------------------------------------------- networks and their weights

STAGE_2 = {'type': 'SFTRRDBNet', 'scale': 4, 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}
STAGE_3: dict[str, Any] = {'type': 'BlindSRNet', 'estimator': {'type': 'MANet', 'num_feat': 16}, 'generator': STAGE_2}


@pytest.mark.parametrize(
    ('network', 'change', 'problem'),
    [
        (STAGE_2, {'scale': 2}, 'upsampler.0.weight is '),
        (STAGE_2, {'num_feat': 16}, 'conv_first.weight is '),
        (STAGE_2, {'num_block': 2}, 'the file lacks RRDB_trunk.1.'),
        (STAGE_3, {'estimator': {'type': 'MANet', 'num_feat': 24}}, 'kernel_estimation.m_head.weight is '),
        ({'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3}, {'num_feat': 32}, 'conv_first.weight is '),
    ],
    ids=['scale', 'width', 'depth', 'estimator', 'stock'],
)
def test_weights_of_another_network_are_named_before_anything_loads(
    tmp_path: Path, network: Options, change: Options, problem: str
) -> None:
    save_weights(network, tmp_path / 'net.pth')
    options = changed(of_images(tmp_path), 'network_g', copy.deepcopy(network))
    options['scale'] = {**network, **change}.get('scale', 4)
    if network is STAGE_2:
        options['model_type'] = 'KernelConditionedSRModel'
    changed(options, 'path.pretrain_network_g', str(tmp_path / 'net.pth'))
    options['network_g'].update(copy.deepcopy(change))
    (found,) = find_problems(options, is_train=True)
    assert found.startswith(f'path.pretrain_network_g: {tmp_path}/net.pth'), found
    assert problem in found and '\n' not in found
    changed(options, 'path.strict_load_g', False)
    assert find_problems(options, is_train=True) == []
    changed(options, 'path.strict_load_g', True)
    options.update(network_g=copy.deepcopy(network), scale=4)
    assert find_problems(options, is_train=True) == []


def test_shipped_weights_of_another_scale_are_refused_in_a_test(tmp_path: Path) -> None:
    options = load_options(shortened.option_file('test', 'MANet_stage1', 4))
    options['datasets'] = {'test': valid(tmp_path)['datasets']['val']}
    assert find_problems(options, is_train=False) == []
    changed(options, 'path.pretrain_network_g', 'weights://manet_x2')
    (found,) = find_problems(options, is_train=False)
    assert found == 'path.pretrain_network_g: weights://manet_x2 is for x2, found scale: 4'


@pytest.mark.parametrize(
    ('job', 'given'),
    [
        ('MANet_stage1', ''),
        ('BlindSR_stage3', 'estimator'),
        ('RRDBNet', ''),
        ('IKC', 'generator'),
        ('SRSVD', 'generator'),
    ],
)
def test_a_network_without_weights_is_not_tested(tmp_path: Path, job: str, given: str) -> None:
    options = load_options(shortened.option_file('test', job, 4))
    options['datasets'] = {'test': valid(tmp_path)['datasets']['val']}
    changed(options, 'path.pretrain_network_g', None)
    if given:
        options['network_g']['generator'].pop('pretrained', None)
        options['network_g'][given]['pretrained'] = {'estimator': 'manet_x4', 'generator': 'blind_v0_1_0_x4'}[given]
    missing = 'path.pretrain_network_g: missing, expected the weights that are tested'
    assert find_problems(options, is_train=False) == [missing]


def test_weights_that_a_shipped_file_trains_are_missed_with_its_command(tmp_path: Path) -> None:
    options = load_options(shortened.option_file('train', 'BlindSR_stage3', 4))
    weights = options['network_g']['estimator']['pretrained']
    hint = '; basicsr train -opt train_MANet_stage1_x4 makes it'
    problems = find_problems(options, is_train=True)
    assert f'network_g.estimator.pretrained: {weights} does not exist{hint}' in problems


def test_keys_that_basicsrs_own_models_do_not_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    options = load_options(shortened.option_file('train', 'BlindSR_stage3', 4))
    options['train'].update(amp='bf16', compile=True, channels_last='auto', accumulate=1, on_nonfinite='stop')
    options['val']['tile'] = 96
    monkeypatch.setitem(MODEL_REGISTRY._obj_map, 'OfAPlugin', type('OfAPlugin', (SRModel,), {'__module__': 'plugin'}))
    for model_type in ('RestorationModel', 'OfAPlugin'):
        assert ignored_keys({**options, 'model_type': model_type}) == []
    options['model_type'] = 'SRModel'
    words = 'has no effect with SRModel, only with models of manet_basicsr'
    assert ignored_keys(options) == [
        f'train.amp: bf16 {words}',
        f'train.compile: True {words}',
        f'val.tile: 96 {words}',
    ]


@pytest.mark.parametrize('part', ['estimator', 'generator'])
def test_weights_of_a_part_that_do_not_fit_are_named_with_the_part(tmp_path: Path, part: str) -> None:
    save_weights({**STAGE_3[part], 'num_feat': 32}, tmp_path / 'part.pth')
    options = changed(of_images(tmp_path), 'network_g', copy.deepcopy(STAGE_3))
    options['network_g'][part]['pretrained'] = str(tmp_path / 'part.pth')
    (found,) = find_problems(options, is_train=True)
    assert found.startswith(f'network_g.{part}.pretrained: {tmp_path}/part.pth')
    options['network_g'][part]['param_key'] = 'params_of_others'
    (found,) = find_problems(options, is_train=True)
    assert "expected 'params_of_others'; set param_key" in found


@pytest.mark.parametrize(
    ('network', 'problem'),
    [
        ({**STAGE_2, 'num_feat': 'x'}, "network_g.num_feat: found 'x', expected a whole number"),
        ({**STAGE_2, 'num_feat': True}, 'network_g.num_feat: found True, expected a whole number'),
        ({**STAGE_2, 'num_block': 10**9}, 'network_g.num_block: found 1000000000, expected at most 2048'),
        ({**STAGE_2, 'num_block': 0}, 'network_g: num_block is 0, expected at least 1'),
        ({**STAGE_2, 'scale': 2}, 'network_g.scale: found 2, expected the scale 4 of the option file'),
        ({**STAGE_2, 'kernel_size': 15}, 'network_g: no PCA basis is shipped for scale 4, kernel_size 15'),
        ({'type': 'MANet', 'split': 1}, 'network_g: split'),
        ({'type': 'MANet', 'kernel_size': 15}, 'kernel_size: found 21, expected 15, as network_g has it'),
        ({**STAGE_3, 'estimator': {'type': 'MANet', 'kernel_size': 15}}, 'estimator has kernel_size 15'),
        ({**STAGE_3, 'freeze_estimator': 1}, 'network_g'),
    ],
)
def test_network_that_cannot_be_built_or_does_not_fit_the_data_is_named(
    tmp_path: Path, network: Options, problem: str
) -> None:
    options = changed(valid(tmp_path), 'network_g', network)
    problems = find_problems(options, is_train=True)
    if network.get('freeze_estimator') == 1:  # as true as true; that it is of another stage is all that is said
        assert problems == ['network_g: BlindSRNet gives images, expected kernels for model_type KernelL1Model']
    else:
        assert any(problem in line for line in problems), problems


def test_scale_that_no_basis_is_shipped_for_is_named(tmp_path: Path) -> None:
    options = changed(changed(valid(tmp_path), 'network_g', {**STAGE_2, 'scale': 5}), 'scale', 5)
    problems = find_problems(options, is_train=True)
    assert any('network_g: no PCA basis is shipped for scale 5' in line for line in problems), problems


@pytest.mark.parametrize('content', ['kernel size', 'text', 'empty'])
def test_pca_basis_of_another_kernel_size_or_none_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / 'basis.npy'
    np.save(path, np.zeros((15**2, 15), np.float32))
    if content != 'kernel size':
        path.write_text('no basis' if content == 'text' else '')
    options = changed(valid(tmp_path), 'network_g', {**STAGE_2, 'pca_path': str(path)})
    (found,) = find_problems(options, is_train=True)
    assert found.startswith('network_g: ')
    if content == 'kernel size':
        assert found.endswith('has shape (225, 15), expected (441, 15) (kernel_size**2, code_length)')


def test_all_problems_of_one_dataset_are_reported_at_once(tmp_path: Path) -> None:
    options = valid(tmp_path)
    field = {'type': 'invariant', 'variance': [10, 0.7]}
    degradation = {'field': field, 'kernel_size': 20, 'noise': [15, 0], 'jpeg': [0, 50]}
    options['datasets']['train'].update(gt_size=50, on_bad_sample='ignore', degradation=degradation)
    problems = find_problems(options, is_train=True)
    expected = ('variance', 'kernel_size: found 20', 'noise: found', 'jpeg: found', 'gt_size: found 50', 'bad_sample')
    for words in expected:
        assert sum(words in line for line in problems) == 1, (words, problems)
    assert len(problems) == 6


# ------------------------------------------------------------------------------------------------------------ fuzzing

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(['', '/', '\0', 'auto', 'train', 'MANet', 'BlindSRNet', 'SVDegradationDataset', 'L1Loss', 'Adam']),
    st.just(10**400),
    st.dates(),
)
_KEYS = st.one_of(
    st.sampled_from('type name estimator generator field variance kind metrics psnr lr better 0'.split()),
    st.text(max_size=3),
    st.integers(),
    st.none(),
    st.booleans(),
    st.dates(),
)
_ANYTHING = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=8
)


def _places(options: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Give the way to every key of nested options."""
    if not isinstance(options, dict):
        return []
    return [place for key in options for place in ((*path, key),)] + [
        place for key, content in options.items() for place in _places(content, (*path, key))
    ]


_MODELS = ('KernelL1Model', 'RestorationModel', 'SRModel', 'SRGANModel')


@pytest.fixture(scope='module')
def existing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('images')


@pytest.mark.parametrize('start', [valid, lambda folder: {}], ids=['valid', 'empty'])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_structure_makes_the_check_itself_fail(
    start: Callable[[Path], Options], existing: Path, data: st.DataObject
) -> None:
    options = start(existing)
    if options:
        options['model_type'] = data.draw(st.sampled_from(_MODELS))
        if data.draw(st.booleans()):
            part = {'type': 'MANet', 'pretrained': None}
            options['network_g'] = {'type': 'BlindSRNet', 'estimator': part, 'generator': {**part, 'pca_path': None}}
    for _ in range(data.draw(st.integers(1, 3))):
        places = [*_places(options), ['new']]
        *way, key = data.draw(st.sampled_from(places))
        place = options
        for step in way:
            place = place[step]
        if data.draw(st.integers(0, 3)) == 0:
            key = data.draw(_KEYS)
        place[key] = data.draw(_ANYTHING)
    before = repr(options)
    for is_train in (True, False):
        problems = find_problems(options, is_train=is_train)
        assert all(isinstance(problem, str) and problem for problem in problems)
    assert repr(options) == before


@pytest.mark.parametrize('part', ['estimator', 'generator'])
def test_an_empty_part_of_a_blind_network_is_a_problem(part: str) -> None:
    options = load_options(ROOT / 'options/test/test_BlindSR_stage3_x4.yml')
    options['network_g'][part] = None
    assert any(f'network_g.{part}: found None' in problem for problem in find_problems(options, is_train=False))


@pytest.mark.parametrize(
    ('key', 'change'),
    [
        ('num_prefetch_queue', {'prefetch_mode': 'cpu', 'num_prefetch_queue': 'two'}),
        ('persistent_workers', {'persistent_workers': True, 'num_worker_per_gpu': 0}),
        ('pin_memory', {'prefetch_mode': 'cuda', 'pin_memory': False}),
    ],
)
def test_loader_keys_that_would_hang_or_fail_later_are_problems(key: str, change: dict[str, object]) -> None:
    options = load_options(ROOT / 'options/train/train_MANet_stage1_x4.yml')
    options['datasets']['train'].update(change)
    assert any(problem.startswith(f'datasets.train.{key}: ') for problem in find_problems(options, is_train=True))


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ({'network_g': {'type': 'MANet', 'num_in_ch': 1}}, 'network_g.num_in_ch: found 1, expected 3'),
        ({'network_g': {**STAGE_2, 'num_out_ch': 1}}, 'network_g.num_out_ch: found 1, expected 3'),
    ],
)
def test_channels_that_the_datasets_do_not_have_are_named(tmp_path: Path, change: Options, problem: str) -> None:
    problems = find_problems({**valid(tmp_path), **change}, is_train=True)
    assert any(problem in line for line in problems), problems


@pytest.mark.parametrize(
    ('job', 'model', 'problem'),
    [
        (
            'SFTRRDB_stage2',
            'RestorationModel',
            'SFTRRDBNet does not fit model_type RestorationModel, which gives it lq',
        ),
        ('SFTRRDB_stage2', 'SRModel', 'SFTRRDBNet does not fit model_type SRModel, which gives it lq: missing a requi'),
        ('BlindSR_stage3', 'KernelConditionedSRModel', 'BlindSRNet does not fit model_type KernelConditionedSRModel'),
        ('BlindSR_stage3', 'KernelL1Model', 'BlindSRNet gives images, expected kernels for model_type KernelL1Model'),
        ('MANet_stage1', 'RestorationModel', 'MANet gives kernels, expected images for model_type RestorationModel'),
        ('DAN', 'IKCModel', 'DANNet does not fit model_type IKCModel, which gives it lq and as_codes'),
        ('IKC', 'DANModel', 'IKCNet does not fit model_type DANModel, which gives it lq and with_field'),
        ('DAN', 'KernelConditionedSRModel', 'DANNet does not fit model_type KernelConditionedSRModel'),
        ('SRSVD', 'KernelConditionedSRModel', 'found SRSVDNet with model_type KernelConditionedSRModel, expected mod'),
        ('SFTRRDB_stage2', 'KernelErrorModel', 'found SFTRRDBNet with model_type KernelErrorModel, expected a SRSVD'),
    ],
)
def test_a_network_of_another_stage_is_refused(photos: Path, job: str, model: str, problem: str) -> None:
    file = shortened.option_file('train', job, 4)
    options = shortened.forced(file, [*shortened.train_entries(job, photos), f'model_type={model}'])
    assert [line for line in find_problems(options, is_train=True) if f'network_g: {problem}' in line]


def test_a_network_that_learns_by_one_model_alone_is_refused_for_others_and_tested_by_any(photos: Path) -> None:
    train, test = (shortened.option_file(phase, 'IKC', 4) for phase in ('train', 'test'))
    entries = [*shortened.train_entries('IKC', photos), 'model_type=RestorationModel', 'train:code_opt=~']
    problems = find_problems(shortened.forced(train, [*entries, 'train:pixel_opt={type: L1Loss}']), is_train=True)
    assert 'model_type: found RestorationModel, expected IKCModel, by which alone IKCNet learns' in problems
    assert load_options(test)['model_type'] == 'RestorationModel'


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ('scale=2', 'scale: found 2, expected the scale 4 of the option file'),
        ('num_out_ch=1', 'num_out_ch: found 1, expected 3'),
        ('pretrained=gone.pth', 'pretrained: gone.pth does not exist'),
        ('num_blok=2', 'num_blok: unknown key'),
        ('type=Nothing', "type: 'Nothing' is not registered"),
        ('pretrained=weights://manet_x4', 'pretrained: '),
        ('pretrained=~', 'pretrained: missing'),
    ],
)
def test_the_generator_of_a_loss_is_checked_as_that_of_a_network(photos: Path, change: str, problem: str) -> None:
    file = shortened.ROOT / 'options/ablation/train_MANet_indirect_loss_x4.yml'
    entries = [*shortened.train_entries('MANet_stage1', photos), f'train:indirect_opt:generator:{change}']
    problems = find_problems(shortened.forced(file, entries), is_train=True)
    assert [line for line in problems if line.startswith(f'train.indirect_opt.generator.{problem}')], problems


@pytest.mark.parametrize('network', ['RCAN, num_in_ch: 3, num_out_ch: 3', 'MANet', 'DANNet'])
def test_the_generator_of_a_loss_is_one_that_is_given_kernels(photos: Path, network: str, tmp_path: Path) -> None:
    (tmp_path / 'some.pth').touch()
    file = shortened.ROOT / 'options/ablation/train_MANet_indirect_loss_x4.yml'
    generator = f'{{type: {network}, pretrained: {tmp_path}/some.pth}}'
    entries = [*shortened.train_entries('MANet_stage1', photos), f'train:indirect_opt:generator={generator}']
    problems = find_problems(shortened.forced(file, entries), is_train=True)
    expected = 'expected a generator that is given kernels, such as SFTRRDBNet'
    assert [line for line in problems if expected in line and line.startswith('train.indirect_opt.')], problems


@pytest.mark.parametrize('model_type', ['KernelL1Model', 'OfAPlugin'])
def test_a_stock_dataset_without_kernels_is_refused_for_models_that_need_them(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODEL_REGISTRY._obj_map, 'OfAPlugin', type('OfAPlugin', (KernelL1Model,), {}))
    options = {**valid(tmp_path), 'model_type': model_type}
    pairs = {'type': 'PairedImageDataset', 'dataroot_lq': str(tmp_path), 'io_backend': {'type': 'disk'}}
    kept = {key: value for key, value in options['datasets']['train'].items() if key != 'degradation'}
    options['datasets']['train'] = {**kept, **pairs}
    (problem,) = find_problems(options, is_train=True)
    assert problem.startswith(f'datasets.train.type: PairedImageDataset gives no kernels, which {model_type} needs')


@pytest.mark.parametrize(
    ('reduction', 'accumulate', 'problem'),
    [
        ('sum', 1, None),
        ('sum', 2, "train.kernel_opt.reduction: found 'sum', expected mean: train.accumulate 2"),
        ('none', 1, "train.kernel_opt.reduction: found 'none', expected mean or sum"),
    ],
)
def test_reductions_that_accumulation_would_change_are_refused(
    tmp_path: Path, reduction: str, accumulate: int, problem: str | None
) -> None:
    options = changed(valid(tmp_path), 'train.kernel_opt.reduction', reduction)
    problems = find_problems(changed(options, 'train.accumulate', accumulate), is_train=True)
    assert problems == [] if problem is None else problem in problems[0]


def test_trackers_that_are_not_installed_are_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = changed(valid(tmp_path), 'logger.wandb', {'project': 'manet'})
    monkeypatch.setattr('manet_basicsr.options.training_checks.importlib.util.find_spec', lambda name: None)
    assert find_problems(options, is_train=True) == [
        'logger.use_tb_logger: the package tensorboard is not installed; pip install tensorboard, or false',
        'logger.wandb.project: the package wandb is not installed; pip install wandb, or project: ~',
    ]


def test_arguments_of_other_packages_metrics_are_their_own_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sharpness(img: object, crop_border: object = None, gamma: str = 'srgb') -> float:
        return 0.0

    sharpness.__module__ = 'another.package'
    monkeypatch.setitem(METRIC_REGISTRY._obj_map, 'sharpness', sharpness)
    metrics = {
        'niqe': {'type': 'calculate_niqe', 'crop_border': 4, 'input_order': 'HW', 'convert_to': 'gray'},
        'mine': {'type': 'sharpness', 'crop_border': [4, 4], 'gamma': 'srgb'},
    }
    found = find_problems(changed(valid(tmp_path), 'val.metrics', metrics), is_train=True)
    assert not [problem for problem in found if 'metrics' in problem]


def problems_of_training(job: str, images: Path, *changes: str) -> list[str]:
    """What a shortened training file has, changed."""
    options = shortened.forced(
        shortened.option_file('train', job, 4), [*shortened.train_entries(job, images), *changes]
    )
    return find_problems(options, is_train=True)


@pytest.mark.parametrize(
    ('job', 'changes', 'problem'),
    [
        ('DAN', ['train:kernel_opt=~'], 'train: expected at least one of kernel_opt'),
        ('DAN', ['train:pixel_opt=~'], 'train: expected at least one of pixel_opt, perceptual_opt'),
        ('BlindSR_stage3', ['network_g:estimator:pretrained=~'], 'network_g.estimator.pretrained: missing; this part'),
        ('BlindSR_stage3', ['network_g:estimator:pretrained=~', 'network_g:freeze_estimator=false'], None),
        ('BlindSR_stage3', ['network_g:generator:pretrained=~'], None),
        ('IKC', ['network_g:generator:pretrained=~'], 'network_g.generator.pretrained: missing; this part'),
        (
            'SFTRRDB_stage2',
            ['datasets:train:degradation:alignment=published', 'datasets:val:degradation:alignment=published'],
            'datasets.train.degradation.alignment: found published, expected centered, as the kernels of the PCA basis',
        ),
        ('RCAN_blur', ['network_g:upscale=2'], 'network_g.upscale: found 2, expected the scale 4 of the option file'),
        ('RCAN_blur', ['val:metrics:psnr:crop_border=~'], 'val.metrics.psnr.crop_border: found None, expected a whole'),
        ('MANet_stage1', ['val:metrics:lr_psnr:crop_border=~'], None),
        ('MANet_stage1', ['val:metrics:lr_psnr:crop_border=-1'], 'val.metrics.lr_psnr.crop_border: found -1, expected'),
        (
            'BlindSR_stage3',
            ['model_type=SRModel', 'train:optim_g:type=Adam', 'val:metrics={kernel: {type: calculate_kernel_psnr}}'],
            'val.metrics.kernel.field: missing',
        ),
    ],
)  # fmt: skip
def test_what_cannot_learn_or_be_validated_is_refused(
    job: str, changes: list[str], problem: str | None, photos: Path
) -> None:
    found = problems_of_training(job, photos, *changes)
    assert found == [] if problem is None else any(line.startswith(problem) for line in found), found


def test_a_generator_that_is_told_kernels_is_not_validated_without(photos: Path) -> None:
    lr = ['datasets:val:degradation=~', f'datasets:val:dataroot_lq={photos}']
    (problem,) = problems_of_training('SFTRRDB_stage2', photos, *lr)
    assert problem == 'datasets.val.kernels: missing; KernelConditionedSRModel needs the kernels of LR images'


def test_sets_below_the_home_folder_are_opened_by_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'images').mkdir()
    options = changed(valid(tmp_path / 'images'), 'datasets.val.dataroot_gt', '~/empty')
    (problem,) = find_problems(options, is_train=True)
    assert problem.startswith(f'datasets.val: {tmp_path}/empty holds no images')


def test_a_manifest_is_read_by_the_check(photos: Path, tmp_path: Path) -> None:
    (folder,) = write_testsets(photos, tmp_path, scales=[2], sets=['type1'])
    paths = [
        f'datasets:val:{key}={value}' for key, value in (('dataroot_lq', folder), ('kernels', folder / MANIFEST_NAME))
    ]
    (problem,) = problems_of_training('MANet_stage1', photos, *paths, 'datasets:val:degradation=~')
    assert problem == f'datasets.val: {folder}/{MANIFEST_NAME} is for scale 2, found scale: 4'


def test_the_check_builds_no_network_of_others(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OtherEstimator(torch.nn.Module):
        def __init__(self) -> None:
            raise AssertionError('it was built')

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'OtherEstimator', OtherEstimator)
    assert problems_of_training('MANet_stage1', photos, 'network_g={type: OtherEstimator}') == []


def test_a_model_on_ours_with_losses_of_its_own_needs_those(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OtherModel(DANModel):
        LOSS_KEYS = ('pixel_opt', 'other_opt')

    monkeypatch.setitem(MODEL_REGISTRY._obj_map, 'OtherModel', OtherModel)
    assert problems_of_training('DAN', photos, 'model_type=OtherModel', 'train:kernel_opt=~') == []


def test_what_goes_on_from_a_state_needs_nothing_of_its_beginning(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / '2.state').touch()
    entries = [*shortened.train_entries('BlindSR_stage3', photos), f'path:resume_state={tmp_path}/2.state']
    entries += ['network_g:estimator:pretrained=~', 'network_g:generator:pretrained=gone.pth']
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    assert main(['check', '-opt', str(file), '--force_yml', *entries]) == 0, capsys.readouterr().err
