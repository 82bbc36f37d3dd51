"""Every shipped option file, in shortened form: checked, built, and run for two iterations or over one test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from basicsr.archs import build_network

from manet_basicsr.options.reading import load_options
from manet_basicsr.test import test_pipeline
from manet_basicsr.train import train_pipeline
from tests import shortened

EVERY = [(job, scale) for job in shortened.JOBS for scale in shortened.SCALES]


def test_there_are_the_twenty_four_files_those_of_the_shipped_weights_and_no_others() -> None:
    expected = {shortened.option_file(phase, *job) for phase in ('train', 'test') for job in EVERY}
    expected |= {file for job in shortened.JOBS for file in shortened.files_of_weights(job)}
    expected |= {shortened.ROOT / f'options/test/test_BlindSR_stage3_x{scale}_real.yml' for scale in (1, 2, 4)}
    assert {file for phase in ('train', 'test') for file in (shortened.ROOT / 'options' / phase).iterdir()} == expected


TRAIN_FILES = [(job, shortened.option_file('train', job, scale)) for job, scale in EVERY]
WEIGHT_FILES = [(job, file) for job in shortened.JOBS for file in shortened.files_of_weights(job)]
TRAIN_FILES += WEIGHT_FILES


@pytest.mark.parametrize(('job', 'file'), shortened.of_every_scale(TRAIN_FILES))
def test_training_file_trains_validates_and_saves(job: str, file: Path, photos_lmdb: Path, tmp_path: Path) -> None:
    opt = shortened.resolved(file, shortened.train_entries(job, photos_lmdb), tmp_path)
    assert set(opt['datasets']) == {'train', 'val'}
    train_pipeline(opt, str(file))
    root = tmp_path / 'experiments' / file.stem
    saved = torch.load(root / 'models/net_g_latest.pth', weights_only=True)['params']
    assert all(value.isfinite().all() for value in saved.values())
    log = next(root.glob('train_*.log')).read_text()
    expected = ('kernel_psnr', 'lr_psnr', 'lr_ssim') if job == 'MANet_stage1' else ('psnr', 'ssim')
    assert all(f'# {metric}: ' in log for metric in expected)
    assert (root / 'training_states/2.state').is_file()
    assert load_options(root / 'resolved.yml')['datasets']['train']['gt_size'] == 48


@pytest.mark.parametrize(('job', 'scale'), shortened.of_every_scale(EVERY))
def test_test_file_scores_the_whole_protocol(job: str, scale: int, photos: Path, tmp_path: Path) -> None:
    file = shortened.option_file('test', job, scale)
    network = build_network(shortened.forced(file, shortened.small_network(job))['network_g'])
    torch.save({'params': network.state_dict()}, tmp_path / 'network.pth')
    images, side = tmp_path / 'corner', 30 * scale  # LR images of 30x35 px, of one photograph, will do
    images.mkdir()
    cv2.imwrite(str(images / 'chelsea.png'), cv2.imread(str(photos / 'chelsea.png'))[:side, : side + 5 * scale])
    entries = [*shortened.test_entries(job, images, tmp_path / 'network.pth'), 'val:save_img=false']
    results = test_pipeline(shortened.resolved(file, entries, tmp_path))
    assert list(results) == ['Set5_invariant', *(f'Set5_type{kind}' for kind in range(1, 6))]
    expected = {'kernel_psnr', 'lr_psnr', 'lr_ssim'} if job == 'MANet_stage1' else {'psnr', 'ssim'}
    assert all(set(scores) == expected for scores in results.values())


@pytest.mark.parametrize('job', shortened.JOBS)
def test_files_of_the_scales_differ_in_scale_and_kernels_only(job: str) -> None:
    def neutral(phase: str, scale: int) -> list[str]:
        text = shortened.option_file(phase, job, scale).read_text()
        fixed = {f'_x{scale}': '_x#', f', x{scale}: ': ', x#: ', f'scale: {scale}\n': 'scale: #\n'}
        fixed |= {f'crop_border: {scale}': 'crop_border: #', f'border of {scale} LR': 'border of # LR'}
        fixed |= {f'variances: [{1 + scale}, 1]': 'variances: #'}
        fixed |= {'gt_size: 96  # HR crop, with as many LR px as at x2': 'gt_size: 192  # HR crop'}
        for word, replacement in fixed.items():
            text = text.replace(word, replacement)
        lines = [line for line in text.splitlines() if 'variance: [' not in line]
        if phase == 'train':
            return lines
        # The generators that ship are shorter than the paper's, and that of x1 has a longer code.
        shipped = ('pretrain_network_g: ', 'num_block: ', 'code_length: ')
        return [line for line in lines if not line.lstrip().startswith(shipped)]

    for phase in ('train', 'test'):
        assert neutral(phase, 1) == neutral(phase, 2) == neutral(phase, 3) == neutral(phase, 4)


@pytest.mark.parametrize('scale', shortened.SCALES)
def test_training_files_have_the_papers_schedules(scale: int) -> None:
    stages = [load_options(shortened.option_file('train', job, scale)) for job in shortened.JOBS]
    assert [opt['train']['total_iter'] for opt in stages] == [300_000, 480_000, 250_000]
    assert [opt['train']['optim_g']['lr'] for opt in stages] == [2e-4, 2e-4, 5e-5]
    assert [opt['train']['optim_g']['betas'] for opt in stages] == [[0.9, 0.999], [0.9, 0.99], [0.9, 0.999]]
    for opt in stages:
        train = opt['datasets']['train']
        # The paper has no x1, where a crop of 192 would take four times the memory that x2 takes.
        gt_size = 96 if scale == 1 else 192
        assert (train['gt_size'], train['batch_size_per_gpu'], opt['num_gpu']) == (gt_size, 16, 'auto')
        low, high = train['degradation']['field']['variance']
        assert (low, high) == (pytest.approx(0.175 * scale), pytest.approx(2.5 * scale))


@pytest.mark.parametrize(('job', 'file'), WEIGHT_FILES, ids=[file.stem for _, file in WEIGHT_FILES])
def test_files_of_weights_differ_from_the_papers_in_effort_and_recipe(job: str, file: Path) -> None:
    def flat(section: Any, where: str = '') -> dict[str, Any]:
        if not isinstance(section, dict):
            return {where: section}
        return {name: value for key in section for name, value in flat(section[key], f'{where}.{key}').items()}

    scale = int(file.stem.split('_x')[1][0])
    paper, ours = (flat(load_options(path)) for path in (shortened.option_file('train', job, scale), file))
    changed = {name for name in paper.keys() | ours.keys() if paper.get(name) != ours.get(name)}
    train = '.datasets.train.'
    machine = {'.name', '.num_gpu', f'{train}num_worker_per_gpu', f'{train}pin_memory', '.train.amp'}
    data = {f'{train}name', f'{train}dataroot_gt'}
    start = {'.path.pretrain_network_g', '.network_g.high_pass_head'}
    start |= {f'.network_g.{part}.pretrained' for part in ('estimator', 'generator')}
    logger = ('print_freq', 'save_checkpoint_freq', 'keep_checkpoints')
    rhythm = {'.val.val_freq'} | {f'.logger.{key}' for key in logger}
    effort = {'.network_g.num_block', '.network_g.generator.num_block', '.train.total_iter', '.train.warmup_iter'}
    effort |= {f'{train}gt_size', f'{train}batch_size_per_gpu', '.train.optim_g.lr'}
    schedule = {key for key in changed if key.startswith('.train.scheduler.')}
    losses = {f'.train.kernel_opt.{key}' for key in ('type', 'reduction')} | {'.train.lr_image_opt'}
    losses |= {f'.train.lr_image_opt.{key}' for key in ('type', 'loss_weight')}
    is_muon = ours['.train.optim_g.type'] == 'Muon'
    machine |= {f'{train}degrade_on', f'{train}prefetch_mode', '.train.compile'} if is_muon else set()
    muon = {'.train.ema_decay', '.datasets.val.name', '.datasets.val.dataroot_gt'}
    muon |= {key for key in changed if key.endswith('.code_length') or 'param_key' in key}
    muon |= {key for key in changed if key.startswith('.train.optim_g.') or '.degradation.field.' in key}
    real = {key for key in changed if '.degradation.' in key}
    allowed = machine | data | start | rhythm | effort | schedule | losses
    allowed |= muon if is_muon else set()
    assert changed <= allowed | (real if file.stem.endswith('_real') else set())


@pytest.mark.parametrize('job', shortened.JOBS)
def test_noise_and_jpeg_are_a_change_of_two_lines(job: str, photos_lmdb: Path, tmp_path: Path) -> None:
    file = shortened.option_file('train', job, 4)
    two_lines = ['datasets:train:degradation:noise=[0, 15]', 'datasets:train:degradation:jpeg=[70, 100]']
    train_pipeline(shortened.resolved(file, shortened.train_entries(job, photos_lmdb) + two_lines, tmp_path), str(file))
    assert (tmp_path / 'experiments' / file.stem / 'models/net_g_latest.pth').is_file()
