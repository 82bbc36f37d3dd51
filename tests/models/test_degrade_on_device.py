"""Batches that the model degrades on its device: the same as those of the loader, but for the draw of the noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.models import build_model
from torch.utils.data import default_collate

from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.data.images import BadSampleError
from manet_basicsr.data.sampling import SampleIndex
from manet_basicsr.degradation import blur_downsample, jpeg_compress, quantize
from manet_basicsr.options.errors import OptionError
from manet_basicsr.train import train_pipeline
from tests import shortened

FIELDS = [
    '{type: invariant, variance: [0.7, 10]}',
    '{type: protocol, kind: 5}',
    '{type: smooth, variance: [0.7, 10]}',
    '{type: motion, radius: [2, 5]}',
    '{type: collage, variance: [0.7, 10]}',
    '{type: mixture, of: [{type: invariant, variance: [0.7, 10]}, {type: collage, variance: [0.7, 10]}]}',
]


def model_and_sets(tmp_path: Path, photos: Path, *more: str) -> tuple[Any, SVDegradationDataset, SVDegradationDataset]:
    """Build the shortened stage-1 model, and its training set as the loader and as the device degrade it."""
    file, entries = shortened.option_file('train', 'MANet_stage1', 4), shortened.train_entries('MANet_stage1', photos)
    opt = shortened.resolved(file, [*entries, 'datasets:train:degrade_on=device', *more], tmp_path)
    section = opt['datasets']['train']
    loader = SVDegradationDataset({**section, 'degrade_on': 'loader'})
    return build_model(opt), loader, SVDegradationDataset(section)


def collated(dataset: SVDegradationDataset, number: int = 8) -> dict[str, Any]:
    return default_collate([dataset[SampleIndex(index % len(dataset), 100 + index)] for index in range(number)])


@pytest.mark.parametrize('field', FIELDS)
@pytest.mark.parametrize('photos_as', ['photos', 'photos_lmdb'])
def test_crops_and_kernels_are_the_loader_s_and_lr_bytes_differ_hardly_ever(
    field: str, photos_as: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    images = request.getfixturevalue(photos_as)
    model, loader, device = model_and_sets(tmp_path, images, f'datasets:train:degradation:field={field}')
    expected, batch = collated(loader, 16), collated(device, 16)
    assert batch['gt_uint8'].dtype == torch.uint8
    sent = sum(value.numel() * value.element_size() for value in batch.values() if torch.is_tensor(value))
    model.feed_data(batch)
    assert model.batch.keys() == expected.keys()
    assert torch.equal(model.batch['gt'], expected['gt'])
    assert (model.batch['gt_path'], model.batch['lq_path']) == (expected['gt_path'], expected['lq_path'])
    # The kernels of a batch are made at once; a sum in another order moves the last bit.
    torch.testing.assert_close(model.batch['kernel'], expected['kernel'], atol=1e-7, rtol=1e-5)
    levels = ((model.batch['lq'] - expected['lq']) * 255).abs()
    assert levels.max() < 1.01
    assert (levels > 0.5).float().mean() <= 1e-4
    if expected['kernel'].shape[2] > 1:
        assert sent < expected['kernel'].numel() * 4 / 5


def test_noise_has_the_same_levels_and_distribution_and_is_drawn_again_alike(photos: Path, tmp_path: Path) -> None:
    model, loader, device = model_and_sets(tmp_path, photos, 'datasets:train:degradation:noise=[5, 40]')
    generator = torch.Generator()
    sigmas = []
    model.feed_data(collated(device))
    first = model.batch['lq'].clone()
    clean = blur_downsample(model.batch['gt'], model.batch['kernel'], 4)
    for index in range(8):
        sample = device[SampleIndex(index % len(device), 100 + index)]
        sigmas.append(float(sample['levels'][0]))
        # The same draws as the loader's: crop, kernel, level.
        generator.manual_seed(100 + index)
        degradation = loader.degradations[0]
        loader._read_crop(loader.gt_name(index % len(loader)), generator)
        degradation.draw_parameters(48, 48, 4, generator)
        assert degradation.draw_noise_levels(generator) == pytest.approx((sigmas[-1], 0))
    for noisy in (first, collated(loader)['lq']):
        inside = (clean > 0.35) & (clean < 0.65)  # away from the clipping at 0 and 1
        normal = ((noisy - clean) * 255 / torch.tensor(sigmas).view(-1, 1, 1, 1))[inside]
        # A standard normal of some 1,000 pixels, widened by rounding.
        assert abs(normal.mean()) < 4 / len(normal) ** 0.5
        assert normal.std() == pytest.approx(1, abs=4 / len(normal) ** 0.5)
    assert len(set(sigmas)) == 8
    model.feed_data(collated(device))
    assert torch.equal(model.batch['lq'], first)


def test_noise_of_light_and_clean_images_are_those_that_were_drawn(photos: Path, tmp_path: Path) -> None:
    where = 'datasets:train:degradation'
    model, _, device = model_and_sets(tmp_path, photos, f'{where}:shot_noise=[30, 60]', f'{where}:clean=0.5')
    batch = collated(device)
    levels = batch['levels'].clone()
    model.feed_data(batch)
    clean = blur_downsample(model.batch['gt'], model.batch['kernel'], 4)
    for found, expected, (sigma, shot, _) in zip(model.batch['lq'], clean, levels.tolist(), strict=True):
        inside = (expected > 0.35) & (expected < 0.65)  # away from the clipping at 0 and 1
        noise = ((found - expected) * 255)[inside]
        assert sigma == 0
        if shot == 0:
            assert noise.abs().max() <= 0.51
        else:
            normal = noise / (shot * expected[inside].sqrt())
            assert normal.std() == pytest.approx(1, abs=4 / len(normal) ** 0.5)
    assert 0 < (levels[:, 1] == 0).sum() < len(levels)


def test_accumulation_and_a_step_work_on_such_a_batch(photos: Path, tmp_path: Path) -> None:
    model, _, device = model_and_sets(tmp_path, photos, 'train:accumulate=2', 'datasets:train:batch_size_per_gpu=4')
    model.feed_data(collated(device, 4))
    model.optimize_parameters(1)
    assert np.isfinite(model.get_current_log()['l_kernel'])


@pytest.mark.parametrize('job', shortened.JOBS)
def test_every_stage_trains_with_it(job: str, photos_lmdb: Path, tmp_path: Path) -> None:
    file = shortened.option_file('train', job, 4)
    device = ['datasets:train:degrade_on=device', 'datasets:train:degradation:noise=[0, 15]']
    entries = [*shortened.train_entries(job, photos_lmdb, workers=1), *device]
    train_pipeline(shortened.resolved(file, entries, tmp_path), str(file))
    assert (tmp_path / 'experiments' / file.stem / 'models/net_g_latest.pth').is_file()


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ('datasets:train:degrade_on=devise', "degrade_on 'devise' is not one of loader, device; did you mean 'device'"),
        ('datasets:val:degrade_on=device', 'degrade_on: device is for training'),
        ('model_type=SRModel', r'datasets\.train\.degrade_on: device needs a model of manet_basicsr.* SRModel'),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(entry: str, message: str, photos: Path, tmp_path: Path) -> None:
    file, job = shortened.option_file('train', 'BlindSR_stage3', 4), 'BlindSR_stage3'
    entries = [*shortened.train_entries(job, photos), 'datasets:train:degrade_on=device', entry]
    with pytest.raises(OptionError, match=message):
        shortened.resolved(file, entries, tmp_path)


def test_16_bit_images_are_refused_by_name(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / 'deep.png'), np.full((60, 60, 3), 1000, np.uint16))
    degradation = {'field': {'type': 'invariant', 'variance': [0.7, 10]}}
    opt = {'phase': 'train', 'scale': 4, 'dataroot_gt': str(tmp_path), 'gt_size': 48, 'degradation': degradation}
    with pytest.raises(BadSampleError, match=r'deep\.png: 16-bit images need degrade_on: loader'):
        SVDegradationDataset({**opt, 'degrade_on': 'device'})[0]


def test_compression_has_the_quality_that_was_drawn_and_leaves_clean_images(photos: Path, tmp_path: Path) -> None:
    where = 'datasets:train:degradation'
    model, _, device = model_and_sets(tmp_path, photos, f'{where}:jpeg=[30, 90]', f'{where}:clean=0.5')
    batch = collated(device)
    qualities = batch['levels'][:, 2].tolist()
    model.feed_data(batch)
    blurred = quantize(blur_downsample(model.batch['gt'], model.batch['kernel'], 4))
    pairs = list(zip(blurred, qualities, strict=True))
    expected = torch.stack([jpeg_compress(clean, int(quality)) if quality else clean for clean, quality in pairs])
    clean = torch.tensor(qualities) == 0
    assert 0 < clean.sum() < len(qualities)
    assert torch.equal(model.batch['lq'][clean], blurred[clean])
    # Of images this small a coefficient that is rounded the other way is much.
    assert (model.batch['lq'] - expected).abs().mean() < 0.15 * (blurred - expected).abs().mean()
    assert len(set(qualities)) > 3
