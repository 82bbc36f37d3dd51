"""Resolved options: what BasicSR adds, folders, short runs; and the file that they are written to."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.utils import set_random_seed

from manet_basicsr.commands.arguments import add_arguments, resolve_arguments
from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.reading import load_options
from manet_basicsr.options.resolving import DEBUG_ITERATIONS, is_ours, resolve, run_folder, write_resolved
from manet_basicsr.weights import resolve_weights

TRAINING = """
name: run
model_type: KernelL1Model
scale: 4
num_gpu: 0
manual_seed: 3
datasets:
  train:
    name: Train
    type: SVDegradationDataset
    dataroot_gt: ~/images
    gt_size: 48
    degradation: {field: {type: invariant, variance: [0.7, 10]}}
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
  val_1: &val
    name: Val
    type: SVDegradationDataset
    dataroot_gt: ~/images
    degradation: {field: {type: fixed, variances: [6, 1]}}
  val_2: {<<: *val, name: Val2}
network_g: {type: MANet, num_feat: 16}
path:
train:
  total_iter: 300
  optim_g: {type: Adam, lr: 1e-4}
  scheduler: {type: MultiStepLR, milestones: [200]}
  kernel_opt: {type: KernelL1Loss}
val: {val_freq: 100}
logger: {print_freq: 50, save_checkpoint_freq: 100}
"""
TESTING = (
    TRAINING[: TRAINING.index('\npath:')].replace('  train:\n', '  test_1:\n').replace('val_', 'test_val')
    + '\npath: {pretrain_network_g: manet_x4}'
).replace(', num_feat: 16', '')


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder with a folder of images; torch's and Python's random states are put back."""
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/image.png').touch()
    yield tmp_path
    set_random_seed(0)


