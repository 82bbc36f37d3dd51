"""The networks that the paper compares with: their sizes, and that they do what networks of their kind do."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from manet_basicsr.archs import HAN, SFTMD, BlindSRNet, CFSNet, CResMD, DANNet, IKCNet, SFTRRDBNet, SRSVDNet
from manet_basicsr.archs.blur_width import blur_widths
from manet_basicsr.archs.han_arch import ChannelSpatialAttention, LayerAttention
from manet_basicsr.archs.protocols import BlindNetwork, FieldGenerator
from manet_basicsr.degradation import anisotropic_gaussian_kernels
from manet_basicsr.degradation.pca import kernel_pca_basis
from tests.small_networks import GENERATOR

GENERATORS: dict[str, dict[str, Any]] = {
    'SFTMD': {'num_feat': 8, 'num_block': 1},
    'CFSNet': {'num_feat': 8, 'num_block': 2},
    'CResMD': {'num_feat': 8, 'num_block': 2},
}
SINGLE: dict[str, dict[str, Any]] = {
    'IKCNet': {'generator': GENERATOR, 'num_feat': 8, 'num_correction': 2},
    'DANNet': {'num_feat': 8, 'num_group': 2, 'num_block': 1, 'num_estimator_block': 1, 'num_loop': 3},
}


def size_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def small(kind: str, scale: int = 4) -> Any:
    torch.manual_seed(0)
    options = {'type': kind, **({**GENERATORS, **SINGLE}[kind])}
    if 'generator' in options:
        return build_network({**options, 'generator': {**GENERATOR, 'scale': scale}})
    return build_network({**options, 'scale': scale})


def kernels_of(*variances: float) -> torch.Tensor:
    """Isotropic kernels (N, 441, 1, 1) of x4."""
    pairs = torch.tensor(variances)[:, None].expand(-1, 2)
    return anisotropic_gaussian_kernels(pairs, torch.zeros(len(variances)))[..., None, None]


def test_full_sizes_are_those_of_the_papers_networks() -> None:
    # Counted from the published descriptions; the PCA bases have 15 components where IKC and DAN had 10.
    assert [size_of(HAN(scale=scale)) for scale in (2, 3, 4)] == [15_924_033, 16_108_673, 16_071_745]
    assert size_of(HAN(num_group=4, num_block=4)) == 1_932_769
    assert size_of(SFTMD()) == 4_329_731
    assert size_of(SFTMD(code_length=10, pca_matrix=torch.rand(441, 10))) == 4_234_691
    ikc = IKCNet(GENERATOR)
    assert (size_of(ikc.predictor), size_of(ikc.corrector)) == (438_735, 650_575)
    assert size_of(DANNet().restorer) == 4_445_379 + 5 * 64  # five more numbers of a code
    assert size_of(DANNet().estimator) == 245_817
    assert size_of(SRSVDNet({**GENERATOR, 'num_feat': 64}).error_net) == 1_095_792
    assert size_of(CFSNet()) == 2_288_768 + 2_707_456
    assert size_of(CResMD()) == 2_557_708 - 33 * 64 + 64 - 3  # one condition instead of two
    for factor, size in ((2, 15_444_643), (3, 15_629_283), (4, 15_592_355)):
        options = {'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_block': 20, 'upscale': factor}
        assert size_of(build_network(options)) == size
    as_large_as_the_generator = {'num_group': 4, 'num_block': 4, 'num_feat': 64, 'upscale': 4}
    assert size_of(build_network({**options, **as_large_as_the_generator})) == 1_674_563


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('kind', GENERATORS)
def test_a_generator_takes_fields_and_single_kernels_alike_and_learns(kind: str, scale: int) -> None:
    assert isinstance(small(kind, scale), FieldGenerator)
    network = small(kind, scale)
    lq, kernel = torch.rand(2, 3, 9, 14), torch.rand(2, 441, 1, 1).softmax(1)
    single = network(lq, kernel)
    assert single.shape == (2, 3, scale * 9, scale * 14)
    torch.testing.assert_close(network(lq, kernel.expand(-1, -1, 9, 14)), single, atol=1e-5, rtol=1e-4)
    single.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    with pytest.raises(ValueError, match=r'kernel field has shape \(1, 441, 4, 4\)'):
        network(lq, torch.rand(1, 441, 4, 4))


@pytest.mark.parametrize('kind', GENERATORS)
def test_a_blind_network_takes_the_generator_and_its_keys_survive(kind: str) -> None:
    options: dict[str, Any] = {
        'estimator': {'type': 'MANet', 'num_feat': 8},
        'generator': {'type': kind, **GENERATORS[kind]},
    }
    first, second = BlindSRNet(**options), BlindSRNet(**options)
    second.load_state_dict(first.state_dict())
    lq = torch.rand(1, 3, 10, 12)
    with torch.no_grad():
        torch.testing.assert_close(first(lq), second(lq))


@pytest.mark.parametrize('kind', GENERATORS)
def test_another_blur_gives_another_image(kind: str) -> None:
    network = small(kind)
    for name, parameter in network.named_parameters():
        if name.startswith(('weight', 'control', 'coefficients')) or 'weight.weight' in name:
            nn.init.normal_(parameter)  # at the start the blur hardly counts
    lq = torch.rand(1, 3, 9, 9)
    narrow, wide = (network(lq, kernel[None]) for kernel in kernels_of(1, 9))
    assert (narrow - wide).abs().max() > 5e-6


def test_widths_are_standard_deviations() -> None:
    kernels = kernels_of(1, 4, 9)
    torch.testing.assert_close(blur_widths(kernels).flatten(), torch.tensor([1.0, 2, 3]), atol=0.05, rtol=0)  # cut taps
    field = kernels.view(3, 441).T.reshape(1, 441, 1, 3)
    torch.testing.assert_close(blur_widths(field).flatten(), blur_widths(kernels).flatten())


def test_cfsnet_is_its_main_branch_at_the_narrowest_blur_and_its_tuning_branch_mixed_in_at_wider_ones() -> None:
    network = small('CFSNet')
    level = network.level(kernels_of(0.7, 4, 10)).flatten()
    # What is drawn as 0.7 and 10 has the variances 0.7 and 9.6.
    assert level.tolist() == pytest.approx([0, (2 - 0.7**0.5) / (10**0.5 - 0.7**0.5), 0.97], abs=0.02)
    lq = torch.rand(1, 3, 6, 6)
    narrowest = kernels_of(0.6)
    before = network(lq, narrowest)
    for parameter in network.tuning.parameters():
        nn.init.normal_(parameter)
    assert torch.equal(network(lq, narrowest), before)


def test_layer_attention_starts_as_nothing_and_sums_over_layers() -> None:
    stacked = torch.rand(1, 3, 2, 4, 4)
    attention = LayerAttention()
    assert torch.equal(attention(stacked), stacked.flatten(1, 2))
    nn.init.ones_(attention.gamma)
    maps = stacked[0].flatten(1)
    energy = maps @ maps.T
    weight = (energy.amax(1, keepdim=True) - energy).softmax(1)
    expected = (weight @ maps + maps).view(1, 6, 4, 4)
    torch.testing.assert_close(attention(stacked), expected)
    feature = torch.rand(1, 8, 4, 4)
    assert torch.equal(ChannelSpatialAttention()(feature), feature)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_han_of_any_number_of_groups_enlarges_and_learns(scale: int) -> None:
    network = build_network({'type': 'HAN', 'scale': scale, 'num_feat': 16, 'num_group': 3, 'num_block': 1})
    sr = network(torch.rand(2, 3, 9, 14))
    assert sr.shape == (2, 3, scale * 9, scale * 14)
    sr.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('kind', SINGLE)
def test_a_single_kernel_network_estimates_one_kernel_an_image_and_restores_with_it(kind: str, scale: int) -> None:
    network = small(kind, scale).eval()
    assert isinstance(network, BlindNetwork)
    lq = torch.rand(2, 3, 9, 14)
    with torch.no_grad():
        field = network.estimate(lq)
        assert field.shape == (2, 441, 1, 1)
        assert field.min() >= 0
        torch.testing.assert_close(field.sum(1), torch.ones(2, 1, 1))
        sr = network(lq)
        assert sr.shape == (2, 3, scale * 9, scale * 14)
        torch.testing.assert_close(network.restore(lq, field), sr)


def test_ikc_corrects_by_what_its_frozen_generator_restores() -> None:
    network = small('IKCNet')
    codes = network(torch.rand(2, 3, 12, 12), as_codes=True)
    assert codes.shape == (3, 2, 15)
    codes[-1].sum().backward()
    # Codes are detached between corrections, so the last one's gradients are the corrector's alone.
    assert not any(parameter.grad.any() for parameter in network.predictor.parameters())
    assert all(parameter.grad is not None for parameter in network.corrector.parameters())
    assert not any(parameter.requires_grad for parameter in network.generator.parameters())
    assert not network.train().generator.training
    nn.init.zeros_(network.corrector.last.weight)
    nn.init.zeros_(network.corrector.last.bias)
    codes = network.codes(torch.rand(1, 3, 12, 12))
    assert torch.equal(codes[0], codes[-1])


def test_ikc_takes_its_own_generator_too() -> None:
    network = IKCNet({'type': 'SFTMD', **GENERATORS['SFTMD']}, num_feat=8, num_correction=1)
    lq = torch.rand(1, 3, 12, 16)
    field = network.estimate(lq)
    assert field.shape == (1, 441, 1, 1) and field.sum().item() == pytest.approx(1)
    assert network.restore(lq, field).shape == (1, 3, 48, 64)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_under_autocast_every_part_of_dan_learns(dtype: torch.dtype) -> None:
    network = small('DANNet')
    with torch.autocast('cpu', dtype):
        sr, field = network(torch.rand(1, 3, 12, 12), with_field=True)
    (sr.float().mean() + field.float().square().sum()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_code_of_a_kernel_gives_that_kernel_back() -> None:
    network = small('IKCNet')
    kernels = kernels_of(2, 5)
    remade = network.field_of(network.generator.kernel_code(kernels).flatten(1))
    assert (remade - kernels).norm(dim=1).max() < 0.01


@pytest.fixture(scope='module')
def published_basis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PCA basis of kernels of x4 on the published grid."""
    path = tmp_path_factory.mktemp('basis') / 'published.pth'
    torch.save(kernel_pca_basis(4, alignment='published', num_kernels=2000), path)
    return path


