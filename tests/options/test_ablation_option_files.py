"""The option files of the design study: each differs from stage 1 in what it studies alone, and trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manet_basicsr.commands.basicsr import main
from manet_basicsr.options.reading import load_options
from manet_basicsr.train import train_pipeline
from tests import shortened

FOLDER = shortened.ROOT / 'options/ablation'
FIELD, VAL_FIELD = 'datasets.train.degradation.field', 'datasets.val.degradation.field'
#: What each file changes, besides its name.
STUDIES: dict[str, dict[str, Any]] = {
    'conv': {'network_g.conv': 'conv'},
    'groupconv': {'network_g.conv': 'groupconv'},
    'split4': {'network_g.split': 4},
    'width64': {'network_g.num_feat': 64},
    'width32': {'network_g.num_feat': 32},
    'two_blocks': {'network_g.num_block': 2},
    'lr_image_loss': {
        'train.kernel_opt': None,
        'train.lr_image_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
    },
    'indirect_loss': {
        'train.kernel_opt': None,
        'train.lr_image_opt': None,
        'train.indirect_opt': {
            'type': 'IndirectLoss',
            'loss_weight': 1.0,
            'generator': {
                **load_options(shortened.option_file('train', 'SFTRRDB_stage2', 4))['network_g'],
                'num_block': 2,
                'pretrained': 'weights://blind_v0_1_0_x4',
                'param_key': 'params',
            },
        },
    },
    'collage': {FIELD: {'type': 'collage', 'variance': [0.7, 10], 'block_size': [24, 96]}},
    'smooth': {FIELD: {'type': 'smooth', 'variance': [0.7, 10], 'period': 96}},
    'motion': {'type': 'motion', 'radius': [1.5, 6], 'trajectory': 'camera', 'variance': 0.7},
    'motion_variant': {'type': 'motion', 'radius': [1.5, 6], 'trajectory': 'camera', 'variant': True, 'variance': 0.7},
    'defocus': {'type': 'defocus', 'radius': [1.7, 6.3]},
    'defocus_variant': {'type': 'defocus', 'radius': [1.7, 6.3], 'period': 96},
    'bank': {'type': 'bank', 'folder': 'datasets/kernels'},
    'bank_variant': {'type': 'bank', 'folder': 'datasets/kernels', 'period': 40},
}
STUDIES = {name: {FIELD: c, VAL_FIELD: c} if 'type' in c else c for name, c in STUDIES.items()}


@pytest.fixture(scope='module')
def kernel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two lopsided kernels in the place of measured ones."""
    folder = tmp_path_factory.mktemp('kernels')
    np.save(folder / 'step.npy', np.triu(np.ones((5, 5))))
    np.save(folder / 'comet.npy', np.outer(np.arange(1.0, 8), [0.5, 1, 0.5]))
    return folder


def file_of(study: str) -> Path:
    return FOLDER / f'train_MANet_{study}_x4.yml'


def flat(options: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """Options by their dotted keys; losses and fields as a whole."""
    result: dict[str, Any] = {}
    for key, value in options.items():
        whole = key.endswith('_opt') or key == 'field' or not isinstance(value, dict)
        result.update({f'{prefix}{key}': value} if whole else flat(value, f'{prefix}{key}.'))
    return result


def test_there_is_a_file_for_each_study_and_no_other() -> None:
    assert set(FOLDER.iterdir()) == {file_of(study) for study in STUDIES}


@pytest.mark.parametrize('study', STUDIES)
def test_a_file_changes_what_it_studies_and_nothing_else(study: str) -> None:
    base = flat(load_options(shortened.option_file('train', 'MANet_stage1', 4)))
    found = flat(load_options(file_of(study)))
    assert found.pop('name') == file_of(study).stem
    base.pop('name')
    assert found == {**base, **STUDIES[study]}
    text = file_of(study).read_text(encoding='utf-8')
    assert f'basicsr train -opt options/ablation/{file_of(study).name} ' in text


@pytest.mark.parametrize('study', STUDIES)
def test_a_file_trains_and_validates(study: str, photos_lmdb: Path, kernel_folder: Path, tmp_path: Path) -> None:
    entries = shortened.train_entries('MANet_stage1', photos_lmdb)
    if study.startswith('bank'):
        entries += [f'datasets:{part}:degradation:field:folder={kernel_folder}' for part in ('train', 'val')]
    train_pipeline(shortened.resolved(file_of(study), entries, tmp_path), str(file_of(study)))
    root = tmp_path / 'experiments' / file_of(study).stem
    saved = torch.load(root / 'models/net_g_latest.pth', weights_only=True)['params']
    assert all(value.isfinite().all() for value in saved.values())
    log = next(root.glob('train_*.log')).read_text()
    assert all(f'# {metric}: ' in log for metric in ('kernel_psnr', 'lr_psnr', 'lr_ssim'))


@pytest.mark.parametrize('study', ['smooth', 'motion_variant', 'defocus', 'bank_variant'])
def test_kernels_of_every_kind_can_be_made_on_the_device(
    study: str, photos_lmdb: Path, kernel_folder: Path, tmp_path: Path
) -> None:
    entries = [*shortened.train_entries('MANet_stage1', photos_lmdb), 'datasets:train:degrade_on=device']
    if study.startswith('bank'):
        entries += [f'datasets:{part}:degradation:field:folder={kernel_folder}' for part in ('train', 'val')]
    train_pipeline(shortened.resolved(file_of(study), entries, tmp_path), str(file_of(study)))
    assert (tmp_path / 'experiments' / file_of(study).stem / 'models/net_g_latest.pth').is_file()


def test_a_missing_folder_of_kernels_is_one_clear_line(
    photos_lmdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    roots = [f'datasets:{part}:dataroot_gt={photos_lmdb}' for part in ('train', 'val')]
    assert main(['train', '-opt', str(file_of('bank')), '--force_yml', *roots]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # of train and of val
    assert lines[0].endswith('degradation.field.folder: datasets/kernels is not a folder of kernels')
