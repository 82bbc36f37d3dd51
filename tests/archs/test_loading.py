"""Networks that are built from their weights alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from manet_basicsr.archs import BlindSRNet, MANet, SFTRRDBNet, SRMDNet
from manet_basicsr.archs.loading import alignment_of, load_network
from manet_basicsr.archs.protocols import FieldEstimator, FieldGenerator, missing_attributes
from manet_basicsr.weights import convert_file

SMALL: dict[str, Any] = {'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}


def same(network: nn.Module, other: nn.Module) -> bool:
    return type(network) is type(other) and all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    'arguments',
    [
        {'num_feat': 8},
        {'num_feat': 10, 'num_block': 2, 'split': 3, 'kernel_size': 15},
        {'num_feat': 8, 'num_block': 3, 'num_in_ch': 1, 'split': 4},
        {'num_feat': 8, 'conv': 'conv'},
        {'num_feat': 8, 'conv': 'groupconv', 'split': 4},
    ],
)
def test_estimators_are_told_by_their_shapes(tmp_path: Path, arguments: dict[str, Any]) -> None:
    network = MANet(**arguments)
    torch.save({'params': network.state_dict()}, tmp_path / 'net.pth')
    loaded = load_network(tmp_path / 'net.pth')
    assert same(loaded, network) and not loaded.training
    lq = torch.rand(1, arguments.get('num_in_ch', 3), 9, 11)
    assert torch.equal(loaded(lq), network(lq))


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
@pytest.mark.parametrize('channels', [1, 3])
def test_generators_are_told_by_their_shapes(tmp_path: Path, scale: int, channels: int) -> None:
    network = SFTRRDBNet(channels, channels, scale=scale, num_feat=6, num_block=2, num_grow_ch=5)
    torch.save(network.state_dict(), tmp_path / 'net.pth')
    loaded = load_network(tmp_path / 'net.pth')
    assert isinstance(loaded, SFTRRDBNet) and same(loaded, network) and loaded.scale == scale


def test_sizes_without_a_shipped_basis_bring_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / 'basis.npy', np.random.default_rng(0).normal(size=(25, 3)).astype(np.float32))
    generator = {'type': 'SFTRRDBNet', **SMALL, 'kernel_size': 5, 'code_length': 3, 'scale': 2}
    network = BlindSRNet(
        {'type': 'MANet', 'num_feat': 8, 'kernel_size': 5}, {**generator, 'pca_path': str(tmp_path / 'basis.npy')}
    )
    torch.save({'params_ema': network.state_dict()}, tmp_path / 'net.pth')
    loaded = load_network(tmp_path / 'net.pth')
    lq = torch.rand(1, 3, 9, 11)
    assert isinstance(loaded, BlindSRNet) and torch.equal(loaded(lq), network(lq))


@pytest.mark.parametrize('stage', [1, 2, 3])
@pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
def test_released_files_need_no_options(shared: Path, tmp_path: Path, stage: int, suffix: str) -> None:
    if suffix == 'safetensors':
        pytest.importorskip('safetensors', reason='the extra safetensors is not installed')
    fixture = torch.load(shared / f'fixtures/published/stage{stage}_x4.pth', weights_only=True)
    torch.save(fixture['state_dict'], tmp_path / 'net.pth')
    if suffix == 'safetensors':
        convert_file(tmp_path / 'net.pth', tmp_path / 'net.safetensors', 'released')
    network = load_network(tmp_path / f'net.{suffix}')
    with torch.no_grad():
        given = (fixture['lq'],) if stage != 2 else (fixture['lq'], fixture['kernel'].flatten(1)[:, :, None, None])
        found = network(*given)
    expected = fixture['kernel_field'] if stage == 1 else fixture['sr']
    # float32 rounding in another order of summation
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_other_networks_are_refused_in_one_line_with_the_file(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / 'linear.pth')
    broken = MANet(num_feat=8).state_dict()
    del broken['m_tail.weight']
    torch.save(broken, tmp_path / 'broken.pth')
    twisted = MANet(num_feat=8).state_dict()
    twisted['m_body.res.0.conv0.weight'] = torch.ones(3, 3)
    torch.save(twisted, tmp_path / 'twisted.pth')
    for name in ('linear', 'broken', 'twisted'):
        with pytest.raises(ValueError, match=rf'{name}\.pth: ') as caught:
            load_network(tmp_path / f'{name}.pth')
        assert '\n' not in str(caught.value)


def test_the_basis_tells_the_alignment() -> None:
    generator = SFTRRDBNet(**SMALL, scale=4)
    assert alignment_of(generator) == 'centered'
    turned = generator.pca_matrix.view(21, 21, 15).flip(0, 1).reshape(generator.pca_matrix.shape)
    generator.pca_matrix = turned
    assert alignment_of(generator) == 'published'
    generator.pca_matrix = torch.ones_like(turned)
    assert alignment_of(generator) == 'unknown'
    assert alignment_of(SFTRRDBNet(**SMALL, scale=1)) == 'centered'
    assert alignment_of(MANet(num_feat=8)) == 'unknown'
    assert alignment_of(BlindSRNet({'type': 'MANet', 'num_feat': 8}, {'type': 'SFTRRDBNet', **SMALL})) == 'centered'


def test_the_basis_may_be_a_tensor(tmp_path: Path) -> None:
    basis = torch.rand(25, 3)
    np.save(tmp_path / 'basis.npy', basis.numpy())
    sizes: dict[str, Any] = {'kernel_size': 5, 'code_length': 3}
    for network in (SFTRRDBNet(**SMALL, **sizes, pca_matrix=basis), SRMDNet(num_conv=2, **sizes, pca_matrix=basis)):
        assert torch.equal(network.pca_matrix[0, :, :, 0, 0], basis)
    with pytest.raises(ValueError, match='pca_path and pca_matrix both give the PCA basis'):
        SFTRRDBNet(**SMALL, **sizes, pca_path=str(tmp_path / 'basis.npy'), pca_matrix=basis)
    with pytest.raises(ValueError, match=r'pca_matrix has shape \(3, 25\), expected \(25, 3\)'):
        SFTRRDBNet(**SMALL, **sizes, pca_matrix=basis.T)
    with pytest.raises(ValueError, match='pca_matrix is list, expected a floating point tensor'):
        SFTRRDBNet(**SMALL, **sizes, pca_matrix=basis.tolist())  # type: ignore[arg-type]


def test_loading_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = SFTRRDBNet(**SMALL, kernel_size=5, code_length=3, pca_matrix=torch.rand(25, 3))
    torch.save(network.state_dict(), tmp_path / 'net.pth')
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'absent'))
    assert torch.equal(load_network(tmp_path / 'net.pth').get_buffer('pca_matrix'), network.pca_matrix)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_weights_that_ship_tell_their_scale(tmp_path: Path, scale: int) -> None:
    estimator = load_network(f'weights://manet_x{scale}')
    assert isinstance(estimator, FieldEstimator) and estimator.scale == scale
    torch.save(estimator.state_dict(), tmp_path / f'mine_x{scale}.pth')
    other = load_network(tmp_path / f'mine_x{scale}.pth')
    assert isinstance(other, FieldEstimator) and other.scale is None


def test_networks_have_what_the_rest_of_the_package_asks_of_them() -> None:
    blind = BlindSRNet({'type': 'MANet', 'num_feat': 8}, {'type': 'SFTRRDBNet', **SMALL, 'scale': 3})
    assert blind.scale == 3
    assert missing_attributes(blind.kernel_estimation, FieldEstimator) == ''
    for generator in (blind.generator, SRMDNet(num_conv=2)):
        assert isinstance(generator, FieldGenerator)
    assert missing_attributes(blind, FieldEstimator)
    assert not isinstance(nn.Conv2d(3, 3, 1), FieldGenerator)
    assert missing_attributes(nn.Conv2d(3, 3, 1), FieldGenerator) == (
        'Conv2d has no attribute scale, floats_per_pixel'
    )  # it has a kernel_size