def test_kernels_of_a_published_basis_lie_on_its_grid(published_basis: Path) -> None:
    network = IKCNet({**GENERATOR, 'pca_path': str(published_basis)}, num_feat=8)
    assert network.generator.alignment == 'published'
    pairs = torch.tensor([[2.0, 2.0], [5.0, 3.0]])
    kernels = anisotropic_gaussian_kernels(pairs, torch.zeros(2), alignment='published')[..., None, None]
    remade = network.field_of(network.generator.kernel_code(kernels).flatten(1))
    assert (remade - kernels).norm(dim=1).max() < 0.01


def test_dan_starts_on_the_grid_of_its_basis(published_basis: Path) -> None:
    taps = torch.arange(21.0)
    for path, centre in ((None, 11.5), (str(published_basis), 8.5)):
        network = DANNet(num_feat=8, num_group=1, num_block=1, pca_path=path)
        point = network.start(torch.rand(1, 3, 4, 4)).view(21, 21)
        assert ((point.sum(0) * taps).sum().item(), (point.sum(1) * taps).sum().item()) == (centre, centre)
    # Weights bring their basis along.
    other = DANNet(num_feat=8, num_group=1, num_block=1)
    other.load_state_dict(network.state_dict())
    assert other.middle == network.middle == 8.5
    lq = torch.rand(1, 3, 12, 12)
    assert torch.equal(copy.deepcopy(other).estimate(lq), network.estimate(lq))


