"""Dividing photographs into a training and a validation LMDB: by photograph, and the same every time."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from manet_basicsr.data.images import open_images

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location('make_training_set', ROOT / 'scripts/make_training_set.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Tiles of three photographs with their table, one name ending in a number, and three whole photographs."""
    tiles, whole = tmp_path / 'tiles', tmp_path / 'whole'
    names = {tiles: ['sea_0', 'sea_1', 'sea_2', 'hill_0', 'pass_7_0', 'pass_7_1'], whole: ['12', '34', '56_1']}
    for folder, stems in names.items():
        folder.mkdir()
        for value, stem in enumerate(stems):
            cv2.imwrite(str(folder / f'{stem}.png'), np.full((8, 8, 3), 10 * value + len(stems), np.uint8))
    (tmp_path / 'tiles_sources.tsv').write_text('photo\ttiles\nsea\t3\nhill\t1\npass_7\t2\n')
    return [tiles, whole]


def test_photographs_go_to_one_side_with_all_their_tiles(
    script: ModuleType, folders: list[Path], tmp_path: Path
) -> None:
    train, val, held_out = (tmp_path / name for name in ('train.lmdb', 'val.lmdb', 'held_out.txt'))
    held_out.write_text('# chosen by hand\npass_7\n34\n')
    words = [str(path) for path in (train, val, *folders)]
    assert script.main([*words, '--held-out', str(held_out)]) == 0
    assert sorted(open_images(str(val)).names) == ['34', 'pass_7_0', 'pass_7_1']
    assert sorted(open_images(str(train)).names) == ['12', '56_1', 'hill_0', 'sea_0', 'sea_1', 'sea_2']
    assert (open_images(str(train)).read('sea_1') == cv2.imread(str(folders[0] / 'sea_1.png'))[..., ::-1]).all()
    assert script.main([*words, '--held-out', str(held_out)]) == 2  # they exist
    assert script.main([*words, '--held-out', str(held_out), '--force']) == 0


def test_the_choice_depends_on_each_name_alone(script: ModuleType) -> None:
    names = [f'photo{number}' for number in range(50)]
    chosen = script.choose_held_out(names, 8)
    assert len(chosen) == 8
    assert chosen == script.choose_held_out(reversed(names), 8) == sorted(chosen)
    left_out = next(name for name in names if name not in chosen)
    assert script.choose_held_out([name for name in names if name != left_out], 8) == chosen


def test_a_choice_is_written_and_then_used(script: ModuleType, folders: list[Path], tmp_path: Path) -> None:
    train, val, held_out = (tmp_path / name for name in ('train.lmdb', 'val.lmdb', 'held_out.txt'))
    words = [str(path) for path in (train, val, *folders)]
    assert script.main([*words, '--held-out', str(held_out), '--choose', '2']) == 0
    photographs = script.photographs_of(folders)
    assert script.read_held_out(held_out) == script.choose_held_out(photographs, 2)
    expected = {image.stem for name in script.read_held_out(held_out) for image in photographs[name]}
    assert set(open_images(str(val)).names) == expected


def test_a_choice_that_cannot_be_leaves_the_list_as_it_is(
    script: ModuleType, folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'held_out.txt').write_text('sea\n')
    words = ['train.lmdb', 'val.lmdb', '.', str(folders[1]), '--held-out', str(tmp_path / 'held_out.txt'), '--choose']
    monkeypatch.chdir(folders[0])
    for number in ('0', '-1', '99'):
        assert script.main([*words, number]) == 2
    assert (tmp_path / 'held_out.txt').read_text() == 'sea\n'
    # The table beside a folder is found from within it, too.
    assert list(script.photographs_of([Path()])) == ['hill', 'pass_7', 'sea']
    # And beside a link that leads to the folder.
    (tmp_path / 'linked').mkdir()
    (tmp_path / 'linked/photos').symlink_to(folders[0])
    (tmp_path / 'linked/photos_sources.tsv').write_text('photo\ttiles\nsea\t3\nhill\t1\npass_7\t2\n')
    assert list(script.photographs_of([tmp_path / 'linked/photos'])) == ['hill', 'pass_7', 'sea']


