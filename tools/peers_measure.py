"""What tools/peers.py needs beside scores: sizes, times, what small patches tell, what trainings cost."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from basicsr.archs import build_network
from peers_rows import BLIND, PHOTOGRAPHS
from peers_train import BATCH, CROP, SHARE, TRAININGS, Training
from peers_train import BY_NAME as BY_TRAINING
from short_training import MUON, ROOT, network_of
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import manet_basicsr
from manet_basicsr.archs import MANet
from manet_basicsr.data.images import open_images
from manet_basicsr.degradation import anisotropic_gaussian_kernels, sample_kernel_parameters, training_variance_range
from manet_basicsr.degradation.gaussian import fixed_field
from manet_basicsr.evaluation import plan_conditions
from manet_basicsr.evaluation.methods import OptionFile
from manet_basicsr.evaluation.paired import Difference
from manet_basicsr.evaluation.records import row_key
from manet_basicsr.evaluation.runner import machine
from manet_basicsr.metrics import calculate_lr_psnr
from manet_basicsr.models.scoring import EXACT_MATCH_DB
from manet_basicsr.options.forcing import force
from manet_basicsr.options.reading import load_options
from manet_basicsr.options.resolving import forget_beginning
from manet_basicsr.restoration.restoring import load_blind_network
from manet_basicsr.utils.files import atomic_path, write_lines

SCALE = 4
#: Sides of patches in LR px; scores are of the middle 9x9 px of each, so that only what the network sees differs.
SIDES = (9, 12, 16, 22, 32, 48)
_SCORED = 9
# A kernel of 21 taps reaches 10 HR px: so many LR px about what is scored decide nothing that lies further out.
_MARGIN = 3
_REPEATS = 7
#: What the noisy images of claim 13 went through.
NOISY = 'noise15+jpeg70'


def estimator_of(file: str) -> Any:
    """Load the estimator of the blind network that an option file of a test names."""
    return load_blind_network(load_options(ROOT / file)['path']['pretrain_network_g']).kernel_estimation


def _cpu_seconds(work: Callable[[], Any]) -> float:
    """Measure the CPU time of a piece of work; on a busy machine wall time says little."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def measure_sizes() -> dict[str, Any]:
    """Compare MANet with the same network of ordinary convolutions: what it saves, in percent.

    Returns:
        ``parameters_saved``, ``macs_saved``: exact. ``time_saved``: CPU time of an estimate on 64x64 LR px, in turns.
    """
    networks = [MANet(conv=kind).eval() for kind in ('maconv', 'conv')]
    lq = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sizes = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    work, seconds = [], []
    with torch.inference_mode():
        for network in networks:
            with FlopCounterMode(display=False) as counter:
                network(lq)
            work.append(counter.get_total_flops())
        for _ in range(_REPEATS):
            seconds.append([_cpu_seconds(partial(network, lq)) for network in networks])
    saved = [100 * (1 - ours / other) for ours, other in (sizes, work)]
    times = [100 * (1 - ours / other) for ours, other in seconds]
    return {'parameters_saved': saved[0], 'macs_saved': saved[1], 'time_saved': times}


def measure_ikc() -> dict[str, Any]:
    """Compare the CPU time of estimating kernels of 64x64 LR px: IKC's network, untrained, by MANet's."""
    options = load_options(ROOT / f'options/peers/test_IKC_x{SCALE}.yml')['network_g']
    ikc, manet = build_network(options).eval(), estimator_of(BLIND)
    lq = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pairs = [[_cpu_seconds(partial(ikc.estimate, lq)), _cpu_seconds(partial(manet, lq))] for _ in range(_REPEATS)]
    return {'ikc_ratio': statistics.median(slow / fast for slow, fast in pairs)}


def most_textured(lq: Tensor, side: int) -> tuple[int, int]:
    """Find where an LR image has most detail.

    Args:
        lq: ``(3, h, w)``.
        side: Of the window, in LR px.

    Returns:
        Row and column of the upper left corner of the window with the largest sum of gradients, which leaves a margin
        to the border of the image.
    """
    grey = lq.mean(0)
    down, across = (F.pad(part, pad) for part, pad in ((grey.diff(dim=0), (0, 0, 0, 1)), (grey.diff(dim=1), (0, 1))))
    sums = F.avg_pool2d(torch.hypot(down, across)[None, None], side, 1)[0, 0]
    inner = sums[_MARGIN : sums.shape[0] - _MARGIN, _MARGIN : sums.shape[1] - _MARGIN]
    row, column = divmod(int(inner.argmax()), inner.shape[1])
    return row + _MARGIN, column + _MARGIN


def middle(whole: Tensor, top: int, left: int, side: int, more: int = 0) -> Tensor:
    """Cut the middle ``side`` px, and ``more`` at each side, out of the largest patch at a place."""
    offset = (SIDES[-1] - side) // 2 - more
    rows, columns = (slice(at + offset, at + offset + side + 2 * more) for at in (top, left))
    return whole[..., rows, columns]


