"""The option files that mix our parts with others': each trains and tests in shortened form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from basicsr.models.sr_model import SRModel

from manet_basicsr.test import test_pipeline
from manet_basicsr.train import train_pipeline
from tests import shortened

JOBS = shortened.MIXED_JOBS


def test_there_is_a_training_and_a_test_file_for_each_job_and_no_other() -> None:
    expected = {shortened.option_file(phase, job, 4) for phase in ('train', 'test') for job in JOBS}
    assert set((shortened.ROOT / 'options/mixing').iterdir()) == expected


@pytest.mark.parametrize('job', JOBS)
def test_a_job_trains_and_its_test_file_scores_what_it_saved(
    job: str, photos: Path, photos_lmdb: Path, tmp_path: Path
) -> None:
    train, test = (shortened.option_file(phase, job, 4) for phase in ('train', 'test'))
    train_pipeline(shortened.resolved(train, shortened.train_entries(job, photos_lmdb), tmp_path), str(train))
    network = tmp_path / 'experiments' / train.stem / 'models/net_g_latest.pth'
    assert all(value.isfinite().all() for value in torch.load(network, weights_only=True)['params'].values())
    # One set of the six: the others differ in the field alone, which tests of the shipped test files go through.
    entries = [*shortened.test_entries(job, photos, network), 'val:save_img=false']
    opt = shortened.resolved(test, entries, tmp_path)
    opt['datasets'] = {'test_3': opt['datasets']['test_3']}
    results = test_pipeline(opt)
    assert set(results['Set5_type3']) == {'psnr', 'ssim'}


@pytest.mark.parametrize('job', JOBS)
def test_a_test_file_reads_the_weights_that_its_training_file_writes(job: str) -> None:
    train, test = (shortened.forced(shortened.option_file(phase, job, 4), []) for phase in ('train', 'test'))
    assert test['path']['pretrain_network_g'] == f'experiments/{train["name"]}/models/net_g_latest.pth'
    for part in (train['network_g'], *train['network_g'].values()):
        if isinstance(part, dict):
            part.pop('pretrained', None)
            part.pop('param_key', None)
    assert test['network_g'] == train['network_g']


def test_the_rrdbnet_is_trained_by_basicsr_s_own_model(photos_lmdb: Path, tmp_path: Path) -> None:
    opt = shortened.resolved(
        shortened.option_file('train', 'RRDBNet', 4), shortened.train_entries('RRDBNet', photos_lmdb), tmp_path
    )
    assert opt['model_type'] == SRModel.__name__


def test_the_estimator_stays_frozen_while_srmd_trains(photos_lmdb: Path, tmp_path: Path) -> None:
    file = shortened.option_file('train', 'BlindSR_SRMD_stage3', 4)
    entries = [*shortened.train_entries('BlindSR_SRMD_stage3', photos_lmdb, total_iter=4), 'train:optim_g:lr=0.01']
    train_pipeline(shortened.resolved(file, entries, tmp_path), str(file))
    first, last = (
        torch.load(tmp_path / f'experiments/{file.stem}/models/net_g_{number}.pth', weights_only=True)['params']
        for number in (2, 4)
    )
    changed = {key for key in first if not torch.equal(first[key], last[key])}
    assert changed
    assert not any(key.startswith('kernel_estimation.') or key == 'pca_matrix' for key in changed)
