"""Several processes: signals that all follow, one that dies, two machines; tests/test_train.py compares the numbers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from manet_basicsr.train import train_pipeline
from manet_basicsr.training.checkpoints import saved_iterations
from tests import shortened
from tests.trained import ENVIRONMENT, FILE, RUN

ONE_MACHINE = ['--standalone', '--nproc_per_node=2']


@contextmanager
def torchrun(
    root: Path, agent: list[str], entries: list[str], name: str = 'output', file: Path = FILE
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command under torchrun below a folder, its output in a file; nothing of it survives the block."""
    words = [sys.executable, '-m', 'torch.distributed.run', *agent, '-m', 'manet_basicsr', 'train', '-opt', str(file)]
    words += ['--launcher', 'pytorch', '--auto_resume', '--force_yml', *entries]
    root.mkdir(exist_ok=True)
    with (root / f'{name}.txt').open('wb') as output:
        process = subprocess.Popen(
            words, cwd=root, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            for number in (process.pid, *trainers(process)):  # each leads a session of its own
                os.killpg(os.getpgid(number), signal.SIGKILL)
            process.wait()


def wait_for_state(root: Path, process: subprocess.Popen[bytes], after: int = 0) -> None:
    end = time.monotonic() + 120
    while max(saved_iterations(root / RUN / 'training_states'), default=0) <= after:
        assert process.poll() is None, (root / 'output.txt').read_text()
        assert time.monotonic() < end
        time.sleep(0.05)


def trainers(process: subprocess.Popen[bytes]) -> list[int]:
    """Give the training processes of an agent, rank 0 first."""
    found = []
    for child in Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split():
        variables = Path(f'/proc/{child}/environ').read_bytes().split(b'\0')
        ranks = [int(variable[5:]) for variable in variables if variable.startswith(b'RANK=')]
        found += [(rank, int(child)) for rank in ranks]
    return [child for _, child in sorted(found)]


@pytest.mark.slow
def test_a_signal_ends_all_processes_together_and_one_that_dies_ends_the_others(
    photos_lmdb: Path, tmp_path: Path
) -> None:
    entries = [*shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=100_000, every=5, workers=1), 'val=~']
    with torchrun(tmp_path, ONE_MACHINE, entries) as process:
        wait_for_state(tmp_path, process)
        process.terminate()
        process.wait(timeout=60)
    output = (tmp_path / 'output.txt').read_text()
    assert output.count('SIGTERM: saved at iter') == 1, output  # rank 0 speaks for both
    last = saved_iterations(tmp_path / RUN / 'training_states')[0]
    assert f'SIGTERM: saved at iter {last:,d}.' in output
    assert 'Traceback' not in output.partition('SIGTERM: saved')[0]

    with torchrun(tmp_path, ONE_MACHINE, entries) as process:
        wait_for_state(tmp_path, process, after=last)
        _, second = trainers(process)
        os.kill(second, signal.SIGKILL)
        begun = time.monotonic()
        assert process.wait(timeout=60) != 0
        assert time.monotonic() - begun < 60
    output = (tmp_path / 'output.txt').read_text()
    assert f'Resuming training from iter: {last:,d}.' in output
    assert f'Signal 9 (SIGKILL) received by PID {second}' in output
    logs = sorted((tmp_path / RUN).glob('train_*.log'))
    assert len(logs) in (1, 2)  # one a start, or one for both within a second: rank 0 alone writes them


