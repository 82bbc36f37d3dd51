"""The option files of the systems that the paper compares with: each trains and tests in shortened form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from basicsr.archs import build_network

from manet_basicsr.options.checks import find_problems
from manet_basicsr.options.reading import load_options
from manet_basicsr.test import test_pipeline
from manet_basicsr.train import train_pipeline
from tests import shortened

SCALES = (2, 3, 4)
EVERY = [(job, scale) for job in shortened.PEER_JOBS for scale in SCALES]
ASSEMBLED = [(job, scale) for job in shortened.ASSEMBLED_JOBS for scale in SCALES]
WITH_KERNELS = ('IKC', 'DAN', *shortened.ASSEMBLED_JOBS)


def metrics_of(job: str) -> set[str]:
    return {'psnr', 'ssim', *(('kernel_psnr', 'lr_psnr', 'lr_ssim') if job in WITH_KERNELS else ())}


def corner(photos: Path, folder: Path, scale: int) -> Path:
    """One photograph that becomes an LR image of 24x29 px."""
    folder.mkdir()
    side = 24 * scale
    cv2.imwrite(str(folder / 'chelsea.png'), cv2.imread(str(photos / 'chelsea.png'))[:side, : side + 5 * scale])
    return folder


def scores_of(file: Path, entries: list[str], root: Path) -> Any:
    """Score one set of the six: the others differ in the field alone, which tests of the shipped files go through."""
    opt = shortened.resolved(file, [*entries, 'val:save_img=false'], root)
    assert len(opt['datasets']) == 6
    opt['datasets'] = {'test_3': opt['datasets']['test_3']}
    return test_pipeline(opt)['Set5_type3']


def test_there_are_these_files_and_no_others() -> None:
    expected = {shortened.option_file(phase, *job) for phase in ('train', 'test') for job in EVERY}
    expected |= {shortened.option_file('test', *job) for job in ASSEMBLED}
    expected |= {shortened.ROOT / 'options/peers/test_BlindSR_v0_1_0_x4.yml'}
    assert set((shortened.ROOT / 'options/peers').iterdir()) == expected


@pytest.mark.parametrize(('job', 'scale'), shortened.of_every_scale(EVERY))
def test_a_job_trains_and_its_test_file_scores_what_it_saved(
    job: str, scale: int, photos: Path, photos_lmdb: Path, tmp_path: Path
) -> None:
    train, test = (shortened.option_file(phase, job, scale) for phase in ('train', 'test'))
    entries = shortened.train_entries(job, photos_lmdb, scale=scale)
    entries[0:2] = [entries[0], f'datasets:val:dataroot_gt={corner(photos, tmp_path / "val", scale)}']
    train_pipeline(shortened.resolved(train, entries, tmp_path), str(train))
    root = tmp_path / 'experiments' / train.stem
    saved = torch.load(root / 'models/net_g_latest.pth', weights_only=True)['params']
    assert all(value.isfinite().all() for value in saved.values())
    log = next(root.glob('train_*.log')).read_text()
    assert all(f'# {metric}: ' in log for metric in metrics_of(job))
    images = corner(photos, tmp_path / 'images', scale)
    scores = scores_of(test, shortened.test_entries(job, images, root / 'models/net_g_latest.pth'), tmp_path)
    assert set(scores) == metrics_of(job)


@pytest.mark.parametrize(('job', 'scale'), shortened.of_every_scale(ASSEMBLED))
def test_an_assembled_network_scores_images_and_the_shipped_estimator_s_kernels(
    job: str, scale: int, photos: Path, tmp_path: Path
) -> None:
    file = shortened.option_file('test', job, scale)
    generator = {k: v for k, v in load_options(file)['network_g']['generator'].items() if k != 'pretrained'}
    torch.save({'params': build_network({**generator, 'num_feat': 8, 'num_block': 1}).state_dict()}, tmp_path / 'g.pth')
    small = [entry for entry in shortened.small_network(job) if 'estimator' not in entry]
    entries = [f'network_g:generator:pretrained={tmp_path / "g.pth"}', *small]
    images = corner(photos, tmp_path / 'images', scale)
    entries += [f'datasets:test_{number}:dataroot_gt={images}' for number in range(6)]
    scores = scores_of(file, entries, tmp_path)
    assert set(scores) == metrics_of(job)
    assert scores['lr_psnr'] > 30  # a trained MANet's kernels


@pytest.mark.parametrize(('job', 'scale'), EVERY)
def test_a_test_file_reads_the_weights_that_its_training_file_writes(job: str, scale: int) -> None:
    train, test = (load_options(shortened.option_file(phase, job, scale)) for phase in ('train', 'test'))
    assert test['path']['pretrain_network_g'] == f'experiments/{train["name"]}/models/net_g_latest.pth'
    for part in (train['network_g'], *train['network_g'].values()):
        if isinstance(part, dict):
            part.pop('pretrained', None)
            part.pop('param_key', None)
    if job == 'IKC':  # how often it corrects is no matter of weights
        assert (train['network_g'].pop('num_correction'), test['network_g'].pop('num_correction')) == (3, 6)
    assert test['network_g'] == train['network_g']


@pytest.mark.parametrize(('job', 'scale'), ASSEMBLED)
def test_an_assembled_network_reads_the_generator_that_a_training_file_writes(job: str, scale: int) -> None:
    trained = load_options(shortened.option_file('train', f'{job.removeprefix("BlindSR_")}_stage2', scale))
    generator = load_options(shortened.option_file('test', job, scale))['network_g']['generator']
    assert generator.pop('pretrained') == f'experiments/{trained["name"]}/models/net_g_latest.pth'
    assert generator == trained['network_g']


def test_peers_train_as_the_shipped_generator_does() -> None:
    """On the same images and crops; the two that know no blur differ in that alone."""
    shipped = load_options(
        shortened.option_file('train', 'SFTRRDB_stage2', 4).with_name('train_SFTRRDB_stage2_x4_cpu.yml')
    )
    for job in shortened.PEER_JOBS:
        data = load_options(shortened.option_file('train', job, 4))['datasets']['train']
        expected = dict(shipped['datasets']['train'])
        if job.endswith('_bicubic'):
            expected['degradation'] = {**expected['degradation'], 'field': {'type': 'bicubic'}}
        assert data == {**expected, 'batch_size_per_gpu': 8 if job == 'IKC' else 16}, job
    blur, bicubic = (load_options(shortened.option_file('train', job, 4)) for job in ('RCAN_blur', 'RCAN_bicubic'))
    assert {key for key in blur if blur[key] != bicubic[key]} == {'name', 'datasets'}


def test_networks_without_kernels_have_the_schedule_of_both_stages_of_the_shipped_generator() -> None:
    folder = shortened.option_file('train', 'SFTRRDB_stage2', 4).parent
    stages = [
        load_options(folder / f'train_{stage}_x4_cpu.yml')['train'] for stage in ('SFTRRDB_stage2', 'BlindSR_stage3')
    ]
    rates = [stage['optim_g']['lr'] for stage in stages]
    for job in ('RCAN_blur', 'RCAN_bicubic', 'HAN_bicubic'):
        mine = load_options(shortened.option_file('train', job, 4))['train']
        assert mine['optim_g'] == stages[0]['optim_g'], job
        assert mine['total_iter'] == sum(stage['total_iter'] for stage in stages)
        assert mine['scheduler']['periods'] == [stage['total_iter'] for stage in stages]
        assert mine['scheduler']['restart_weights'] == pytest.approx([1, rates[1] / rates[0]])
        assert mine['pixel_opt'] == stages[0]['pixel_opt']


def test_ikc_is_not_tiled_and_needs_one_kernel_an_image(photos: Path, photos_lmdb: Path, tmp_path: Path) -> None:
    file = shortened.option_file('train', 'IKC', 4)
    entries = shortened.train_entries('IKC', photos_lmdb)
    (problem,) = find_problems(shortened.forced(file, [*entries, 'val:tile=64']), is_train=True)
    assert problem.startswith('val.tile: found 64, expected ~: network_g is IKCNet')
    variant = 'datasets:train:degradation:field={type: smooth, variance: [0.7, 10], period: 20}'
    with pytest.raises(Exception, match='a loss on codes needs one kernel an image, found a field of 12 x 12'):
        train_pipeline(shortened.resolved(file, [*entries, variant], tmp_path), str(file))
