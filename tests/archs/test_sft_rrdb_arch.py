"""The kernel-conditioned generator: the released weights, its parts, and the kernel code."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.archs import SFTRRDBNet
from manet_basicsr.archs.sft_rrdb_arch import SFTRRDB, change_kernel_basis, change_scale
from manet_basicsr.degradation import load_pca_basis
from manet_basicsr.degradation.sampler import gaussian_kernels

SMALL = {'num_feat': 6, 'num_block': 2, 'num_grow_ch': 4, 'kernel_size': 5, 'code_length': 3}


@pytest.fixture
def basis(tmp_path: Path) -> Path:
    """A basis for kernels of 5x5 and codes of length 3."""
    path = tmp_path / 'basis.npy'
    np.save(path, np.linalg.qr(np.random.default_rng(0).normal(size=(25, 3)))[0].astype(np.float32))
    return path


def small(basis: Path, **arguments: Any) -> SFTRRDBNet:
    torch.manual_seed(0)
    return SFTRRDBNet(**{**SMALL, 'pca_path': str(basis), **arguments})


def small_of_scale(scale: int) -> SFTRRDBNet:
    torch.manual_seed(0)
    return SFTRRDBNet(scale=scale, num_feat=6, num_block=2, num_grow_ch=4)


def kernels(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, dtype=dtype).softmax(dim=1)


def generator_plainly(state: dict[str, Tensor], lq: Tensor, field: Tensor, scale: int, num_block: int) -> Tensor:
    """The paper's generator written out; the kernel code by the product over all taps."""

    def conv(key: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f'{key}.weight'], state[f'{key}.bias'], 1, 1)

    def sft(key: str, feature: Tensor, code: Tensor) -> Tensor:
        both = torch.cat((feature, code), 1)
        mul = conv(f'{key}.mul_conv2', F.leaky_relu(conv(f'{key}.mul_conv1', both), 0.2)).sigmoid()
        return feature * mul + conv(f'{key}.add_conv2', F.leaky_relu(conv(f'{key}.add_conv1', both), 0.2))

    def dense(key: str, x: Tensor) -> Tensor:
        known = [x]
        for index in range(1, 5):
            known.append(F.leaky_relu(conv(f'{key}.conv{index}', torch.cat(known, 1)), 0.2))
        return conv(f'{key}.conv5', torch.cat(known, 1)) * 0.2 + x

    code = (field.unsqueeze(2) * state['pca_matrix']).sum(1) + torch.zeros(lq.shape[0], 1, *lq.shape[2:]).to(lq)
    first = feature = conv('conv_first', lq)
    for index in range(num_block):
        inner = sft(f'RRDB_trunk.{index}.SFT', feature, code)
        for name in ('RDB1', 'RDB2', 'RDB3'):
            inner = dense(f'RRDB_trunk.{index}.{name}', inner)
        feature = inner * 0.2 + feature
    return F.pixel_shuffle(conv('upsampler.0', conv('trunk_conv', feature) + first), scale)


