"""The scripts that are commands of ``basicsr`` as well: one code, two ways to start it."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import pytest

from manet_basicsr.commands.basicsr import TOOLS, main

SCRIPTS = Path(__file__).parents[2] / 'scripts'
NAMES = sorted(set(TOOLS) - {'options'})


def test_every_script_but_those_of_the_shipped_weights_training_set_is_a_command() -> None:
    files = {file.stem.replace('_', '-') for file in SCRIPTS.glob('*.py')}
    assert files == {*NAMES, 'make-training-set', 'rebuild-training-photos'}


@pytest.mark.parametrize('name', NAMES)
def test_a_script_starts_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = name.replace('-', '_')
    script = runpy.run_path(str(SCRIPTS / f'{module}.py'))
    assert script['main'] is importlib.import_module(f'manet_basicsr.commands.{module}').main
    with pytest.raises(SystemExit, match='0'):
        main([name, '--help'])
    help_text = capsys.readouterr().out
    assert help_text.startswith(f'usage: basicsr {name} ') and f'basicsr {name} ' in help_text.split('\n\n', 1)[1]


def test_the_help_of_basicsr_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='0'):
        main(['--help'])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert all(any(words[:1] == [name] for words in lines) for name in TOOLS)
