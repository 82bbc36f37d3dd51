"""A training step and a test of each stage on a GPU, as far as they can be followed without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.models import build_model
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorDeviceMismatchError
from torch.utils.data import default_collate

from manet_basicsr.archs import BlindSRNet
from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.data.sampling import SampleIndex
from manet_basicsr.degradation import resizing
from manet_basicsr.restoration import restoring
from tests import shortened
from tests.simulated_device import DEVICE, NoWaiting, WaitsForDeviceError, simulated_device
from tests.small_networks import blind_network

OPTIONS = {
    'plain': [
        'datasets:train:degrade_on=device',
        'train:channels_last=false',
        'datasets:train:degradation:noise=[0,9]',
    ],
    'bf16': ['train:amp=bf16', 'train:channels_last=true', 'train:accumulate=2', 'train:ema_decay=0.9'],
    'fp16': ['train:amp=fp16', 'train:channels_last=true', 'train:optim_g={type: Muon, lr: 0.01, adam_lr: 1e-4}'],
}
FIELDS = {
    'collage': '{type: collage, variance: [0.7, 10]}',
    'bicubic': '{type: bicubic}',
    'plateau': '{type: plateau, variance: [0.7, 4]}',
    'motion': '{type: motion, radius: [1, 4], trajectory: camera, variant: true, variance: 0.5}',
    'defocus': '{type: defocus, radius: [2, 5], period: 40}',
}
LR_IMAGE = 'train:lr_image_opt={type: L1Loss, loss_weight: 1.0, reduction: mean}'


def batch_of(opt: dict[str, Any]) -> dict[str, Any]:
    dataset = SVDegradationDataset(opt['datasets']['train'])
    return default_collate([dataset[SampleIndex(index, 100 + index)] for index in range(4)])


def on_host(batch: dict[str, Any], simulated: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {key: simulated(value) if torch.is_tensor(value) else value for key, value in batch.items()}


STEPS = [
    *(pytest.param(job, options, id=f'{job}-{name}') for job in shortened.JOBS for name, options in OPTIONS.items()),
    # Of others, BasicSR's RCAN sends its mean in every step, and IKC, DAN and SRSVD look into their basis once built.
    *(
        pytest.param(job, OPTIONS['bf16'], id=job)
        for job in ('HAN_bicubic', 'SFTMD_stage2', 'CFSNet_stage2', 'CResMD_stage2')
    ),
]


@pytest.mark.parametrize(('job', 'options'), STEPS)
def test_a_step_stays_on_the_device_and_waits_for_nothing(
    job: str, options: list[str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, entries = shortened.option_file('train', job, 4), [*shortened.train_entries(job, photos), *options]
    if job == 'MANet_stage1' and options is OPTIONS['plain']:
        entries.append(LR_IMAGE)
    opt = shortened.resolved(file, entries, tmp_path)
    batch = batch_of(opt)
    # A loss scaler looks at the gradients before each step, which is the one wait of fp16.
    monkeypatch.setattr(torch.amp.GradScaler, '_maybe_opt_step', lambda self, optimizer, *_, **__: optimizer.step())
    with simulated_device(monkeypatch) as simulated:
        model = build_model(opt)
        batch = on_host(batch, simulated)
        with NoWaiting():
            # A second one begins with what the first has left.
            for current_iter in (1,) if LR_IMAGE in entries else (1, 2):
                model.feed_data(batch)
                model.optimize_parameters(current_iter)
        assert {loss.device for loss in model.loss_dict.values()} == {DEVICE}
        trained = [parameter for parameter in model.net_g.parameters() if parameter.requires_grad]
        assert {parameter.grad.device for parameter in trained} == {DEVICE}
        model.test()
        assert {result.device for result in model.result.values()} == {DEVICE}


@pytest.mark.parametrize('field', FIELDS.values(), ids=FIELDS)
def test_blur_noise_and_jpeg_are_made_on_the_device_and_wait_for_nothing(
    field: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resizing._kept_kernel.cache_clear()  # what an earlier simulation has left is of no use in this one
    job, corruption = 'SFTRRDB_stage2', ['noise=[0,9]', 'shot_noise=[0,9]', 'jpeg=[40,90]', 'uncompressed=0.3']
    entries = [*shortened.train_entries(job, photos), 'datasets:train:degrade_on=device']
    entries += [f'datasets:train:degradation:{one}' for one in (f'field={field}', *corruption)]
    opt = shortened.resolved(shortened.option_file('train', job, 4), entries, tmp_path)
    batch = batch_of(opt)
    with simulated_device(monkeypatch) as simulated:
        model = build_model(opt)
        batch = on_host(batch, simulated)
        model.feed_data(batch)  # the first batch may send a kernel, which stays there
        with NoWaiting():
            model.feed_data(batch)
        assert model.batch['lq'].device == DEVICE


@pytest.mark.parametrize(
    ('mistake', 'error'),
    [
        (lambda loss: loss * loss.cpu().mean(), WaitsForDeviceError),
        (lambda loss: loss if loss.mean() > 0 else -loss, DataDependentOutputException),
        (lambda loss: loss * loss.mean().item(), DataDependentOutputException),
        (lambda loss: loss + torch.zeros(loss.shape), FakeTensorDeviceMismatchError),
        (lambda loss: loss + torch.zeros(loss.shape).to(loss.device), WaitsForDeviceError),
    ],
    ids=['copied', 'decided', 'read', 'left behind', 'sent'],
)
def test_a_step_that_waits_or_mixes_devices_is_noticed(
    mistake: Callable[[Tensor], Tensor],
    error: type[Exception],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, entries = (
        shortened.option_file('train', 'SFTRRDB_stage2', 4),
        shortened.train_entries('SFTRRDB_stage2', photos),
    )
    opt = shortened.resolved(file, entries, tmp_path)
    batch = batch_of(opt)
    with simulated_device(monkeypatch) as simulated:
        model = build_model(opt)
        pixel = model.losses['pixel']
        monkeypatch.setitem(model.losses, 'pixel', lambda output, gt: mistake(pixel(output, gt).expand(2)).sum())
        with NoWaiting(), pytest.raises(error):
            model.feed_data(on_host(batch, simulated))
            model.optimize_parameters(1)


@pytest.mark.parametrize('half', [None, torch.float16])
def test_restoring_brings_tiles_to_the_device_and_results_back(
    half: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring._Tiles, '_check_finite', lambda *_: None)  # looks at the numbers of each tile
    with simulated_device(monkeypatch):
        network: BlindSRNet = blind_network(4)
        sr, field = restoring._restore_batch(
            network, torch.rand(2, 3, 40, 33), device=DEVICE, half=half, tile=24, field_dtype=torch.float32, label=None
        )
        assert (sr.shape, sr.device.type) == ((2, 3, 160, 132), 'cpu')
        assert field is not None and (field.shape, field.device.type) == ((2, 441, 40, 33), 'cpu')
