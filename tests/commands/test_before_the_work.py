"""What cannot be written is found before the work, by every command that works long for one file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manet_basicsr.commands import compute_pca, convert_weights, explore, export_onnx, extract_subimages, make_testset
from manet_basicsr.data import subimages, testset
from tests.small_networks import blind_weights


def never(*_arguments: Any, **_keywords: Any) -> Any:
    pytest.fail('the work has begun')


@pytest.fixture(autouse=True)
def folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(photos / 'coffee.png', tmp_path / 'photo.png')
    blind_weights(tmp_path)
    (tmp_path / 'is_there').mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


#: The command, its words with TARGET for what it writes, the suffix of that, and what is the work.
COMMANDS: dict[str, tuple[Callable[[list[str]], int], str, str, tuple[Any, str]]] = {
    'export_onnx': (export_onnx.main, 'blind_x2.pth TARGET', '.onnx', (export_onnx, 'load_network')),
    'compute_pca': (compute_pca.main, 'TARGET --scale 4', '.npy', (compute_pca, 'kernel_covariance')),
    'explore': (explore.main, 'photo.png --weights blind_x2.pth -o TARGET', '.html', (explore, 'load_network')),
}
TARGETS = {'a folder that takes no files': '/proc/net', 'too long a name': 'x' * 252, 'a folder': 'is_there/a'}


@pytest.mark.parametrize('target', TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(('command', 'words', 'suffix', 'work'), COMMANDS.values(), ids=COMMANDS)
def test_a_file_that_cannot_be_written_is_refused(
    command: Callable[[list[str]], int],
    words: str,
    suffix: str,
    work: tuple[Any, str],
    target: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(*work, never)
    if target.startswith('is_there'):
        Path(f'{target}{suffix}').mkdir()
    force = {'.html': ['--overwrite']}.get(suffix, ['--force'])
    assert command([*words.replace('TARGET', f'{target}{suffix}').split(), *force]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'{target}{suffix}' in line or 'File name too long' in line


def test_too_long_a_code_is_refused_before_kernels_are_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compute_pca, 'kernel_covariance', never)
    assert compute_pca.main(['a.npy', '--scale', '4', '--kernel-size', '9', '--code-length', '82']) == 2
    assert capsys.readouterr().err == ('error: --code-length: found 82, expected 1 to 81, the taps of a kernel\n')


@pytest.mark.parametrize('tool', ['extract_subimages', 'make_testset'])
def test_one_name_that_is_too_long_once_longer_is_found_before_the_first_image(
    tool: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path('hr').mkdir()
    shutil.copy('photo.png', 'hr/a.png')
    shutil.copy('photo.png', f'hr/{"z" * 250}.png')
    if tool == 'extract_subimages':
        monkeypatch.setattr(subimages, 'read_image', never)
        assert extract_subimages.main(['hr', 'out', '--crop-size', '100', '--workers', '1']) == 2
    else:
        monkeypatch.setattr(testset, '_write_set', never)
        assert make_testset.main(['hr', 'out', '--sets', 'invariant']) == 2
    assert 'zzz' in (line := capsys.readouterr().err) and 'File name too long' in line
    assert not [path for path in Path('out').rglob('*') if path.is_file()]


@pytest.mark.parametrize('value', [np.nan, np.inf])
@pytest.mark.parametrize('tool', ['convert_weights', 'export_onnx'])
def test_weights_that_are_not_finite_are_not_passed_on(
    tool: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load('blind_x2.pth', weights_only=True)
    content['params']['conv_first.bias'][1] = value
    torch.save(content, 'bad.pth')
    if tool == 'convert_weights':
        assert convert_weights.main(['bad.pth', 'new.pth', '--to', 'released']) == 2
    else:
        pytest.importorskip('onnxscript')
        assert export_onnx.main(['bad.pth', 'new.pth']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'conv_first.bias' in line and 'not finite (NaN or infinite)' in line
    assert not Path('new.pth').exists()
