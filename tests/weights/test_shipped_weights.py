"""The weights that ship: whole, small, where option files look for them, and as good as the model card says."""

from __future__ import annotations

import hashlib
import re
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from basicsr.models import build_model
from PIL import Image

from manet_basicsr.archs import BlindSRNet, MANet, SFTRRDBNet
from manet_basicsr.archs.loading import load_network
from manet_basicsr.options.checks import find_problems
from manet_basicsr.options.reading import load_options
from manet_basicsr.restoration.restoring import restore
from manet_basicsr.test import test_pipeline
from manet_basicsr.weights import (
    ShippedWeights,
    describe_shipped,
    load_state_dict_file,
    resolve_weights,
    restoring_weights,
    shipped_weights,
)
from tests import shortened
from tests.small_networks import blind_weights

FOLDER = shortened.ROOT / 'manet_basicsr/weights_data'
CARD = shortened.ROOT / 'docs/MODEL_CARD.md'


def test_files_are_those_of_the_checksums_and_small() -> None:
    lines = [line.split() for line in (FOLDER / 'SHA256SUMS').read_text().splitlines()]
    assert [name for _, name in lines] == sorted(path.name for path in FOLDER.glob('*.pth'))
    for checksum, name in lines:
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == checksum
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 90e6


def test_names_give_scale_and_kind() -> None:
    assert {'blind_x4', 'manet_x4'} <= set(shipped_weights())
    for name in shipped_weights():
        kind, scale = re.fullmatch(r'(blind|blind_v0_1_0|manet|real|sftrrdb)_x([1234])', name).groups()
        network = load_network(f'weights://{name}')
        assert type(network) is {'manet': MANet, 'sftrrdb': SFTRRDBNet}.get(kind, BlindSRNet)
        assert kind == 'manet' or getattr(network, 'generator', network).scale == int(scale)
        assert all(value.isfinite().all() for value in network.state_dict().values())


@pytest.mark.parametrize(('page', 'heading'), [('docs/weights.md', 'The weights'), ('README.md', 'Weights')])
def test_the_tables_of_the_pages_have_all_weights_and_what_is_said_of_each(page: str, heading: str) -> None:
    assert sorted(known.name for known in describe_shipped()) == shipped_weights()
    section = (shortened.ROOT / page).read_text(encoding='utf-8').partition(f'## {heading} that ship\n')[2]
    rows = [line for line in section.partition('\n## ')[0].splitlines() if line.startswith('| `')]
    columns = 3 if page == 'README.md' else 5
    expected = [
        [f'`weights://{known.name}`', str(known.scale), known.use, known.trained_on, known.file]
        for known in describe_shipped()
    ]
    assert rows == [f'| {" | ".join(cells[:columns])} |' for cells in expected]


def job_of(kind: str) -> str:
    return {'manet': 'MANet_stage1', 'sftrrdb': 'SFTRRDB_stage2'}.get(kind, 'BlindSR_stage3')


def training_file(name: str) -> Path:
    """Give the option file of the training that ended in weights that ship."""
    kind, scale = name.split('_x')
    recipe = {'blind_v0_1_0': 'cpu', 'real': 'gpu_real', 'sftrrdb': 'cpu_collage'}.get(kind, 'gpu')
    if recipe == 'gpu' and scale != '4':
        recipe = 'cpu_collage' if kind == 'manet' else 'cpu'
    return shortened.ROOT / f'options/train/train_{job_of(kind)}_x{scale}_{recipe}.yml'


@pytest.mark.parametrize('known', describe_shipped(), ids=lambda known: known.name)
def test_what_the_table_says_of_the_training_is_what_its_option_file_says(known: ShippedWeights) -> None:
    degradation = load_options(training_file(known.name))['datasets']['train']['degradation']
    field = degradation['field']
    kinds = {kind['type'] for kind in field['of']} if field['type'] == 'mixture' else {field['type']}
    low, high = (field['of'][0] if field['type'] == 'mixture' else field)['variance']
    if known.name.startswith('real'):
        assert kinds == {'invariant', 'collage', 'generalized', 'plateau', 'motion', 'defocus'}
        (_, noise), (_, shot), (worst, _) = (degradation[key] for key in ('noise', 'shot_noise', 'jpeg'))
        assert noise == shot
        expected = f'blur of every kind, variance {low:g} to {high:g} px², noise to {noise}, JPEG from {worst}'
    else:
        assert kinds <= {'invariant', 'collage'}
        assert degradation['noise'] == [0, 0] and degradation['jpeg'] is None
        expected = f'Gaussian blur of variance {low:g} to {high:g} px², no noise, no JPEG'
    assert known.trained_on == expected


