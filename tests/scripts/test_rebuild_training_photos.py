"""Rebuilding the training images: by checksum, whatever the layout of the downloads, and the tiles of the table."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

ROOT = Path(__file__).parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f'scripts/{name}.py')
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # a dataclass looks up its module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def script() -> ModuleType:
    return load('rebuild_training_photos')


def enlarged(width: int, height: int) -> np.ndarray:
    """A photograph of that size."""
    return np.asarray(Image.fromarray(skimage.data.coffee()).resize((width, height), Image.Resampling.BICUBIC))


def row(script: ModuleType, name: str, file: Path, tiles: list[np.ndarray], digits: int = 40) -> str:
    """A line of the table; the first digits of the checksum are enough for it."""
    cells = [
        f'{hashlib.sha256(script.encode_tile(tile)).hexdigest()[:16]}/'
        f'{np.rint(script.mean_levels(tile)).astype(np.uint8).tobytes().hex()}'
        for tile in tiles
    ]
    blob = script.blob_checksum(file.read_bytes())[:digits]
    return '\t'.join(('set', name, 'a/project', f'deep/{file.name}', blob, 'CC0-1.0', ' '.join(cells)))


@pytest.fixture
def downloads(script: ModuleType, tmp_path: Path) -> Path:
    """Downloads of a large photograph cut from the corner, a small one cut from its middle, and one taken whole.

    Beside the large one lies another file of its name, and its clone has git's own folder.
    """
    folder = tmp_path / 'downloads'
    for name in ('one/.git', 'one/deep', 'two'):
        (folder / name).mkdir(parents=True)
    large, small, whole = (folder / name for name in ('one/deep/Lärge photo.bmp', 'two/small.png', 'two/whole.jpg'))
    Image.fromarray(enlarged(2142, 756)).save(large)
    (folder / 'two' / large.name).write_bytes(b'of the same name')
    (folder / 'one/.git' / small.name).write_bytes(b'of git')
    Image.fromarray(enlarged(512, 530)).save(small)
    Image.fromarray(enlarged(481, 321)).save(whole)
    reduced = np.asarray(Image.open(large).resize((2040, 720), Image.Resampling.BICUBIC))
    lines = [
        'folder\tphoto\tproject\tpath\tgit SHA-1\tlicence as stated there\ttiles',
        row(script, 'large', large, [reduced[:480, 1440:1920], reduced[:480, :480]], digits=6),
        row(script, 'small', small, [enlarged(512, 530)[25:505, 16:496]]),
        row(script, 'whole', whole, []),
    ]
    (tmp_path / 'table.tsv').write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return folder


def test_tiles_are_those_of_the_table_and_the_training_set_is_made_of_them(
    script: ModuleType, downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(downloads), str(tmp_path / 'out'), '--table', str(tmp_path / 'table.tsv')]
    assert script.main(words) == 0, capsys.readouterr().err
    made = tmp_path / 'out/set'
    assert capsys.readouterr().out == f'{made}: 4 images, 4 of them those of the training to the byte\n'
    reduced = np.asarray(
        Image.open(downloads / 'one/deep/Lärge photo.bmp').resize((2040, 720), Image.Resampling.BICUBIC)
    )
    for number, cell in enumerate((reduced[:480, 1440:1920], reduced[:480, :480])):
        found = cv2.imread(str(made / f'large_{number}.jpg'))[..., ::-1].astype(int)
        assert found.shape == (480, 480, 3) and np.abs(found - cell).mean() < 2  # JPEG
    assert (made / 'whole.jpg').read_bytes() == (downloads / 'two/whole.jpg').read_bytes()
    photographs = load('make_training_set').photographs_of([made])
    assert {name: len(images) for name, images in photographs.items()} == {'large': 2, 'small': 1, 'whole': 1}


def test_another_filter_finds_the_same_tiles_and_says_that_they_are_others_by_the_byte(
    script: ModuleType, downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = downloads / 'one/deep/Lärge photo.bmp'
    other = np.asarray(Image.open(large).resize((2040, 720), Image.Resampling.BOX))
    table = tmp_path / 'table.tsv'
    line = row(script, 'large', large, [other[:480, 1440:1920], other[:480, :480]])
    table.write_text(f'{table.read_text(encoding="utf-8").splitlines()[0]}\n{line}\n', encoding='utf-8')
    assert script.main([str(downloads), str(tmp_path / 'out'), '--table', str(table)]) == 0
    assert '2 images, 0 of them those of the training to the byte' in capsys.readouterr().out


def test_what_is_missing_or_another_photograph_is_said_and_the_rest_made(
    script: ModuleType, downloads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (downloads / 'two/whole.jpg').unlink()
    table, other = tmp_path / 'table.tsv', downloads / 'two/other.png'
    Image.fromarray(enlarged(500, 500)[::-1]).save(other)
    wrong = row(script, 'other', other, [enlarged(500, 500)[:480, :480]])
    table.write_text(f'{table.read_text(encoding="utf-8")}{wrong}\n', encoding='utf-8')
    words = [str(downloads), str(tmp_path / 'out'), '--table', str(table)]
    assert script.main(words) == 1
    assert capsys.readouterr().err == (
        f'missing: {other}: found other tiles than those of other in the table\n'
        'missing: 1 photographs of a/project are not there\n'
    )
    assert sorted(path.name for path in (tmp_path / 'out/set').iterdir()) == [
        'large_0.jpg',
        'large_1.jpg',
        'small_0.jpg',
    ]
    assert script.main([*words, '--sets', 'nothing']) == 2
    assert '--sets: found nothing, expected some of set' in capsys.readouterr().err
    table.write_text('folder\tphoto\nset\tlarge\n')
    assert script.main(words) == 2
    assert f'{table}, line 2: found 2 columns, expected 7' in capsys.readouterr().err
    assert script.main([str(tmp_path / 'nowhere'), str(tmp_path / 'out')]) == 2
    assert 'found no folder, expected that of the downloads' in capsys.readouterr().err


def test_the_checksum_is_that_of_git(script: ModuleType, tmp_path: Path) -> None:
    assert script.blob_checksum(b'') == 'e69de29bb2d1d6434b8b29ae775ad8c2e48c5391'  # which git gives an empty file
    (tmp_path / 'file').write_bytes(b'content\r\n')
    command = ['git', 'hash-object', '--no-filters', str(tmp_path / 'file')]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip('git is not installed')
    assert script.blob_checksum(b'content\r\n') == done.stdout.strip()


def test_the_table_that_ships_has_whole_rows_and_the_photographs_of_the_model_card(script: ModuleType) -> None:
    rows = script.read_table(script.TABLE)
    assert len({(row.folder, row.name) for row in rows}) == len(rows)
    for photograph in rows:
        assert re.fullmatch(r'[0-9a-f]{6,40}', photograph.blob) and photograph.licence and photograph.path
        assert re.fullmatch(r'[\w.-]+/[\w.-]+', photograph.project) or photograph.project == 'BSDS500'
        assert all(re.fullmatch(r'[0-9a-f]{16}', tile.checksum) for tile in photograph.tiles)
    card = (ROOT / 'docs/MODEL_CARD.md').read_text(encoding='utf-8')
    first = [row for row in rows if row.folder == 'photos480']
    assert f'{sum(len(row.tiles) for row in first)} tiles of 480x480 from {len(first)} photographs' in card
    for collection, number in re.findall(r'^\| ([\w-]+) \| (\d+) \|', card.partition('**Data.**')[2], re.MULTILINE):
        assert sum(row.name.startswith(f'{collection}__') for row in first) == int(number)


def test_the_table_that_ships_is_that_of_the_images(script: ModuleType, shared: Path) -> None:
    rows = script.read_table(script.TABLE)
    folder = shared / 'data/train'
    if not all((folder / row.folder).is_dir() for row in rows):
        pytest.skip('no training images')
    files = set()
    for photograph in rows:
        for number, tile in enumerate(photograph.tiles):
            file = folder / photograph.folder / f'{photograph.name}_{number}.jpg'
            content = file.read_bytes()
            assert hashlib.sha256(content).hexdigest().startswith(tile.checksum)
            files.add(file)
            if number == 0:  # decoding all takes long
                pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
                assert np.abs(script.mean_levels(pixels) - tile.means).max() < 1
        if not photograph.tiles:
            file = folder / photograph.folder / photograph.path
            assert script.blob_checksum(file.read_bytes()).startswith(photograph.blob)
            files.add(file)
    assert files == {file for name in ('photos480', 'photos480b', 'bsds399') for file in (folder / name).iterdir()}
