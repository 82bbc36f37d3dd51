"""What tools/benchmark.py measures: each piece of work in our form and in another one.

The other one is the authors' (benchmark_published.py), or ours without what makes it fast."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import benchmark_published as published
import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from manet_basicsr.archs import BlindSRNet, MANet
from manet_basicsr.archs.loading import load_network
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.data.on_host import SeveralOnHost
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
from manet_basicsr.models import speed
from manet_basicsr.options.reading import load_options
from manet_basicsr.restoration.restoring import restore
from manet_basicsr.restoration.tiling import restore_tiled

ROOT = Path(__file__).resolve().parents[1]
SCALE = 4
TILE = 192

Work = Callable[[], Any]
Size = tuple[int, int]


@dataclass(frozen=True)
class Setting:
    """How large the work is, where it is done, and by which clock.

    On a busy machine only CPU time says something. ``other_dtype`` is float64 where the other form is the reference.
    ``compiling`` lets a training step choose whether it compiles, as training does; it takes a minute.
    """

    device: str = 'cpu'
    quick: bool = False
    clock: str = 'wall'
    other_dtype: torch.dtype = torch.float32
    compiling: bool = True

    def choose(self, full: Any, quick: Any) -> Any:
        """Give the value for this size."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Case:
    """One row: work in our form and in another form, and what is asked of it.

    Args:
        key: Letter of the item and a name.
        title: What is done.
        ours: Prepares our work.
        other: Prepares the other form of it.
        against: What the other form is.
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
    other: Callable[[], Work] | None = None
    against: str = "the authors' formulation"
    speedup: float | None = None
    memory_share: float | None = None
    memory_bound: float | None = None
    samples: int | None = None
    has_memory: bool = True
    notes: dict[str, int] = field(default_factory=dict)


def generator() -> torch.Generator:
    """Give the same random numbers to both forms."""
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


def draw_ours(setting: Setting, number: int) -> Work:
    """Prepare drawing kernels all at once."""
    variances, angles = (values.to(setting.device) for values in kernel_parameters(number))
    return lambda: anisotropic_gaussian_kernels(variances, angles, scale=SCALE)


def draw_published(setting: Setting, number: int) -> Work:
    """Prepare drawing kernels one by one."""
    variances, angles = kernel_parameters(number)
    return lambda: published.kernels(variances, angles, SCALE, setting.other_dtype)


def invariant_case(setting: Setting, batch: int, side: int) -> tuple[Tensor, Tensor]:
    """Give images and the kernel of each."""
    hr = crops(batch, side).float() / 255
    return hr.to(setting.device), anisotropic_gaussian_kernels(*kernel_parameters(batch)).view(batch, -1, 1, 1)


def invariant_ours(setting: Setting, batch: int, side: int) -> Work:
    """Prepare blurring each image with its kernel, as in a training process, which keeps freed memory."""
    speed.keep_freed_memory()
    hr, kernels = invariant_case(setting, batch, side)
    kernels = kernels.to(setting.device)
    return lambda: blur_downsample(hr, kernels, SCALE)


def invariant_published(setting: Setting, batch: int, side: int) -> Work:
    """Prepare the same at stride 1."""
    hr, kernels = (tensor.to(setting.device, setting.other_dtype) for tensor in invariant_case(setting, batch, side))
    return lambda: published.blur_invariant(hr, kernels, SCALE)


def variant_ours(setting: Setting, size: Size) -> Work:
    """Prepare making a field and blurring with it."""
    hr = photo_tensor(size).to(setting.device)
    return lambda: blur_downsample(hr, protocol_field(4, *size, SCALE).to(setting.device), SCALE)


def variant_published(setting: Setting, size: Size) -> Work:
    """Prepare the same on the HR grid."""
    dtype = setting.other_dtype
    hr = photo_tensor(size).to(setting.device, dtype)
    return lambda: published.blur_variant(hr, published.protocol_kernels(*size, SCALE, dtype).to(setting.device), SCALE)


def training_options(setting: Setting, job: str, **train: Any) -> dict[str, Any]:
    """Read a shipped training file, with other keys under ``train``."""
    options = load_options(ROOT / f'options/train/train_{job}_x{SCALE}.yml')
    options.update(is_train=True, dist=False, rank=0, world_size=1, num_gpu=int(setting.device != 'cpu'))
    options['datasets']['train']['degrade_on'] = 'device'
    compiling = {} if setting.compiling else {'compile': False}
    options['train'].update({**compiling, **train})
    if setting.quick:
        small = {'MANet_stage1': {'num_feat': 16}, 'SFTRRDB_stage2': {'num_feat': 8, 'num_block': 1}}
        options['network_g'].update(small[job])
    return options


def step_ours(setting: Setting, batch: int, side: int, job: str = 'MANet_stage1', **train: Any) -> Work:
    """Prepare one iteration of training from uint8 crops by our model, which chooses what suits the machine."""
    from basicsr.models import build_model

    torch.manual_seed(0)
    return step_of(build_model(training_options(setting, job, **train)), batch, side)


def step_without(setting: Setting, batch: int, side: int, job: str = 'MANet_stage1', **train: Any) -> Work:
    """Prepare the same without what makes it fast: layout, compiling, losses from logits, memory that is kept."""
    from basicsr.models import build_model

    torch.manual_seed(0)
    with patch.object(speed, 'keep_freed_memory', lambda: None):
        model = build_model(training_options(setting, job, channels_last=False, compile=False, **train))
    model.logit_network = None  # of stage 1: the loss is computed from the field
    return step_of(model, batch, side)


def step_of(model: Any, batch: int, side: int) -> Work:
    """Let a model do one iteration with crops and kernels of its own."""
    variances, angles = kernel_parameters(batch)
    parameters = torch.cat([variances, angles[:, None]], dim=1).flatten()
    data = {
        'gt_uint8': crops(batch, side),
        'kernel_parameters': SeveralOnHost(parameters, [torch.Size((1, 1, 3))] * batch),
        'levels': torch.zeros(batch, 3),
        'noise_seed': SeveralOnHost(torch.zeros(batch, dtype=torch.long), [torch.Size((1,))] * batch),
        'gt_path': [''] * batch,
        'lq_path': [''] * batch,
    }

    def step() -> Tensor:
        model.feed_data(data)
        model.optimize_parameters(1)
        return next(iter(model.loss_dict.values()))

    return step


def step_published(setting: Setting, batch: int, side: int, amp: str | None = None) -> Work:
    """Prepare the same with degradation and loss on the HR grid."""
    dtype, device = setting.other_dtype, setting.device
    torch.manual_seed(0)
    net = MANet(num_feat=setting.choose(128, 16)).to(device, dtype)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-4)
    hr = crops(batch, side).to(device)
    variances, angles = kernel_parameters(batch)

    def step() -> Tensor:
        kernels = published.kernels(variances, angles, SCALE, dtype).view(batch, -1, 1, 1).to(device)
        lq = quantize(published.blur_invariant(hr.to(dtype) / 255, kernels, SCALE))
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=amp == 'bf16'):
            field = net(lq)
        loss = published.kernel_loss(field.to(dtype), kernels, SCALE)
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


def restore_photo(setting: Setting, size: Size, precision: str = 'auto') -> Work:
    """Prepare ``restore()`` of an LR image of this size with the weights that ship."""
    image = photo(*size)
    return lambda: restore(image, 'weights://blind_x4', device=setting.device, precision=precision, field_dtype=None)


def estimate_photo(setting: Setting, size: Size) -> Work:
    """Prepare estimating the field of an LR image with the weights that ship."""
    net, lq = load_network('weights://manet_x4').to(setting.device), photo_tensor(size).to(setting.device)
    return torch.inference_mode()(lambda: net(lq))


def restore_published(setting: Setting, size: Size) -> Work:
    """Prepare restoring it in one pass."""
    net = blind_net(setting, setting.other_dtype)
    lq = degraded_photo(size).to(setting.device, setting.other_dtype)
    return torch.inference_mode()(lambda: published.restore(net, lq))


def evaluate_ours(setting: Setting, size: Size) -> Work:
    """Prepare evaluating an estimated field."""
    estimated, gt = estimated_field(size).to(setting.device), photo_tensor(size).to(setting.device)

    def evaluate() -> float:
        true = protocol_field(4, *size, SCALE).to(setting.device)
        return calculate_lr_psnr(field=estimated, field_gt=true, gt=gt, scale=SCALE)

    return evaluate


def evaluate_published(setting: Setting, size: Size) -> Work:
    """Prepare the same on the HR grid."""
    dtype, device = setting.other_dtype, setting.device
    estimated, gt = estimated_field(size).to(device, dtype), photo_tensor(size).to(device, dtype)

    def evaluate() -> float:
        first = published.blur_variant(gt, published.upsampled(estimated, SCALE), SCALE)
        second = published.blur_variant(gt, published.protocol_kernels(*size, SCALE, dtype).to(device), SCALE)
        return published.lr_psnr(first.cpu(), second.cpu(), SCALE)

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