def test_an_estimator_is_not_stored_beside_the_blind_network_that_holds_it() -> None:
    files = {file.stem for file in FOLDER.glob('*.pth')}
    assert 'manet_x4' in shipped_weights() and not files.intersection(
        name.replace('blind', 'manet') for name in files if 'blind' in name
    )
    blind, estimator = (load_state_dict_file(f'weights://{name}_x4') for name in ('blind', 'manet'))
    assert all(torch.equal(blind[f'kernel_estimation.{key}'], value) for key, value in estimator.items())
    assert estimator.keys() == load_network('weights://manet_x4').state_dict().keys()


@pytest.mark.parametrize('name', shipped_weights())
def test_the_test_file_takes_them_and_the_training_file_makes_their_network(name: str) -> None:
    kind, scale = name.split('_x')
    file = shortened.option_file('test', job_of(kind), int(scale))
    if kind == 'real':
        file = file.with_name(f'{file.stem}_real.yml')
    elif kind == 'blind_v0_1_0':
        file = shortened.ROOT / 'options/peers/test_BlindSR_v0_1_0_x4.yml'
    options = load_options(file)
    assert options['path']['pretrain_network_g'] == f'weights://{name}'
    trained = load_options(training_file(name))['network_g']
    parts = [trained.get(part, {}) for part in ('estimator', 'generator')]
    for part in parts:
        part.pop('pretrained', None), part.pop('param_key', None)
    assert trained == options['network_g']


def card_rows(heading: str) -> dict[str, list[float]]:
    """Read the rows of the model card's table below a heading: the first cell, and the numbers after it."""
    section = CARD.read_text().partition(f'## {heading}\n')[2].partition('\n## ')[0]
    rows = re.findall(r'^\| (\w+) \|(.*)\|$', section, re.MULTILINE)
    return {name: [float(cell) for cell in cells.split('|')] for name, cells in rows if re.search(r'\d', cells)}


@pytest.mark.parametrize('photograph', ['chelsea', 'coffee'])
def test_scores_are_those_of_the_model_card(photograph: str) -> None:
    stated = card_rows('Two photographs')[photograph]
    score = runpy.run_path(str(shortened.ROOT / 'tools/model_card.py'))['score']
    measured = score(getattr(skimage.data, photograph)())
    np.testing.assert_allclose(list(measured), stated, atol=0.05)


def test_sharpening_is_scored_from_little_blur_to_much(photos: Path, tmp_path: Path) -> None:
    tool = runpy.run_path(str(shortened.ROOT / 'tools/model_card.py'))
    (tmp_path / 'images').mkdir()
    image = cv2.imread(str(photos / 'astronaut.png'))[40:120, 60:132]
    cv2.imwrite(str(tmp_path / 'images/a.png'), image)
    found = tool['sharpening'](tmp_path / 'images', str(blind_weights(tmp_path, 1)))
    assert tuple(found) == tool['LITTLE_TO_MUCH']
    before = [pair[0] for pair in found.values()]
    assert before == sorted(before, reverse=True) and len(set(before)) == len(before)


def test_weights_are_found_wherever_the_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_weights('weights://blind_x4').is_absolute()


