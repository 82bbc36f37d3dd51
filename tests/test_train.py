"""The training loop: resumes, kills, signals, several processes, stock models."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.options.checks import find_problems
from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.reading import load_options
from manet_basicsr.train import train_pipeline
from tests import shortened
from tests.trained import ENVIRONMENT, FILE, train


def run(root: Path, images: Path, *more: str, **short: Any) -> dict[str, Any]:
    """Train a shortened file in this process and give the last network."""
    return torch.load(train(root, images, *more, **short) / 'models/net_g_latest.pth', weights_only=True)


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Bitwise: the same operations in the same order on the same machine."""
    assert first.keys() == second.keys()
    for label in first:
        assert all(torch.equal(first[label][key], second[label][key]) for key in first[label])


def command(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command below a folder."""
    words = [sys.executable, '-m', 'manet_basicsr', *arguments]
    pipes: dict[str, Any] = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'text': True}
    return subprocess.Popen(words, cwd=root, env=ENVIRONMENT, start_new_session=True, **pipes)


def on_two_processes(root: Path, *entries: str) -> subprocess.CompletedProcess[str]:
    """Train the shortened stage-1 file with torchrun."""
    words = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=0', '--standalone']
    words += ['-m', 'manet_basicsr', 'train', '-opt', str(FILE), '--launcher', 'pytorch', '--force_yml', *entries]
    return subprocess.run(words, cwd=root, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 90) -> None:
    """Wait until a file exists, and fail where the process ends first."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f'no {path} after {seconds} s'
        time.sleep(0.02)


# BasicSR's SRModel can only train what needs no kernels: stage 3.
@pytest.mark.parametrize(('model', 'job'), [*(('ours', job) for job in shortened.JOBS), ('SRModel', 'BlindSR_stage3')])
def test_a_resumed_run_equals_the_uninterrupted_one(job: str, model: str, photos_lmdb: Path, tmp_path: Path) -> None:
    more = [] if model == 'ours' else ['model_type=SRModel']
    # 4 images in batches of 2: iteration 3 begins the second epoch; the resume at 3 is in the middle of it.
    short: dict[str, Any] = {'job': job, 'every': 3}
    more += ['train:ema_decay=0.9', 'train:scheduler={type: MultiStepLR, milestones: [2, 4], gamma: 0.5}']
    whole = run(tmp_path / 'whole', photos_lmdb, *more, total_iter=5, **short)
    run(tmp_path / 'parts', photos_lmdb, *more, total_iter=3, **short)
    resumed = run(tmp_path / 'parts', photos_lmdb, *more, total_iter=5, auto_resume=True, **short)
    assert_same(whole, resumed)


def test_a_run_is_the_same_for_any_number_of_workers_and_validations(photos_lmdb: Path, tmp_path: Path) -> None:
    alone = run(tmp_path / 'alone', photos_lmdb, total_iter=4, workers=0, every=4)
    workers = run(tmp_path / 'workers', photos_lmdb, total_iter=4, workers=2, every=1)
    assert_same(alone, workers)


def test_a_set_smaller_than_the_batch_trains_to_the_last_iteration(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb, 'datasets:train:batch_size_per_gpu=7', total_iter=3, every=1)
    assert (tmp_path / 'experiments' / FILE.stem / 'training_states/3.state').is_file()


def test_a_run_of_the_same_name_moves_the_old_one_aside(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb)
    run(tmp_path, photos_lmdb)
    assert len(list((tmp_path / 'experiments').glob(f'{FILE.stem}*'))) == 2


def test_auto_resume_passes_over_a_damaged_state_and_says_so(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb, total_iter=4)
    state = tmp_path / 'experiments' / FILE.stem / 'training_states/4.state'
    state.write_bytes(state.read_bytes()[:1000])
    run(tmp_path, photos_lmdb, total_iter=6, auto_resume=True)
    logs = ''.join(log.read_text() for log in state.parents[1].glob('train_*.log'))
    assert '4.state passed over' in logs
    assert 'Resuming training from iter: 2.' in logs


def test_a_run_that_started_from_a_released_file_resumes(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb)
    started = torch.load(tmp_path / f'experiments/{FILE.stem}/models/net_g_latest.pth', weights_only=True)['params']
    released = tmp_path / 'released.pth'
    torch.save({f'kernel_estimation.{key}': value for key, value in started.items()}, released)
    more = [f'path:pretrain_network_g={released}', 'path:param_key_g=~', 'train:ema_decay=0.9']
    root = tmp_path / 'from_released'
    whole = run(root / 'whole', photos_lmdb, *more, total_iter=4)
    run(root / 'parts', photos_lmdb, *more, total_iter=2)
    assert_same(whole, run(root / 'parts', photos_lmdb, *more, total_iter=4, auto_resume=True))


def test_auto_resume_never_begins_anew_where_no_state_is_whole(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb)
    state = tmp_path / 'experiments' / FILE.stem / 'training_states/2.state'
    state.write_bytes(b'')
    with pytest.raises(OptionError, match='no state is whole'):
        run(tmp_path, photos_lmdb, auto_resume=True)
    assert state.exists()


def test_a_resume_takes_new_metrics_and_starts_their_record(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb, 'val:metrics={kernel_psnr: {type: calculate_kernel_psnr}}')
    run(tmp_path, photos_lmdb, total_iter=4, auto_resume=True)
    log = max((tmp_path / 'experiments' / FILE.stem).glob('train_*.log')).read_text()
    assert '# lr_psnr' in log


def test_a_drawn_seed_is_kept_over_a_resume(photos_lmdb: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / 'whole', photos_lmdb, 'manual_seed=77', total_iter=4)
    run(tmp_path / 'parts', photos_lmdb, 'manual_seed=77')
    assert_same(whole, run(tmp_path / 'parts', photos_lmdb, 'manual_seed=~', total_iter=4, auto_resume=True))


def test_the_copies_of_the_options_in_an_experiment_are_option_files_again(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb)
    root = tmp_path / 'experiments' / FILE.stem
    assert find_problems(load_options(root / 'resolved.yml'), is_train=True) == []
    copied = root / FILE.name
    opt = shortened.resolved(FILE, shortened.train_entries('MANet_stage1', photos_lmdb), tmp_path)
    train_pipeline(opt, str(copied))  # its folder is moved aside, and the text with it
    assert copied.is_file()


def test_a_named_state_that_does_not_exist_is_one_clear_line(photos_lmdb: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r'path\.resume_state: .*7\.state does not exist'):
        run(tmp_path, photos_lmdb, f'path:resume_state={tmp_path}/7.state')


def test_weights_of_another_width_are_one_clear_line(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb)
    weights = tmp_path / 'experiments' / FILE.stem / 'models/net_g_latest.pth'
    entries = [f'path:pretrain_network_g={weights}', 'network_g:num_feat=24']
    with pytest.raises(OptionError, match='net_g_latest.pth'):
        run(tmp_path / 'other', photos_lmdb, *entries)


def test_stage_3_starts_from_a_stage_1_and_a_stage_2_file(photos_lmdb: Path, tmp_path: Path) -> None:
    estimator = run(tmp_path, photos_lmdb, job='MANet_stage1')['params']
    generator = run(tmp_path, photos_lmdb, job='SFTRRDB_stage2')['params']
    weights = '{}/experiments/train_{}_x4/models/net_g_latest.pth'
    more = [
        f'network_g:estimator:pretrained={weights.format(tmp_path, "MANet_stage1")}',
        f'network_g:generator:pretrained={weights.format(tmp_path, "SFTRRDB_stage2")}',
        'train:optim_g:lr=0',
    ]
    blind = run(tmp_path, photos_lmdb, *more, job='BlindSR_stage3')['params']
    assert all(torch.equal(value, blind[f'kernel_estimation.{key}']) for key, value in estimator.items())
    assert all(torch.equal(value, blind[key]) for key, value in generator.items())


@pytest.mark.parametrize(
    'job',
    ['SFTRRDB_stage2', *(pytest.param(job, marks=pytest.mark.slow) for job in ('MANet_stage1', 'BlindSR_stage3'))],
)
def test_the_road_from_training_over_a_kill_and_a_resume_to_a_test(job: str, photos_lmdb: Path, tmp_path: Path) -> None:
    file = shortened.option_file('train', job, 4)
    entries = shortened.train_entries(job, photos_lmdb, total_iter=100_000, workers=1, every=5)
    # One GT LMDB for training and two validation sets.
    second = '{name: second, type: SVDegradationDataset, dataroot_gt: ' + str(photos_lmdb)
    entries.append('datasets:val_2=' + second + ', degradation: {field: {type: protocol, kind: 4}}}')
    arguments = ['train', '-opt', str(file), '--auto_resume', '--force_yml', *entries]
    root = tmp_path / 'experiments' / file.stem
    process = command(tmp_path, *arguments)
    wait_for(root / 'training_states/10.state', process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    newest = max(int(path.stem) for path in (root / 'training_states').glob('*.state'))
    arguments[-len(entries) :] = [f'train:total_iter={newest + 5}' if 'total' in entry else entry for entry in entries]
    process = command(tmp_path, *arguments)
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    assert f'Resuming training from iter: {newest:,d}.' in output
    assert 'Validation second' in output
    test_file = shortened.option_file('test', job, 4)
    network = root / 'models/net_g_latest.pth'
    process = command(
        tmp_path, 'test', '-opt', str(test_file), '--force_yml', *shortened.test_entries(job, photos_lmdb, network)
    )
    output = process.communicate(timeout=180)[0]
    assert process.returncode == 0, output
    saved = sorted((tmp_path / 'results' / test_file.stem / 'visualization').rglob('*'))
    suffixes = {'.npz', '.png'} if job == 'MANet_stage1' else {'.png'}
    assert {path.suffix for path in saved if path.is_file()} == suffixes
    assert len([path for path in saved if path.suffix == '.png']) == 4 * (9 + 5)


@pytest.mark.parametrize('number', [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_saves_and_leaves_with_a_clear_line(number: signal.Signals, photos_lmdb: Path, tmp_path: Path) -> None:
    entries = shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=100_000, every=100_000)
    entries.append('logger:print_freq=1')
    process = command(tmp_path, 'train', '-opt', str(FILE), '--force_yml', *entries)
    log = tmp_path / 'experiments' / FILE.stem / 'resolved.yml'
    wait_for(log, process)
    assert process.stdout is not None
    for line in process.stdout:
        if 'l_kernel' in line:
            break
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + number
    assert f'{number.name}: saved at iter' in output
    assert len(list((log.parent / 'training_states').glob('*.state'))) == 1


@pytest.mark.slow
def test_a_set_with_fewer_images_than_processes_is_validated(photos: Path, tmp_path: Path) -> None:
    (tmp_path / 'one').mkdir()
    shutil.copy(photos / 'coffee.png', tmp_path / 'one')
    entries = [*shortened.train_entries('MANet_stage1', photos), f'datasets:val:dataroot_gt={tmp_path / "one"}']
    done = on_two_processes(tmp_path, *entries)
    assert done.returncode == 0, done.stderr
    assert '# kernel_psnr' in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    'optimizer',
    [[], ['train:optim_g={type: Muon, lr: 0.02}']],
    ids=['Adam', 'Muon'],
)
def test_two_processes_train_as_one_does_on_the_whole_batch(
    optimizer: list[str], photos_lmdb: Path, tmp_path: Path
) -> None:
    whole_batch = 'datasets:train:batch_size_per_gpu=4'
    alone = run(tmp_path / 'alone', photos_lmdb, whole_batch, *optimizer, total_iter=3, every=3)
    entries = [*shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=3, every=3), *optimizer]
    together = tmp_path / 'together'
    together.mkdir()
    done = on_two_processes(together, *entries)
    assert done.returncode == 0, done.stderr
    root = together / 'experiments' / FILE.stem
    both = torch.load(root / 'models/net_g_latest.pth', weights_only=True)
    for key, value in alone['params'].items():
        # Sums over the batch are rounded in another order; Adam divides by their root, Muon by singular values.
        torch.testing.assert_close(both['params'][key], value, rtol=0, atol=3e-4)
    logs = list(root.glob('train_*.log'))
    assert len(logs) == 1

    def scores(text: str) -> list[float]:
        return [float(line.split()[2]) for line in text.splitlines() if '# lr_psnr' in line or '# kernel_psnr' in line]

    single = next((tmp_path / 'alone/experiments' / FILE.stem).glob('train_*.log')).read_text()
    assert scores(logs[0].read_text()) == pytest.approx(scores(single), abs=0.02)
    assert math.isfinite(sum(scores(single)))
