"""Kill a training again and again, also while it writes, and show that nothing is lost.

    python tools/torture.py FOLDER --kills 100

Trains the stage-1 file, shortened, once without interruption, and once with SIGKILL (now and then SIGTERM) at random
moments, every second one waiting for a checkpoint to be half-written; each time it goes on with --auto_resume. After
each kill: the run goes on from the newest whole state, and no further back than the last save. In the end networks,
EMA, optimizer, scheduler, float16 loss scaler, random generators and the record of best metrics equal those of the
uninterrupted run, bit for bit. Exit codes: 0 all of that held; 1 it did not.

Each run is a child forked from this process, which has imported everything already, and runs what `basicsr train` runs.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import skimage.data
import torch

from manet_basicsr.commands import basicsr as cli
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.training.checkpoints import newest_whole_state

ROOT = Path(__file__).resolve().parents[1]
OPTION_FILE = ROOT / 'options/train/train_MANet_stage1_x4.yml'
RUN = Path('experiments') / OPTION_FILE.stem
SAVE_FREQ = 3


class LostError(Exception):
    """Something that must survive a kill did not; the message says what."""


@dataclass
class Report:
    """What was done to the run."""

    kills: int = 0
    while_writing: int = 0
    terminated: int = 0
    iterations_repeated: int = 0
    starts: list[int] = field(default_factory=list)


def entries(folder: Path, total_iter: int, num_feat: int, workers: int) -> list[str]:
    """Give the --force_yml entries that shorten the option file and make all there is to lose."""
    return [
        f'datasets:train:dataroot_gt={folder / "photographs.lmdb"}',
        f'datasets:val:dataroot_gt={folder / "photographs.lmdb"}',
        'datasets:train:gt_size=32',
        'datasets:train:batch_size_per_gpu=2',
        f'datasets:train:num_worker_per_gpu={workers}',
        f'network_g:num_feat={num_feat}',
        f'train:total_iter={total_iter}',
        'train:ema_decay=0.9',
        'train:amp=fp16',
        'train:compile=false',
        f'train:scheduler={{type: MultiStepLR, milestones: [{total_iter // 3}, {total_iter // 2}], gamma: 0.5}}',
        f'val:val_freq={7 * SAVE_FREQ}',
        'logger:print_freq=1',
        f'logger:save_checkpoint_freq={SAVE_FREQ}',
        'logger:keep_checkpoints=2',
        'logger:use_tb_logger=false',
    ]


def save_photographs(folder: Path) -> None:
    """Pack small crops of two photographs, so that a validation is quick."""
    (folder / 'photographs').mkdir(parents=True)
    for name in ('astronaut', 'coffee'):
        image = getattr(skimage.data, name)()[100:196, 100:196]
        cv2.imwrite(str(folder / 'photographs' / f'{name}.png'), image[..., ::-1])
    write_lmdb(folder / 'photographs', folder / 'photographs.lmdb')


def start(folder: Path, arguments: list[str], output: Path) -> int:
    """Start the command below a folder in a process group of its own and give its number."""
    folder.mkdir(exist_ok=True)
    output.unlink(missing_ok=True)
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = cli.main(['train', '-opt', str(OPTION_FILE), '--auto_resume', '--force_yml', *arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(process: int, until: float) -> int | None:
    """Wait for a process until a time; give its exit status, None if it still runs."""
    while time.monotonic() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    return None


def half_written(folder: Path) -> bool:
    """Tell whether a checkpoint is being written, or was when its writer was killed."""
    return any(folder.glob(f'{RUN}/*/.*.partial.*'))


def wait_for_a_write(process: int, folder: Path, until: float) -> int | None:
    """Wait until a checkpoint is half-written; give the exit status if the process ends first."""
    while time.monotonic() < until and not half_written(folder):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
    return None


def last_iteration(text: str) -> int | None:
    """Give the last iteration that a run printed."""
    found = re.findall(r', iter:\s*([\d,]+), lr:', text)
    return int(found[-1].replace(',', '')) if found else None


def check_start(text: str, expected: int, repeated_from: int | None, report: Report) -> None:
    """Check where a run went on from.

    Raises:
        LostError: Not from the newest whole state, or too far back.
    """
    found = re.search(r'Resuming training from iter: ([\d,]+)', text)
    begun = int(found[1].replace(',', '')) if found else 0
    if begun != expected:
        raise LostError(f'went on from iteration {begun}, the newest whole state was {expected}')
    report.starts.append(begun)
    if repeated_from is not None:
        # An iteration is printed before it is saved: of the last one the state may be missing.
        if begun < (repeated_from - 1) // SAVE_FREQ * SAVE_FREQ:
            raise LostError(f'went back from iteration {repeated_from} to {begun}, states are saved every {SAVE_FREQ}')
        report.iterations_repeated += max(0, repeated_from - begun)


def newest_state(folder: Path) -> int:
    """Give the iteration of the newest whole state, 0 if there is none."""
    path, _ = newest_whole_state(folder / RUN / 'training_states', folder / RUN / 'models', ['net_g'])
    return int(path.stem) if path else 0


def differences(first: Any, second: Any, where: str = '') -> list[str]:
    """List the places where two nested contents of checkpoints differ."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [place for key in first for place in differences(first[key], second[key], f'{where}.{key}')]
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)) and len(first) == len(second):
        pairs = enumerate(zip(first, second, strict=True))
        return [place for number, pair in pairs for place in differences(*pair, f'{where}.{number}')]
    if torch.is_tensor(first) and torch.is_tensor(second):
        return [] if torch.equal(first, second) else [where]
    return [] if first == second else [where]


