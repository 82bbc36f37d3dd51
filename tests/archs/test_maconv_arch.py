"""The mutual affine convolution, against a plain formulation with explicit loops."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.archs import MABlock, MAConv
from manet_basicsr.archs.maconv_arch import split_channels


def maconv_by_loops(state: dict[str, Tensor], x: Tensor, sizes: list[int], stride: int = 1, padding: int = 1) -> Tensor:
    """The paper's equations of the mutual affine convolution, group by group and channel by channel."""
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    outputs = []
    for index, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        own = range(start, start + size)
        rest = torch.stack([x[:, channel] for channel in range(x.shape[1]) if channel not in own], dim=1)
        hidden = F.conv2d(rest, state[f'fc{index}.0.weight'], state[f'fc{index}.0.bias']).clamp(min=0)
        affine = F.conv2d(hidden, state[f'fc{index}.2.weight'], state[f'fc{index}.2.bias'])
        modulated = []
        for position, channel in enumerate(own):
            scale = 1 / (1 + torch.exp(-affine[:, position]))
            modulated.append(x[:, channel] * scale + affine[:, size + position])
        weight, bias = state[f'conv{index}.weight'], state.get(f'conv{index}.bias')
        outputs.append(F.conv2d(torch.stack(modulated, dim=1), weight, bias, stride, padding))
    return torch.cat(outputs, dim=1)


def test_architectures_are_registered_with_basicsr() -> None:
    assert ARCH_REGISTRY.get('MAConv') is MAConv
    assert ARCH_REGISTRY.get('MABlock') is MABlock


@pytest.mark.parametrize(
    ('channels', 'split', 'sizes'),
    [
        (128, 2, [64, 64]),
        (128, 3, [43, 43, 42]),
        (10, 4, [2, 2, 2, 4]),  # 2.5 goes to the even 2
        (3, 2, [2, 1]),
        (14, 4, [4, 4, 4, 2]),  # 3.5 goes to the even 4
        (10, 6, [1, 1, 1, 1, 1, 5]),  # rounding up would leave nothing for the last group
        (4, 4, [1, 1, 1, 1]),
    ],
)
def test_channels_split_as_in_the_released_networks(channels: int, split: int, sizes: list[int]) -> None:
    assert split_channels(channels, split) == sizes


@pytest.mark.parametrize('split', range(2, 13))
def test_any_split_gives_positive_groups_that_add_up(split: int) -> None:
    for channels in range(split, 70):
        sizes = split_channels(channels, split)
        assert len(sizes) == split
        assert min(sizes) >= 1
        assert sum(sizes) == channels


@pytest.mark.parametrize(
    ('in_channels', 'out_channels', 'split', 'in_sizes', 'out_sizes'),
    [
        (8, 8, 2, [4, 4], [4, 4]),
        (8, 6, 3, [3, 3, 2], [2, 2, 2]),
        (10, 7, 4, [2, 2, 2, 4], [2, 2, 2, 1]),
        (3, 5, 2, [2, 1], [2, 3]),
    ],
)
def test_equals_the_loops(
    in_channels: int, out_channels: int, split: int, in_sizes: list[int], out_sizes: list[int]
) -> None:
    torch.manual_seed(0)
    network = MAConv(in_channels, out_channels, split=split).double()
    x = torch.randn(2, in_channels, 7, 5, dtype=torch.float64)
    output = network(x)
    assert output.shape == (2, out_channels, 7, 5)
    assert [network.get_submodule(f'conv{index}').out_channels for index in range(split)] == out_sizes
    # float64: only the order of summation differs
    torch.testing.assert_close(output, maconv_by_loops(network.state_dict(), x, in_sizes), rtol=1e-12, atol=1e-12)


def test_kernel_size_stride_padding_and_bias_are_the_convolutions() -> None:
    network = MAConv(6, 4, kernel_size=5, stride=2, padding=1, bias=False).double()
    x = torch.randn(1, 6, 11, 9, dtype=torch.float64)
    expected = maconv_by_loops(network.state_dict(), x, [3, 3], stride=2, padding=1)
    assert 'conv0.bias' not in network.state_dict()
    assert 'fc0.0.bias' in network.state_dict()
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


def test_hidden_width_is_the_rest_over_reduction() -> None:
    assert MAConv(12, 12, split=3, reduction=4).fc0[0].out_channels == 2
    assert MAConv(3, 4, split=2, reduction=2).fc0[0].out_channels == 1  # never nothing


def test_gradients_are_right() -> None:
    torch.manual_seed(0)
    network = MAConv(5, 4, split=2).double()
    x = torch.randn(1, 5, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, (x,))


def test_channels_last_gives_the_same() -> None:
    torch.manual_seed(0)
    network = MAConv(8, 8, split=3)
    x = torch.randn(2, 8, 6, 7)
    expected = network(x)
    output = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(output, expected)


def test_block_adds_two_convolutions_to_its_input() -> None:
    torch.manual_seed(0)
    block = MABlock(6, 6, split=2).double()
    x = torch.randn(2, 6, 5, 8, dtype=torch.float64)
    first, second = block.res[0].state_dict(), block.res[2].state_dict()
    expected = x + maconv_by_loops(second, maconv_by_loops(first, x, [3, 3]).clamp(min=0), [3, 3])
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(copy.deepcopy(block)(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'split': 1}, 'split is 1, expected at least 2'),
        ({'split': 9}, '8 channels cannot be split into 9 groups'),
        ({'reduction': 0}, 'reduction is 0, expected at least 1'),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments: dict[str, Any], message: str) -> None:
    for architecture in (MAConv, MABlock):
        with pytest.raises(ValueError, match=message):
            architecture(8, 8, **arguments)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'in_channels': 8, 'out_channels': 4}, '8 in_channels and 4 out_channels'),
        ({'in_channels': 8, 'out_channels': 8, 'stride': 2}, 'stride 2'),
        ({'in_channels': 8, 'out_channels': 8, 'kernel_size': 5}, 'kernel_size 5'),
    ],
)
def test_block_refuses_to_change_the_shape(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MABlock(**arguments)
