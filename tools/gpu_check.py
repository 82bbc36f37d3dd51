"""Do everything that a first GPU is wanted for, the most valuable first, in steps of at most ten minutes.

Each call does the next step that is not done; what comes out of a step is a log and files in the folder given, where
the next call finds what is done. A step that fails is tried again by the next call.

    python tools/gpu_check.py photographs gpu            # the next step; again and again, until nothing is left
    python tools/gpu_check.py photographs gpu --all      # one after the other, past those that fail
    python tools/gpu_check.py photographs gpu --dry-run  # show the commands and check the option files; needs no GPU
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from manet_basicsr.commands.basicsr import main as basicsr

ROOT = Path(__file__).resolve().parents[1]
#: Item of tools/benchmark.py, in the order of their worth.
ITEMS = 'dbcaefghi'
BATCHES = (16, 64, 256)
STAGES = ('MANet_stage1', 'SFTRRDB_stage2', 'BlindSR_stage3')
#: What shortens Python's part of a step, by what it adds to the name: nothing, and a CUDA graph.
WAYS = {'': 'false', '_graph': 'graph'}
TESTS = ('models', 'archs', 'losses', 'metrics', 'degradation', 'restoration')
SECONDS = 580


@dataclass(frozen=True)
class Step:
    """A command, and whether it goes on the next time where its time was over, as a training does."""

    name: str
    command: list[str]
    goes_on: bool = False


def steps(photographs: Path, folder: Path, gpus: int) -> Iterator[Step]:
    """List all steps in their order."""
    python, lmdb = sys.executable, folder / 'photographs.lmdb'
    yield Step('device', ['nvidia-smi'])
    yield Step('lmdb', [python, 'scripts/create_lmdb.py', '--raw', str(photographs), str(lmdb)])
    yield Step('suite', [python, '-m', 'pytest', '-q', '-m', 'not slow', *(f'tests/{name}' for name in TESTS)])
    for item in ITEMS:
        output = str(folder / f'benchmark_{item}.json')
        yield Step(f'benchmark-{item}', [python, 'tools/benchmark.py', '--only', item, '--output', output])
    short = ['train:total_iter=200', 'logger:print_freq=20', 'logger:save_checkpoint_freq=1000', 'val=~']
    for batch in BATCHES:
        for stage in STAGES:
            size = f'datasets:train:batch_size_per_gpu={batch}'
            for name, way in WAYS.items():
                job = f'{stage}_{batch}{name}'
                yield Step(f'speed-{job}', train(folder, job, stage, *short, size, f'train:compile={way}'))
    together = train(folder, 'several_gpus', STAGES[0], *short, '--launcher', 'pytorch')
    launcher = ['torch.distributed.run', '--standalone', f'--nproc_per_node={max(1, gpus)}', '-m']
    yield Step('nccl', [*together[:2], *launcher, *together[2:]])
    yield Step('training', train(folder, 'stage1', STAGES[0], 'logger:keep_checkpoints=3'), goes_on=True)


def train(folder: Path, name: str, stage: str, *more: str) -> list[str]:
    """Give the command of a training on the photographs, with bf16 and degraded on the GPU."""
    lmdb = folder / 'photographs.lmdb'
    entries = [
        f'name={name}',
        f'path:experiments_root={folder / "experiments"}',
        f'datasets:train:dataroot_gt={lmdb}',
        f'datasets:val:dataroot_gt={lmdb}',
        'datasets:train:degrade_on=device',
        'train:amp=bf16',
        'logger:use_tb_logger=false',
    ]
    if stage == STAGES[2]:
        entries += ['network_g:estimator:pretrained=weights://manet_x4', 'network_g:generator:pretrained=~']
    command = [sys.executable, '-m', 'manet_basicsr', 'train', '-opt', f'options/train/train_{stage}_x4.yml']
    return [*command, '--auto_resume', '--force_yml', *entries, *more]


def do(step: Step, folder: Path, seconds: float) -> str:
    """Do a step, with its output in a log; tell whether it is ``done``, ``goes on`` or ``failed``."""
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path[1:]])}
    begun = time.monotonic()
    print(f'{step.name}: {shlex.join(step.command)}', flush=True)
    with (folder / f'{step.name}.log').open('ab') as log:
        process = subprocess.Popen(step.command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            outcome = 'failed' if process.wait(seconds) else 'done'
        except subprocess.TimeoutExpired:
            outcome = 'goes on' if step.goes_on else 'failed'
            process.terminate()  # a training saves and leaves
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    print(f'{step.name}: {outcome}, {time.monotonic() - begun:.0f} s, {log.name}', flush=True)
    return outcome


def check(todo: Sequence[Step], folder: Path) -> int:
    """Show the commands, and check the option files of those that train, on a stand-in for the LMDB."""
    failures = 0
    stand_in = folder / 'stand_in'
    stand_in.mkdir(exist_ok=True)
    (stand_in / 'one.png').touch()
    for step in todo:
        print(f'{step.name}: {shlex.join(step.command)}')
        if '-opt' not in step.command:
            continue
        begin = step.command.index('-opt')
        words = [word.replace(str(folder / 'photographs.lmdb'), str(stand_in)) for word in step.command[begin:]]
        words[1] = str(ROOT / words[1])
        words = [word for word in words if word not in ('--launcher', 'pytorch')]
        failures += basicsr(['check', *words]) != 0
    return failures


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('photographs', type=Path, help='folder of HR images of at least 192 px a side')
    parser.add_argument('folder', type=Path, help='for logs, results and what is done')
    parser.add_argument('--all', action='store_true', help='do all steps')
    parser.add_argument('--dry-run', action='store_true', help='only show and check them')
    parser.add_argument('--seconds', type=float, default=SECONDS, help=f'limit of a step, default {SECONDS}')
    options = parser.parse_args(argv)
    if not options.photographs.is_dir():
        parser.error(f'{options.photographs} is no folder of images')
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    marks = folder / 'done'
    marks.mkdir(exist_ok=True)
    todo = [
        step
        for step in steps(options.photographs.resolve(), folder, torch.cuda.device_count())
        if not (marks / step.name).exists()
    ]
    if options.dry_run:
        return 1 if check(todo, folder) else 0
    failed = []
    for step in todo if options.all else todo[:1]:
        outcome = do(step, folder, options.seconds)
        if outcome == 'done':
            (marks / step.name).touch()
        elif outcome == 'failed':
            failed.append(step.name)
    left = len([step for step in todo if not (marks / step.name).exists()])
    print(f'{left} steps are left' if left else 'all steps are done')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
