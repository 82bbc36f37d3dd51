"""The option files are what the templates and the table of differences make."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.shortened import ROOT


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    monkeypatch.delitem(sys.modules, 'generate_options', raising=False)
    import generate_options

    return generate_options


def test_what_is_committed_is_what_is_generated(generator: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(['--check']) == 0, capsys.readouterr()


def test_a_changed_file_is_named_and_written_anew(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / 'options', tmp_path / 'options')
    monkeypatch.setattr(generator, 'OPTIONS', tmp_path / 'options')
    changed, missing = (tmp_path / f'options/train/train_MANet_stage1_x{scale}.yml' for scale in (4, 2))
    before = changed.read_text()
    changed.write_text(before.replace('lr: 2e-4', 'lr: 1e-4'))
    missing.unlink()
    (tmp_path / 'options/train/mine.yml').write_text('name: mine\n')
    assert generator.main(['--check']) == 1
    said = capsys.readouterr()
    assert 'options/train/train_MANet_stage1_x4.yml is not what is generated' in said.out
    assert 'options/train/mine.yml is in no entry' in said.err
    assert not missing.exists()
    generator.main([])
    assert changed.read_text() == before
    assert missing.exists()


TEXT = """\
name: a

train:
  lr: 1  # rate
  loss:
    type: L1
    weight: 2

val:
  lr: 3
"""


def test_keys_are_changed_and_taken_away_where_their_path_says(generator: ModuleType) -> None:
    changes = {'train.lr': '5  # other', 'train.loss': '', 'val': 'val:\n  # none\n  freq: 1\n'}
    assert generator.replace(TEXT, changes) == 'name: a\n\ntrain:\n  lr: 5  # other\n\nval:\n  # none\n  freq: 1\n'


def test_a_path_that_leads_nowhere_is_refused(generator: ModuleType) -> None:
    with pytest.raises(KeyError, match='train.weight: there is no weight'):
        generator.replace(TEXT, {'train.weight': '1'})