@pytest.mark.slow
def test_a_signal_to_the_whole_process_group_does_not_cost_the_workers(photos_lmdb: Path, tmp_path: Path) -> None:
    """As Ctrl-C on a terminal, and Slurm, send it: to the loader's workers too, and more than once."""
    entries = [*shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=100_000, every=5, workers=2), 'val=~']
    words = [sys.executable, '-m', 'manet_basicsr', 'train', '-opt', str(FILE), '--force_yml', *entries]
    with (tmp_path / 'output.txt').open('wb') as file:
        process = subprocess.Popen(
            words, cwd=tmp_path, env=ENVIRONMENT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    wait_for_state(tmp_path, process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 128 + signal.SIGINT
    output = (tmp_path / 'output.txt').read_text()
    assert 'SIGINT: saved at iter' in output
    assert 'Traceback' not in output and 'DataLoader worker' not in output


@pytest.mark.slow
def test_two_machines_train_as_one_does(photos_lmdb: Path, tmp_path: Path) -> None:
    """Two torchrun agents that meet on the loopback, each with a process; they share a folder, as machines would."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    meeting = ['--nproc_per_node=1', '--rdzv_id=7', '--rdzv_backend=c10d', f'--rdzv_endpoint=127.0.0.1:{port}']
    agent = ['--nnodes=2', '--local_addr=127.0.0.1', *meeting]
    entries = shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=3, every=3)
    together = tmp_path / 'together'
    with torchrun(together, agent, entries) as first, torchrun(together, agent, entries, 'other') as second:
        for process in (first, second):
            code = process.wait(timeout=240)
            assert code == 0, (together / 'output.txt').read_text() + (together / 'other.txt').read_text()
    opt = shortened.resolved(FILE, [*entries, 'datasets:train:batch_size_per_gpu=4'], tmp_path / 'alone')
    train_pipeline(opt, str(FILE))
    alone, both = (
        torch.load(root / RUN / 'models/net_g_latest.pth', weights_only=True)['params']
        for root in (tmp_path / 'alone', together)
    )
    for key, value in alone.items():
        # Sums over the batch are rounded in another order, and Adam divides by their root.
        torch.testing.assert_close(both[key], value, rtol=0, atol=3e-4)
    assert len(list((together / RUN).glob('train_*.log'))) == 1
    outputs = [(together / f'{name}.txt').read_text() for name in ('output', 'other')]
    assert sorted('Save the latest model' in output for output in outputs) == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize('processes', [1, 2])
def test_a_signal_during_a_validation_is_answered_between_its_images(
    photos: Path, tmp_path: Path, processes: int
) -> None:
    hr = tmp_path / 'hr'
    hr.mkdir()
    for number in range(301):  # odd: two processes have unequally many
        (hr / f'{number}.png').symlink_to(photos / 'coffee.png')
    entries = [
        *shortened.train_entries('MANet_stage1', photos, total_iter=100, every=3),
        f'datasets:val:dataroot_gt={hr}',
    ]
    entries += ['val:save_img=true', 'logger:save_checkpoint_freq=1000']
    with torchrun(tmp_path, ['--standalone', f'--nproc_per_node={processes}'], entries) as process:
        seen = tmp_path / RUN / 'visualization'
        end = time.monotonic() + 120
        while len(list(seen.glob('*/*'))) < 4:
            assert process.poll() is None and time.monotonic() < end, (tmp_path / 'output.txt').read_text()
            time.sleep(0.02)
        os.kill(trainers(process)[-1], signal.SIGTERM)  # one of them alone
        process.wait(timeout=60)
    output = (tmp_path / 'output.txt').read_text()
    assert 'is left out' in output and 'SIGTERM: saved at iter 3.' in output, output
    assert 'Traceback' not in output.partition('SIGTERM: saved')[0]
    assert len(list(seen.glob('*/*'))) < 301  # the rest was not done
    assert saved_iterations(tmp_path / RUN / 'training_states') == [3]
    more = [f'datasets:val:dataroot_gt={photos}', 'train:total_iter=4']
    with torchrun(tmp_path, ['--standalone', f'--nproc_per_node={processes}'], [*entries, *more]) as process:
        assert process.wait(timeout=120) == 0, (tmp_path / 'output.txt').read_text()
    output = (tmp_path / 'output.txt').read_text()
    assert 'Resuming training from iter: 3.' in output
    assert 'The validation of iter 3, which was left out, is done now.' in output


@pytest.mark.slow
def test_a_stock_model_leaves_its_validation_which_one_process_does_while_the_other_waits(
    photos: Path, tmp_path: Path
) -> None:
    hr = tmp_path / 'hr'
    hr.mkdir()
    for number in range(301):
        (hr / f'{number}.png').symlink_to(photos / 'coffee.png')
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    run = tmp_path / 'experiments' / file.stem
    entries = [*shortened.train_entries('BlindSR_stage3', photos, total_iter=100, every=3), 'model_type=SRModel']
    entries += [f'datasets:val:dataroot_gt={hr}', 'val:save_img=true', 'logger:save_checkpoint_freq=1000']
    entries.append('val:metrics={psnr: {type: calculate_psnr, crop_border: 4}}')
    with torchrun(tmp_path, ONE_MACHINE, entries, file=file) as process:
        end = time.monotonic() + 120
        while len(list((run / 'visualization').glob('*/*'))) < 4:
            assert process.poll() is None and time.monotonic() < end, (tmp_path / 'output.txt').read_text()
            time.sleep(0.02)
        process.terminate()
        process.wait(timeout=60)
    output = (tmp_path / 'output.txt').read_text()
    assert 'is left out' in output and 'SIGTERM: saved at iter 3.' in output, output
    assert len(list((run / 'visualization').glob('*/*'))) < 301
    assert saved_iterations(run / 'training_states') == [3]
    more = [f'datasets:val:dataroot_gt={photos}', 'train:total_iter=4']
    with torchrun(tmp_path, ONE_MACHINE, [*entries, *more], file=file) as process:
        assert process.wait(timeout=120) == 0, (tmp_path / 'output.txt').read_text()
    assert 'The validation of iter 3, which was left out, is done now.' in (tmp_path / 'output.txt').read_text()


@pytest.mark.slow
def test_numbers_that_are_not_finite_in_one_process_end_all_and_are_named(photos_lmdb: Path, tmp_path: Path) -> None:
    plugin = tmp_path / 'breaking.py'
    plugin.write_text(
        'import math, os\n'
        'import manet_basicsr\n'
        'from basicsr.utils.registry import LOSS_REGISTRY\n'
        'from manet_basicsr.losses import KernelL1Loss\n'
        '@LOSS_REGISTRY.register()\n'
        'class BreaksInRank1(KernelL1Loss):\n'
        '    calls = 0\n'
        '    def from_logits(self, logits, target):\n'
        '        self.calls += 1\n'
        "        broken = self.calls == 3 and os.environ['RANK'] == '1'\n"
        '        return super().from_logits(logits, target) * (math.nan if broken else 1)\n'
    )
    information = tmp_path / 'breaking-1.dist-info'
    information.mkdir()
    (information / 'METADATA').write_text('Metadata-Version: 2.1\nName: breaking\nVersion: 1\n')
    (information / 'entry_points.txt').write_text('[basicsr.plugins]\nbreaking = breaking\n')
    entries = [*shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=6), 'val=~']
    entries.append('train:kernel_opt={type: BreaksInRank1}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENVIRONMENT, 'PYTHONPATH', f'{shortened.ROOT}{os.pathsep}{tmp_path}')
        with torchrun(tmp_path, ONE_MACHINE, entries) as process:
            assert process.wait(timeout=120) != 0
    output = (tmp_path / 'output.txt').read_text()
    # The loss and the samples of rank 1, said by both or by the first to leave.
    assert 'basicsr: error: iter 3: found l_kernel nan, gradients nan' in output, output
    assert saved_iterations(tmp_path / RUN / 'training_states') == [2]