def test_srsvd_restores_as_its_generator_and_predicts_an_error_that_alone_is_trained() -> None:
    network = SRSVDNet(GENERATOR, num_feat=8, num_block=2)
    lq, kernels = torch.rand(2, 3, 9, 7), kernels_of(2, 5)
    sr, error = network.train()(lq, kernels)
    assert sr.shape == error.shape == (2, 3, 36, 28)
    torch.testing.assert_close(sr, network.generator(lq, kernels))
    error.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.error_net.parameters())
    assert not any(parameter.requires_grad for parameter in network.generator.parameters())
    assert not network.generator.training
    assert isinstance(network.generator, SFTRRDBNet)
    with pytest.raises(ValueError, match='generator.type is SRMDNet, expected one with features'):
        SRSVDNet({'type': 'SRMDNet', 'num_feat': 8, 'num_conv': 2})


def test_a_generator_may_start_from_a_whole_blind_network(tmp_path: Path) -> None:
    blind = BlindSRNet({'type': 'MANet', 'num_feat': 8}, GENERATOR)
    torch.save({'params': blind.state_dict()}, tmp_path / 'blind.pth')
    network = IKCNet({**GENERATOR, 'pretrained': str(tmp_path / 'blind.pth')})
    found, expected = (whole.generator.state_dict()['conv_first.weight'] for whole in (network, blind))
    assert torch.equal(found, expected)


