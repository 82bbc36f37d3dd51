from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.data.images import BadSampleError
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.data.manifest import read_manifest
from manet_basicsr.degradation.sets import BEYOND_GAUSSIANS, field_of
from tests import shortened


@pytest.fixture(scope='module')
def make_testset() -> Callable[..., int]:
    return shortened.started('make_testset')


@pytest.fixture(scope='module')
def images(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs of 90x70 and 61x98 px, one with dots in its name."""
    folder = tmp_path_factory.mktemp('images')
    for source, name, (height, width) in (('astronaut', 'woman', (90, 70)), ('chelsea', 'cat.v2', (61, 98))):
        cv2.imwrite(str(folder / f'{name}.png'), cv2.imread(str(photos / f'{source}.png'))[50:, 50:][:height, :width])
    return folder


def on_the_fly(images: Path, scale: int, kind: int | dict[str, Any], **degradation: Any) -> SVDegradationDataset:
    """The option file that the sets on disk stand for, of a kind of the protocol or of another field."""
    field = {'type': 'protocol', 'kind': kind} if isinstance(kind, int) else kind
    opt = {'phase': 'test', 'scale': scale, 'dataroot_gt': str(images), 'degradation': {'field': field, **degradation}}
    return SVDegradationDataset(opt)


def on_disk(images: Path, folder: Path, scale: int) -> SVDegradationDataset:
    """The option file that reads a set, as ``--help`` shows it."""
    roots = {'dataroot_gt': str(images), 'dataroot_lq': str(folder), 'kernels': str(folder / 'kernels.json')}
    return SVDegradationDataset({'phase': 'test', 'scale': scale, **roots})


def assert_same_sets(first: SVDegradationDataset, second: SVDegradationDataset) -> None:
    assert len(first) == len(second) > 0
    by_name = [{Path(sample['lq_path']).stem: sample for sample in data} for data in (first, second)]
    for name, sample in by_name[0].items():
        for key in ('lq', 'gt', 'kernel'):
            assert torch.equal(sample[key], by_name[1][name][key]), (name, key)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


KINDS = {'invariant': 0, 'type1': 1, 'type2': 2, 'type3': 3, 'type4': 4, 'type5': 5, 'type6': 6}


@pytest.mark.parametrize('alignment', ['centered', 'published'])
def test_sets_on_disk_are_bit_by_bit_what_the_dataset_makes_on_the_fly(
    make_testset: Callable[..., int], images: Path, tmp_path: Path, alignment: str
) -> None:
    arguments = ['--scale', 2, 3, 4, '--sets', *KINDS, '--alignment', alignment]
    assert make_testset(images, tmp_path / 'sets', *arguments) == 0
    suffix = '' if alignment == 'centered' else '_published'
    folders = sorted((tmp_path / 'sets').glob('*/*'))
    assert folders == sorted(tmp_path / f'sets/x{s}/{name}{suffix}' for s in (2, 3, 4) for name in KINDS)
    for scale in (2, 3, 4):
        for name, kind in KINDS.items():
            found = on_disk(images, tmp_path / f'sets/x{scale}/{name}{suffix}', scale)
            assert_same_sets(found, on_the_fly(images, scale, kind, alignment=alignment))


@pytest.mark.parametrize('alignment', ['centered', 'published'])
def test_blur_beyond_gaussians_is_written_and_read_bit_by_bit_too(
    make_testset: Callable[..., int], images: Path, tmp_path: Path, alignment: str
) -> None:
    arguments = [
        '--scale',
        2,
        4,
        '--sets',
        *BEYOND_GAUSSIANS,
        '--alignment',
        alignment,
        '--corruption',
        'noise5+jpeg90',
    ]
    assert make_testset(images, tmp_path, *arguments) == 0
    suffix = ('' if alignment == 'centered' else '_published') + '_noise5_jpeg90'
    corruption = {'alignment': alignment, 'noise': [5, 5], 'jpeg': [90, 90]}
    for scale in (2, 4):
        for name in BEYOND_GAUSSIANS:
            found = on_disk(images, tmp_path / f'x{scale}/{name}{suffix}', scale)
            assert_same_sets(found, on_the_fly(images, scale, field_of(name, scale), **corruption))


@pytest.mark.parametrize('period', [None, 40])
def test_a_set_of_measured_kernels_is_whole_wherever_it_is_moved_to(
    make_testset: Callable[..., int], images: Path, tmp_path: Path, period: int | None
) -> None:
    bank = tmp_path / 'bank'
    bank.mkdir()
    np.save(bank / 'many.npy', np.random.default_rng(0).random((5, 9, 9)))
    (bank / 'licence.txt').write_text('ours', encoding='utf-8')
    field = {'type': 'bank', 'folder': str(bank), **({} if period is None else {'period': period})}
    assert make_testset(images, tmp_path / 'sets', '--sets', '--field', f'measured={json.dumps(field)}') == 0
    assert [path.name for path in (tmp_path / 'sets/x4').iterdir()] == ['measured']
    expected = list(on_the_fly(images, 4, field))
    bank.rename(tmp_path / 'away')
    (tmp_path / 'sets/x4/measured').rename(tmp_path / 'moved')
    assert sorted(path.name for path in (tmp_path / 'moved/bank').iterdir()) == ['many.npy']
    for sample, known in zip(on_disk(images, tmp_path / 'moved', 4), expected, strict=True):
        assert torch.equal(sample['lq'], known['lq']) and torch.equal(sample['kernel'], known['kernel'])


def test_a_mixture_of_measured_kernels_takes_all_of_them_along(
    make_testset: Callable[..., int], images: Path, tmp_path: Path
) -> None:
    kernels = np.random.default_rng(0).random((6, 9, 9))
    for path in ('a/deep/k.npy', 'b/k.npy', 'lens.npy'):
        (tmp_path / 'away' / path).parent.mkdir(parents=True, exist_ok=True)
    np.save(tmp_path / 'away/a/deep/k.npy', kernels[:2])
    np.save(tmp_path / 'away/b/k.npy', kernels[2:])
    np.save(tmp_path / 'away/lens.npy', (kernels / kernels.sum((1, 2), keepdims=True)).reshape(2, 3, 9, 9))
    parts = [{'type': 'bank', 'folder': str(tmp_path / 'away' / name)} for name in 'ab']
    parts.append({'type': 'psf_grid', 'file': str(tmp_path / 'away/lens.npy')})
    field = {'type': 'mixture', 'of': parts}
    assert make_testset(images, tmp_path / 'sets', '--sets', '--field', f'measured={json.dumps(field)}') == 0
    expected = list(on_the_fly(images, 4, field))
    (tmp_path / 'away').rename(tmp_path / 'gone')
    (tmp_path / 'sets/x4/measured').rename(tmp_path / 'moved')
    found = sorted(str(path.relative_to(tmp_path / 'moved')) for path in (tmp_path / 'moved').rglob('*.npy'))
    assert found == ['bank/deep/k.npy', 'bank1/k.npy', 'bank2/lens.npy']
    for sample, known in zip(on_disk(images, tmp_path / 'moved', 4), expected, strict=True):
        assert torch.equal(sample['lq'], known['lq']) and torch.equal(sample['kernel'], known['kernel'])


def test_kernels_that_are_not_those_of_the_image_are_refused(
    make_testset: Callable[..., int], images: Path, tmp_path: Path
) -> None:
    assert make_testset(images, tmp_path, '--sets', 'motion', '--seed', 3) == 0
    folder = tmp_path / 'x4/motion_seed3'
    assert on_disk(images, folder, 4)[1]['kernel'].shape == (441, 1, 1)
    content = json.loads((folder / 'kernels.json').read_text(encoding='utf-8'))
    content['images']['woman']['seed'] += 1
    (folder / 'kernels.json').write_text(json.dumps(content), encoding='utf-8')
    with pytest.raises(BadSampleError, match=r"json, 'woman': found kernels of sharpness .*, expected .*make the set"):
        on_disk(images, folder, 4)[1]


@pytest.mark.parametrize('kind', ['invariant', 'type5'])
def test_noise_and_jpeg_are_those_of_the_option_file_too(
    make_testset: Callable[..., int], images: Path, tmp_path: Path, kind: str
) -> None:
    arguments = ['--sets', kind, '--corruption', 'noise0-15+jpeg70', '--kernel-size', 15]
    assert make_testset(images, tmp_path, *arguments) == 0
    expected = on_the_fly(images, 4, KINDS[kind], noise=[0, 15], jpeg=[70, 70], kernel_size=15)
    assert_same_sets(on_disk(images, tmp_path / f'x4/{kind}_k15_noise0-15_jpeg70', 4), expected)


def test_a_folder_and_its_lmdb_give_the_same_sets(
    make_testset: Callable[..., int], photos: Path, photos_lmdb: Path, tmp_path: Path
) -> None:
    for root, output in ((photos, 'folder'), (photos_lmdb, 'lmdb')):
        assert make_testset(root, tmp_path / output, '--sets', 'invariant', 'type5', '--scale', 4) == 0
    assert tree(tmp_path / 'folder') == tree(tmp_path / 'lmdb')
    assert_same_sets(on_disk(photos_lmdb, tmp_path / 'folder/x4/type5', 4), on_the_fly(photos_lmdb, 4, 5))


def test_the_invariant_set_has_nine_named_images_each_and_a_manifest(
    make_testset: Callable[..., int], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_testset(images, tmp_path, '--sets', 'invariant') == 0
    names = [f'{name}_k{number}' for name in ('cat.v2', 'woman') for number in range(9)]
    folder = tmp_path / 'x4/invariant'
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(f'{n}.png' for n in names), 'kernels.json'])
    manifest = read_manifest(folder / 'kernels.json')
    assert (manifest.scale, manifest.kernel_size, manifest.alignment) == (4, 21, 'centered')
    assert list(manifest.images) == names
    assert manifest.images['cat.v2_k3'].gt == 'cat.v2'
    assert f'{folder}: 18 images and their kernels.json' in capsys.readouterr().out


def test_by_default_all_sets_of_the_paper_s_tables_are_made_at_x4(
    make_testset: Callable[..., int], images: Path, tmp_path: Path
) -> None:
    assert make_testset(images, tmp_path) == 0
    made = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.glob('*/*'))
    assert made == ['x4/invariant', 'x4/type1', 'x4/type2', 'x4/type3', 'x4/type4', 'x4/type5']


def test_keys_of_an_lmdb_with_subfolders_become_file_names(
    make_testset: Callable[..., int], images: Path, tmp_path: Path
) -> None:
    (tmp_path / 'tree/a').mkdir(parents=True)
    (tmp_path / 'tree/a/woman.png').write_bytes((images / 'woman.png').read_bytes())
    write_lmdb(tmp_path / 'tree', tmp_path / 'tree.lmdb', recursive=True)
    assert make_testset(tmp_path / 'tree.lmdb', tmp_path / 'sets', '--sets', 'type5') == 0
    found = on_disk(tmp_path / 'tree.lmdb', tmp_path / 'sets/x4/type5', 4)
    assert found[0]['gt_path'] == 'a/woman'
    assert torch.equal(found[0]['lq'], on_the_fly(tmp_path / 'tree.lmdb', 4, 5)[0]['lq'])


def test_another_seed_draws_other_kernels_and_noise_and_the_same_seed_the_same(
    make_testset: Callable[..., int], images: Path, tmp_path: Path
) -> None:
    for output, seed in (('a', []), ('b', ['--seed', 0]), ('c', ['--seed', 1]), ('d', ['--seed', 1])):
        assert make_testset(images, tmp_path / output, '--sets', 'type5', '--corruption', 'noise15', *seed) == 0
    assert tree(tmp_path / 'c') == tree(tmp_path / 'd')
    seeds = {'a': '', 'b': '_seed0', 'c': '_seed1'}
    sets = [tmp_path / f'{output}/x4/type5_noise15{seed}' for output, seed in seeds.items()]
    assert len({tree(folder)['woman.png'] for folder in sets}) == 3
    assert len({tree(folder)['kernels.json'] for folder in sets}) == 3


def test_existing_sets_are_neither_overwritten_unasked_nor_added_to(
    make_testset: Callable[..., int], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_testset(images, tmp_path, '--sets', 'type1') == 0
    before = tree(tmp_path)
    assert make_testset(images, tmp_path, '--sets', 'type2', 'type1') == 2
    captured = capsys.readouterr().err
    assert f'error: output {tmp_path / "x4/type1"} exists; remove it or choose another folder; --force' in captured
    assert '--force' in captured
    assert tree(tmp_path) == before


def test_force_replaces_a_set_but_nothing_that_is_none(
    make_testset: Callable[..., int], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_testset(images, tmp_path, '--sets', 'type1') == 0
    before = tree(tmp_path)
    (tmp_path / 'x4/type1/woman.png').write_bytes(b'broken')
    (tmp_path / 'x4/type1/old.png').write_bytes(b'old')
    assert make_testset(images, tmp_path, '--sets', 'type1', '--force') == 0
    assert tree(tmp_path) == before
    (tmp_path / 'x4/type2').mkdir()
    (tmp_path / 'x4/type2/thesis.txt').write_text('mine', encoding='utf-8')
    assert make_testset(images, tmp_path, '--sets', 'type2', '--force') == 2
    assert f'{tmp_path / "x4/type2"} has no kernels.json, so it is no test set' in capsys.readouterr().err
    assert (tmp_path / 'x4/type2/thesis.txt').read_text(encoding='utf-8') == 'mine'


@pytest.mark.parametrize('content', [b'', b'garbage', None])
def test_a_damaged_image_is_named_and_no_set_is_left(
    make_testset: Callable[..., int],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
) -> None:
    folder = tmp_path / 'images'
    folder.mkdir()
    whole = (images / 'woman.png').read_bytes()
    (folder / 'a.png').write_bytes(whole)
    (folder / 'b.png').write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert make_testset(folder, tmp_path / 'sets', '--sets', 'type1', 'type2') == 1
    assert f'error: {folder / "b.png"}: damaged' in capsys.readouterr().err
    assert [path for path in (tmp_path / 'sets').rglob('*') if path.name != 'x4'] == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--scale', 0], 'scale: found 0, expected a whole number'),
        (['--corruption', 'noise15-0'], 'degradation.noise: found [15.0, 0.0], expected [smallest, largest]'),
        (['--corruption', 'noise1-2-3'], "corruption: found 'noise1-2-3', expected clean, noise15"),
        (['--corruption', 'jpeg101'], 'degradation.jpeg: found [101, 101]'),
        (['--kernel-size', 20], 'degradation.kernel_size: found 20, expected an odd number'),
        (['--sets'], '--sets: found none, expected some of invariant, type1'),
        (['--field', 'a/b={type: fixed, variances: [1, 1]}'], "--field: found 'a/b', expected one that a"),
        (['--field', 'a={type: bank, folder: nowhere}'], 'degradation.field.folder: nowhere is not a folder of ker'),
    ],
)
def test_a_wrong_number_is_one_clear_line(
    make_testset: Callable[..., int],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[object],
    message: str,
) -> None:
    assert make_testset(images, tmp_path / 'sets', *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: {message}')
    assert len(error.splitlines()) == 1
    assert not (tmp_path / 'sets').exists()


@pytest.mark.parametrize('name', ['nowhere', 'nowhere.lmdb', 'empty'])
def test_missing_images_are_one_clear_line(
    make_testset: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / 'empty').mkdir()
    assert make_testset(tmp_path / name, tmp_path / 'sets') == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: {tmp_path / name} ')
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize('output', ['file', 'file/deeper'])
def test_an_output_that_cannot_be_a_folder_is_one_clear_line(
    make_testset: Callable[..., int], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    (tmp_path / 'file').write_text('mine', encoding='utf-8')
    assert make_testset(images, tmp_path / output, '--sets', 'type1') == 2
    assert capsys.readouterr().err.splitlines() == [
        f'error: output {tmp_path / output}/x4 cannot be made (Not a directory); choose another folder'
    ]


def test_help_shows_an_example_and_the_option_file_that_reads_the_sets(
    make_testset: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match='0'):
        make_testset('--help')
    text = capsys.readouterr().out
    assert 'basicsr make-testset HR_IMAGES OUTPUT --scale 2 3 4 --sets invariant type1 type5' in text
    assert 'kernels: OUTPUT/x4/invariant/kernels.json' in text


def test_the_manifest_can_be_read_without_this_package(
    make_testset: Callable[..., int], images: Path, tmp_path: Path
) -> None:
    assert make_testset(images, tmp_path, '--sets', 'type6') == 0
    content = json.loads((tmp_path / 'x4/type6/kernels.json').read_text(encoding='utf-8'))
    assert torch.tensor(content['images']['woman']['kernels']).shape == (3, 2, 3)
    assert content['images']['woman']['kernels'][0][0] == pytest.approx([10, 0.7, 0.785398], abs=1e-6)
