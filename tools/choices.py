"""Compare recipes by short trainings with several seeds, scored on held-out photographs, for docs/MODEL_CARD.md.

    python tools/choices.py results/choices --data datasets/photos1200.lmdb --held-out datasets/held_out24.lmdb

trains every variant below (--only: of one kind of network) on the CPU, from nothing, and prints a table of each kind. A
training that was interrupted goes on, and one that is done is not done again: other variants need another OUTPUT.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import manet_basicsr  # noqa: F401  (before basicsr, which it mends)

# isort: split
import torch
from basicsr.archs import build_network
from short_training import MUON, ROOT, train
from torch import Tensor, nn

from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset
from manet_basicsr.losses import KernelKLLoss
from manet_basicsr.options.reading import load_options

ADAM = {'train:optim_g': {'type': 'Adam', 'lr': 1e-3, 'betas': [0.9, 0.99]}}
#: Fields of the crops on which networks are scored.
FIELDS: dict[str, dict[str, Any]] = {
    'one kernel': {'type': 'invariant', 'variance': [0.7, 10]},
    'several kernels': {'type': 'collage', 'variance': [0.7, 10], 'block_size': [24, 96]},
}
ONE_KERNEL = {'datasets:train:degradation:field': FIELDS['one kernel']}
SEVERAL_KERNELS = {'datasets:train:degradation:field': FIELDS['several kernels']}
#: An option file for each kind of network, how it is shortened, and the variants: what each changes.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, dict[str, Any]]]] = {
    'estimator': (
        'train_MANet_stage1_x4_gpu.yml',
        {'datasets:train:batch_size_per_gpu': 8, 'datasets:train:gt_size': 64},
        {
            'Muon 0.02, half of the crops with several kernels': MUON,
            'Adam 0.001, half of the crops with several kernels': ADAM,
            'Muon 0.02, one kernel a crop': MUON | ONE_KERNEL,
            'Muon 0.02, a quarter of the crops with several kernels': MUON
            | {'datasets:train:degradation:field:weights': [3, 1]},
            'Muon 0.02, all crops with several kernels': MUON | SEVERAL_KERNELS,
        },
    ),
    'generator': (
        'train_SFTRRDB_stage2_x4_gpu.yml',
        {'datasets:train:batch_size_per_gpu': 4, 'datasets:train:gt_size': 64},
        {
            'Muon 0.02, 4 blocks': MUON,
            'Adam 0.001, 4 blocks': ADAM,
            'Muon 0.02, 2 blocks': MUON | {'network_g:num_block': 2},
        },
    ),
}
_CROP, _SEED = 96, 7


def train_variant(
    output: Path, kind: str, number: int, seed: int, args: argparse.Namespace
) -> tuple[Path, dict[str, Any]]:
    """Train a variant, or go on with it, or leave it as it is where it is done.

    Returns:
        Its network, and its options.
    """
    file, shortened, variants = KINDS[kind]
    name = f'{kind}_{number}_seed{seed}_of_{args.iterations}'
    changes = {
        **shortened,
        'manual_seed': seed,
        'datasets:train:dataroot_gt': str(args.data.resolve()),
        'datasets:val:dataroot_gt': str(args.held_out.resolve()),
        **list(variants.values())[number],
    }
    network = train(output, name, ROOT / 'options/train' / file, args.iterations, changes)
    return network, load_options(network.parents[1] / 'resolved.yml')


def samples(
    options: Mapping[str, Any], held_out: str, field: Mapping[str, Any], number: int
) -> list[dict[str, Tensor]]:
    """Degrade crops of held-out photographs, the same ones at each call."""
    dataset = copy.deepcopy(options['datasets']['train'])
    dataset |= {'phase': 'train', 'name': 'held_out', 'scale': options['scale'], 'dataroot_gt': held_out}
    dataset |= {'gt_size': _CROP, 'degrade_on': 'loader'}
    dataset['degradation']['field'] = dict(field)
    torch.manual_seed(_SEED)
    crops = SVDegradationDataset(dataset)
    return [crops[index % len(crops)] for index in range(number)]


@torch.inference_mode()
def score(kind: str, network: nn.Module, crops: Sequence[Mapping[str, Tensor]]) -> float:
    """Score a network: the divergence of its kernels (lower is better), or PSNR of RGB in dB with the true kernels."""
    scores = []
    for crop in crops:
        lq, gt, kernel = (crop[key][None] for key in ('lq', 'gt', 'kernel'))
        kernel = kernel.expand(-1, -1, *lq.shape[2:])
        if kind == 'estimator':
            scores.append(float(KernelKLLoss()(network(lq), kernel)))
        else:
            scores.append(-10 * float((network(lq, kernel).clamp(0, 1) - gt).square().mean().log10()))
    return statistics.mean(scores)


def table(output: Path, kind: str, args: argparse.Namespace) -> str:
    """Train all variants of a kind of network, and write a table of their scores: mean and spread over the seeds."""
    measure = 'KL divergence' if kind == 'estimator' else 'PSNR, dB'
    lines = [f'| {kind} | {" | ".join(f"{measure}, {field}" for field in FIELDS)} |', f'|---|{"---:|" * len(FIELDS)}']
    for number, variant in enumerate(KINDS[kind][2]):
        found: dict[str, list[float]] = {field: [] for field in FIELDS}
        for seed in range(args.seeds):
            file, options = train_variant(output, kind, number, seed, args)
            network = build_network(options['network_g']).eval()
            network.load_state_dict(torch.load(file, weights_only=True)['params'])
            for field, scores in found.items():
                crops = samples(options, str(args.held_out.resolve()), FIELDS[field], args.crops)
                scores.append(score(kind, network, crops))
        cells = [f'{statistics.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})' for scores in found.values()]
        lines.append(f'| {variant} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('output', type=Path, metavar='OUTPUT', help='folder of the trainings')
    parser.add_argument('--data', type=Path, required=True, metavar='LMDB')
    parser.add_argument('--held-out', type=Path, required=True, metavar='LMDB')
    parser.add_argument('--only', choices=KINDS, help='one kind of network')
    parser.add_argument('--iterations', type=int, default=600, metavar='N')
    parser.add_argument('--seeds', type=int, default=2, metavar='N')
    parser.add_argument('--crops', type=int, default=64, metavar='N', help='for each kind of blur')
    args = parser.parse_args(argv)
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    for kind in [args.only] if args.only else KINDS:
        print(f'{table(output, kind, args)}\n', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