def score_patch(field: Tensor, kernel: Tensor, gt: Tensor) -> float:
    """Score kernels (1, k*k, n, n) or (1, k*k, 1, 1) of a patch on its middle 9x9 px, LR PSNR.

    Args:
        field: The kernels.
        kernel: The true one, ``(k*k, 1, 1)``.
        gt: HR image of the middle and the margin about it, ``(3, H, W)``.
    """
    side = field.shape[-1]
    if side > 1:
        cut = (side - _SCORED) // 2
        field = F.pad(field[..., cut : cut + _SCORED, cut : cut + _SCORED], [_MARGIN] * 4, mode='replicate')
    score = calculate_lr_psnr(field=field, field_gt=kernel, gt=gt, scale=SCALE, crop_border=_MARGIN)
    return min(score, EXACT_MATCH_DB)


def measure_patches(images: Sequence[str], limit: int) -> dict[str, Any]:
    """Estimate kernels from patches of several sizes about the most textured place of each image.

    Args:
        images: Folders or LMDBs of HR images.
        limit: Images of each.

    Returns:
        ``patch_scores``: LR PSNR by side of the patch, ``whole`` and ``fixed``, a number an image, the mean of the nine
        invariant kernels; and ``patches_SIDE``, the differences to ``fixed``.
    """
    network = estimator_of(BLIND)
    fixed = fixed_field(SCALE, 21, 'centered')
    scores: dict[str, list[float]] = {name: [] for name in (*map(str, SIDES), 'whole', 'fixed')}
    for condition in plan_conditions(images, sets=['invariant'], scales=[SCALE]):
        dataset = condition.open()
        kernels = len(dataset) // len(dataset.images.names)
        for number in range(min(limit, len(dataset.images.names))):
            found = [_scores_of(network, fixed, dataset[number * kernels + index]) for index in range(kernels)]
            for name, values in scores.items():
                values.append(statistics.fmean(one[name] for one in found))
    above = {
        f'patches_{side}': [a - b for a, b in zip(scores[str(side)], scores['fixed'], strict=True)] for side in SIDES
    }
    return {'patch_scores': scores, **above}


def measure_noisy(images: Sequence[str], limit: int) -> dict[str, Any]:
    """Estimate kernels from noisy and compressed images, by the weights for photographs.

    Args:
        images: Folders or LMDBs of HR images.
        limit: Images of each.

    Returns:
        ``noisy``: by how much LR PSNR is above that of ``fixed``, a number an image, the mean of the nine invariant
        kernels.
    """
    network, fixed = estimator_of(PHOTOGRAPHS), fixed_field(SCALE, 21, 'centered')
    above = []
    for condition in plan_conditions(images, sets=['invariant'], scales=[SCALE], corruptions=[NOISY]):
        dataset = condition.open()
        kernels = len(dataset) // len(dataset.images.names)
        for number in range(min(limit, len(dataset.images.names))):
            found = []
            for index in range(number * kernels, (number + 1) * kernels):
                sample = dataset[index]
                with torch.inference_mode():
                    fields = network(sample['lq'][None]), fixed
                known = {'field_gt': sample['kernel'], 'gt': sample['gt'], 'scale': SCALE}
                ours, other = (min(calculate_lr_psnr(field=field, **known), EXACT_MATCH_DB) for field in fields)
                found.append(ours - other)
            above.append(statistics.fmean(found))
    return {'noisy': above}


@torch.inference_mode()
def _scores_of(network: Any, fixed: Tensor, sample: dict[str, Any]) -> dict[str, float]:
    """Score all sizes on one degraded image."""
    lq, kernel = sample['lq'], sample['kernel']
    top, left = most_textured(lq, SIDES[-1])
    offset = (SIDES[-1] - _SCORED) // 2 - _MARGIN
    side = SCALE * (_SCORED + 2 * _MARGIN)
    rows, columns = (slice(SCALE * (at + offset), SCALE * (at + offset) + side) for at in (top, left))
    gt = sample['gt'][:, rows, columns]
    fields = {str(side): network(middle(lq, top, left, side)[None]) for side in SIDES}
    fields['whole'] = middle(network(lq[None]), top, left, _SCORED)
    fields['fixed'] = fixed
    return {name: score_patch(field, kernel, gt) for name, field in fields.items()}


