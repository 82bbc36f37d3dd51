"""What repairs look at, and the words of a refusal."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import basicsr
import pytest

from manet_basicsr.utils.repairs import Change, UnfitError, UnsupportedBasicSRError, look, make_changes, refusal


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of BasicSR with a function that another one imported by name."""
    made = ModuleType('basicsr.of_a_test')
    exec('def save(network, path):\n    return [torch.save(network, name) for name in path]\n', vars(made))
    user = ModuleType('basicsr.user_of_a_test')
    vars(user)['save'] = vars(made)['save']
    other = ModuleType('unrelated_of_a_test')
    vars(other)['save'] = vars(made)['save']
    for each in (made, user, other):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    return made


def test_function_with_the_parameters_and_names_is_found(module: ModuleType) -> None:
    assert look(module, 'save', 'network path', uses='torch save') is vars(module)['save']


@pytest.mark.parametrize(
    ('name', 'parameters', 'uses', 'message'),
    [
        ('load', 'path', '', 'basicsr.of_a_test has no load'),
        ('save', 'path network', '', r'basicsr.of_a_test.save takes \(network, path\), not \(path, network\)'),
        ('save', 'network path', 'save rename', 'basicsr.of_a_test.save does not use rename'),
    ],
)
def test_another_function_is_unfit(module: ModuleType, name: str, parameters: str, uses: str, message: str) -> None:
    with pytest.raises(UnfitError, match=f'^{message}$'):
        look(module, name, parameters, uses)


def test_changes_reach_modules_of_basicsr_only(module: ModuleType) -> None:
    original: Any = vars(module)['save']
    make_changes([Change(module, 'save', print)])
    modules = ('basicsr.of_a_test', 'basicsr.user_of_a_test', 'unrelated_of_a_test')
    assert [vars(sys.modules[name])['save'] for name in modules] == [print, print, original]


@pytest.fixture
def as_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is none of the package's commands."""
    monkeypatch.setattr(sys, 'argv', ['some_script.py'])


def test_refusal_names_the_package_that_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_library: None
) -> None:
    folder = Path(basicsr.__file__).parent
    metadata = tmp_path / 'basicsr_fixed-1.4.2.dist-info'
    metadata.mkdir()
    (metadata / 'METADATA').write_text('Name: basicsr-fixed\nVersion: 1.4.2\n')
    (metadata / 'top_level.txt').write_text('basicsr\n')
    (tmp_path / 'basicsr').symlink_to(folder)
    monkeypatch.setattr(sys, 'path', [str(tmp_path)])
    error = refusal(['a', 'b', 'a'])
    assert isinstance(error, UnsupportedBasicSRError)
    assert str(error).startswith(
        f'found basicsr {basicsr.__version__} (package basicsr-fixed) in {folder.resolve()}, which cannot be repaired: '
        'a; b. Install: pip uninstall basicsr-fixed && pip install --no-build-isolation basicsr==1.4.2'
    )


def test_refusal_without_a_basicsr_says_so(monkeypatch: pytest.MonkeyPatch, as_library: None) -> None:
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    expected = 'basicsr is not installed. Install: pip install --no-build-isolation basicsr==1.4.2'
    assert str(refusal(["No module named 'basicsr'"])).startswith(expected)


@pytest.mark.parametrize('program', ['manet-restore', 'manet-explore.exe', 'basicsr'])
def test_refusal_of_a_command_is_its_last_word(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, 'argv', [f'/bin/{program}', 'photo.png'])
    error = refusal(['a'])
    assert isinstance(error, SystemExit)
    assert str(error).startswith(f'{program.removesuffix(".exe")}: error: found basicsr ')
