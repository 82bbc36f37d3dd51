"""The rows of the comparison that tools/peers.py makes: what each is, and the weights that it needs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peers_train import BY_NAME as BY_TRAINING
from peers_train import whole
from short_training import ROOT, network_of

import manet_basicsr
from manet_basicsr.evaluation import Condition, Method
from manet_basicsr.evaluation.measure import Cost
from manet_basicsr.evaluation.methods import Bicubic, GivenKernels, Network, OptionFile, Prediction
from manet_basicsr.evaluation.records import row_key
from manet_basicsr.evaluation.runner import machine
from manet_basicsr.evaluation.zero_shot import ZeroShot
from manet_basicsr.options.forcing import force
from manet_basicsr.utils.files import atomic_path
from manet_basicsr.zero_shot import build_solver, is_solver
from manet_basicsr.zero_shot.srsvd import SRSVD

#: Version 0.1.0's weights: MANet at the whole budget, and there the generator of all that needs one.
BLIND = 'options/peers/test_BlindSR_v0_1_0_x4.yml'
#: Weights with noise and compression in their training.
PHOTOGRAPHS = 'options/test/test_BlindSR_stage3_x4_real.yml'
#: Option files of what tools/peers_train.py makes of MANet: the generator, and estimator and generator in one network.
GENERATOR = 'options/train/train_SFTRRDB_stage2_x4_cpu.yml'
MANET_FILE = 'options/train/train_BlindSR_stage3_x4_cpu.yml'
#: Of the nine invariant kernels those that solvers are run on: variances (1, 1); (5, 1) at pi/4; (9, 9).
SOLVER_KERNELS = ('_k0', '_k2', '_k8')
#: The set without blur but that of resizing, beside the protocol's.
REDUCED = 'bicubic'
_PRETRAINED = 'path:pretrain_network_g'
_ESTIMATOR, _RESTORER = 'network_g:estimator:pretrained', 'network_g:generator:pretrained'


@dataclass(frozen=True)
class Entry:
    """A row of the comparison.

    Args:
        name: As tables show it.
        word: What makes it: a word of ``basicsr evaluate --methods``, or an option file.
        trained: Which training of tools/peers_train.py makes the weights at a key of the option file; () for what ships
            or needs none. Of a baseline or a solver, those of the generator that restores, or the solver's own.
        reduced: Whether it is scored on images without blur, too.
        study: Whether it is an estimator of the design study, and not a system; such a one has a method for each seed.
    """

    name: str
    word: str
    trained: tuple[tuple[str, str], ...] = ()
    reduced: bool = False
    study: bool = False

    @property
    def is_solver(self) -> bool:
        """Whether it is fitted to each image by itself."""
        return is_solver(self.word)

    def seeds(self, output: Path) -> list[int]:
        """List the seeds with which its trainings are done, of systems seed 0 alone; [0] for what needs none."""
        if not self.trained:
            return [0]
        prefix = f'{self.trained[0][1]}_seed'
        names = (folder.name.removeprefix(prefix) for folder in (output / 'experiments').glob(f'{prefix}*'))
        numbers = sorted(int(name) for name in names if name.isdecimal()) if self.study else [0]
        return [seed for seed in numbers if all(file.is_file() for file in self.weights(output, seed).values())]

    def weights(self, output: Path, seed: int = 0) -> dict[str, Path]:
        """Return the files of its weights by their keys, those that are not there included."""
        return {key: network_of(output, f'{name}_seed{seed}') for key, name in self.trained}

    def checksum(self, output: Path, method: str) -> str:
        """Sum up the trained weights that one of its methods has, in eight digits; '' where it has none of its own."""
        seed = int(method.rpartition(' ')[2]) if self.study else 0
        files = self.weights(output, seed).values()
        return hashlib.sha256(b''.join(file.read_bytes() for file in files)).hexdigest()[:8] if self.trained else ''

    def methods(self, output: Path, budget: str = 'full', seeds: int = 1) -> list[Method]:
        """Make its methods: one, or of a solver and of the design study one a seed.

        Args:
            output: Folder of the trainings.
            budget: Of solvers, ``short`` or ``full``.
            seeds: Of solvers, how many.

        Raises:
            OptionError: It cannot be made.
        """
        if self.is_solver:
            draws = not isinstance(build_solver(self.word), SRSVD)
            return [self._solver(output, budget, seed) for seed in range(seeds if draws else 1)]
        if self.word == 'bicubic':
            return [Bicubic()]
        if not self.word.endswith('.yml'):
            return [GivenKernels(self.word, self._file(GENERATOR if self.trained else BLIND, output), self.name)]
        files = {seed: self._file(self.word, output, seed) for seed in self.seeds(output)}
        return [Network(f'{self.name}, seed {seed}' if self.study else self.name, file) for seed, file in files.items()]

    def _solver(self, output: Path, budget: str, seed: int) -> Method:
        # A name says all settings.
        budget = 'full' if self.name.endswith(WHOLE) else budget
        solver = dataclasses.replace(build_solver(self.word, budget), seed=seed)
        if isinstance(solver, SRSVD):
            (weights,) = self.weights(output).values()
            return ZeroShot(dataclasses.replace(solver, weights=str(weights)))
        return ZeroShot(solver, self._file(GENERATOR, output) if self.trained else None)

    def _file(self, path: str, output: Path, seed: int = 0) -> OptionFile:
        file = OptionFile(ROOT / path)
        if self.trained:
            file.options['num_gpu'] = 'auto'  # as the other files of tests, whatever the training had
            file.options['path'].update(pretrain_network_g=None, param_key_g='params')
        for key, weights in self.weights(output, seed).items():
            force(file.options, [f'{key}={json.dumps(str(weights))}'])  # JSON is YAML in a line
        return file


def _peer(name: str, job: str, **more: Any) -> Entry:
    return Entry(name, f'options/peers/test_{job}_x4.yml', ((_PRETRAINED, job),), **more)


def _study(name: str, training: str) -> Entry:
    return Entry(name, f'options/{BY_TRAINING[training].file}', ((_PRETRAINED, training),), study=True)


MANET, MANET_STAGE_3, LONGEST = 'MANet', 'MANet (stage 3)', 'MANet (trained longest)'
#: Of the design study that which the others are variations of.
STUDIED = 'MANet (estimator)'
_GENERATOR = ((_PRETRAINED, 'generator'),)
_SHORT = (
    Entry('bicubic', 'bicubic', reduced=True),
    Entry('fixed', 'fixed', _GENERATOR),
    _peer('RCAN (bicubic)', 'RCAN_bicubic', reduced=True),
    _peer('RCAN (our blur)', 'RCAN_blur', reduced=True),
    _peer('HAN (bicubic)', 'HAN_bicubic', reduced=True),
    Entry('DIP', 'dip'),
    Entry('DIP (true kernel)', 'dip[kernel=true]'),
    Entry('KernelGAN', 'kernelgan', _GENERATOR),
    Entry('KernelGAN+ZSSR', 'kernelgan+zssr'),
    Entry('BSRDM', 'bsrdm'),
    Entry('atoms', 'atoms'),
    Entry('SRSVD', 'srsvd', (('weights', 'SRSVD'),)),
    Entry('SRSVD (one kernel)', 'srsvd[patch=0]', (('weights', 'SRSVD'),)),
    _peer('IKC', 'IKC'),
    _peer('DAN', 'DAN'),
    Entry('mean', 'mean', _GENERATOR),
    Entry(MANET, MANET_FILE, ((_ESTIMATOR, 'estimator'), (_RESTORER, 'generator')), reduced=True),
    Entry(MANET_STAGE_3, MANET_FILE, ((_PRETRAINED, 'stage3'),), reduced=True),
    Entry('oracle', 'oracle', _GENERATOR),
    _study(STUDIED, 'estimator'),
    _study('two blocks', 'two_blocks'),
    _study('split 4', 'split4'),
    _study('convolutions', 'conv'),
    _study('kernel L1 loss', 'kernel_l1_loss'),
    _study('LR image loss', 'lr_image_loss'),
    _study('indirect loss', 'indirect_loss'),
    _study('collage', 'collage'),
)
#: Behind the names of rows that have the whole budget.
WHOLE = ', whole budget'
#: What has no row of its own there: MANet has one instead of two, and KernelGAN's images are not made anew.
_SHORT_ONLY = (MANET_STAGE_3, 'KernelGAN')
#: Solvers that have a row there although nothing is trained: theirs are their papers' settings (``--budget full``).
#: KernelGAN+ZSSR, which is shortened as well, has none: at x4 more steps do not help it (docs/EVALUATION.md).
SHORTENED = ('DIP', 'DIP (true kernel)')


def _at_whole_budget(entry: Entry) -> Entry:
    """Return the row of the same system at the whole budget."""
    name = entry.name + WHOLE
    if entry.name == MANET:
        return dataclasses.replace(entry, name=name, word=BLIND, trained=())
    if entry.trained == _GENERATOR:
        return dataclasses.replace(entry, name=name, trained=())
    return dataclasses.replace(entry, name=name, trained=tuple((key, whole(job)) for key, job in entry.trained))


ENTRIES = (
    *_SHORT,
    *(_at_whole_budget(e) for e in _SHORT if (e.trained or e.name in SHORTENED) and e.name not in _SHORT_ONLY),
    Entry(LONGEST, 'options/test/test_BlindSR_stage3_x4.yml', reduced=True),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}


def at_whole_budget(name: str) -> str:
    """Name the row that a row is at the whole budget, whether it is there or not: itself where there is no other."""
    if not BY_NAME[name].trained and name not in SHORTENED:
        return name
    return (MANET if name == MANET_STAGE_3 else name) + WHOLE


def shown_name(method: str) -> str:
    """Name a method without the place of its weights."""
    solver = build_solver(method) if is_solver(method) else None
    return dataclasses.replace(solver, weights=SRSVD.weights).name if isinstance(solver, SRSVD) else method


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
        output: Folder of the trainings, and of what solvers make.
        names: Of rows, beside MANet, which all are compared with; () for all.
        budget: Of solvers.
        seeds: Of solvers.
        solver_images: Names of the images that solvers are run on, without suffix; () for all.
        solver_sets: Names of the sets that solvers are run on; () for all.
    """

    output: Path
    names: tuple[str, ...] = ()
    budget: str = 'full'
    seeds: int = 3
    solver_images: tuple[str, ...] = ()
    solver_sets: tuple[str, ...] = ()

    def entries(self) -> Iterator[Entry]:
        """List the rows that are asked for and can be run."""
        # With their papers' settings solvers have one row: that of the whole budget is the same.
        same = {at_whole_budget(name): name for name in SHORTENED} if self.budget == 'full' else {}
        names = [same.get(name, name) for name in self.names]
        for entry in ENTRIES:
            if entry.name not in same and (not names or entry.name in (*names, MANET)) and entry.seeds(self.output):
                yield entry

    def methods(self) -> dict[str, tuple[Entry, Method]]:
        """Make the methods by their names, those of solvers with what they make kept in files."""
        found, folder = {}, self.output / 'predictions'
        for entry in self.entries():
            for method in entry.methods(self.output, self.budget, self.seeds):
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
        return _is_among(image, self.solver_images) and _is_among(condition.blur, self.solver_sets)


def _is_among(name: str, names: Sequence[str]) -> bool:
    return not names or name in names
