"""The option files are what the templates and the table of differences make."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
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
    assert generator.replace(TEXT, changes, {}) == 'name: a\n\ntrain:\n  lr: 5  # other\n\nval:\n  # none\n  freq: 1\n'


def test_a_path_that_leads_nowhere_is_refused(generator: ModuleType) -> None:
    with pytest.raises(KeyError, match='train.weight: there is no weight'):
        generator.replace(TEXT, {'train.weight': '1'}, {})


#: Stand twice, in other columns.
ALIGNED_ELSEWHERE = {
    '# channel groups that modulate each other',
    '# progress bar; ~: on a terminal',
    '# side in LR px of the tiles that large images are cut into; ~: whole images',
}


def test_a_wording_stands_in_one_place(generator: ModuleType) -> None:
    texts = [file.read_text(encoding='utf-8') for file in sorted(generator.TEMPLATES.glob('*.yml'))]
    comments = Counter(comment for text in texts for comment in re.findall(r"(?m)# .*?(?='?$)", text))
    assert len(comments) > 100
    assert {comment for comment, times in comments.items() if times > 1} == ALIGNED_ELSEWHERE


@pytest.mark.parametrize(
    ('value', 'line', 'expected'),
    [
        ('2', 'lr: 1', '2'),
        ('2e-4', '  lr: 1  # rate', '2e-4  # rate'),
        ('bf16', '  amp: ~      # precision', 'bf16   # precision'),
        ('false', '  compile: ~   # speed', 'false  # speed'),
        ('2  # other', '  lr: 1  # rate', '2  # other'),
        ('2  # other', '  lr: 1    # rate', '2    # other'),
    ],
)
def test_a_value_keeps_the_comment_and_its_column(generator: ModuleType, value: str, line: str, expected: str) -> None:
    assert generator.commented(value, line) == expected


def test_a_part_is_written_with_the_indentation_of_its_line(generator: ModuleType) -> None:
    parts = {'loss': 'type: L1\n$weight\n', 'weight': 'weight: $scale  # of it\n'}
    assert generator.include('loss:\n  $loss\nname: $loss', parts) == (
        'loss:\n  type: L1\n  weight: $scale  # of it\nname: $loss'
    )
