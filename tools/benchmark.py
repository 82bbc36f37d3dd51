"""Measure the package against the plain formulation of the same work: time, peak memory, and the ratios.

    make bench
    python tools/benchmark.py --only a,b

Prints a Markdown table and writes it beside a JSON file. Peak memory is how far the memory of a child process that does
nothing else grows, inputs and weights included; time is the median by torch.utils.benchmark. The plain formulation is
that of benchmark_plain.py; where an item has none, it does not fit into 24 GiB.
"""

from __future__ import annotations

import argparse
import atexit
import ctypes
import datetime
import gc
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import benchmark_plain as plain
import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

import manet_basicsr
from manet_basicsr.archs import BlindSRNet, MABlock, MANet
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.degradation import (
    anisotropic_gaussian_kernels,
    block_field,
    blur_downsample,
    protocol_field,
    quantize,
    sample_kernel_parameters,
    smooth_parameters,
    training_variance_range,
)
from manet_basicsr.metrics import calculate_lr_psnr
from manet_basicsr.options.reading import load_options
from manet_basicsr.restoration.tiling import restore_tiled

ROOT = Path(__file__).resolve().parents[1]
SCALE = 4
TILE = 192
ITEMS = {
    'a': 'drawing kernels',
    'b': 'invariant degradation',
    'c': 'variant degradation',
    'd': 'training step',
    'e': 'stage-3 inference',
    'f': 'LR-PSNR evaluation',
    'g': 'training samples from LMDB',
    'h': 'MAConv block',
}
MIB, GIB = 2**20, 2**30

Work = Callable[[], Any]
Size = tuple[int, int]


