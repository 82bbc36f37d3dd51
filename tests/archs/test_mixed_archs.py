"""Other networks made of our parts: SRMD, EDSR with MABlocks, and MANet with other convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from manet_basicsr.archs import MAEDSR, BlindSRNet, MABlock, MANet, SFTRRDBNet, SRMDNet
from manet_basicsr.archs.manet_arch import ConvBlock


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('size', [(9, 14), (16, 16)])
def test_maedsr_enlarges_any_size_and_learns_one_step(scale: int, size: tuple[int, int]) -> None:
    network = build_network({'type': 'MAEDSR', 'scale': scale, 'num_feat': 8, 'num_block': 2})
    assert isinstance(network, MAEDSR)
    sr = network(torch.rand(2, 3, *size))
    assert sr.shape == (2, 3, scale * size[0], scale * size[1])
    sr.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_maedsr_has_mutual_affine_blocks_in_its_body() -> None:
    network = MAEDSR(num_feat=8, num_block=3, split=4)
    assert sum(isinstance(module, MABlock) for module in network.body) == 3
    with pytest.raises(ValueError, match='num_block is 0, expected at least 1'):
        MAEDSR(num_block=0)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_srmd_takes_fields_and_single_kernels_alike(scale: int) -> None:
    network = build_network({'type': 'SRMDNet', 'scale': scale, 'num_feat': 8, 'num_conv': 3})
    lq, kernel = torch.rand(2, 3, 9, 14), torch.rand(2, 441, 1, 1).softmax(1)
    single = network(lq, kernel)
    assert single.shape == (2, 3, scale * 9, scale * 14)
    torch.testing.assert_close(network(lq, kernel.expand(-1, -1, 9, 14)), single)
    assert not torch.allclose(network(lq, torch.rand(2, 441, 9, 14).mul(5).softmax(1)), single)
    single.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_srmd_stretches_the_code_of_the_same_basis_as_the_other_generator() -> None:
    srmd, rrdb = SRMDNet(num_feat=8, num_conv=2), SFTRRDBNet(num_feat=8, num_block=1)
    field = torch.rand(1, 441, 4, 5).softmax(1)
    torch.testing.assert_close(srmd.kernel_code(field), rrdb.kernel_code(field))
    assert srmd.body[0].in_channels == 3 + 15
    assert 'pca_matrix' in srmd.state_dict()


def test_srmd_in_full_size_has_twelve_convolutions() -> None:
    network = SRMDNet()
    assert sum(isinstance(module, nn.Conv2d) for module in network.body) == 12
    # 18 x 128 x 9 + 10 x 128 x 128 x 9 + 128 x 48 x 9 weights, and the biases.
    assert parameters_of(network) == 20_736 + 1_474_560 + 55_296 + 11 * 128 + 48


@pytest.mark.parametrize(
    ('changes', 'message'),
    [({'num_conv': 1}, 'num_conv is 1'), ({'scale': 0}, 'scale is 0'), ({'kernel_size': 15}, 'compute_pca')],
)
def test_srmd_refuses_sizes_that_make_no_network(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SRMDNet(**{'num_feat': 8, **changes})


def test_srmd_refuses_a_field_of_another_size() -> None:
    with pytest.raises(ValueError, match=r'kernel field has shape \(1, 441, 4, 4\), expected \(1, 441, 5, 5\)'):
        SRMDNet(num_feat=8, num_conv=2)(torch.rand(1, 3, 5, 5), torch.rand(1, 441, 4, 4))


def test_a_blind_network_takes_srmd_and_its_keys_survive_a_round_trip() -> None:
    options: dict[str, Any] = {
        'estimator': {'type': 'MANet', 'num_feat': 8},
        'generator': {'type': 'SRMDNet', 'num_feat': 8, 'num_conv': 3},
    }
    first, second = BlindSRNet(**options), BlindSRNet(**options)
    second.load_state_dict(first.state_dict())
    lq = torch.rand(1, 3, 10, 12)
    with torch.no_grad():
        torch.testing.assert_close(first(lq), second(lq))
        torch.testing.assert_close(first(lq), first.generator(lq, first.kernel_estimation(lq)))
    assert {key.partition('.')[0] for key in first.state_dict()} == {'kernel_estimation', 'pca_matrix', 'body'}


@pytest.mark.parametrize('conv', ['conv', 'groupconv'])
@pytest.mark.parametrize('num_block', [1, 2])
def test_manet_of_other_convolutions_estimates_kernels(conv: str, num_block: int) -> None:
    network = MANet(num_feat=8, num_block=num_block, conv=conv)
    field = network(torch.rand(2, 3, 9, 14))
    assert field.shape == (2, 441, 9, 14)
    torch.testing.assert_close(field.sum(1), torch.ones(2, 9, 14))
    assert sum(isinstance(module, ConvBlock) for module in network.modules()) == 3 * num_block
    field.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_mutual_affine_convolutions_save_a_third_and_stay_the_default() -> None:
    sizes = {conv: parameters_of(MANet(conv=conv)) for conv in ('maconv', 'conv', 'groupconv')}
    assert sizes == {'maconv': 1_810_361, 'conv': 2_545_081, 'groupconv': 1_660_345}
    assert MANet(num_feat=8).state_dict().keys() == MANet(num_feat=8, conv='maconv').state_dict().keys()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'conv': 'deform'}, "conv 'deform' is not one of maconv, conv, groupconv"),
        ({'conv': 'groupconv', 'split': 3}, '16 channels cannot be cut into 3 groups of equal size'),
    ],
)
def test_convolutions_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MANet(num_feat=8, **changes)
