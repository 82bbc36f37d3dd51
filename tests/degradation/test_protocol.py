"""The paper's test protocol."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from manet_basicsr.degradation import (
    ProtocolSampler,
    block_field,
    build_field_sampler,
    invariant_protocol_parameters,
    protocol_field,
    protocol_parameters,
)


def protocol_row(kind: int, row: int, col: int, rows: int, cols: int, scale: int) -> list[float]:
    """The paper's spatially variant test types, cell by cell."""
    a, b, r, c = 2.325 * scale, 0.175 * scale, row / rows, col / cols
    return {
        1: [a + b, a * r + b, 0],
        2: [a * c + b, a * r + b, 0],
        3: [a + b, b, math.pi * r],
        4: [a * c + b, a * r + b, math.pi * r],
        6: [a + b, b, math.pi / 4 if (row + col) % 2 == 0 else 3 * math.pi / 4],
    }[kind]


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
@pytest.mark.parametrize('kind', [1, 2, 3, 4, 6])
def test_protocol_parameters_follow_the_table(kind: int, scale: int) -> None:
    parameters = protocol_parameters(kind, 120, 170, scale)
    expected = [[protocol_row(kind, row, col, 3, 5, scale) for col in range(5)] for row in range(3)]
    torch.testing.assert_close(parameters, torch.tensor(expected))


def test_protocol_type_5_draws_l1_l2_angle_block_by_block() -> None:
    parameters = protocol_parameters(5, 100, 190, 4, torch.Generator().manual_seed(7))
    sequential = torch.Generator().manual_seed(7)
    for block in parameters.view(-1, 3):
        l1, l2, angle = (torch.rand(1, generator=sequential).item() for _ in range(3))
        expected = torch.tensor([0.7 + 9.3 * l1, 0.7 + 9.3 * l2, math.pi * angle])
        torch.testing.assert_close(block, expected)


@pytest.mark.parametrize('kind', [0, 7, True, '1'])
def test_unknown_protocol_type_is_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match='one of 1 to 6'):
        protocol_parameters(kind, 100, 100, 4)
    with pytest.raises(ValueError, match='one of 1 to 6'):
        ProtocolSampler(kind)
    with pytest.raises(ValueError, match=r'^degradation\.field\.kind must be one of 1 to 6, found '):
        build_field_sampler({'type': 'protocol', 'kind': kind})


def test_invariant_protocol_is_nine_kernels_in_a_fixed_order() -> None:
    quarter = math.pi / 4
    expected = [
        [1, 1, 0],
        *[[5, 1, 0], [5, 1, quarter], [5, 5, 0]],
        *[[9, 1, 0], [9, 1, quarter], [9, 5, 0], [9, 5, quarter], [9, 9, 0]],
    ]
    torch.testing.assert_close(invariant_protocol_parameters(4), torch.tensor(expected))
    assert invariant_protocol_parameters(2)[:, 0].unique().tolist() == [1, 3, 5]
    with pytest.raises(ValueError, match='scale'):
        invariant_protocol_parameters(0)


@pytest.mark.parametrize('kind', [1, 2, 3, 4, 5, 6])
def test_protocol_field_is_the_block_field_of_its_parameters(kind: int) -> None:
    field = protocol_field(kind, 96, 64, 4, generator=torch.Generator().manual_seed(2))
    parameters = protocol_parameters(kind, 96, 64, 4, torch.Generator().manual_seed(2))
    assert torch.equal(field, block_field(parameters, 96, 64, 4))


def test_protocol_field_covers_the_lr_grid_even_where_one_block_is_the_whole_image() -> None:
    assert protocol_field(1, 40, 24, 4).shape == (1, 441, 10, 6)


@pytest.mark.parametrize('kind', [1, 2, 3, 4, 5, 6])
def test_an_image_is_cut_to_a_multiple_of_the_scale_before_it_is_divided_into_blocks(kind: int) -> None:
    # 83 x 122 px are 80 x 120 px at x4: 2 x 3 blocks of 40 px, and not 3 x 4.
    uncut, cut = (
        protocol_field(kind, *size, 4, generator=torch.Generator().manual_seed(0)) for size in ((83, 122), (80, 120))
    )
    assert torch.equal(uncut, cut)
    assert protocol_parameters(kind, 83, 122, 4).shape == (2, 3, 3)