def draw_patches(scores: dict[str, list[float]], path: Path) -> None:
    """Draw LR PSNR over the side of the patch, with standard errors, beside the whole image's and that of ``fixed``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout='constrained')
    axis = figure.add_subplot()
    means = {name: Difference.of(values) for name, values in scores.items()}
    shown = [means[str(side)] for side in SIDES]
    axis.errorbar(
        SIDES, [m.mean for m in shown], [m.error for m in shown], fmt='o-', capsize=3, label='MANet 0.1.0 on a patch'
    )
    for name, style in (('whole', '--'), ('fixed', ':')):
        label = {'whole': 'MANet 0.1.0 on the whole image', 'fixed': 'fixed kernel'}[name]
        axis.axhline(means[name].mean, linestyle=style, color='grey', label=label)
    axis.set(xlabel='side of the patch, LR px', ylabel='LR PSNR of the middle 9x9, dB', xticks=SIDES)
    axis.grid(alpha=0.3)
    axis.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def training_options(training: Training, output: Path) -> dict[str, Any]:
    """Read the options of a training as it was made or, where it was not, as it would be."""
    resolved = network_of(output, f'{training.name}_seed0').parents[1] / 'resolved.yml'
    if resolved.is_file():
        options = load_options(resolved)
    else:
        options = load_options(ROOT / 'options' / training.file)
        options['train'].update(total_iter=round(SHARE * training.iterations))
        options['datasets']['train'].update(gt_size=CROP, batch_size_per_gpu=BATCH)
        force(options, [f'{key}={json.dumps(value)}' for key, value in {**MUON, **dict(training.changes)}.items()])
    forget_beginning(options)  # may be gone: of a training that was interrupted, a state of its own
    options.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=0)
    # Compiling takes longer than what is measured, and bfloat16 minutes on a CPU without instructions for it.
    options['train'].update(compile=False, amp=None)
    return options


def measure_training(training: Training, output: Path) -> dict[str, float]:
    """Measure what a training costs, by two of its steps on random images.

    Returns:
        ``steps`` of the training, ``batch``, ``side`` of its HR crops; of one step ``flop`` and CPU ``seconds``.
    """
    from basicsr.models import build_model

    options = training_options(training, output)
    data = options['datasets']['train']
    batch, side, generator = data['batch_size_per_gpu'], data['gt_size'], torch.Generator().manual_seed(0)
    variances, angles = sample_kernel_parameters(batch, training_variance_range(SCALE), generator)
    kernels = anisotropic_gaussian_kernels(variances, angles, 21, SCALE).view(batch, -1, 1, 1)
    model = build_model(options)
    model.feed_data({
        'gt': torch.rand(batch, 3, side, side, generator=generator),
        'lq': torch.rand(batch, 3, side // SCALE, side // SCALE, generator=generator),
        'kernel': kernels, 'gt_path': [''] * batch, 'lq_path': [''] * batch,
    })  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        model.optimize_parameters(1)
    seconds = _cpu_seconds(lambda: model.optimize_parameters(2))
    steps = options['train']['total_iter']
    return {'steps': steps, 'batch': batch, 'side': side, 'flop': counter.get_total_flops(), 'seconds': seconds}


def _contents(images: Sequence[str], limit: int) -> str:
    """Hash the images that a measurement is made on."""
    digest = hashlib.sha256()
    for folder in map(open_images, images):
        for name in folder.names[:limit]:
            pixels = folder.read(name)
            digest.update(f'{name} {pixels.shape}'.encode() + pixels.tobytes())
    return digest.hexdigest()


def _parts(output: Path, images: Sequence[str], limit: int) -> Iterator[tuple[str, Any, Callable[[], dict[str, Any]]]]:
    """List what is measured: a name, what it depends on, and the measurement."""
    shown = _contents(images, limit)
    small, photographs = (OptionFile(ROOT / file).fingerprint() for file in (BLIND, PHOTOGRAPHS))
    yield 'sizes', '', measure_sizes
    yield 'ikc', load_options(ROOT / f'options/peers/test_IKC_x{SCALE}.yml')['network_g'], measure_ikc
    yield 'patches', (shown, small), partial(measure_patches, images, limit)
    yield 'noisy', (shown, photographs), partial(measure_noisy, images, limit)
    for training in TRAININGS:
        yield training.name, training_options(training, output), partial(measure_training, training, output)


def measure_missing(output: Path, images: Sequence[str], limit: int) -> dict[str, Any]:
    """Measure what ``measured.json`` lacks or has of other images, weights, options, machines or versions.

    Args:
        output: Folder of that file, which is made if missing and written after each part, and of the trainings.
        images: As for :func:`measure_patches`.
        limit: Likewise.

    Returns:
        All that is in it: what the functions above give, and the costs of trainings under ``trainings`` by their names.
    """
    path = output / 'measured.json'
    kept: dict[str, Any] = json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}
    found: dict[str, Any] = {'trainings': {}}
    for name, depends, measure in _parts(output, images, limit):
        key = row_key(name, depends, machine(), manet_basicsr.__version__)
        if kept.get(name, {}).get('key') != key:
            kept[name] = {'key': key, 'values': measure()}
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                write_lines(temporary, json.dumps(kept, indent=1) + '\n')
        values = kept[name]['values']
        if name in BY_TRAINING:
            found['trainings'][name] = values
        else:
            found.update(values)
    return found