@pytest.mark.parametrize(('name', 'metric', 'least'), [('MANet_stage1', 'lr_psnr', 36), ('BlindSR_stage3', 'psnr', 20)])
def test_test_files_need_nothing_but_images(name: str, metric: str, least: float, photos: Path, tmp_path: Path) -> None:
    images = tmp_path / 'images'  # one is enough: the sets make 14 LR images of it
    images.mkdir()
    with Image.open(photos / 'chelsea.png') as photo:
        photo.crop((40, 40, 136, 136)).save(images / 'chelsea.png')
    entries = [f'datasets:test_{number}:dataroot_gt={images}' for number in range(6)]
    results = test_pipeline(shortened.resolved(shortened.option_file('test', name, 4), entries, tmp_path))
    assert len(results) == 6
    assert all(scores[metric] > least for scores in results.values())


@pytest.mark.parametrize('model', ['RestorationModel', 'SRModel'])
@pytest.mark.parametrize('strict', [True, False])
def test_the_address_serves_stock_models_and_loose_loading(
    model: str, strict: bool, photos: Path, tmp_path: Path
) -> None:
    file = shortened.option_file('test', 'BlindSR_stage3', 4)
    entries = [f'datasets:test_{number}:dataroot_gt={photos}' for number in range(6)]
    entries += [f'model_type={model}', f'path:strict_load_g={str(strict).lower()}']
    opt = shortened.resolved(file, entries, tmp_path)
    loaded = build_model(opt).net_g.state_dict()
    assert torch.equal(loaded['conv_first.bias'], load_state_dict_file('weights://blind_x4')['conv_first.bias'].float())


def test_addresses_in_options_are_checked(photos: Path) -> None:
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    entries = [
        f'datasets:train:dataroot_gt={photos}',
        f'datasets:val:dataroot_gt={photos}',
        'network_g:estimator:pretrained=weights://blind_x4',
        'network_g:generator:pretrained=weights://big',
        'path:pretrain_network_g=weights://manet_x5',
    ]
    problems = list(find_problems(shortened.forced(file, entries), is_train=True))
    assert any(line.startswith('network_g.generator.pretrained: weights://big does not ship') for line in problems)
    assert any(line.startswith('path.pretrain_network_g: weights://manet_x5 does not') for line in problems)
    for name in ('weights://manet_x4', 'manet_x4', 'blind_x4'):
        fitting = [*entries[:2], f'network_g:estimator:pretrained={name}', 'network_g:generator:pretrained=~']
        assert not list(find_problems(shortened.forced(file, fitting), is_train=True))


def test_a_bare_name_in_an_option_file_is_an_address(photos: Path, tmp_path: Path) -> None:
    file = shortened.option_file('test', 'BlindSR_stage3', 4)
    entries = [f'datasets:test_{number}:dataroot_gt={photos}' for number in range(6)]
    opt = shortened.resolved(file, [*entries, 'path:pretrain_network_g=blind_x4'], tmp_path)
    assert opt['path']['pretrain_network_g'] == str(resolve_weights('blind_x4'))
    wrong = shortened.forced(file, [*entries, 'path:pretrain_network_g=real_x2'])
    assert any('real_x2 is for x2, found scale: 4' in line for line in find_problems(wrong, is_train=False))


def test_an_estimator_within_a_blind_network_brings_no_generator(photos: Path, tmp_path: Path) -> None:
    file = shortened.option_file('test', 'BlindSR_stage3', 4)
    entries = [f'datasets:test_{number}:dataroot_gt={photos}' for number in range(6)]
    entries += ['path:pretrain_network_g=manet_x4', 'path:strict_load_g=false']
    loaded = build_model(shortened.resolved(file, entries, tmp_path)).net_g.state_dict()
    whole = load_state_dict_file('weights://blind_x4')
    assert not torch.equal(loaded['conv_first.weight'], whole['conv_first.weight'].float())


@pytest.mark.parametrize('name', restoring_weights())
def test_an_image_in_tiles_is_that_of_one_pass_to_rounding(name: str) -> None:
    # Noise asks more of the overlap than photographs do.
    lq = torch.rand(1, 3, 48, 80, generator=torch.Generator().manual_seed(0))
    whole, tiled = (restore(lq, f'weights://{name}', tile=side, precision='float32').image for side in (80, 32))
    torch.testing.assert_close(tiled, whole, rtol=0, atol=5e-6)
