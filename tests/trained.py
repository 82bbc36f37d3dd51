"""A short training of the tests' own, in this process, and what it leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from manet_basicsr.train import train_pipeline
from manet_basicsr.training.checkpoints import saved_iterations
from tests import shortened

FILE = shortened.option_file('train', 'MANet_stage1', 4)
RUN = Path('experiments') / FILE.stem
#: Of processes that tests start.
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(shortened.ROOT), 'OMP_NUM_THREADS': '1'}


def train(
    root: Path, images: Path, *more: str, job: str = 'MANet_stage1', auto_resume: bool = False, **short: Any
) -> Path:
    """Train a job's shortened file of x4 and give the folder of the run."""
    file, entries = shortened.option_file('train', job, 4), [*shortened.train_entries(job, images, **short), *more]
    opt = shortened.resolved(file, entries, root, auto_resume=auto_resume)
    train_pipeline(opt, str(file))
    return root / 'experiments' / str(opt['name'])


def run(root: Path, images: Path, *more: str, auto_resume: bool = False, **short: Any) -> str:
    """Train stage 1 likewise and give the logs of the run."""
    folder = train(root, images, *more, auto_resume=auto_resume, **short)
    return ''.join(path.read_text() for path in sorted(folder.glob('train_*.log')))


def states(root: Path) -> list[int]:
    return saved_iterations(root / RUN / 'training_states')