def arguments(path: Path, *flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(['-opt', str(path), *flags])


def resolved(folder: Path, text: str = TRAINING, *flags: str, is_train: bool = True) -> dict[str, Any]:
    (folder / 'o.yml').write_text(text)
    args = arguments(folder / 'o.yml', *flags)
    return resolve_arguments(args, str(folder / 'root'), is_train=is_train)


def test_resolved_training_options_have_all_that_basicsr_adds(home: Path) -> None:
    opt = resolved(home)
    root = home / 'root/experiments/run'
    assert opt['path'] == {
        'experiments_root': str(root),
        'log': str(root),
        'visualization': str(root / 'visualization'),
        'models': str(root / 'models'),
        'training_states': str(root / 'training_states'),
    }
    assert (opt['dist'], opt['rank'], opt['world_size'], opt['num_gpu']) == (False, 0, 1, 0)
    assert (opt['is_train'], opt['auto_resume'], opt['root_path']) == (True, False, str(home / 'root'))
    assert [(name, opt['datasets'][name]['phase']) for name in opt['datasets']] == [
        ('train', 'train'),
        ('val_1', 'val'),
        ('val_2', 'val'),
    ]
    assert all(dataset['scale'] == 4 for dataset in opt['datasets'].values())
    assert opt['datasets']['train']['dataroot_gt'] == str(home / 'images')
    assert opt['logger']['use_tb_logger'] is False
    assert not (home / 'root').exists()  # nothing is made yet


def test_resolved_test_options_have_the_defaults_of_val(home: Path) -> None:
    for text in (TESTING, f'{TESTING}\nval:\n', f'{TESTING}\nval: {{save_img: false}}'):
        opt = resolved(home, text.replace('datasets:\n  test_1', 'datasets:\n  test_0'), is_train=False)
        assert opt['val'] == {'save_img': False, 'suffix': None}
        assert opt['path']['results_root'] == opt['path']['log'] == str(home / 'root/results/run')


def test_the_root_of_the_file_is_the_folder_around_runs_and_is_written_back(home: Path) -> None:
    opt = resolved(home, TRAINING, '--auto_resume', '--force_yml', f'path={{experiments_root: {home}/runs}}')
    assert opt['path']['experiments_root'] == opt['path']['log'] == str(home / 'runs/run')
    assert opt['path']['models'] == str(home / 'runs/run/models')
    assert opt['auto_resume']
    write_resolved(opt, home / 'resolved.yml')
    assert load_options(home / 'resolved.yml')['path'] == {'experiments_root': str(home / 'runs')}
    assert run_folder(load_options(home / 'resolved.yml'), '', is_train=True) == str(home / 'runs/run')


def test_the_root_of_results_is_the_folder_around_them(home: Path) -> None:
    opt = resolved(home, TESTING.replace('path: {', 'path: {results_root: ~/pics, '), is_train=False)
    assert opt['path']['results_root'] == opt['path']['log'] == str(home / 'pics/run')


def test_debug_changes_the_name_and_shortens_the_run(home: Path) -> None:
    opt = resolved(home, TRAINING, '--debug')
    assert opt['name'] == 'debug_run'
    assert opt['train']['total_iter'] == DEBUG_ITERATIONS < 40
    assert opt['path']['models'].endswith('experiments/debug_run/models')
    assert (opt['logger']['print_freq'], opt['logger']['save_checkpoint_freq'], opt['val']['val_freq']) == (1, 8, 8)
    assert resolved(home, TRAINING.replace('name: run', 'name: debug_run'), '--debug')['name'] == 'debug_run'


def test_a_name_shortens_nothing(home: Path) -> None:
    opt = resolved(home, TRAINING.replace('name: run', 'name: train_without_debugging'))
    assert (opt['logger']['print_freq'], opt['logger']['save_checkpoint_freq'], opt['val']['val_freq']) == (
        50,
        100,
        100,
    )
    assert opt['train']['total_iter'] == 300


def test_options_that_are_resolved_stay_as_they_were(home: Path) -> None:
    (home / 'o.yml').write_text(TRAINING)
    options = load_options(home / 'o.yml')
    resolve(options, root_path=str(home), is_train=True)
    assert options == load_options(home / 'o.yml')


def test_seed_of_the_file_is_used_and_one_is_drawn_where_there_is_none(home: Path) -> None:
    draws = []
    for _ in range(2):
        assert resolved(home)['manual_seed'] == 3
        draws.append(torch.rand(()).item())
    assert draws[0] == draws[1]
    without = TRAINING.replace('manual_seed: 3', 'manual_seed: ~')
    torch.manual_seed(0)
    seeds = {resolved(home, without)['manual_seed'] for _ in range(8)}
    assert len(seeds) > 1  # all alike by chance: once in 10,000 ** 7


def test_every_problem_of_the_file_is_reported_with_its_name(home: Path) -> None:
    text = TRAINING.replace('num_feat', 'num_feet').replace('print_freq: 50', 'print_freq: often')
    with pytest.raises(OptionError) as raised:
        resolved(home, text)
    assert len(raised.value.problems) == 2
    assert all(problem.startswith(f'{home}/o.yml: ') for problem in raised.value.problems)


def test_more_gpus_than_there_are_is_refused(home: Path) -> None:
    with pytest.raises(OptionError, match='num_gpu: found 99, but there are'):
        resolved(home, TRAINING.replace('num_gpu: 0', 'num_gpu: 99'))
    assert resolved(home, TRAINING.replace('num_gpu: 0', 'num_gpu: auto'))['num_gpu'] == torch.cuda.device_count()


def test_a_training_by_itself_has_one_gpu(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    automatic, two = (TRAINING.replace('num_gpu: 0', f'num_gpu: {number}') for number in ('auto', 2))
    assert resolved(home, automatic)['num_gpu'] == 1
    with pytest.raises(OptionError, match='num_gpu: found 2, expected 1 or a process each, started by torchrun'):
        resolved(home, two)
    # BasicSR's own models work in its DataParallel.
    assert is_ours('KernelL1Model') and not is_ours('SRModel') and not is_ours(None)
    testing = TESTING.replace('num_gpu: 0', 'num_gpu: auto')
    assert resolved(home, testing, is_train=False)['num_gpu'] == 4


def test_launcher_without_torchrun_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(OptionError, match='RANK is not set, expected a start by torchrun'):
        resolved(home, TRAINING, '--launcher', 'pytorch')
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    with pytest.raises(OptionError, match='SLURM_PROCID is not set, expected a start by srun'):
        resolved(home, TRAINING, '--launcher', 'slurm')


def test_resolved_options_are_written_and_read_back(home: Path) -> None:
    opt = resolved(home)
    write_resolved(opt, home / 'resolved.yml')
    again = load_options(home / 'resolved.yml')
    assert again == {**{key: opt[key] for key in again}, 'path': {}}  # what follows from the rest is left out
    assert opt.keys() - again.keys() == {'dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path'}
    opt['path']['pretrain_network_g'] = str(resolve_weights('weights://blind_x4'))
    write_resolved(opt, home / 'resolved.yml')
    assert load_options(home / 'resolved.yml')['path'] == {'pretrain_network_g': 'weights://blind_x4'}
    assert '&' not in (home / 'resolved.yml').read_text()  # no aliases
