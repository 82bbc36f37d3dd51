from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils import FileClient, imfrombytes
from numpy.typing import NDArray

from manet_basicsr.data import lmdb_writer
from manet_basicsr.data.raw_pixels import raw_view
from tests import shortened
from tests.forked import killed_at_the_end


@pytest.fixture(scope='module')
def create_lmdb() -> Callable[..., int]:
    return shortened.started('create_lmdb')


@pytest.fixture
def images(tmp_path: Path) -> dict[str, NDArray[np.uint8]]:
    """Five colour images in ``tmp_path / 'images'``, by name, in several lossless formats, RGB."""
    folder = tmp_path / 'images'
    folder.mkdir()
    images = {}
    for index, suffix in enumerate(['.png', '.bmp', '.tiff', '.png', '.PNG']):
        image = np.random.default_rng(index).integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f'image-{index}{suffix}'), image[..., ::-1])
        images[f'image-{index}'] = image
    return images


def read_values(path: Path) -> dict[str, bytes]:
    """Everything in an LMDB, by key; the handle is closed, for lmdb opens an environment once a process."""
    with lmdb.open(str(path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {key.decode(): value for key, value in transaction.cursor()}


def damage(path: Path) -> None:
    """Cut off the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize('raw', [[], ['--raw']], ids=['png', 'raw'])
def test_values_and_meta_info_are_those_of_basicsr(
    create_lmdb: Callable[..., int], images: dict[str, NDArray[np.uint8]], tmp_path: Path, raw: list[str]
) -> None:
    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb', *raw) == 0

    level = 0 if raw else 1
    assert (tmp_path / 'out.lmdb/meta_info.txt').read_text().splitlines() == [
        f'image-{index}.png ({20 + index},30,3) {level}' for index in range(5)
    ]
    client = FileClient('lmdb', db_paths=str(tmp_path / 'out.lmdb'))
    for name, image in images.items():
        value = client.get(name, 'default')
        assert np.array_equal(imfrombytes(value), image[..., ::-1])
        assert (raw_view(value) is not None) == bool(raw)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['images', 'out.lmdb']


@pytest.mark.parametrize('raw', [[], ['--raw']], ids=['png', 'raw'])
def test_basicsr_paired_dataset_reads_both_kinds(
    create_lmdb: Callable[..., int], images: dict[str, NDArray[np.uint8]], tmp_path: Path, raw: list[str]
) -> None:
    for name in ('gt', 'lq'):
        assert create_lmdb(tmp_path / 'images', tmp_path / f'{name}.lmdb', *raw) == 0
    dataset = PairedImageDataset(
        {
            'dataroot_gt': str(tmp_path / 'gt.lmdb'),
            'dataroot_lq': str(tmp_path / 'lq.lmdb'),
            'io_backend': {'type': 'lmdb'},
            'scale': 1,
            'phase': 'val',
        }
    )

    assert len(dataset) == 5
    for sample, image in zip(dataset, images.values(), strict=True):
        assert np.array_equal((sample['gt'].numpy() * 255).round().transpose(1, 2, 0), image)


def test_only_8_bit_images_without_alpha_become_raw_and_png_keeps_every_kind(
    create_lmdb: Callable[..., int], tmp_path: Path
) -> None:
    (tmp_path / 'images').mkdir()
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8)
    cv2.imwrite(str(tmp_path / 'images/grey.png'), ramp)
    cv2.imwrite(str(tmp_path / 'images/alpha.png'), np.dstack([ramp] * 4))
    cv2.imwrite(str(tmp_path / 'images/deep.png'), np.dstack([ramp.astype(np.uint16) * 257] * 3))

    assert create_lmdb(tmp_path / 'images', tmp_path / 'png.lmdb', '--compression-level', 4) == 0
    assert create_lmdb(tmp_path / 'images', tmp_path / 'raw.lmdb', '--raw', '--compression-level', 4) == 0

    shapes = [line.split(' ', 1)[1] for line in (tmp_path / 'png.lmdb/meta_info.txt').read_text().splitlines()]
    assert shapes == ['(8,8,4) 4', '(8,8,3) 4', '(8,8,1) 4']
    shapes = [line.split(' ', 1)[1] for line in (tmp_path / 'raw.lmdb/meta_info.txt').read_text().splitlines()]
    assert shapes == ['(8,8,4) 4', '(8,8,3) 4', '(8,8,3) 0']
    png, raw = read_values(tmp_path / 'png.lmdb'), read_values(tmp_path / 'raw.lmdb')
    assert raw['alpha'] == png['alpha'] and raw['deep'] == png['deep']
    grey = raw_view(raw['grey'])
    assert grey is not None and np.array_equal(grey, np.dstack([ramp] * 3))


def test_a_map_that_is_too_small_grows(
    create_lmdb: Callable[..., int],
    images: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lmdb_writer, '_FIRST_MAP_BYTES', 16384)
    monkeypatch.setattr(lmdb_writer, '_COMMIT_BYTES', 5000)

    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb', '--raw') == 0

    views = {name: raw_view(value) for name, value in read_values(tmp_path / 'out.lmdb').items()}
    assert views.keys() == images.keys()
    for name, image in images.items():
        np.testing.assert_array_equal(views[name], image)


def test_subfolders_become_part_of_the_keys(create_lmdb: Callable[..., int], tmp_path: Path) -> None:
    for folder in ('000', '001', '.hidden'):
        (tmp_path / 'images' / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'images' / folder / 'a.png'), np.zeros((4, 4, 3), np.uint8))

    assert create_lmdb(tmp_path / 'images', tmp_path / 'flat.lmdb') == 2
    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb', '--recursive') == 0

    assert list(read_values(tmp_path / 'out.lmdb')) == ['000/a', '001/a']


def test_an_existing_output_is_replaced_only_with_force(
    create_lmdb: Callable[..., int],
    images: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb') == 0
    before = read_values(tmp_path / 'out.lmdb')
    (tmp_path / 'images/image-0.png').unlink()

    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb') == 2
    assert 'out.lmdb exists; remove it or choose another name; --force replaces it' in capsys.readouterr().err
    assert read_values(tmp_path / 'out.lmdb') == before

    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb', '--force') == 0
    assert read_values(tmp_path / 'out.lmdb').keys() == before.keys() - {'image-0'}


def test_a_damaged_image_is_named_and_ends_the_run_or_is_left_out(
    create_lmdb: Callable[..., int],
    images: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(tmp_path / 'images/image-3.png')

    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb') == 1
    assert 'image-3.png: damaged' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['images']

    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb', '--on-error', 'skip') == 1
    assert 'skipped: ' in capsys.readouterr().err
    assert read_values(tmp_path / 'out.lmdb').keys() == images.keys() - {'image-3'}
    assert len((tmp_path / 'out.lmdb/meta_info.txt').read_text().splitlines()) == 4


@pytest.mark.parametrize('content', [b'', b'no image'])
def test_a_folder_without_one_good_image_makes_no_lmdb(
    create_lmdb: Callable[..., int], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/a.png').write_bytes(content)

    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb', '--on-error', 'skip') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['images']


@pytest.mark.parametrize('name', ['a.b.png', 'ä.png', 'a b.png', 'a\n.png'])
def test_names_that_basicsr_cannot_find_again_are_refused_by_name(
    create_lmdb: Callable[..., int],
    images: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    (tmp_path / 'images/image-0.png').rename(tmp_path / 'images' / name)

    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb') == 2
    assert repr(str(tmp_path / 'images' / name)) in capsys.readouterr().err
    assert not (tmp_path / 'out.lmdb').exists()


def test_two_images_of_one_name_are_refused_by_name(
    create_lmdb: Callable[..., int],
    images: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cv2.imwrite(str(tmp_path / 'images/image-1.jpg'), images['image-1'])

    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb') == 2
    error = capsys.readouterr().err
    assert 'image-1.bmp' in error and 'image-1.jpg' in error


@pytest.mark.parametrize(
    ('folder', 'output', 'message'),
    [
        ('missing', 'out.lmdb', 'missing does not exist'),
        ('empty', 'out.lmdb', 'has no .png'),
        ('images', 'out', "must end in '.lmdb'"),
    ],
)
def test_wrong_folders_are_refused_with_a_reason(
    create_lmdb: Callable[..., int],
    images: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    folder: str,
    output: str,
    message: str,
) -> None:
    (tmp_path / 'empty').mkdir()

    assert create_lmdb(tmp_path / folder, tmp_path / output) == 2
    assert message in capsys.readouterr().err


def test_a_killed_run_leaves_no_output_and_the_next_one_succeeds(
    create_lmdb: Callable[..., int], tmp_path: Path
) -> None:
    (tmp_path / 'images').mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    for index in range(15):  # a second of work at level 9: the kill comes before
        cv2.imwrite(str(tmp_path / f'images/{index}.bmp'), noise)

    def pack(ready: Callable[[], None]) -> None:
        ready()
        create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb', '--compression-level=9')

    with killed_at_the_end(pack) as process:
        while not any(tmp_path.glob('.out.*/data.mdb')):
            assert process.is_alive()
            time.sleep(0.01)
    assert not (tmp_path / 'out.lmdb').exists()
    assert len(list(tmp_path.glob('.out.*'))) == 1

    assert create_lmdb(tmp_path / 'images', tmp_path / 'out.lmdb') == 0

    assert len(read_values(tmp_path / 'out.lmdb')) == 15
    assert sorted(path.name for path in tmp_path.iterdir()) == ['images', 'out.lmdb']