@dataclass(frozen=True)
class Setting:
    """How large the work is, where it is done, and by which clock.

    On a busy machine only CPU time says something. ``plain_dtype`` is float64 where plain results are the reference.
    """

    device: str = 'cpu'
    quick: bool = False
    clock: str = 'wall'
    plain_dtype: torch.dtype = torch.float32

    def choose(self, full: Any, quick: Any) -> Any:
        """Give the value for this size."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Case:
    """One row: work in our form and in plain form, and what is asked of it.

    Args:
        key: Letter of the item and a name.
        title: What is done.
        ours: Prepares our work.
        plain: Prepares the plain work.
        speedup: Least ratio of the times that is asked for.
        memory_share: Largest ratio of the memories.
        memory_bound: Largest memory in bytes.
        samples: Samples in one piece of work, where their rate is of interest.
        has_memory: Whether peak memory is measured.
        notes: What else is known of our work: parameters, MACs.
    """

    key: str
    title: str
    ours: Callable[[], Work]
    plain: Callable[[], Work] | None = None
    speedup: float | None = None
    memory_share: float | None = None
    memory_bound: float | None = None
    samples: int | None = None
    has_memory: bool = True
    notes: dict[str, int] = field(default_factory=dict)


# --------------------------------------------------------------------------------------------------------------- inputs


def generator() -> torch.Generator:
    """Give the same random numbers to ours and plain."""
    return torch.Generator().manual_seed(0)


def photo(height: int, width: int) -> np.ndarray:
    """Give a photograph (H, W, 3) uint8 of any size, by reflection."""
    import skimage.data

    image = skimage.data.astronaut()
    rows, cols = max(0, height - image.shape[0]), max(0, width - image.shape[1])
    return np.pad(image, ((0, rows), (0, cols), (0, 0)), mode='reflect')[:height, :width]


def photo_tensor(size: Size) -> Tensor:
    """Give a photograph (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(photo(*size)).permute(2, 0, 1)[None].float() / 255


def crops(number: int, side: int) -> Tensor:
    """Give crops (N, 3, side, side) of a photograph, uint8."""
    image = torch.from_numpy(photo(512, 512)).permute(2, 0, 1)
    places = torch.randint(512 - side + 1, (number, 2), generator=generator()).tolist()
    return torch.stack([image[:, top : top + side, left : left + side] for top, left in places])


def kernel_parameters(number: int) -> tuple[Tensor, Tensor]:
    """Draw kernel parameters as for training."""
    return sample_kernel_parameters(number, training_variance_range(SCALE), generator())


def estimated_field(size: Size) -> Tensor:
    """Make a field that stands for an estimated one."""
    parameters = smooth_parameters(*size, SCALE, training_variance_range(SCALE), generator=generator())
    return block_field(parameters, *size, SCALE, block=SCALE)


# ---------------------------------------------------------------------------------------------------------------- items


def draw_ours(setting: Setting, number: int) -> Work:
    """Prepare drawing kernels all at once."""
    variances, angles = (values.to(setting.device) for values in kernel_parameters(number))
    return lambda: anisotropic_gaussian_kernels(variances, angles, scale=SCALE)


def draw_plain(setting: Setting, number: int) -> Work:
    """Prepare drawing kernels one by one."""
    variances, angles = kernel_parameters(number)
    return lambda: plain.kernels(variances, angles, SCALE, setting.plain_dtype)


def invariant_case(setting: Setting, batch: int, side: int) -> tuple[Tensor, Tensor]:
    """Give images and the kernel of each."""
    hr = crops(batch, side).float() / 255
    return hr.to(setting.device), anisotropic_gaussian_kernels(*kernel_parameters(batch)).view(batch, -1, 1, 1)


def invariant_ours(setting: Setting, batch: int, side: int) -> Work:
    """Prepare blurring each image with its kernel."""
    hr, kernels = invariant_case(setting, batch, side)
    kernels = kernels.to(setting.device)
    return lambda: blur_downsample(hr, kernels, SCALE)


def invariant_plain(setting: Setting, batch: int, side: int, how: Callable[..., Tensor]) -> Work:
    """Prepare the same at stride 1."""
    hr, kernels = (tensor.to(setting.device, setting.plain_dtype) for tensor in invariant_case(setting, batch, side))
    return lambda: how(hr, kernels, SCALE)


def variant_ours(setting: Setting, size: Size) -> Work:
    """Prepare making a field and blurring with it."""
    hr = photo_tensor(size).to(setting.device)
    return lambda: blur_downsample(hr, protocol_field(4, *size, SCALE).to(setting.device), SCALE)


def variant_plain(setting: Setting, size: Size) -> Work:
    """Prepare the same on the HR grid."""
    dtype = setting.plain_dtype
    hr = photo_tensor(size).to(setting.device, dtype)
    return lambda: plain.blur_downsample(hr, plain.protocol_kernels(*size, SCALE, dtype).to(setting.device), SCALE)


def training_options(setting: Setting, job: str, **train: Any) -> dict[str, Any]:
    """Read a shipped training file, with other keys under ``train``."""
    options = load_options(ROOT / f'options/train/train_{job}_x{SCALE}.yml')
    options.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=int(setting.device != 'cpu'))
    options['datasets']['train']['degrade_on'] = 'device'
    options['train'].update(train)
    if setting.quick:
        small = {'MANet_stage1': {'num_feat': 16}, 'SFTRRDB_stage2': {'num_feat': 8, 'num_block': 1}}
        options['network_g'].update(small[job])
    return options


def step_ours(setting: Setting, batch: int, side: int, job: str = 'MANet_stage1', **train: Any) -> Work:
    """Prepare one iteration of training from uint8 crops by our model."""
    from basicsr.models import build_model

    torch.manual_seed(0)
    model = build_model(training_options(setting, job, **train))
    variances, angles = kernel_parameters(batch)
    data = {
        'gt_uint8': crops(batch, side),
        'kernel_parameters': torch.cat([variances, angles[:, None]], 1).view(batch, 1, 1, 3),
        'noise_sigma': torch.zeros(batch),
        'noise_seed': ['0'] * batch,
        'gt_path': [''] * batch,
        'lq_path': [''] * batch,
    }

    def step() -> Tensor:
        model.feed_data(data)
        model.optimize_parameters(1)
        return next(iter(model.loss_dict.values()))

    return step