@pytest.mark.parametrize(
    ('held_out', 'message'),
    [
        ('nowhere\n', "1 photographs to hold out are not in the folders, first 'nowhere'"),
        ('', 'found 9 images to train on, 0 held out; expected some of each'),
        ('sea\nhill\npass_7\n12\n34\n56_1\n', 'found 0 images to train on, 9 held out; expected some of each'),
    ],
)
def test_a_list_that_does_not_fit_is_one_clear_line(
    held_out: str, message: str, script: ModuleType, folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'held_out.txt').write_text(held_out)
    words = [str(path) for path in (tmp_path / 'train.lmdb', tmp_path / 'val.lmdb', *folders)]
    assert script.main([*words, '--held-out', str(tmp_path / 'held_out.txt')]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'train.lmdb').exists()


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_lists_and_tables_of_windows_editors(
    script: ModuleType, folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture, encoding: str
) -> None:
    table, held_out = tmp_path / 'tiles_sources.tsv', tmp_path / 'held_out.txt'
    held_out.write_text('pass_7\n34\n', encoding='utf-8-sig')
    table.write_text(table.read_text(), encoding=encoding)
    words = [str(path) for path in (tmp_path / 'train.lmdb', tmp_path / 'val.lmdb', *folders)]
    code = script.main([*words, '--held-out', str(held_out)])
    if encoding == 'utf-8-sig':
        assert code == 0
        assert sorted(open_images(str(tmp_path / 'val.lmdb')).names) == ['34', 'pass_7_0', 'pass_7_1']
    else:
        assert code == 2
        assert f'error: {table} is no text in UTF-8' in capsys.readouterr().err


def test_what_cannot_be_written_is_refused_before_the_work(
    script: ModuleType, folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train, val, more = (
        tmp_path / 'train.lmdb',
        tmp_path / 'val.lmdb',
        [*map(str, folders), '--choose', '1', '--held-out', str(tmp_path / 'held_out.txt')],
    )
    assert script.main([str(train), str(tmp_path / 'hr/../train.lmdb'), *more, '--force']) == 2
    assert 'for both LMDBs, expected two' in capsys.readouterr().err
    val.mkdir()
    assert script.main([str(train), str(val), *more]) == 2
    assert f'output {val} exists' in capsys.readouterr().err
    assert not train.exists()


def test_a_tile_of_a_photograph_that_the_table_lacks_is_named(
    script: ModuleType, folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / 'tiles_sources.tsv').write_text('photo\nsea\nhill\n')
    assert script.main([str(tmp_path / 'a.lmdb'), str(tmp_path / 'b.lmdb'), *map(str, folders)]) == 2
    assert "'pass_7' is not in the column" in capsys.readouterr().err


def test_the_list_that_ships_is_the_choice_among_the_photographs_of_the_weights(
    script: ModuleType, shared: Path
) -> None:
    folders = [shared / 'data/train' / name for name in ('photos480', 'photos480b', 'bsds399')]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip('no training images')
    assert script.read_held_out(script.HELD_OUT) == script.choose_held_out(script.photographs_of(folders), 24)


def test_both_databases_are_of_one_division_or_neither_is_made(
    script: ModuleType, folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    train, val, held_out = (tmp_path / name for name in ('train.lmdb', 'val.lmdb', 'held_out.txt'))
    held_out.write_text('34\n34\n')  # a name twice counts once
    words = [*(str(path) for path in (train, val, *folders)), '--held-out', str(held_out), '--force']
    assert script.main(words) == 0
    before = sorted(open_images(str(train)).names), open_images(str(val)).names
    (folders[1] / '12.png').write_bytes(b'damaged')
    held_out.write_text('12\n')  # so that the second of the two fails
    capsys.readouterr()
    assert script.main(words) == 1
    assert 'of the folders given: 12.png' in capsys.readouterr().err
    assert script.main([*words, '--choose', '5']) == 1
    assert held_out.read_text() == '12\n'
    assert (sorted(open_images(str(train)).names), open_images(str(val)).names) == before
    assert {path.name for path in tmp_path.iterdir()} >= {'train.lmdb', 'val.lmdb'}
    assert not [path for path in tmp_path.iterdir() if 'partial' in path.name]


def test_what_a_killed_run_left_is_removed(script: ModuleType, folders: list[Path], tmp_path: Path) -> None:
    left = tmp_path / f'.train.{socket.gethostname().split(".")[0]}-3999999-0123abcd.partial.lmdb'
    left.mkdir()
    words = [*(str(path) for path in (tmp_path / 'train.lmdb', tmp_path / 'val.lmdb', *folders)), '--choose', '1']
    assert script.main([*words, '--held-out', str(tmp_path / 'held_out.txt')]) == 0
    assert not left.exists()