def test_released_weights_give_the_published_image(shared: Path) -> None:
    fixture = torch.load(shared / 'fixtures/published/stage2_x4.pth', weights_only=True)
    config = fixture['config']
    network = SFTRRDBNet(num_feat=config['nf'], num_block=config['nb'], num_grow_ch=config['gc'])
    network.load_state_dict(fixture['state_dict'], strict=True)
    field = fixture['kernel'].flatten(1)[..., None, None]
    with torch.no_grad():
        sr = network(fixture['lq'], field)
        variant = network(fixture['lq'], field.expand(-1, -1, 20, 17))
    # relative to the image's range: float32 rounding in another order of summation
    tolerance = 1e-5 * fixture['sr'].abs().max().item()
    torch.testing.assert_close(sr, fixture['sr'], rtol=0, atol=tolerance)
    torch.testing.assert_close(variant, sr, rtol=0, atol=tolerance)
    assert list(network.state_dict()) == list(fixture['state_dict'])


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_equals_the_plain_formulation(basis: Path, scale: int) -> None:
    network = small(basis, scale=scale).double()
    lq, field = torch.rand(2, 3, 5, 7, dtype=torch.float64), kernels(2, 25, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        for block in network.RRDB_trunk:  # the initial 0.1 would hide the dense blocks
            for parameter in block.parameters():
                parameter.normal_(std=0.3)
    sr = network(lq, field)
    assert sr.shape == (2, 3, 5 * scale, 7 * scale)
    # float64: only the order of summation differs
    torch.testing.assert_close(sr, generator_plainly(network.state_dict(), lq, field, scale, 2), rtol=1e-10, atol=1e-10)


def test_a_kernel_for_all_pixels_or_all_images_broadcasts(basis: Path) -> None:
    network = small(basis).double()
    lq, field = torch.rand(2, 3, 5, 7, dtype=torch.float64), kernels(1, 25, 1, 1, dtype=torch.float64)
    expected = network(lq, field.expand(2, -1, 5, 7))
    for shape in ((1, 25, 1, 1), (2, 25, 1, 1), (1, 25, 5, 7)):
        torch.testing.assert_close(network(lq, field.expand(shape)), expected, rtol=1e-12, atol=1e-12)


def test_code_of_an_invariant_field_is_computed_once(basis: Path) -> None:
    network = small(basis)
    field = kernels(2, 25, 1, 1)
    code = network.kernel_code(field)
    assert code.shape == (2, 3, 1, 1)
    by_hand = field[:, :, 0, 0] @ torch.from_numpy(np.load(basis))
    torch.testing.assert_close(code[:, :, 0, 0], by_hand)


def test_code_stays_in_float32_under_autocast(basis: Path) -> None:
    network, field = small(basis), kernels(1, 25, 4, 4)
    expected = network.kernel_code(field)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast('cpu', dtype):
            torch.testing.assert_close(network.kernel_code(field), expected, rtol=0, atol=0)
            sr = network(torch.rand(1, 3, 4, 4), field)
        assert sr.dtype == dtype
        assert sr.isfinite().all()


def test_works_in_bfloat16_with_a_float32_field(basis: Path) -> None:
    sr = small(basis).bfloat16()(torch.rand(1, 3, 4, 4).bfloat16(), kernels(1, 25, 4, 4))
    assert sr.dtype == torch.bfloat16


def test_gradients_reach_the_image_the_field_and_every_parameter(basis: Path) -> None:
    network = small(basis, num_block=1).double()
    lq = torch.rand(1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    field = kernels(1, 25, 3, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(network, (lq, field), fast_mode=True)
    network(lq, field).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_a_training_step_makes_no_nan(basis: Path) -> None:
    network = small(basis)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    (network(torch.rand(2, 3, 6, 5), kernels(2, 25, 1, 1)) - torch.rand(2, 3, 24, 20)).abs().mean().backward()
    optimiser.step()
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert network.pca_matrix.grad is None


def test_has_the_parameters_of_the_paper_at_x4() -> None:
    assert sum(parameter.numel() for parameter in SFTRRDBNet().parameters()) == 8_086_256


def test_dense_blocks_start_small_with_zero_bias() -> None:
    torch.manual_seed(0)
    block = SFTRRDB(64, 32, 15)
    for name in ('RDB1', 'RDB2', 'RDB3'):
        for index in range(1, 6):
            layer = block.get_submodule(f'{name}.conv{index}')
            expected = 0.1 * (2 / (layer.in_channels * 9)) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.03)  # over 18,000 weights or more
            assert not layer.bias.any()
    assert block.SFT.mul_conv1.bias.any()


def test_basis_is_the_shipped_one_until_a_state_dict_replaces_it() -> None:
    network = SFTRRDBNet(num_feat=4, num_block=1, num_grow_ch=2, scale=2)
    assert network.pca_matrix.shape == (1, 441, 15, 1, 1)
    torch.testing.assert_close(network.pca_matrix[0, :, :, 0, 0], load_pca_basis(2, 21, 15), rtol=0, atol=0)
    state = network.state_dict()
    state['pca_matrix'] = torch.ones_like(state['pca_matrix'])
    network.load_state_dict(state, strict=True)
    assert (network.pca_matrix == 1).all()
    again = build_network({'type': 'SFTRRDBNet', 'num_feat': 4, 'num_block': 1, 'num_grow_ch': 2, 'scale': 2})
    torch.testing.assert_close(again.pca_matrix[0, :, :, 0, 0], load_pca_basis(2, 21, 15), rtol=0, atol=0)


def test_copies_are_equal_and_independent(basis: Path) -> None:
    network = small(basis)
    twin = copy.deepcopy(network)
    lq, field = torch.rand(1, 3, 4, 4), kernels(1, 25, 1, 1)
    torch.testing.assert_close(twin(lq, field), network(lq, field), rtol=0, atol=0)
    twin.pca_matrix.zero_()
    assert network.pca_matrix.any()


@pytest.mark.parametrize('shape', [(1, 24, 4, 5), (1, 25, 4, 4), (2, 25, 4, 5), (25, 4, 5)])
def test_a_field_that_does_not_fit_says_what_was_expected(basis: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r'kernel field has shape \(.*\), expected \(1, 25, 4, 5\) or \(1, 25, 1, 1\)'):
        small(basis)(torch.rand(1, 3, 4, 5), torch.rand(shape))


def test_wrong_arguments_say_what_was_expected(basis: Path) -> None:
    with pytest.raises(ValueError, match='scale is 0, expected at least 1'):
        small(basis, scale=0)
    with pytest.raises(ValueError, match='num_block is 0, expected at least 1'):
        small(basis, num_block=0)
    with pytest.raises(ValueError, match='compute_pca'):
        SFTRRDBNet(kernel_size=13)


def test_a_generator_of_another_basis_does_what_it_did(basis: Path, tmp_path: Path) -> None:
    """The new basis spans the old one, turned and with two dimensions more; kernels may have parts outside of both."""
    network = small(basis).eval()
    rng = np.random.default_rng(1)
    old = np.load(basis)
    more = rng.normal(size=(25, 2))
    more -= old @ (old.T @ more)
    wider = np.concatenate([old @ np.linalg.qr(rng.normal(size=(3, 3)))[0], np.linalg.qr(more)[0]], axis=1)
    path = tmp_path / 'wider.npy'
    np.save(path, wider.astype(np.float32))
    changed = small(path, code_length=5).eval()
    changed.load_state_dict(change_kernel_basis(network.state_dict(), load_pca_basis(4, 5, 5, path)))
    lq, field = torch.rand(2, 3, 7, 9), kernels(2, 25, 7, 9)
    torch.testing.assert_close(changed(lq, field), network(lq, field), atol=1e-5, rtol=1e-4)


def test_a_basis_for_other_kernels_or_weights_without_one_are_refused(basis: Path) -> None:
    state = small(basis).state_dict()
    with pytest.raises(ValueError, match='kernels of 49 taps, the weights for 25'):
        change_kernel_basis(state, torch.rand(49, 3))
    for other in (torch.linalg.qr(torch.rand(25, 3))[0], torch.from_numpy(np.load(basis))[:, :2]):
        with pytest.raises(ValueError, match='has not all kernels'):
            change_kernel_basis(state, other)
    with pytest.raises(ValueError, match='no pca_matrix'):
        change_kernel_basis({'conv_first.weight': torch.ones(1)}, torch.rand(25, 3))


def test_a_generator_of_the_same_scale_is_the_same() -> None:
    state = small_of_scale(3).state_dict()
    changed = change_scale(state, 3, load_pca_basis(3))
    assert changed.keys() == state.keys()
    for key, weight in state.items():
        torch.testing.assert_close(changed[key], weight, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(('old', 'new'), [(4, 2), (4, 3), (4, 1), (2, 1)])
def test_at_a_smaller_scale_pixels_lie_between_those_of_the_larger(old: int, new: int) -> None:
    """The last layer interpolates its image; what the kernels do is left out, by a code that no layer looks at."""
    state = small_of_scale(old).state_dict()
    for key, weight in state.items():
        if key.endswith(('mul_conv1.weight', 'add_conv1.weight')):
            weight[:, -15:] = 0
    before, after = small_of_scale(old), small_of_scale(new)
    before.load_state_dict(state)
    after.load_state_dict(change_scale(state, new, load_pca_basis(new)))
    lq, field = torch.rand(1, 3, 5, 6), kernels(1, 441, 1, 1)
    with torch.inference_mode():
        blocks = before(lq, field).unfold(2, old, old).unfold(3, old, old).flatten(0, 3)[:, None]  # each LR pixel's
        expected = F.interpolate(blocks, size=(new, new), mode='bilinear').view(1, 3, 5, 6, new, new)
        expected = expected.transpose(3, 4).reshape(1, 3, 5 * new, 6 * new)
        torch.testing.assert_close(after(lq, field), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('new', [2, 3])
def test_a_kernel_of_another_scale_is_taken_for_that_which_blurs_an_lr_image_as_much(new: int) -> None:
    """What layers take from a kernel is what they took from the one of x4 with the same variances in LR pixels."""
    state = small_of_scale(4).state_dict()
    changed = change_scale(state, new, load_pca_basis(new))

    def taken(weights: dict[str, Tensor], basis: Tensor, scale: int) -> Tensor:
        parameters = torch.tensor([[0.4 * scale**2, 0.2 * scale**2, 0.6]])
        kernel = gaussian_kernels(parameters, 21, scale, 'centered').flatten()
        return weights['RRDB_trunk.0.SFT.mul_conv1.weight'][:, -15:].sum((2, 3)) @ (basis.T @ kernel)

    wanted = taken(state, load_pca_basis(4), 4)
    basis = load_pca_basis(new)
    error, unchanged = ((taken(it, basis, new) - wanted).norm() / wanted.norm() for it in (changed, state))
    assert error < 0.2 < 1 < unchanged


def test_the_estimator_is_left_out_at_another_scale() -> None:
    state = {**small_of_scale(4).state_dict(), 'kernel_estimation.m_head.weight': torch.ones(1)}
    assert change_scale(state, 2, load_pca_basis(2)).keys() == small_of_scale(2).state_dict().keys()


def test_what_cannot_be_at_another_scale_is_refused() -> None:
    state, basis = small_of_scale(4).state_dict(), load_pca_basis(2)
    with pytest.raises(ValueError, match='scale is 0, expected at least 1'):
        change_scale(state, 0, basis)
    with pytest.raises(ValueError, match='kernels of the basis are not those of x4 in the alignment centered'):
        change_scale(state, 4, basis)
    with pytest.raises(ValueError, match='no upsampler.0.weight'):
        change_scale({'pca_matrix': state['pca_matrix']}, 2, basis)
    with pytest.raises(ValueError, match='kernels of the basis are not those of x2'):
        change_scale(state, 2, basis.flip(0))
    with pytest.raises(ValueError, match='kernels of the weights are not those of x4'):
        change_scale({**state, 'pca_matrix': state['pca_matrix'].flip(1)}, 2, basis)
