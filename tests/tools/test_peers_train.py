"""The trainings of the comparison with other systems."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from manet_basicsr.commands.basicsr import main as basicsr
from manet_basicsr.options.forcing import force
from manet_basicsr.options.reading import load_options

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    'generator', 'estimator', 'DAN', 'HAN_bicubic', 'RCAN_bicubic', 'RCAN_blur', 'stage3', 'IKC', 'SRSVD', 'two_blocks',
    'split4', 'conv', 'kernel_l1_loss', 'lr_image_loss', 'indirect_loss', 'collage',
)  # fmt: skip


@pytest.fixture(scope='module')
def tool() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / 'tools'))
        train = importlib.import_module('peers_train')
        short, measure = (importlib.import_module(name) for name in ('short_training', 'peers_measure'))
        yield SimpleNamespace(train=train, short=short, measure=measure)


def test_every_training_is_listed(tool: SimpleNamespace) -> None:
    assert tuple(tool.train.BY_NAME) == NAMES


def test_the_design_study_has_the_losses_of_the_estimator_but_where_they_are_what_is_studied(
    tool: SimpleNamespace,
) -> None:
    options = load_options(ROOT / 'options' / tool.train.BY_NAME['estimator'].file)['train']
    losses = {f'train:{key}': options[key] for key in ('kernel_opt', 'lr_image_opt')}
    for name in ('two_blocks', 'split4', 'conv', 'collage'):
        assert dict(tool.train.BY_NAME[name].changes) == losses
    for name in ('kernel_l1_loss', 'lr_image_loss'):
        assert not tool.train.BY_NAME[name].changes


def test_rates_are_lower_at_the_whole_budget_but_where_they_were_tried(tool: SimpleNamespace) -> None:
    def rate(name: str, *, whole: bool) -> float:
        opt: dict[str, Any] = {'train': {}}
        changes = tool.train.BY_NAME[name].changes_for(str, whole=whole)
        force(opt, [f'{key}={json.dumps(value)}' for key, value in changes.items() if 'optim_g' in key])
        return opt['train']['optim_g']['lr']

    assert [rate(name, whole=False) for name in ('estimator', 'DAN', 'RCAN_blur', 'IKC')] == [0.02, 0.02, 0.01, 0.02]
    assert [rate(name, whole=True) for name in ('estimator', 'DAN', 'RCAN_blur', 'IKC')] == [0.01, 0.01, 0.01, 0.02]


@pytest.mark.usefixtures('here')
@pytest.mark.parametrize('where', ['ON_CPU', 'ON_GPU'])
@pytest.mark.parametrize('name', NAMES)
def test_each_is_an_option_file_without_problems(
    tool: SimpleNamespace, name: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    training = tool.train.BY_NAME[name]
    whole = where == 'ON_GPU'
    changes = {**getattr(tool.short, where), **training.changes_for(lambda other: f'{other}.pth', whole=whole)}
    forced = [f'{key}={json.dumps(value)}' for key, value in changes.items()]
    basicsr(['check', '-opt', str(ROOT / 'options' / training.file), '--force_yml', *forced])
    problems = capsys.readouterr().err.splitlines()
    # There are no images, and no weights of the trainings before it.
    assert problems and all('dataroot_gt' in problem or '.pth' in problem for problem in problems)


def test_a_training_is_made_once_and_what_follows_finds_it(
    tool: SimpleNamespace,
    photos_lmdb: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = [str(tmp_path / 'out'), '--data', str(photos_lmdb), '--batch', '1', '--crop', '64', '--share', '0.0004']
    assert tool.train.main([*command, '--only', 'IKC']) == 1
    assert (
        'generator_seed0/models/net_g_latest.pth, expected it from generator; train that first'
        in capsys.readouterr().err
    )
    # Two at a time: what needs another waits for it.
    assert tool.train.main([*command, '--only', 'IKC', 'generator', '--jobs', '2']) == 0
    files = [tool.short.network_of(tmp_path / 'out', f'{name}_seed0') for name in ('generator', 'IKC')]
    states = [torch.load(file, weights_only=True)['params'] for file in files]
    for key, value in states[0].items():  # IKC has that generator, and does not train it
        assert torch.equal(states[1][f'generator.{key}'], value)
    options = load_options(files[0].parents[1] / 'resolved.yml')
    assert options['train']['total_iter'] == 3 and options['train']['optim_g']['type'] == 'Muon'
    before = [file.stat().st_mtime_ns for file in files]
    tool.train.main([*command, '--only', 'generator', 'IKC'])
    assert [file.stat().st_mtime_ns for file in files] == before
    assert tool.train.main([*command[:-1], '0.0008', '--only', 'generator']) == 1
    assert 'found total_iter 3, expected 6; name another OUTPUT' in capsys.readouterr().err
    assert tool.train.main([command[0], '--data', str(tmp_path), *command[3:], '--only', 'IKC']) == 1
    assert f'expected {tmp_path}; name another OUTPUT' in capsys.readouterr().err
    monkeypatch.setitem(tool.short.MUON['train:optim_g'], 'lr', 0.5)
    assert tool.train.main([*command, '--only', 'generator']) == 1
    assert 'found lr 0.02, expected 0.5; name another OUTPUT' in capsys.readouterr().err


def test_at_the_whole_budget_a_training_is_as_its_file_says_and_needs_no_other(
    tool: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, tuple[int, dict[str, Any]]] = {}

    def train(_: Path, name: str, __: Path, iterations: int, changes: dict[str, Any], **___: Any) -> None:
        asked[name] = iterations, changes

    monkeypatch.setattr(tool.train, 'train', train)
    assert tool.train.main([str(tmp_path), '--data', 'photos.lmdb', '--whole', '--seeds', '1']) == 0
    # Version 0.1.0's generator is there.
    assert set(asked) == {f'{name}_whole_seed1' for name in NAMES if name not in ('generator', 'stage3')}
    for name, (iterations, changes) in asked.items():
        file = ROOT / 'options' / tool.train.BY_NAME[name.removesuffix('_whole_seed1')].file
        options = load_options(file)
        if file.parent.name == 'peers':
            assert iterations == options['train']['total_iter']
            assert changes['datasets:train:batch_size_per_gpu'] == options['datasets']['train']['batch_size_per_gpu']
        assert changes['datasets:train:gt_size'] == 128
    for name, key in (('IKC', 'network_g'), ('SRSVD', 'network_g'), ('indirect_loss', 'train:indirect_opt')):
        assert asked[f'{name}_whole_seed1'][1][f'{key}:generator:pretrained'] == 'weights://blind_v0_1_0_x4'


@pytest.mark.slow
@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, 1), (signal.SIGINT, 130)])
def test_trainings_that_are_stopped_save_their_states_and_no_other_begins(
    number: signal.Signals, code: int, photos_lmdb: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(ROOT / 'tools/peers_train.py'), str(tmp_path), '--data', str(photos_lmdb)]
    command += ['--batch', '1', '--crop', '64', '--only', 'generator', 'estimator', 'DAN', '--jobs', '2']
    log = tmp_path / 'log'
    about = {'stderr': subprocess.STDOUT, 'start_new_session': True}
    with log.open('wb') as file, subprocess.Popen(command, stdout=file, **about) as process:
        deadline = time.monotonic() + 120
        while log.read_text().count('Expected time') < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
        # A terminal sends Ctrl-C to all, a scheduler its signal to the one that it started.
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(60) == code
    for name in ('generator', 'estimator'):
        assert list((tmp_path / f'experiments/{name}_seed0/training_states').glob('*.state'))
    assert not (tmp_path / 'experiments/DAN_seed0').exists()


def test_a_number_of_jobs_that_is_none_is_a_line(
    tool: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tool.train.main([str(tmp_path), '--data', 'photos.lmdb', '--jobs', '0'])
    assert '--jobs: found 0, expected at least 1' in capsys.readouterr().err


def test_the_cost_of_a_training_is_known_before_it_and_after_it_was_interrupted(
    tool: SimpleNamespace, tmp_path: Path, photos_lmdb: Path
) -> None:
    study = tool.measure.training_options(tool.train.BY_NAME['split4'], tmp_path)
    assert study['train']['kernel_opt']['type'] == 'KernelKLLoss'
    training = tool.train.BY_NAME['generator']
    before = tool.measure.training_options(training, tmp_path)
    short = ['--batch', '1', '--crop', '64', '--share', '3e-4']
    tool.train.main([str(tmp_path), '--data', str(photos_lmdb), '--only', 'generator', *short])
    resolved = tmp_path / 'experiments/generator_seed0/resolved.yml'
    # As a training that was gone on with leaves it, whose early states are gone.
    resolved.write_text(resolved.read_text().replace('pretrain_network_g: null', 'pretrain_network_g: gone.pth'))
    assert 'gone.pth' in resolved.read_text()
    after = tool.measure.training_options(training, tmp_path)
    assert before['train']['total_iter'] == 750 and after['train']['total_iter'] == 2
    assert before['train']['optim_g']['type'] == after['train']['optim_g']['type'] == 'Muon'
    assert tool.measure.measure_training(training, tmp_path)['flop'] > 0
