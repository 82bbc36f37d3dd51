"""Train the networks that tools/peers.py compares, all at one short budget: docs/PEERS.md.

    python tools/peers_train.py results/peers --data datasets/photos1200.lmdb
    python tools/peers_train.py results/peers --data datasets/photos1200.lmdb --whole --gpu --jobs 6

The budget is a share (--share) of the iterations of version 0.1.0's weights, 8,600 for the estimator and 7,500 + 3,500
for the generator, with smaller batches (--batch) of smaller crops (--crop), and Muon instead of Adam. With --whole it
is all of that version's, and what needs a generator has that version's: hours each on a CPU. A training that was
interrupted goes on, and one that is done is not done again: where the generator is made anew, remove what began with
it. Several at a time (--jobs): one of these networks does not fill a GPU.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import manet_basicsr  # noqa: F401  (before basicsr, which it mends)

# isort: split
from short_training import MUON, ROOT, network_of, stop_all, stopping, train

Networks = Callable[[str], str]


@dataclass(frozen=True)
class Training:
    """A network of the comparison.

    Args:
        name: Of its folder, to which ``_seedN`` is added.
        file: Option file, below ``options/``.
        iterations: At the whole budget, with crops of 128 px.
        batch: At the whole budget.
        needs: Key of the options that names weights, and the name of the training that makes them.
        changes: What else is changed in the file.
    """

    name: str
    file: str
    iterations: int
    needs: tuple[tuple[str, str], ...] = ()
    changes: tuple[tuple[str, Any], ...] = ()
    batch: int = 16

    def changes_for(self, network: Networks, *, whole: bool) -> dict[str, Any]:
        """Return what is changed in the option file.

        Args:
            network: Tells where a training leaves its network.
            whole: Whether the training has the whole budget.
        """
        muon = {**MUON, **dict(_SLOWER if whole else ())}
        return {**muon, **dict(self.changes), **{key: network(name) for key, name in self.needs}}


#: Iterations of 0.1.0's estimator and generator (stages 2 and 3).
ESTIMATOR, GENERATOR, STAGE_3 = 8600, 7500, 3500
#: Of the whole budget: the weights that had it first, what made them, and the side of its crops in HR px.
WHOLE_WEIGHTS = 'weights://blind_v0_1_0_x4'
_MADE_THEM = ('generator', 'stage3')
WHOLE_CROP = 128
#: What is taken of it unless told otherwise.
SHARE, BATCH, CROP = 0.1, 4, 96
#: Rate of all at the whole budget, where DAN and estimators diverge at that of the short one, and of what diverges at
#: the short one, too. On held-out crops half of it is worse after 120 iterations, and for DAN 0.004 after all of them.
_SLOWER = (('train:optim_g:lr', 0.01),)
#: Of what did not diverge with the rate of the short budget at the whole one.
_AS_FAST = (('train:optim_g:lr', 0.02),)
_FROZEN = (('network_g:generator:pretrained', 'generator'),)
#: Of the design study where losses are not what is studied: those of the estimator.
_LOSSES = (
    ('train:kernel_opt', {'type': 'KernelKLLoss', 'loss_weight': 1.0}),
    ('train:lr_image_opt', {'type': 'L1Loss', 'loss_weight': 10.0}),
)
#: What takes longest first, and what others begin with before them.
TRAININGS = (
    Training('generator', 'train/train_SFTRRDB_stage2_x4_cpu.yml', GENERATOR),
    Training('estimator', 'train/train_MANet_stage1_x4_cpu.yml', ESTIMATOR),
    Training('DAN', 'peers/train_DAN_x4.yml', GENERATOR),
    Training('HAN_bicubic', 'peers/train_HAN_bicubic_x4.yml', GENERATOR + STAGE_3, changes=_SLOWER),
    Training('RCAN_bicubic', 'peers/train_RCAN_bicubic_x4.yml', GENERATOR + STAGE_3, changes=_SLOWER),
    Training('RCAN_blur', 'peers/train_RCAN_blur_x4.yml', GENERATOR + STAGE_3, changes=_SLOWER),
    Training(
        'stage3', 'train/train_BlindSR_stage3_x4_cpu.yml', STAGE_3,
        (('network_g:estimator:pretrained', 'estimator'), *_FROZEN),
        (('train:optim_g:lr', 0.01), ('train:optim_g:adam_lr', 5e-4)),
    ),
    Training('IKC', 'peers/train_IKC_x4.yml', 2900, _FROZEN, _AS_FAST, batch=8),
    Training('SRSVD', 'peers/train_SRSVD_x4.yml', 2000, _FROZEN, _AS_FAST),
    Training('two_blocks', 'ablation/train_MANet_two_blocks_x4.yml', ESTIMATOR, changes=_LOSSES),
    Training('split4', 'ablation/train_MANet_split4_x4.yml', ESTIMATOR, changes=_LOSSES),
    Training('conv', 'ablation/train_MANet_conv_x4.yml', ESTIMATOR, changes=_LOSSES),
    Training('kernel_l1_loss', 'train/train_MANet_stage1_x4.yml', ESTIMATOR),
    Training('lr_image_loss', 'ablation/train_MANet_lr_image_loss_x4.yml', ESTIMATOR),
    Training(
        'indirect_loss', 'ablation/train_MANet_indirect_loss_x4.yml', ESTIMATOR,
        (('train:indirect_opt:generator:pretrained', 'generator'),),
    ),
    Training('collage', 'ablation/train_MANet_collage_x4.yml', ESTIMATOR, changes=_LOSSES),
)  # fmt: skip
BY_NAME = {training.name: training for training in TRAININGS}


def whole(name: str) -> str:
    """Name a training at the whole budget."""
    return f'{name}_whole'


def run(training: Training, seed: int, output: Path, args: argparse.Namespace) -> None:
    """Train a network, or go on with it, or leave it as it is where it is done."""

    def network(name: str) -> str:
        if args.whole:
            return WHOLE_WEIGHTS
        file = network_of(output, f'{name}_seed{seed}')
        if not file.is_file():
            raise ValueError(f'{training.name}: found no {file}, expected it from {name}; train that first')
        return str(file)

    changes: Mapping[str, Any] = {
        'manual_seed': seed,
        'datasets:train:dataroot_gt': str(args.data.resolve()),
        'datasets:val:dataroot_gt': str(args.data.resolve()),
        'datasets:train:batch_size_per_gpu': training.batch if args.whole else args.batch,
        'datasets:train:gt_size': WHOLE_CROP if args.whole else args.crop,
        **training.changes_for(network, whole=args.whole),
    }
    iterations = training.iterations if args.whole else round(args.share * training.iterations)
    name, file = whole(training.name) if args.whole else training.name, ROOT / 'options' / training.file
    train(output, f'{name}_seed{seed}', file, iterations, changes, on_gpu=args.gpu)


def run_all(jobs: Iterable[tuple[Training, int]], output: Path, args: argparse.Namespace) -> list[str]:
    """Run trainings, ``args.jobs`` at a time, each after those that it needs.

    Returns:
        What went wrong; SIGTERM lets all that run save their states, and no other begin.
    """
    started: dict[tuple[str, int], Future[None]] = {}
    with ThreadPoolExecutor(args.jobs) as pool:

        def one(training: Training, seed: int) -> None:
            needs = () if args.whole else training.needs
            wait([started[name, seed] for _, name in needs if (name, seed) in started])
            run(training, seed, output, args)

        stopping.clear()
        before = signal.signal(signal.SIGTERM, lambda *_: stop_all())
        try:
            for training, seed in jobs:
                started[training.name, seed] = pool.submit(one, training, seed)
            wait(started.values())
        except KeyboardInterrupt:  # which those that run got, too
            stopping.set()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
    return [str(error) for future in started.values() if (error := future.exception())]


def wanted(args: argparse.Namespace) -> Iterator[tuple[Training, int]]:
    """List what is trained, in order: all of a seed before the next one."""
    names = args.only or [name for name in BY_NAME if not (args.whole and name in _MADE_THEM)]
    trainings = [training for training in TRAININGS if training.name in names]
    return ((training, seed) for seed in args.seeds for training in trainings)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('output', type=Path, metavar='OUTPUT', help='folder of the trainings; made if missing')
    parser.add_argument('--data', type=Path, required=True, metavar='LMDB', help='training images')
    parser.add_argument('--only', nargs='+', choices=BY_NAME, metavar='NAME', help=f'of: {", ".join(BY_NAME)}')
    parser.add_argument(
        '--seeds', nargs='+', type=int, default=[0], metavar='N', help='which, each a training; default 0'
    )
    parser.add_argument('--jobs', type=int, default=1, metavar='N', help='trainings at a time; default 1')
    parser.add_argument('--gpu', action='store_true', help='on a GPU, in bfloat16, and not on the CPU')
    parser.add_argument(
        '--whole', action='store_true', help="all of version 0.1.0's budget, whatever the three below say; default: not"
    )
    parser.add_argument('--share', type=float, default=SHARE, help=f'of the iterations; default {SHARE}')
    parser.add_argument('--batch', type=int, default=BATCH, metavar='N', help=f'crops; default {BATCH}')
    parser.add_argument('--crop', type=int, default=CROP, metavar='PX', help=f'side of a crop, HR px; default {CROP}')
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs: found {args.jobs}, expected at least 1')
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    try:
        failures = run_all(wanted(args), output, args)
    except KeyboardInterrupt:
        return 130
    for failure in failures:
        print(f'{parser.prog}: error: {failure}', file=sys.stderr)
    return int(bool(failures))


if __name__ == '__main__':
    sys.exit(main())
