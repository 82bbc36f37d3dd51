"""The command that converts weights."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from manet_basicsr.archs import BlindSRNet, MANet, SFTRRDBNet
from manet_basicsr.degradation import load_pca_basis
from manet_basicsr.weights import load_pretrained

SCRIPT = Path(__file__).resolve().parents[2] / 'scripts/convert_weights.py'


@pytest.fixture(scope='module')
def main() -> Callable[[list[str]], int]:
    return runpy.run_path(str(SCRIPT))['main']


def network_of_stage(stage: int) -> nn.Module:
    """The network that the published fixture of a stage belongs to."""
    estimator: dict[str, Any] = {'num_feat': 32}
    generator: dict[str, Any] = {'num_feat': 16, 'num_block': 2, 'num_grow_ch': 8}
    if stage == 3:
        return BlindSRNet({'type': 'MANet', **estimator}, {'type': 'SFTRRDBNet', **generator})
    return MANet(**estimator) if stage == 1 else SFTRRDBNet(**generator)


@pytest.mark.parametrize('stage', [1, 2, 3])
def test_released_files_load_strictly_after_conversion(
    shared: Path, tmp_path: Path, stage: int, main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    fixture = torch.load(shared / f'fixtures/published/stage{stage}_x4.pth', weights_only=True)
    source, target, again = (str(tmp_path / name) for name in ('released.pth', 'basicsr.pth', 'again.pth'))
    torch.save(fixture['state_dict'], source)
    assert main([source, target, '--to', 'basicsr']) == 0
    assert f'{source}: stage {stage}, ' in capsys.readouterr().out
    load_pretrained(network_of_stage(stage), target)
    assert main([target, again, '--to', 'released']) == 0
    torch.testing.assert_close(torch.load(again, weights_only=True), dict(fixture['state_dict']), rtol=0, atol=0)


def test_what_is_wrong_is_one_line_and_exit_code_2(
    tmp_path: Path, main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / 'absent.pth'), str(tmp_path / 'target.pth'), '--to', 'released']) == 2
    assert capsys.readouterr().err == f'error: {tmp_path}/absent.pth: no such file of weights\n'


def test_an_existing_target_is_replaced_by_force_only(
    tmp_path: Path, main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / 'released.pth', tmp_path / 'basicsr.pth'
    torch.save({'conv_first.weight': torch.ones(1)}, source)
    target.touch()
    assert main([str(source), str(target), '--to', 'basicsr']) == 2
    assert '--force' in capsys.readouterr().err
    assert main([str(source), str(target), '--to', 'basicsr', '--force']) == 0
    assert list(torch.load(target, weights_only=True)) == ['params']


def test_help_has_an_example(main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='0'):
        main(['--help'])
    assert 'Example: basicsr convert-weights' in capsys.readouterr().out


def test_a_generator_gets_another_basis(
    tmp_path: Path, main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, basis = (tmp_path / name for name in ('old.pth', 'new.pth', 'basis.npy'))
    torch.save({'params': network_of_stage(3).state_dict()}, source)
    np.save(basis, load_pca_basis(4, code_length=40)[:, :30].numpy())
    command = [str(source), str(target), '--basis', str(basis)]
    assert main(command) == 0
    assert capsys.readouterr().out == f'{target}: written for the basis {basis}\n'
    load_pretrained(SFTRRDBNet(num_feat=16, num_block=2, num_grow_ch=8, code_length=30, pca_path=str(basis)), target)
    assert main(command) == 2
    assert capsys.readouterr().err == f'error: {target} already exists; --force replaces it\n'
    assert main([*command, '--force']) == 0
    assert main([str(source), str(target), '--basis', '40', '--force']) == 0  # one that ships
    load_pretrained(SFTRRDBNet(num_feat=16, num_block=2, num_grow_ch=8, code_length=40), target)
    assert main([str(source), str(tmp_path / 'new.safetensors'), '--basis', '40']) == 2
    assert 'expected a .pth file' in capsys.readouterr().err
    bare = tmp_path / 'released.pth'
    torch.save(network_of_stage(3).state_dict(), bare)
    assert main([str(bare), str(target), '--basis', '40', '--force']) == 0
    load_pretrained(SFTRRDBNet(num_feat=16, num_block=2, num_grow_ch=8, code_length=40), target)
    capsys.readouterr()
    assert main(['manet_x4', str(target), '--basis', '40', '--force']) == 2  # a bare name, as for other commands
    assert 'found a MANet, which has no PCA basis; expected weights of stage 2 or 3' in capsys.readouterr().err
    assert main([str(source), str(target), '--basis', '39', '--force']) == 2
    assert 'no PCA basis is shipped for scale 4, kernel_size 21, code_length 39' in capsys.readouterr().err


def test_a_name_that_begins_with_a_tilde_and_is_no_home_is_a_name(
    tmp_path: Path, main: Callable[[list[str]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({'params': network_of_stage(3).state_dict()}, 'old.pth')
    for arguments in (['--to', 'released'], ['--scale', '3', '--force']):
        assert main(['old.pth', '~nobody.pth', *arguments]) == 0
        assert Path('~nobody.pth').is_file()


def test_a_generator_gets_another_scale(
    tmp_path: Path, main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / 'old.pth', tmp_path / 'new.pth'
    torch.save({'params': network_of_stage(3).state_dict()}, source)
    assert main([str(source), str(target), '--scale', '3']) == 0
    told = f'{target}: the generator alone, x3, to be trained on, written for the basis that ships\n'
    assert capsys.readouterr().out == told
    load_pretrained(SFTRRDBNet(scale=3, num_feat=16, num_block=2, num_grow_ch=8), target)
    assert main([str(source), str(target), '--scale', '2', '--basis', '40', '--force']) == 0
    load_pretrained(SFTRRDBNet(scale=2, num_feat=16, num_block=2, num_grow_ch=8, code_length=40), target)
    capsys.readouterr()
    assert main([str(source), str(target), '--scale', '0', '--force']) == 2
    assert 'no PCA basis is shipped for scale 0' in capsys.readouterr().err
    for both in ([], ['--to', 'basicsr', '--scale', '3']):
        with pytest.raises(SystemExit, match='2'):
            main([str(source), str(target), *both])
        assert 'expected --to alone, or --basis, or --scale, or both of these' in capsys.readouterr().err
