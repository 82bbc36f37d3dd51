"""Read one LMDB for a long time with many workers, and measure that neither memory nor open files grow.

    python tools/soak.py --workers 1 4 16 --batches 10000

Training and validation read the same LMDB: between batches the main process reads a validation image now and then.
Memory is anonymous resident memory of the main process and its workers; pages of the database belong to the
system. It and the open files are measured after a tenth of the batches and at the end. The samples' checksum is the
same for any number of workers. Exit codes: 0 all of that held; 1 it did not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import psutil
import skimage.data
import torch
from torch.utils.data import DataLoader

from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.data.sampling import IterationSampler, SeededDataset
from manet_basicsr.training.interruption import ignore_signals

BATCH_SIZE = 2
# In a process: what Python and the allocator may take later than in the first tenth, and the files of batches that are
# under way (torch sends each tensor as an open file). A leak of one a batch would be a hundredfold.
ALLOWED_MEGABYTES = 8.0
ALLOWED_FILES = 8


@dataclass(frozen=True)
class Usage:
    """What the main process and its workers use."""

    megabytes: float
    files: int


def usage(processes: list[int]) -> Usage:
    """Measure some processes."""
    anonymous = files = 0
    for process in map(psutil.Process, processes):
        memory = process.memory_info()
        anonymous += memory.rss - memory.shared
        files += process.num_fds()
    return Usage(anonymous / 2**20, files)


def save_photographs(folder: Path) -> Path:
    """Pack small crops of photographs."""
    (folder / 'photographs').mkdir()
    for name in ('astronaut', 'chelsea', 'coffee', 'rocket'):
        image = getattr(skimage.data, name)()[100:228, 100:228]
        cv2.imwrite(str(folder / 'photographs' / f'{name}.png'), image[..., ::-1])
    write_lmdb(folder / 'photographs', folder / 'photographs.lmdb')
    return folder / 'photographs.lmdb'


def build(root: Path, phase: str) -> SVDegradationDataset:
    """Build the training or the validation set on one LMDB."""
    degradation = {'field': {'type': 'invariant', 'variance': [0.7, 10]}, 'noise': [0, 15]}
    opt: dict[str, Any] = {'phase': phase, 'scale': 4, 'dataroot_gt': str(root), 'degradation': degradation}
    return SVDegradationDataset({**opt, 'gt_size': 32, 'use_hflip': True, 'use_rot': True} if phase == 'train' else opt)


def soak(root: Path, workers: int, batches: int) -> tuple[Usage, Usage, str]:
    """Read batches; give the usage after a tenth of them and at the end, and the samples' checksum."""
    train, validation = build(root, 'train'), build(root, 'val')
    sampler = IterationSampler(len(train), BATCH_SIZE, batches, seed=7)
    loader = DataLoader(
        SeededDataset(train), BATCH_SIZE, sampler=sampler, num_workers=workers, worker_init_fn=ignore_signals
    )
    iterator = iter(loader)
    processes = [os.getpid(), *(worker.pid for worker in getattr(iterator, '_workers', []))]
    checksum = hashlib.sha256()
    first = None
    for number, batch in enumerate(iterator):
        checksum.update(batch['lq'].numpy().tobytes())
        if number % 100 == 0:
            validation[number // 100 % len(validation)]
        if number == batches // 10:
            first = usage(processes)
        if number == batches - 1 - 2 * max(1, workers):  # while all workers are there
            last = usage(processes)
    assert first is not None
    return first, last, checksum.hexdigest()[:16]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 4, 16], metavar='N')
    parser.add_argument('--batches', type=int, default=10_000, metavar='N', help=f'of {BATCH_SIZE}, default 10000')
    options = parser.parse_args(arguments)
    warnings.filterwarnings('ignore', 'This DataLoader will create')
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    checksums, faults = set(), []
    with tempfile.TemporaryDirectory() as name:
        root = save_photographs(Path(name))
        for workers in options.workers:
            begun = time.monotonic()
            first, last, checksum = soak(root, workers, options.batches)
            checksums.add(checksum)
            growth = (last.megabytes - first.megabytes) / (1 + workers)
            print(
                f'{workers:2d} workers, {options.batches:,d} batches in {time.monotonic() - begun:.0f} s: memory '
                f'{first.megabytes:.1f} -> {last.megabytes:.1f} MB ({growth:+.2f} MB a process), open files '
                f'{first.files} -> {last.files}, samples {checksum}',
                flush=True,
            )
            if growth > ALLOWED_MEGABYTES or last.files - first.files > ALLOWED_FILES * (1 + workers):
                faults.append(f'{workers} workers: memory or open files grow')
    if len(checksums) > 1:
        faults.append('the samples depend on the number of workers')
    for fault in faults:
        print(f'FAULT: {fault}', file=sys.stderr)
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
