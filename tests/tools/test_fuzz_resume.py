"""Random changes to an option file between start and resume: what is a fault, and that none is found."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest

from manet_basicsr.options.checks import find_problems
from manet_basicsr.options.forcing import force
from manet_basicsr.options.reading import load_options
from tests import shortened


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    file = Path(__file__).parents[2] / 'tools/fuzz_resume.py'
    spec = importlib.util.spec_from_file_location('fuzz_resume', file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_options_are_changed_in_many_places_and_the_given_ones_are_left(tool: ModuleType) -> None:
    options = load_options(shortened.option_file('train', 'MANet_stage1', 4))
    draw = random.Random(0)
    changed = [tool.change(options, draw) for _ in range(200)]
    assert options == load_options(shortened.option_file('train', 'MANet_stage1', 4))
    for section in ('datasets', 'network_g', 'train', 'val', 'logger', 'path'):
        assert sum(one.get(section) != options[section] for one in changed) > 2
    assert tool.damaged('name: a', draw) != b''


def test_most_right_changes_pass_the_check_of_each_job(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ('hr', 'other'):
        tool.make_images(tmp_path / name, 'coffee')
    draw = random.Random(0)
    right = 0
    for file, small in tool.JOBS.values():
        options = load_options(tool.ROOT / f'options/train/train_{file}_x4.yml')
        force(options, [*tool.SHORT, *small, f'train:total_iter={tool.TOTAL}'])
        assert find_problems(options, is_train=True) == []
        changed = [tool.change_rightly(options, draw) for _ in range(10)]
        right += sum(not find_problems(one, is_train=True) for one in changed)
    assert right > 25  # of 40: a batch that accumulate does not divide, say, is refused


@pytest.mark.parametrize(
    ('code', 'output', 'outcome'),
    [
        (0, 'INFO: Resuming training from iter: 2.', 'resumed'),
        (0, '', 'began anew'),
        (2, 'basicsr: error: options.yml: name: missing', 'refused'),
        (1, 'basicsr: error: a.png: damaged', 'ended with a line'),
        (1, 'Resuming training from\nbasicsr: error: a.png: damaged', 'resumed, and ended with a line'),
        (143, 'basicsr: interrupted', 'resumed, and stopped'),
        (2, '', 'FAULT: exit code 2 without a word'),
        (70, 'Traceback ...\nKeyError: 1', 'FAULT: KeyError: 1'),
        (-11, '', 'FAULT: exit code -11'),
    ],
)
def test_what_is_a_fault(tool: ModuleType, code: int, output: str, outcome: str) -> None:
    assert tool.outcome_of(code, output) == outcome


@pytest.mark.slow
def test_a_resume_with_changed_options_goes_on_or_says_why_not(
    tool: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The long form is `python tools/fuzz_resume.py --seconds 600`."""
    assert tool.main(['--seconds', '20', '--seed', '4', '--keep', str(tmp_path / 'faults')]) == 0
    assert '0 at fault' in capfd.readouterr().out
