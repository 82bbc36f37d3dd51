"""Change option files at random between the start and the resume of a training, and see that nothing else happens.

    python tools/fuzz_resume.py --seconds 120

A short training is started; then its option file is changed and the training resumed in a copy of its folder. Most
changes are those that people make, of rates, schedules, losses, sets and frequencies, to other values that are right;
the rest is damage to values, keys, sections and bytes. The training may go on, or end with exit code 2 and lines that
say why, or, once it has begun, with 1 and a line. What may not happen: a traceback, another exit code, or five minutes
without an end. Each input is a process of its own. Exit codes: 0 all well; 1 not, and the inputs are kept.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import copy
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import skimage.data
import torch
import yaml

from manet_basicsr.commands.basicsr import main as basicsr
from manet_basicsr.options.forcing import force
from manet_basicsr.options.reading import Options, load_options

ROOT = Path(__file__).resolve().parents[1]
# A signal is answered after an iteration, and the first one may compile for minutes.
SECONDS_TO_STOP, SECONDS_TO_KILL = 30, 300
MEMORY = 3 * 2**30
# Two iterations are done, and one is left.
DONE, TOTAL = 2, 3
_BLIND = (
    'network_g:freeze_estimator=false',  # or it would have to begin with trained weights
    'network_g:estimator:num_feat=8',
    'network_g:estimator:pretrained=~',
    'network_g:generator:num_feat=8',
    'network_g:generator:num_block=1',
    'network_g:generator:num_grow_ch=4',
    'network_g:generator:pretrained=~',
)
#: What is begun: the shipped file, and how it is made small.
JOBS: dict[str, tuple[str, tuple[str, ...]]] = {
    'stage 1': ('MANet_stage1', ('network_g:num_feat=8',)),
    'stage 2, averaged': (
        'SFTRRDB_stage2',
        ('network_g:num_feat=8', 'network_g:num_block=1', 'network_g:num_grow_ch=4', 'train:ema_decay=0.9'),
    ),
    'stage 3': ('BlindSR_stage3', _BLIND),
    'stage 3, stock model': (
        'BlindSR_stage3',
        (*_BLIND, 'model_type=SRModel', 'val:metrics={psnr: {type: calculate_psnr, crop_border: 4}}'),
    ),
}
SHORT = (
    'datasets:train:dataroot_gt=hr',
    'datasets:val:dataroot_gt=hr',
    'datasets:train:gt_size=32',
    'datasets:train:batch_size_per_gpu=2',
    'datasets:train:num_worker_per_gpu=0',
    'path:pretrain_network_g=~',
    'train:compile=false',
    'val:val_freq=1',
    'logger:print_freq=1',
    f'logger:save_checkpoint_freq={DONE}',
    'logger:use_tb_logger=false',
)
#: Right values of keys, as people change them; those that a job does not have are left out.
MEANT: dict[str, tuple[str, ...]] = {
    'train:total_iter': ('3', '4', '2', '1'),
    'train:warmup_iter': ('-1', '1', '3', '5'),
    'train:ema_decay': ('0', '0.5', '0.999'),
    'train:optim_g:lr': ('0', '1e-5', '2e-4', '1e-2'),
    'train:optim_g:betas': ('[0.9, 0.99]', '[0, 0.9]'),
    'train:optim_g:weight_decay': ('1e-4', '0'),
    'train:optim_g:amsgrad': ('true', 'false'),
    'train:optim_g': ('{type: Adam, lr: 1e-4}', '{type: Muon, lr: 1e-2}', '{type: Muon, adam_lr: 1e-3}'),
    'train:scheduler': (
        '{type: MultiStepLR, milestones: [1, 2], gamma: 0.1}',
        '{type: MultiStepLR, milestones: [], gamma: 0.5}',
        '{type: MultiStepRestartLR, milestones: [1], restarts: [0, 2], restart_weights: [1, 0.5]}',
        '{type: CosineAnnealingRestartLR, periods: [4], eta_min: 1e-7}',
        '{type: CosineAnnealingRestartLR, periods: [1, 1, 4], restart_weights: [1, 0.5, 0.25]}',
    ),
    'train:scheduler:gamma': ('1', '0.1', '0'),
    'train:scheduler:milestones': ('[3]', '[1, 2, 2]', '[500]'),
    'train:kernel_opt': ('{type: KernelKLLoss}', '{type: KernelL1Loss, reduction: sum, loss_weight: 1e-3}', '~'),
    'train:lr_image_opt': ('{type: L1Loss}', '{type: MSELoss, loss_weight: 0.1}'),
    'train:pixel_opt': ('{type: MSELoss}', '{type: CharbonnierLoss, loss_weight: 2}', '{type: L1Loss, reduction: sum}'),
    'train:amp': ('bf16', '~', 'fp16'),
    'train:channels_last': ('true', 'false'),
    'train:accumulate': ('1', '2'),
    'train:on_nonfinite': ('skip', 'stop'),
    'manual_seed': ('7', '~'),
    'network_g:freeze_estimator': ('true', 'false'),
    'network_g:num_feat': ('8', '12'),
    'model_type': ('RestorationModel', 'SRModel'),
    'datasets:train:dataroot_gt': ('other', 'hr'),
    'datasets:train:gt_size': ('48', '64'),
    'datasets:train:batch_size_per_gpu': ('1', '2', '4'),
    'datasets:train:num_worker_per_gpu': ('1', '0'),
    'datasets:train:dataset_enlarge_ratio': ('3', '1'),
    'datasets:train:prefetch_mode': ('cpu', '~'),
    'datasets:train:degrade_on': ('device', 'loader'),
    'datasets:train:on_bad_sample': ('skip',),
    'datasets:train:cache': ('1M', '~'),
    'datasets:train:use_rot': ('false',),
    'datasets:train:degradation:field': (
        '{type: defocus, radius: [1, 3]}',
        '{type: motion, length: [3, 9]}',
        '{type: smooth, variance: [0.7, 10]}',
    ),
    'datasets:train:degradation:noise': ('[0, 15]', '[5, 5]'),
    'datasets:train:degradation:jpeg': ('[70, 100]', '~'),
    'datasets:val:dataroot_gt': ('other', 'hr'),
    'datasets:val:name': ('another',),
    'datasets:val:degradation:field': ('{type: protocol, kind: 4}',),
    'datasets:val_2': (
        '{name: second, type: SVDegradationDataset, dataroot_gt: other, degradation: {field: '
        '{type: protocol, kind: 1}}}',
    ),
    'val': ('~',),
    'val:val_freq': ('1', '2', '3', '1000'),
    'val:save_img': ('true',),
    'val:tile': ('16', '~'),
    'val:metrics': ('~', '{psnr: {type: calculate_psnr, crop_border: 4}}', '{lr_psnr: {type: calculate_lr_psnr}}'),
    'logger:print_freq': ('1', '2', '100'),
    'logger:save_checkpoint_freq': ('1', '3', '1000'),
    'logger:keep_checkpoints': ('1', '2', '~'),
    'logger:use_tb_logger': ('true',),
}
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 0.5, 1e-4, 1e9, 2**40, 2**63, float('nan'), float('inf'), '', 'x', 'größe', '~',
    'auto', 'nowhere/file.pth', 'hr', '1', [], {}, [1, 2], [2, 1], [0.7, 10], [[1]], [None], {'type': 'x'}, {'a': {}},
)  # fmt: skip


def places_of(section: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value and section."""
    items = section.items() if isinstance(section, dict) else enumerate(section) if isinstance(section, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from places_of(value, (*above, key))


def change_rightly(options: Options, draw: random.Random) -> Options:
    """Change options in one to four places, each to a value that is right there."""
    options = copy.deepcopy(options)
    left = draw.choice((1, 2, 3, 4))
    while left:
        place = draw.choice(list(MEANT))
        *sections, key = place.split(':')
        section: Any = options
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if isinstance(section, dict) and (key in section or key in ('val_2', 'amsgrad', 'tile')):
            force(options, [f'{place}={draw.choice(MEANT[place])}'])
            left -= 1
    return options


def change(options: Options, draw: random.Random) -> Options:
    """Change options in one to three places."""
    options = copy.deepcopy(options)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        places = list(places_of(options))
        *above, key = draw.choice(places)
        section: Any = options
        for name in above:
            section = section[name]
        value, way = section[key], draw.choice((0, 1, 2, 2, 2, 3, 4, 4))
        if way == 0:
            del section[key]
        elif way == 1 and isinstance(section, dict):
            section[f'{key}{draw.choice(("s", "", "_g", "_1"))}'] = section.pop(key)
        elif way == 2 and isinstance(value, (int, float)):
            section[key] = draw.choice((value + 1, value - 1, value * 2, value / 2, -value, value // 2, str(value)))
        elif way == 3:
            other: Any = options
            for name in draw.choice(places):
                if not isinstance(other, (dict, list)) or (isinstance(other, dict) and name not in other):
                    break
                if isinstance(other, list) and name >= len(other):
                    break
                other = other[name]
            section[key] = copy.deepcopy(other)
        else:
            section[key] = draw.choice(VALUES)
    return options


def damaged(text: str, draw: random.Random) -> bytes:
    """Damage a file's bytes at one place."""
    data = bytearray(text.encode())
    place = draw.randrange(len(data))
    length = draw.choice((0, 1, 1, 30))
    data[place : place + length] = draw.choice((b'', b'\xff', b'\n', b': ', b'  ', b'- ', b'{', b'&a *a', b'\0', b'9'))
    return bytes(data)


def run(folder: Path, *words: str) -> tuple[int, str]:
    """Train in a child process below a folder; give its exit code (minus a signal), and its output."""
    output = folder / 'output.txt'
    process = os.fork()
    if process == 0:
        code = 70
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            # Whoever starts this may have put something else in their place, as pytest does.
            sys.stdout, sys.stderr = (open(number, 'w', encoding='utf-8', closefd=False) for number in (1, 2))  # noqa: SIM115
            os.chdir(folder)
            limit = psutil.Process().memory_info().vms + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
            code = basicsr(['train', '-opt', 'options.yml', *words])
        except SystemExit as ended:
            code = int(str(ended.code))
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    begun, asked = time.monotonic(), False
    while True:
        ended_process, status = os.waitpid(process, os.WNOHANG)
        if ended_process:
            return os.waitstatus_to_exitcode(status), output.read_text(errors='replace')
        waited = time.monotonic() - begun
        if waited > SECONDS_TO_STOP and not asked:  # more iterations, or larger ones, are no fault
            os.kill(process, signal.SIGTERM)
            asked = True
        if waited > SECONDS_TO_KILL:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def outcome_of(code: int, output: str) -> str:
    """Say what happened in a word, and in more where it may not happen."""
    said = [line for line in output.splitlines() if line.startswith('basicsr: error: ')]
    if 'Traceback' in output:
        return f'FAULT: {output.strip().splitlines()[-1]}'
    if code == 0:
        return 'resumed' if 'Resuming training' in output else 'began anew'
    if code in (1, 2):
        if not said:
            return f'FAULT: exit code {code} without a word'
        ended = 'resumed, and ended with a line' if 'Resuming training' in output else 'ended with a line'
        return 'refused' if code == 2 else ended
    if code == 128 + signal.SIGTERM:
        return 'resumed, and stopped'
    return f'FAULT: exit code {code}'


def make_images(folder: Path, *names: str) -> None:
    """Write small photographs."""
    folder.mkdir()
    for name in names:
        image = np.ascontiguousarray(getattr(skimage.data, name)()[100:180, 100:184, ::-1])
        cv2.imwrite(str(folder / f'{name}.png'), image)


def start(folder: Path, job: str) -> Options:
    """Start the training of a job below a folder; give the options to go on with."""
    folder.mkdir()
    make_images(folder / 'hr', 'astronaut', 'coffee')
    make_images(folder / 'other', 'chelsea')
    file, small = JOBS[job]
    options = load_options(ROOT / f'options/train/train_{file}_x4.yml')
    force(options, [*SHORT, *small, f'train:total_iter={DONE}'])
    (folder / 'options.yml').write_text(yaml.safe_dump(options, sort_keys=False, allow_unicode=True), encoding='utf-8')
    code, output = run(folder)
    if code:
        raise RuntimeError(f'the training did not start: {output}')
    options['train']['total_iter'] = TOTAL
    return options


def fuzz(seconds: float, seed: int, kept: Path) -> tuple[collections.Counter[str], int]:
    """Change and resume for so long; give what happened, and the number of faults."""
    draw = random.Random(seed)
    counts: collections.Counter[str] = collections.Counter()
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        begun = {job: Path(name) / job for job in JOBS}
        options = {job: start(folder, job) for job, folder in begun.items()}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = draw.choice(list(JOBS))
            folder = Path(name) / 'resumed'
            shutil.copytree(begun[job], folder)
            is_right = draw.random() < 0.85
            changed = (change_rightly if is_right else change)(options[job], draw)
            text = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)
            content = damaged(text, draw) if not is_right and draw.random() < 0.2 else text.encode()
            (folder / 'options.yml').write_bytes(content)
            outcome = outcome_of(*run(folder, '--auto_resume'))
            counts[outcome.partition(':')[0]] += 1
            if outcome.startswith('FAULT'):
                faults += 1
                kept.mkdir(parents=True, exist_ok=True)
                (kept / f'{faults}.yml').write_bytes(content)
                (kept / f'{faults}.txt').write_text((folder / 'output.txt').read_text(errors='replace'))
                print(f'{job}: {outcome} ({kept / f"{faults}.yml"})', file=sys.stderr, flush=True)
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)
    return counts, faults


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60, metavar='S')
    parser.add_argument('--seed', type=int, default=0, metavar='N')
    parser.add_argument('--keep', type=Path, default=Path('fuzz_faults'), metavar='FOLDER', help='for inputs at fault')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    counts, faults = fuzz(options.seconds, options.seed, options.keep)
    words = ', '.join(f'{number:,d} {outcome}' for outcome, number in sorted(counts.items()))
    resumed = sum(number for outcome, number in counts.items() if outcome.startswith('resumed'))
    print(f'{sum(counts.values()):,d} inputs: {words}; {resumed:,d} went on from the state')
    print(f'{faults} at fault')
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
