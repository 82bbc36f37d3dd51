"""MANet: the released weights, the paper's figures, and what a kernel field must be."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.archs import build_network
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from manet_basicsr.archs import MANet


def small(**arguments: Any) -> MANet:
    torch.manual_seed(0)
    return MANet(**{'kernel_size': 5, 'num_feat': 8, **arguments})


def manet_plainly(state: dict[str, Tensor], lq: Tensor) -> Tensor:
    """The paper's estimator with one block and two groups, written out function by function."""

    def conv(key: str, x: Tensor, padding: int = 0, stride: int = 1) -> Tensor:
        return F.conv2d(x, state[f'{key}.weight'], state[f'{key}.bias'], stride, padding)

    def maconv(key: str, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        groups = (x[:, :half], x[:, half:])
        outputs = []
        for index in (0, 1):
            affine = conv(f'{key}.fc{index}.2', conv(f'{key}.fc{index}.0', groups[1 - index]).relu())
            modulated = groups[index] * affine[:, :half].sigmoid() + affine[:, half:]
            outputs.append(conv(f'{key}.conv{index}', modulated, 1))
        return torch.cat(outputs, 1)

    def block(key: str, x: Tensor) -> Tensor:
        return x + maconv(f'{key}.res.2', maconv(f'{key}.res.0', x).relu())

    height, width = lq.shape[-2:]
    rows = torch.arange(-(-height // 8) * 8).clamp(max=height - 1)
    columns = torch.arange(-(-width // 8) * 8).clamp(max=width - 1)
    head = conv('m_head', lq[..., rows, :][..., columns], 1)
    down = conv('m_down1.1', block('m_down1.0', head), stride=2)
    body = block('m_body', down)
    up = F.conv_transpose2d(body + down, state['m_up1.0.weight'], state['m_up1.0.bias'], 2)
    logits = conv('m_tail', block('m_up1.1', up) + head, 1)[..., :height, :width]
    exponentials = torch.exp(logits - logits.amax(1, keepdim=True))
    return exponentials / exponentials.sum(1, keepdim=True)


def test_released_weights_give_the_published_field(shared: Path) -> None:
    fixture = torch.load(shared / 'fixtures/published/stage1_x4.pth', weights_only=True)
    config = fixture['config']
    network = MANet(num_feat=config['manet_nf'], num_block=config['manet_nb'], split=config['split'])
    network.load_state_dict(fixture['state_dict'], strict=True)
    with torch.no_grad():
        field = network(fixture['lq'])
    # float32 rounding in another order of summation
    torch.testing.assert_close(field, fixture['kernel_field'], rtol=1e-5, atol=1e-9)
    assert {f'kernel_estimation.{key}' for key in network.state_dict()} == set(fixture['state_dict'])


@pytest.mark.parametrize('size', [(16, 8), (11, 13), (1, 3)])
def test_equals_the_plain_formulation(size: tuple[int, int]) -> None:
    network = small().double()
    lq = torch.rand(2, 3, *size, dtype=torch.float64)
    field = network(lq)
    assert field.shape == (2, 25, *size)
    torch.testing.assert_close(field, manet_plainly(network.state_dict(), lq), rtol=1e-11, atol=1e-13)


def test_known_weights_give_a_known_field() -> None:
    network = MANet(kernel_size=3, num_feat=4).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter).mul(0.7).sin() / 2)
    lq = torch.linspace(0, 1, 3 * 9 * 10, dtype=torch.float64).view(1, 3, 9, 10)
    known = [0.025344, 0.051321, 0.087638, 0.116287, 0.123181, 0.117803, 0.119316, 0.144525, 0.214586]
    expected = torch.tensor(known, dtype=torch.float64)
    # printed with six digits
    torch.testing.assert_close(network(lq)[0, :, 4, 7], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('arguments', [{}, {'split': 3}, {'num_block': 2}, {'num_in_ch': 1}, {'kernel_size': 4}])
def test_field_is_made_of_kernels(arguments: dict[str, Any]) -> None:
    network = small(**arguments)
    field = network(torch.rand(2, arguments.get('num_in_ch', 3), 17, 12))
    assert field.shape == (2, network.kernel_size**2, 17, 12)
    assert field.dtype == torch.float32
    assert field.min() >= 0
    torch.testing.assert_close(field.sum(1), torch.ones(2, 17, 12))


@pytest.mark.parametrize(('num_block', 'parameters'), [(1, 1_810_361), (2, 2_846_137)])
def test_parameters_are_as_many_as_in_the_paper(num_block: int, parameters: int) -> None:
    assert sum(parameter.numel() for parameter in MANet(num_block=num_block).parameters()) == parameters


def test_costs_1093_thousand_multiplications_a_pixel() -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        MANet()(torch.rand(1, 3, 32, 24))
    assert counter.get_total_flops() / 2 / (32 * 24) == 1_093_120


@pytest.mark.parametrize(('num_block', 'size'), [(1, 22), (2, 38)])
def test_receptive_field_is_as_in_the_paper(num_block: int, size: int) -> None:
    network = small(num_block=num_block).double()
    lq = torch.rand(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    network(lq)[0, 12, 31, 30].backward()
    touched = lq.grad[0].abs().sum(0) > 0
    # Random weights leave no pixel of the field at a gradient of exactly 0: closed ReLUs do not hide its border.
    assert touched.any(1).sum() == size
    assert touched.any(0).sum() == size


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_softmax_stays_in_float32_under_autocast(dtype: torch.dtype) -> None:
    network = small()
    lq = torch.rand(1, 3, 9, 11)
    with torch.autocast('cpu', dtype):
        assert network.m_head(lq).dtype == dtype
        field = network(lq)
    assert field.dtype == torch.float32
    torch.testing.assert_close(field.sum(1), torch.ones(1, 9, 11))  # to float32's precision, not to half's
    torch.testing.assert_close(field, network(lq), rtol=0.05, atol=1e-3)  # bfloat16 has 8 bits


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_network_in_another_dtype_gives_a_field_of_at_least_float32(dtype: torch.dtype) -> None:
    field = small().to(dtype)(torch.rand(1, 3, 8, 8, dtype=dtype))
    assert field.dtype == torch.promote_types(dtype, torch.float32)


def test_a_training_step_moves_every_parameter_and_makes_no_nan() -> None:
    network = small()
    before = copy.deepcopy(network.state_dict())
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    loss = (network(torch.rand(2, 3, 12, 12)) - torch.rand(2, 25, 1, 1)).abs().mean()
    loss.backward()
    optimiser.step()
    for key, value in network.state_dict().items():
        assert value.isfinite().all(), key
        assert not torch.equal(value, before[key]), key


def test_high_pass_head_begins_with_filters_that_answer_to_detail_alone() -> None:
    torch.manual_seed(0)
    usual = small()
    torch.manual_seed(0)
    network = small(high_pass_head=True)
    head = network.m_head.weight
    torch.testing.assert_close(head.mean((2, 3)), torch.zeros(head.shape[:2]))
    centred = usual.m_head.weight - usual.m_head.weight.mean((2, 3), keepdim=True)
    torch.testing.assert_close(head, 5 * centred)
    others = {key: value for key, value in network.state_dict().items() if key != 'm_head.weight'}
    assert all(torch.equal(value, usual.state_dict()[key]) for key, value in others.items())


def test_released_prefix_is_accepted_at_any_depth_and_not_saved() -> None:
    network, copied = small(), small()
    with torch.no_grad():
        copied.m_head.weight.zero_()
    released = {f'kernel_estimation.{key}': value for key, value in network.state_dict().items()}
    assert copied.load_state_dict(released, strict=True).missing_keys == []
    torch.testing.assert_close(copied.m_head.weight, network.m_head.weight)
    wrapped = torch.nn.ModuleDict({'module': small()})
    wrapped.load_state_dict({f'module.{key}': value for key, value in released.items()}, strict=True)
    assert 'm_head.weight' in copied.state_dict()
    assert f'kernel_estimation.{"m_head.weight"}' in released  # the caller's dict is not changed


def test_single_blocks_are_not_numbered() -> None:
    assert 'm_body.res.0.conv0.weight' in small().state_dict()
    assert 'm_body.1.res.2.conv1.weight' in small(num_block=2).state_dict()


def test_is_built_by_basicsr_and_survives_copy_and_pickle() -> None:
    network = build_network({'type': 'MANet', 'kernel_size': 5, 'num_feat': 8})
    lq = torch.rand(1, 3, 8, 8)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        torch.testing.assert_close(twin(lq), network(lq), rtol=0, atol=0)


@pytest.mark.slow
def test_exports_with_dynamic_sizes() -> None:
    network = small().eval()
    sizes = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(network, (torch.rand(1, 3, 20, 28),), dynamic_shapes=(sizes,)).module()
    lq = torch.rand(1, 3, 33, 17)
    torch.testing.assert_close(exported(lq), network(lq))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'kernel_size': 0}, 'kernel_size is 0, expected at least 1'),
        ({'num_block': 0}, 'num_block is 0, expected at least 1'),
        ({'split': 1}, 'split is 1, expected at least 2'),
        ({'num_feat': 3, 'split': 4}, '3 channels cannot be split into 4 groups'),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MANet(**arguments)