def torture(folder: Path, kills: int, total_iter: int, num_feat: int, workers: int, seed: int) -> Report:
    """Run the whole thing in a folder.

    Raises:
        LostError: A kill cost something.
    """
    draw = random.Random(seed)
    save_photographs(folder)
    arguments = entries(folder, total_iter, num_feat, workers)
    whole, killed = folder / 'whole', folder / 'killed'
    begun = time.monotonic()
    process = start(whole, arguments, folder / 'whole.txt')
    if os.waitpid(process, 0)[1]:
        raise LostError(f'the uninterrupted run failed:\n{(folder / "whole.txt").read_text()[-2000:]}')
    # A run that is killed every few iterations: startup, then a bit of the rest.
    each = (time.monotonic() - begun) / total_iter
    report, output, before = Report(), folder / 'killed.txt', None
    while True:
        expected = newest_state(killed)
        process = start(killed, arguments, output)
        status = None
        if report.kills < kills:
            status = wait_until_first_iteration(process, output)
            if status is None:
                status = wait(process, time.monotonic() + draw.random() * each * 1.2 * total_iter / kills)
            if status is None and report.kills % 2:
                status = wait_for_a_write(process, killed, time.monotonic() + 60)
                time.sleep(draw.random() * 0.01)
            if status is None:
                number = signal.SIGTERM if report.kills % 5 == 4 else signal.SIGKILL
                os.killpg(process, number)
                report.kills += 1
                report.terminated += number == signal.SIGTERM
                status = os.waitpid(process, 0)[1]
                report.while_writing += number == signal.SIGKILL and half_written(killed)
        else:
            status = os.waitpid(process, 0)[1]
        text = output.read_text()
        check_start(text, expected, before, report)
        before = last_iteration(text) or expected
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            break
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 128 + signal.SIGTERM:
            raise LostError(f'a run failed:\n{text[-3000:]}')
    compare(whole / RUN, killed / RUN, total_iter)
    return report


def wait_until_first_iteration(process: int, output: Path) -> int | None:
    """Wait until a run has printed an iteration; give its exit status if it ends first."""
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return status
        if output.exists() and last_iteration(output.read_text()) is not None:
            return None
        time.sleep(0.005)


def compare(whole: Path, killed: Path, total_iter: int) -> None:
    """Compare what two runs left, bit for bit.

    Raises:
        LostError: It differs, or files are left over.
    """
    for name in ('models/net_g_latest.pth', f'training_states/{total_iter}.state'):
        contents = [torch.load(run / name, weights_only=True) for run in (whole, killed)]
        if found := differences(*contents):
            raise LostError(f'{name} differs from the uninterrupted run in {", ".join(found[:5])}')
    left = list(killed.rglob('.*.partial*'))
    if left:
        raise LostError(f'half-written files are left: {left}')
    if len(list((killed / 'training_states').iterdir())) != 2:
        raise LostError('keep_checkpoints: 2 left another number of states')


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, metavar='FOLDER', help='is emptied')
    parser.add_argument('--kills', type=int, default=100, metavar='N')
    parser.add_argument('--iterations', type=int, default=600, metavar='N', help='of the run, default 600')
    parser.add_argument('--num-feat', type=int, default=32, metavar='N', help='width: larger files are written longer')
    parser.add_argument('--workers', type=int, default=1, metavar='N')
    parser.add_argument('--seed', type=int, default=0, metavar='N')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.monotonic()
    try:
        report = torture(folder, options.kills, options.iterations, options.num_feat, options.workers, options.seed)
    except LostError as error:
        print(f'LOST: {error}', file=sys.stderr)
        return 1
    print(
        f'{report.kills} kills in {time.monotonic() - begun:.0f} s ({report.while_writing} while a checkpoint was '
        f'half-written, {report.terminated} by SIGTERM), {len(report.starts)} starts, {report.iterations_repeated} of '
        f'{options.iterations} iterations done again; the result equals that of the uninterrupted run bit for bit'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