def step_plain(setting: Setting, batch: int, side: int) -> Work:
    """Prepare the same with degradation and loss on the HR grid, in float32 (or float64)."""
    dtype, device = setting.plain_dtype, setting.device
    torch.manual_seed(0)
    net = MANet(num_feat=setting.choose(128, 16)).to(device, dtype)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-4)
    hr = crops(batch, side).to(device)
    variances, angles = kernel_parameters(batch)

    def step() -> Tensor:
        kernels = plain.kernels(variances, angles, SCALE, dtype).view(batch, -1, 1, 1).to(device)
        lq = quantize(plain.blur_downsample(hr.to(dtype) / 255, kernels, SCALE))
        optimizer.zero_grad()
        loss = plain.kernel_loss(net(lq), kernels, SCALE)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def blind_net(setting: Setting, dtype: torch.dtype = torch.float32) -> BlindSRNet:
    """Build the network of stage 3."""
    torch.manual_seed(0)
    small = {'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}
    net = BlindSRNet(
        {'type': 'MANet', **setting.choose({}, {'num_feat': 16})}, {'type': 'SFTRRDBNet', **setting.choose({}, small)}
    )
    return net.to(setting.device, dtype).eval()


def degraded_photo(size: Size) -> Tensor:
    """Give the LR image of a photograph."""
    return quantize(blur_downsample(photo_tensor(size), protocol_field(4, *size, SCALE), SCALE))


def restore_ours(setting: Setting, size: Size) -> Work:
    """Prepare restoring an image in tiles."""
    net, lq = blind_net(setting), degraded_photo(size).to(setting.device)
    return lambda: restore_tiled(net, lq, tile=TILE)


def restore_plain(setting: Setting, size: Size) -> Work:
    """Prepare restoring it in one pass."""
    net = blind_net(setting, setting.plain_dtype)
    lq = degraded_photo(size).to(setting.device, setting.plain_dtype)
    return torch.inference_mode()(lambda: plain.restore(net, lq))


def evaluate_ours(setting: Setting, size: Size) -> Work:
    """Prepare evaluating an estimated field."""
    estimated, gt = estimated_field(size).to(setting.device), photo_tensor(size).to(setting.device)

    def evaluate() -> float:
        true = protocol_field(4, *size, SCALE).to(setting.device)
        return calculate_lr_psnr(field=estimated, field_gt=true, gt=gt, scale=SCALE)

    return evaluate


def evaluate_plain(setting: Setting, size: Size) -> Work:
    """Prepare the same on the HR grid."""
    dtype, device = setting.plain_dtype, setting.device
    estimated, gt = estimated_field(size).to(device, dtype), photo_tensor(size).to(device, dtype)

    def evaluate() -> float:
        first = plain.blur_downsample(gt, plain.upsampled(estimated, SCALE), SCALE)
        second = plain.blur_downsample(gt, plain.protocol_kernels(*size, SCALE, dtype).to(device), SCALE)
        return plain.lr_psnr(first.cpu(), second.cpu(), SCALE)

    return evaluate


@cache
def image_sets(side: int, number: int) -> dict[str, Path]:
    """Make LMDBs of photographs: HR as PNG and raw, and LR as PNG; they last as long as the process."""
    import skimage.data

    root = Path(tempfile.mkdtemp(prefix='manet_bench_'))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    photos = [getattr(skimage.data, name)() for name in ('astronaut', 'coffee', 'chelsea', 'rocket')]
    for name in ('gt', 'lq'):
        (root / name).mkdir()
    for index in range(number):
        image = np.pad(photos[index % len(photos)], ((0, 512), (0, 512), (0, 0)), mode='reflect')
        tile = image[17 * index : 17 * index + side, 29 * index : 29 * index + side, ::-1]
        cv2.imwrite(str(root / f'gt/{index}.png'), tile)
        cv2.imwrite(str(root / f'lq/{index}.png'), cv2.resize(tile, None, fx=1 / SCALE, fy=1 / SCALE))
    sets = {'png': root / 'gt.lmdb', 'raw': root / 'raw.lmdb', 'lq': root / 'lq.lmdb'}
    for name, path in sets.items():
        write_lmdb(root / ('lq' if name == 'lq' else 'gt'), path, raw=name == 'raw')
    return sets


def loaded(setting: Setting, batch: int, kind: str, **options: Any) -> Work:
    """Prepare getting a batch from a loader with one worker, again and again."""
    from basicsr.data import build_dataset

    sets = image_sets(setting.choose(480, 64), setting.choose(16, 4))
    common = {'name': 'bench', 'phase': 'train', 'scale': SCALE, 'gt_size': setting.choose(192, 48)}
    common |= {'use_hflip': True, 'use_rot': True, 'io_backend': {'type': 'lmdb'}}
    if kind == 'paired':
        common |= {'type': 'PairedImageDataset', 'dataroot_gt': str(sets['png']), 'dataroot_lq': str(sets['lq'])}
    else:
        degradation = {'field': {'type': 'invariant', 'variance': list(training_variance_range(SCALE))}}
        common |= {'type': 'SVDegradationDataset', 'dataroot_gt': str(sets[kind]), 'degradation': degradation}
    dataset = build_dataset(common | options)
    order = torch.randint(len(dataset), (10**6,), generator=generator()).tolist()
    workers = 1 if setting.clock == 'wall' else 0  # the CPU time of a worker is not seen from here
    batches = iter(DataLoader(dataset, batch, sampler=order, num_workers=workers, drop_last=True))
    return lambda: next(batches)


def block_case(name: str, block: nn.Module, setting: Setting, shape: tuple[int, int, int]) -> Case:
    """Make the row of one kind of block: forward and backward pass of (batch, channels, side)."""
    batch, channels, side = shape
    one = torch.zeros(1, channels, side, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        block(one)
    notes = {
        'parameters': sum(parameter.numel() for parameter in block.parameters()),
        'MACs_per_pixel': counter.get_total_flops() // 2 // side**2,
    }

    def prepare() -> Work:
        net = block.to(setting.device)
        features = torch.rand(batch, channels, side, side, generator=generator()).to(setting.device)
        return lambda: net(features).sum().backward()

    return Case(f'h-{name}', f'{name}, {batch}x{channels}x{side}x{side}, forward and backward', prepare, notes=notes)


def convolution_block(channels: int, groups: int) -> nn.Module:
    """Make the counterpart of an MABlock."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, 1, 1, groups=groups),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, 1, 1, groups=groups),
    )


def make_cases(setting: Setting) -> Iterator[Case]:
    """List everything that is measured."""
    number = setting.choose(1000, 20)
    batch, side = setting.choose((16, 192), (2, 48))
    small, large = setting.choose(((320, 480), (1080, 1920)), ((48, 64), (80, 96)))
    at = {size: f'{size[1]}x{size[0]}' for size in (small, large)}
    prepare = partial(partial, setting=setting)
    drawn = {'number': number}
    yield Case('a-kernels', f'{number} kernels', prepare(draw_ours, **drawn), prepare(draw_plain, **drawn), 40)
    shape = {'batch': batch, 'side': side}
    images = f'{batch} x {side}x{side}'
    yield Case(
        'b-unfold', images, prepare(invariant_ours, **shape),
        prepare(invariant_plain, **shape, how=plain.blur_downsample), 8,
    )  # fmt: skip
    yield Case(
        'b-convolution', f'{images}, plain: convolution at stride 1', prepare(invariant_ours, **shape),
        prepare(invariant_plain, **shape, how=plain.convolve_downsample),
    )  # fmt: skip
    yield Case('c-small', at[small], prepare(variant_ours, size=small), prepare(variant_plain, size=small), 150, 1 / 20)
    yield Case('c-large', at[large], prepare(variant_ours, size=large), memory_bound=GIB)
    step = prepare(step_plain, **shape)
    yield Case('d-float32', f'stage 1, {images}, float32', prepare(step_ours, **shape), step, 3, 0.3)
    yield Case('d-bfloat16', f'stage 1, {images}, bf16', prepare(step_ours, **shape, amp='bf16'), step, 6, 0.3)
    if setting.device != 'cpu':
        fast = {**shape, 'amp': 'bf16', 'channels_last': True, 'compile': 'reduce-overhead'}
        yield Case('d-fast', f'stage 1, {images}, bf16, channels_last, CUDA graphs', prepare(step_ours, **fast))
        fast['job'] = 'SFTRRDB_stage2'
        yield Case('d-stage2', f'stage 2, {images}, bf16, channels_last, CUDA graphs', prepare(step_ours, **fast))
    yield Case('e-small', at[small], prepare(restore_ours, size=small), prepare(restore_plain, size=small), 1)
    yield Case('e-large', f'{at[large]}, tiles', prepare(restore_ours, size=large), memory_bound=3 * GIB)
    yield Case('f-small', at[small], prepare(evaluate_ours, size=small), prepare(evaluate_plain, size=small))
    yield Case('f-large', at[large], prepare(evaluate_ours, size=large), memory_bound=GIB)
    samples = setting.choose(16, 4)
    paired = prepare(loaded, batch=samples, kind='paired')
    for kind, where, target in (('raw', 'loader', 3), ('raw', 'device', 3), ('png', 'loader', None)):
        title = f'{kind} LMDB, degrade_on: {where}, one worker; plain: PairedImageDataset'
        loader = prepare(loaded, batch=samples, kind=kind, degrade_on=where)
        yield Case(f'g-{kind}-{where}', title, loader, paired, target, samples=samples, has_memory=False)
    channels, side = setting.choose((128, 48), (16, 8))
    blocks = {
        'MAConv': MABlock(channels, channels),
        'convolution': convolution_block(channels, 1),
        'group convolution': convolution_block(channels, 2),
    }
    for name, block in blocks.items():
        yield block_case(name, block, setting, (batch, channels, side))


# ---------------------------------------------------------------------------------------------------------- measurement


def seconds(work: Work, setting: Setting) -> float:
    """Time work: the median, in seconds."""
    clock = {'timer': time.process_time} if setting.clock == 'cpu' else {}
    timer = Timer('work()', globals={'work': work}, num_threads=torch.get_num_threads(), **clock)
    return timer.blocked_autorange(min_run_time=setting.choose(1.0, 0.05)).median


def resident_bytes(name: str) -> int:
    """Read VmRSS or VmHWM of this process."""
    with open('/proc/self/status', encoding='ascii') as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(f'{name}:'))


def peak_growth(prepare: Callable[[], Work], device: str) -> int:
    """Do work once and tell by how many bytes the memory grew at most, what it works on included."""
    gc.collect()
    if device != 'cpu':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        prepare()()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what is freed but kept would not grow again
        Path('/proc/self/clear_refs').write_text('5')  # forgets the peak so far
        before = resident_bytes('VmRSS')
        prepare()()
        return resident_bytes('VmHWM') - before
    except (OSError, AttributeError):  # no Linux, or another libc
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        prepare()()
        return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def measure_child(key: str, side: str, setting: Setting) -> int:
    """Measure one side of a case, in a process that does nothing else."""
    # The small form first: what libraries load on their first call is no part of the work.
    for each in (Setting(setting.device, quick=True), setting):
        case = next(case for case in make_cases(each) if case.key == key)
        growth = peak_growth(getattr(case, side), setting.device)
    return growth


def peak_bytes(case: Case, side: str, setting: Setting) -> int:
    """Measure one side of a case in a child process."""
    command = [sys.executable, __file__, '--child', case.key, '--side', side, '--device', setting.device]
    result = subprocess.run(
        [*command, *(['--quick'] if setting.quick else [])], capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise RuntimeError(f'{case.key}, {side}: the child process failed\n{result.stderr[-2000:]}')
    return int(result.stdout.split()[-1])


def measure(case: Case, setting: Setting, with_memory: bool = True) -> dict[str, Any]:
    """Measure one case, both sides."""
    row: dict[str, Any] = {'key': case.key, 'title': case.title, **case.notes}
    sides = ['ours', 'plain'] if case.plain else ['ours']
    for side in sides:
        work = getattr(case, side)()
        row[f'{side}_seconds'] = seconds(work, setting)
        del work
        gc.collect()
        if with_memory and case.has_memory:
            row[f'{side}_bytes'] = peak_bytes(case, side, setting)
    if case.samples:
        row |= {f'{side}_samples_per_second': case.samples / row[f'{side}_seconds'] for side in sides}
    if case.plain:
        row['speedup'] = row['plain_seconds'] / row['ours_seconds']
        if 'plain_bytes' in row:
            row['memory_share'] = row['ours_bytes'] / row['plain_bytes']
    row['targets'] = {name: getattr(case, name) for name in ('speedup', 'memory_share', 'memory_bound')}
    return row


def matrix_ceiling(setting: Setting) -> dict[str, float]:
    """Measure the rate in FLOP/s of a large matrix product and a large convolution, bf16 and float32."""
    side, images, channels, pixels = setting.choose(
        (2048, 16, 256, 48) if setting.device == 'cpu' else (8192, 64, 512, 64), (64, 1, 8, 8)
    )
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.rand(side, side, device=setting.device, dtype=dtype)
        features = torch.rand(images, channels, pixels, pixels, device=setting.device, dtype=dtype)
        convolution = nn.Conv2d(channels, channels, 3, 1, 1, bias=False).to(features)
        if setting.device != 'cpu':
            features = features.to(memory_format=torch.channels_last)
        name = str(dtype).removeprefix('torch.')
        works: dict[str, tuple[Work, float]] = {
            'matrix product': (partial(torch.mm, matrix, matrix), 2 * side**3),
            'convolution': (partial(convolution, features), 18 * images * channels**2 * pixels**2),
        }
        with torch.no_grad():
            rates.update({f'{kind}, {name}': flops / seconds(work, setting) for kind, (work, flops) in works.items()})
    return rates


def step_flops(setting: Setting) -> int:
    """Count the FLOPs of the matrix products and convolutions in a training step of stage 1."""
    batch, side = setting.choose((16, 192), (2, 48))
    net = MANet(num_feat=setting.choose(128, 16))
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, side // SCALE, side // SCALE)).sum().backward()
    return batch * counter.get_total_flops()


def shares_of_ceiling(rows: Sequence[dict[str, Any]], rates: dict[str, float], flops: int) -> dict[str, float]:
    """Relate the rate of each stage-1 step to the highest of the rates of its type."""
    shares = {}
    for row in rows:
        if row['key'] in ('d-float32', 'd-bfloat16', 'd-fast'):
            dtype = 'float32' if row['key'] == 'd-float32' else 'bfloat16'
            ceiling = max(rate for name, rate in rates.items() if name.endswith(dtype))
            shares[row['key']] = flops / row['ours_seconds'] / ceiling
    return shares


# --------------------------------------------------------------------------------------------------------------- report


def machine(setting: Setting) -> dict[str, str]:
    """Describe what is measured on."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists('/proc/cpuinfo'):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        cpu = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), cpu)
    return {
        'machine': cpu if setting.device == 'cpu' else torch.cuda.get_device_name(),
        'threads': str(torch.get_num_threads()),
        'clock': setting.clock,
        'load': ' '.join(f'{load:.1f}' for load in os.getloadavg()) + ' (1, 5, 15 minutes, at the start)',
        'system': platform.platform(),
        'versions': f'python {platform.python_version()}, torch {torch.__version__}, '
        f'manet_basicsr {manet_basicsr.__version__}',
        'date': datetime.date.today().isoformat(),
    }


def _time(value: float | None) -> str:
    if value is None:
        return '-'
    return f'{value:.3g} s' if value >= 1 else f'{1000 * value:.3g} ms'


def _memory(value: float | None) -> str:
    return '-' if value is None else f'{value / MIB:,.0f} MiB'


def _asked(row: dict[str, Any]) -> Iterator[str]:
    """Say of each target whether it is met."""
    targets = row['targets']
    if targets['speedup']:
        yield f'>= {targets["speedup"]:g}x: {_met(row["speedup"] >= targets["speedup"])}'
    if targets['memory_share'] and 'memory_share' in row:
        yield f'<= {targets["memory_share"]:.3g} of the memory: {_met(row["memory_share"] <= targets["memory_share"])}'
    if targets['memory_bound'] and 'ours_bytes' in row:
        yield f'<= {_memory(targets["memory_bound"])}: {_met(row["ours_bytes"] <= targets["memory_bound"])}'


def _met(yes: bool) -> str:
    return 'yes' if yes else '**no**'


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the measurements as a Markdown table."""
    lines = [
        '| | | ours | plain | faster | ours, memory | plain, memory | share | asked |',
        '|---|---|---:|---:|---:|---:|---:|---:|---|',
    ]
    for row in rows:
        title = row['title']
        if 'parameters' in row:
            title += f'; {row["parameters"]:,} parameters, {row["MACs_per_pixel"]:,} MACs a pixel'
        if 'ours_samples_per_second' in row:
            title += f' ({row["ours_samples_per_second"]:,.0f} against {row["plain_samples_per_second"]:,.0f} a second)'
        faster = f'{row["speedup"]:.3g}x' if 'speedup' in row else '-'
        share = f'{row["memory_share"]:.3f}' if 'memory_share' in row else '-'
        cells = [
            row['key'][0], f'{ITEMS[row["key"][0]]}: {title}', _time(row['ours_seconds']),
            _time(row.get('plain_seconds')), faster, _memory(row.get('ours_bytes')), _memory(row.get('plain_bytes')),
            share, '; '.join(_asked(row)) or '-',
        ]  # fmt: skip
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def run(setting: Setting, items: Sequence[str], with_memory: bool = True) -> dict[str, Any]:
    """Measure the items asked for, telling the progress on stderr."""
    about, rows = machine(setting), []
    cases = [case for case in make_cases(setting) if case.key[0] in items]
    for number, case in enumerate(cases, start=1):
        print(f'[{number}/{len(cases)}] {ITEMS[case.key[0]]}: {case.title}', file=sys.stderr, flush=True)
        rows.append(measure(case, setting, with_memory))
    report: dict[str, Any] = {**about, 'rows': rows}
    if 'd' in items:
        print('the ceiling: large matrix products and convolutions', file=sys.stderr, flush=True)
        report['ceiling_flops'] = rates = matrix_ceiling(setting)
        report['step_flops'] = step_flops(setting)
        report['share_of_ceiling'] = shares_of_ceiling(rows, rates, report['step_flops'])
    return report


def text_of(report: dict[str, Any], command: str) -> str:
    """Write a report as Markdown."""
    names = ('machine', 'threads', 'clock', 'load', 'system', 'versions', 'date')
    about = [f'- {name}: {report[name]}' for name in names]
    lines = [*about, f'- command: `{command}`', '', table(report['rows'])]
    if 'ceiling_flops' in report:
        rates = ', '.join(f'{name} {rate / 1e9:,.0f}' for name, rate in report['ceiling_flops'].items())
        shares = ', '.join(f'{key} {share:.0%}' for key, share in report['share_of_ceiling'].items())
        lines += ['', f'Measured ceiling, GFLOP/s: {rates}.', f'Share of it that the stage-1 step reaches: {shares}.']
    return '\n'.join(lines) + '\n'


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    letters = ', '.join(f'{letter}: {name}' for letter, name in ITEMS.items())
    parser.add_argument('--only', default=','.join(ITEMS), metavar='a,b', help=f'the items to measure; {letters}')
    parser.add_argument('--quick', action='store_true', help='tiny sizes: whether it runs, not how fast')
    parser.add_argument(
        '--clock',
        default='wall',
        choices=['wall', 'cpu'],
        help='cpu: CPU time instead, for a busy machine, with OMP_NUM_THREADS=1; g then without a worker',
    )
    parser.add_argument('--no-memory', action='store_true', help='time alone')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', choices=['cpu', 'cuda'])
    parser.add_argument(
        '--output', type=Path, default=Path('bench/benchmark.json'), help='and .md beside it; default %(default)s'
    )
    parser.add_argument('--child', help=argparse.SUPPRESS)
    parser.add_argument('--side', help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    setting = Setting(options.device, options.quick, options.clock)
    if options.child:
        print(measure_child(options.child, options.side, setting))
        return 0
    items = options.only.split(',')
    if unknown := set(items) - set(ITEMS):
        parser.error(f'--only: {", ".join(sorted(unknown))}: expected some of {", ".join(ITEMS)}')
    report = run(setting, items, with_memory=not options.no_memory)
    words = ' '.join(['python tools/benchmark.py', *(sys.argv[1:] if arguments is None else arguments)])
    text = text_of(report, f'OMP_NUM_THREADS={torch.get_num_threads()} {words}')
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    options.output.with_suffix('.md').write_text(text, encoding='utf-8')
    print(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
