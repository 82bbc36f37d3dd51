"""The tool for a first GPU: its commands are valid, and it goes on where it stopped."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


@pytest.fixture
def gpu_check() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        yield importlib.import_module('gpu_check')


def test_a_dry_run_shows_every_command_and_finds_no_problem(
    gpu_check: ModuleType, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_check.main([str(photos), str(tmp_path / 'gpu'), '--dry-run']) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(':')[0] for line in lines if 'no problems found' not in line]
    assert names[:3] == ['device', 'lmdb', 'suite'] and names[-2:] == ['nccl', 'training']
    assert sum('no problems found' in line for line in lines) == 3 * 3 * 2 + 2
    assert not (tmp_path / 'gpu/photographs.lmdb').exists()
    commands = list(gpu_check.steps(photos, tmp_path, 4))
    files = [word for step in commands for word in step.command if word.endswith('.py') and '/' in word]
    assert all((TOOLS.parent / file).is_file() for file in files)


def test_steps_that_are_done_are_not_repeated_and_a_failure_is_tried_again(
    gpu_check: ModuleType,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def python(program: str) -> list[str]:
        return [sys.executable, '-c', program]

    steps = [
        gpu_check.Step('first', python('print(5)')),
        gpu_check.Step(
            'second', python(f"import pathlib, sys; sys.exit(not pathlib.Path({str(tmp_path)!r}, 'go').exists())")
        ),
        gpu_check.Step('third', python('import time; time.sleep(60)'), goes_on=True),
    ]
    monkeypatch.setattr(gpu_check, 'steps', lambda *_: steps)
    command = [str(photos), str(tmp_path / 'gpu'), '--seconds']
    assert gpu_check.main([*command, '60']) == 0
    assert (tmp_path / 'gpu/first.log').read_text() == '5\n'
    assert gpu_check.main([*command, '60']) == 1  # the second
    assert gpu_check.main([*command, '1', '--all']) == 1  # goes on to the third
    said = capsys.readouterr().out
    assert said.count('first: done') == 1 and said.count('second: failed') == 2 and said.count('third: goes on') == 1
    (tmp_path / 'go').touch()
    assert gpu_check.main([*command, '60']) == 0
    assert gpu_check.main([*command, '1']) == 0
    said = capsys.readouterr().out
    assert 'second: done' in said and 'third: goes on' in said and said.endswith('1 steps are left\n')
