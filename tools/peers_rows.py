"""The rows of the comparison that tools/peers.py makes: what each is, and the weights that it needs."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import manet_basicsr
from manet_basicsr.evaluation import Condition, Method, build_methods
from manet_basicsr.evaluation.measure import Cost
from manet_basicsr.evaluation.methods import Network, OptionFile, Prediction
from manet_basicsr.evaluation.records import row_key
from manet_basicsr.evaluation.runner import machine
from manet_basicsr.evaluation.zero_shot import ZeroShot
from manet_basicsr.utils.files import atomic_path
from manet_basicsr.zero_shot import build_solver, is_solver

ROOT = Path(__file__).resolve().parents[1]
#: The blind network that all are compared with, and whose generator restores with kernels that others find.
BLIND = 'options/peers/test_BlindSR_v0_1_0_x4.yml'
#: The same with noise and compression in its training.
PHOTOGRAPHS = 'options/test/test_BlindSR_stage3_x4_real.yml'
#: Of the nine invariant kernels those that solvers are run on: variances (1, 1); (5, 1) at pi/4; (9, 9).
SOLVER_KERNELS = ('_k0', '_k2', '_k8')
#: The set without blur but that of resizing, beside the protocol's.
REDUCED = 'bicubic'
#: Steps of each training of the design study.
STUDY_STEPS = 8000


@dataclass(frozen=True)
class Entry:
    """A row of the comparison.

    Args:
        name: As tables show it.
        word: What makes it: a word of ``basicsr evaluate --methods``, or an option file.
        weights: The file that its training writes, below the current folder; '' for what needs none of its own.
        training: The option file of that training.
        reduced: Whether it is scored on images without blur, too.
        study: Whether it is an estimator of the design study, trained at equal steps, and not a system.
    """

    name: str
    word: str
    weights: str = ''
    training: str = ''
    reduced: bool = False
    study: bool = False

    @property
    def is_solver(self) -> bool:
        """Whether it is fitted to each image by itself."""
        return is_solver(self.word)

    def is_there(self) -> bool:
        """Tell whether it can be run: its weights are there, if it needs any."""
        return not self.weights or Path(self.weights).is_file()

    def methods(self, budget: str = 'full', seeds: int = 1) -> list[Method]:
        """Make its methods: one, or of a solver one a seed.

        Args:
            budget: Of solvers, ``short`` or ``full``.
            seeds: Of solvers, how many.

        Raises:
            OptionError: It cannot be made.
        """
        if self.is_solver:
            solver = build_solver(self.word, budget)
            words = [dataclasses.replace(solver, seed=seed).name for seed in range(seeds)]  # a name says all settings
            return build_methods(words, [str(ROOT / BLIND)])
        if not self.word.endswith('.yml'):
            return build_methods([self.word], [str(ROOT / BLIND)])
        file = OptionFile(ROOT / self.word)
        if self.weights:
            file.options['path']['pretrain_network_g'] = self.weights
        return [Network(self.name, file)]


def _peer(name: str, job: str, **more: Any) -> Entry:
    return Entry(
        name,
        f'options/peers/test_{job}_x4.yml',
        f'experiments/train_{job}_x4/models/net_g_latest.pth',
        f'options/peers/train_{job}_x4.yml',
        **more,
    )


def _study(name: str, training: str) -> Entry:
    # Of its own name: a whole training by the same file, of other length and crops, is none of the study.
    run = Path(training).stem.replace('train_', 'study_', 1)
    return Entry(name, training, f'experiments/{run}/models/net_g_latest.pth', training, study=True)


MANET = 'MANet 0.1.0'
_SRSVD = 'experiments/train_SRSVD_x4/models/net_g_latest.pth'
ENTRIES = (
    Entry('bicubic', 'bicubic', reduced=True),
    Entry('fixed', 'fixed'),
    _peer('RCAN (bicubic)', 'RCAN_bicubic', reduced=True),
    _peer('RCAN (our blur)', 'RCAN_blur', reduced=True),
    _peer('HAN (bicubic)', 'HAN_bicubic', reduced=True),
    Entry('DIP', 'dip'),
    Entry('DIP (true kernel)', 'dip[kernel=true]'),
    Entry('KernelGAN', 'kernelgan'),
    Entry('KernelGAN+ZSSR', 'kernelgan+zssr'),
    Entry('BSRDM', 'bsrdm'),
    Entry('atoms', 'atoms'),
    Entry('SRSVD', 'srsvd', _SRSVD, 'options/peers/train_SRSVD_x4.yml'),
    Entry('SRSVD (one kernel)', 'srsvd[patch=0]', _SRSVD, 'options/peers/train_SRSVD_x4.yml'),
    _peer('IKC', 'IKC'),
    _peer('DAN', 'DAN'),
    Entry('mean', 'mean'),
    Entry(MANET, BLIND, reduced=True),
    Entry('MANet (trained longer)', 'options/test/test_BlindSR_stage3_x4.yml', reduced=True),
    Entry('oracle', 'oracle'),
    _study('MANet (study)', 'options/train/train_MANet_stage1_x4.yml'),
    _study('two blocks', 'options/ablation/train_MANet_two_blocks_x4.yml'),
    _study('split 4', 'options/ablation/train_MANet_split4_x4.yml'),
    _study('convolutions', 'options/ablation/train_MANet_conv_x4.yml'),
    _study('LR image loss', 'options/ablation/train_MANet_lr_image_loss_x4.yml'),
    _study('indirect loss', 'options/ablation/train_MANet_indirect_loss_x4.yml'),
    _study('collage', 'options/ablation/train_MANet_collage_x4.yml'),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}


class Kept(Method):
    """A solver whose predictions are kept in files, so that what took minutes is there for a picture, too.

    Args:
        method: The method.
        folder: Where to; made if missing.
    """

    def __init__(self, method: ZeroShot, folder: Path) -> None:
        self.method = method
        self.name = method.name
        self.folder = folder

    def fingerprint(self) -> Mapping[str, Any]:
        return self.method.fingerprint()

    def fits(self, condition: Condition) -> bool:
        return self.method.fits(condition)

    def load(self, condition: Condition) -> None:
        self.method.load(condition)

    def predict(self, sample: Mapping[str, Any], condition: Condition) -> Prediction:
        pixels = hashlib.sha256(sample['lq'].numpy().tobytes()).hexdigest()
        grid = (condition.scale, condition.kernel_size, condition.alignment)
        told = ''
        if self.method.solver.is_told:
            told = hashlib.sha256(sample['kernel'].contiguous().numpy().tobytes()).hexdigest()
        made_by = (machine(), manet_basicsr.__version__)
        key = row_key(self.name, self.fingerprint(), grid, pixels, told, made_by)
        path = self.folder / f'{key}.pt'
        if path.is_file():
            kept = torch.load(path, weights_only=True)
            return Prediction(kept['sr'], kept['field'], Cost(**kept['cost']))
        made = self.method.predict(sample, condition)
        sr, field = (None if part is None else part.cpu() for part in (made.sr, made.field))
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            torch.save({'sr': sr, 'field': field, 'cost': dataclasses.asdict(made.cost)}, temporary)
        return Prediction(sr, field, made.cost)


@dataclass(frozen=True)
class Choice:
    """What is run: rows, and of solvers the images, sets and seeds.

    Args:
        names: Of rows, beside MANet, which all are compared with; () for all.
        budget: Of solvers.
        seeds: Of solvers.
        solver_images: Names of the images that solvers are run on, without suffix; () for all.
        solver_sets: Names of the sets that solvers are run on; () for all.
    """

    names: tuple[str, ...] = ()
    budget: str = 'full'
    seeds: int = 3
    solver_images: tuple[str, ...] = ()
    solver_sets: tuple[str, ...] = ()

    def entries(self) -> Iterator[Entry]:
        """List the rows that are asked for and can be run."""
        for entry in ENTRIES:
            if entry.is_there() and (not self.names or entry.name in (*self.names, MANET)):
                yield entry

    def methods(self, folder: Path) -> dict[str, tuple[Entry, Method]]:
        """Make the methods by their names, those of solvers with what they make kept in a folder."""
        found = {}
        for entry in self.entries():
            for method in entry.methods(self.budget, self.seeds):
                found[method.name] = (entry, Kept(method, folder) if isinstance(method, ZeroShot) else method)
        return found

    def wants(self, entry: Entry, condition: Condition, sample: str) -> bool:
        """Tell whether a row is scored on a sample."""
        if condition.blur == REDUCED:
            return entry.reduced
        if not entry.is_solver:
            return True
        invariant = condition.blur == 'invariant'
        if invariant and not sample.endswith(SOLVER_KERNELS):
            return False
        image = sample[:-3] if invariant else sample
        return _is_among(Path(image).stem, self.solver_images) and _is_among(condition.blur, self.solver_sets)


def _is_among(name: str, names: Sequence[str]) -> bool:
    return not names or name in names
