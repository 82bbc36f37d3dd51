"""Option files without a checkout: listed, copied, and found by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from manet_basicsr.commands.basicsr import main
from manet_basicsr.evaluation.methods import OptionFile
from manet_basicsr.options.shipped import find_option_file, option_files
from tests import shortened

NAME = 'train_MANet_stage1_x4'


pytestmark = pytest.mark.usefixtures('here')


def test_every_option_file_is_listed_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((shortened.ROOT / 'options').rglob('*.yml'))
    assert sorted(option_files().values()) == files  # a name in two folders would be listed once
    for words in (['options'], ['options', 'list']):
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sorted(line.split()[0] for line in lines) == sorted(file.stem for file in files)
        assert lines[0].startswith('train_') and all(line.endswith('.') and len(line) < 300 for line in lines)
        assert f'{NAME:<36} Stage 1 of 3, x4: the kernel estimator' in next(one for one in lines if f'{NAME} ' in one)


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs a full device')
def test_a_schema_that_cannot_be_written_is_a_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(['options', 'schema']) == 0
    assert json.loads(capsys.readouterr().out)['type'] == 'object'
    with open('/dev/full', 'w') as full:
        monkeypatch.setattr(sys, 'stdout', full)
        assert main(['options', 'schema']) == 2
    assert 'error: standard output: No space left on device' in capsys.readouterr().err


def test_a_terminal_gets_lines_that_it_can_show(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(['options']) == 0
    whole = capsys.readouterr().out.split()
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: True, raising=False)
    monkeypatch.setenv('COLUMNS', '100')
    assert main(['options']) == 0
    out = capsys.readouterr().out
    assert out.split() == whole
    lines = out.splitlines()
    assert max(map(len, lines)) <= 100 and len(lines) > len(option_files())
    assert all(line[:36].strip() in ('', line.split()[0]) for line in lines)


def test_a_copy_is_the_file_and_replaces_nothing_unasked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['options', 'copy', NAME, 'test_MANet_stage1_x4.yml']) == 0
    assert capsys.readouterr().out.split() == [f'{NAME}.yml', 'test_MANet_stage1_x4.yml']
    assert Path(f'{NAME}.yml').read_bytes() == option_files()[NAME].read_bytes()
    Path(f'{NAME}.yml').write_text('mine')
    assert main(['options', 'copy', 'test_MANet_stage1_x2', NAME]) == 2
    assert capsys.readouterr().err == f'error: {NAME}.yml already exists; --force replaces it\n'
    assert Path(f'{NAME}.yml').read_text() == 'mine' and not Path('test_MANet_stage1_x2.yml').exists()
    assert main(['options', 'copy', NAME, '--force', '-o', 'new/folder']) == 0
    assert (here / f'new/folder/{NAME}.yml').is_file()
    assert main(['options', 'copy', 'train_MANet_stage1_x5']) == 2
    assert "did you mean 'train_MANet_stage1_x4'?" in capsys.readouterr().err


@pytest.mark.parametrize('name', [NAME, f'{NAME}.yml', f'options/train/{NAME}.yml', f'train/{NAME}.yml'])
def test_a_name_stands_for_the_file_that_ships_where_there_is_no_such_path(name: str, here: Path) -> None:
    assert find_option_file(name) == str(shortened.option_file('train', 'MANet_stage1', 4))
    (here / name).parent.mkdir(parents=True, exist_ok=True)
    (here / name).touch()
    assert find_option_file(name) == name


def test_a_copy_is_what_its_name_without_suffix_stands_for(here: Path) -> None:
    assert main(['options', 'copy', NAME]) == 0
    (here / 'other').mkdir()
    assert find_option_file(NAME) == f'{NAME}.yml'
    (here / f'{NAME}.yml').unlink()
    (here / NAME).mkdir()  # a folder is no option file
    assert find_option_file(NAME) == str(option_files()[NAME])


@pytest.mark.parametrize('name', ['absent.yml', f'runs/{NAME}.yml', f'options/test/{NAME}.yml', f'/{NAME}.yml'])
def test_other_paths_stay_as_they_are(name: str) -> None:
    assert find_option_file(name) == name


def test_commands_and_the_evaluation_take_names(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    roots = [f'datasets:{part}:dataroot_gt={photos}' for part in ('train', 'val')]
    assert main(['check', '-opt', NAME, '--force_yml', *roots]) == 0
    assert capsys.readouterr().out.endswith(f'{NAME}.yml: no problems found\n')
    assert OptionFile('test_BlindSR_stage3_x4.yml').scale == 4
