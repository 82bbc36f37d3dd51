"""The command that puts trained weights into the package."""

from __future__ import annotations

import hashlib
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.archs import MANet, SFTRRDBNet
from manet_basicsr.weights import load_pretrained, load_state_dict_file

SCRIPT = Path(__file__).resolve().parents[2] / 'tools/ship_weights.py'


@pytest.fixture(scope='module')
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def checksum_lines(*files: Path) -> str:
    return ''.join(f'{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n' for file in files)


def test_weights_become_half_precision_and_get_a_checksum(tmp_path: Path, script: dict[str, Any]) -> None:
    generator, estimator = SFTRRDBNet(num_feat=8, num_block=1, num_grow_ch=4), MANet(num_feat=16)
    averaged = {key: value + 1 for key, value in generator.state_dict().items()}
    torch.save({'params': generator.state_dict(), 'params_ema': averaged}, tmp_path / 'stage2.pth')
    torch.save({'params': estimator.state_dict()}, tmp_path / 'stage1.pth')
    second = script['ship'](str(tmp_path / 'stage2.pth'), 'second', tmp_path)
    first = script['ship'](str(tmp_path / 'stage1.pth'), 'first', tmp_path)
    saved = load_state_dict_file(second)
    assert torch.equal(saved.pop('pca_matrix'), averaged['pca_matrix'])
    assert all(torch.equal(value, averaged[key].half()) for key, value in saved.items())
    load_pretrained(MANet(num_feat=16), first)
    assert (tmp_path / 'SHA256SUMS').read_text() == checksum_lines(first, second)
    second.unlink()
    replaced = script['ship'](str(tmp_path / 'stage2.pth'), 'first', tmp_path)
    assert (tmp_path / 'SHA256SUMS').read_text() == checksum_lines(replaced)


def test_an_estimator_ships_within_its_blind_network_and_not_beside_it(tmp_path: Path, script: dict[str, Any]) -> None:
    torch.save({'params': MANet(num_feat=16).state_dict()}, tmp_path / 'stage1.pt')
    alone = [script['ship'](str(tmp_path / 'stage1.pt'), f'manet_x{scale}', tmp_path) for scale in (2, 3)]
    generator = SFTRRDBNet(num_feat=8, num_block=1, num_grow_ch=4).state_dict()
    estimator = {f'kernel_estimation.{key}': value for key, value in MANet(num_feat=16).state_dict().items()}
    torch.save({'params': {**generator, **estimator}}, tmp_path / 'stage3.pt')
    blind = script['ship'](str(tmp_path / 'stage3.pt'), 'blind_x2', tmp_path)
    assert [file.exists() for file in alone] == [False, True]
    assert (tmp_path / 'SHA256SUMS').read_text() == checksum_lines(blind, alone[1])
    with pytest.raises(ValueError, match='manet_x2 is the estimator within blind_x2; ship that'):
        script['ship'](str(tmp_path / 'stage1.pt'), 'manet_x2', tmp_path)


def test_what_would_not_serve_is_not_shipped(tmp_path: Path, script: dict[str, Any]) -> None:
    large = {key: value + 1e6 for key, value in MANet(num_feat=16).state_dict().items()}
    for name, content, words in (
        ('large', large, 'half precision does not hold'),
        ('other', {'iteration': torch.ones(1)}, 'no weights of stage 1, 2 or 3'),
    ):
        torch.save({'params': content}, tmp_path / f'{name}.pt')
        with pytest.raises(ValueError, match=words):
            script['ship'](str(tmp_path / f'{name}.pt'), name, tmp_path)
    assert not list(tmp_path.glob('*.pth')) and not (tmp_path / 'SHA256SUMS').exists()


def test_what_is_wrong_is_one_line(script: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert script['main'](['absent.pth', 'name']) == 2
    assert capsys.readouterr().err == 'ship_weights: absent.pth: no such file of weights\n'
    assert script['main'](['absent.pth', '../name']) == 2
    assert 'expected letters, digits and _' in capsys.readouterr().err