def test_dan_learns_from_its_last_round_alone() -> None:
    network = small('DANNet')
    assert network.start(torch.rand(2, 3, 4, 4)).sum((1, 2, 3)).tolist() == [1, 1]
    sr, field = network(torch.rand(1, 3, 9, 9), with_field=True)
    (sr.mean() + field.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    sr.detach()
    only_image, _ = network(torch.rand(1, 3, 9, 9), with_field=True)
    network.zero_grad(set_to_none=True)
    only_image.mean().backward()
    assert all(parameter.grad is None for parameter in network.estimator.parameters())


@pytest.mark.parametrize(
    ('kind', 'changes', 'message'),
    [
        ('SFTMD', {'num_block': 0}, 'num_block is 0'),
        ('HAN', {'num_group': 0}, 'num_group is 0'),
        ('HAN', {'num_out_ch': 1}, 'num_in_ch is 3, num_out_ch 1, expected the same'),
        ('DANNet', {'num_in_ch': 1}, 'num_in_ch is 1, num_out_ch 3, expected the same'),
        ('CFSNet', {'num_block': 0}, 'num_block 0'),
        ('CResMD', {'num_out_ch': 1}, 'num_out_ch 1'),
        ('DANNet', {'num_loop': 1}, 'num_loop is 1, expected at least 2'),
        ('IKCNet', {'generator': GENERATOR, 'num_correction': -1}, 'num_correction is -1'),
        (
            'IKCNet',
            {'generator': {'type': 'MANet', 'num_feat': 8}},
            'generator.type is MANet, expected one with a kernel',
        ),
    ],
)
def test_sizes_that_make_no_network_are_refused(kind: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network({'type': kind, **changes})


def test_the_width_of_a_blur_has_gradients_that_are_finite_for_a_single_tap_too() -> None:
    field = anisotropic_gaussian_kernels(torch.tensor([[4.0, 2.0]]), torch.zeros(1), 21, 1).view(1, 441, 1, 1)
    sharp = torch.zeros_like(field)
    sharp[0, 220] = 1
    for kernel in (field, sharp):
        given = kernel.clone().requires_grad_()
        blur_widths(given).sum().backward()
        assert given.grad is not None and given.grad.isfinite().all()
        assert bool(given.grad.any()) == (kernel is field)


@pytest.mark.parametrize('name', ['CFSNet', 'CResMD'])
def test_modulated_generators_hand_gradients_on_to_the_kernels(name: str) -> None:
    field = anisotropic_gaussian_kernels(torch.tensor([[4.0, 2.0]]), torch.zeros(1), 21, 4).view(1, 441, 1, 1)
    field.requires_grad_()
    small(name)(torch.rand(1, 3, 8, 8), field).sum().backward()
    assert field.grad is not None and field.grad.any()
