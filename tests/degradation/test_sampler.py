from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import manet_basicsr.degradation
from manet_basicsr.degradation import (
    FIELD_TYPES,
    FieldSampler,
    FixedSampler,
    InvariantSampler,
    ProtocolSampler,
    SmoothSampler,
    anisotropic_gaussian_kernels,
    block_field,
    build_field_sampler,
    invariant_protocol_parameters,
    protocol_field,
    protocol_parameters,
    register_field,
    smooth_parameters,
)

TYPES = 'bank, collage, defocus, fixed, invariant, mixture, motion, protocol, smooth'
EVERY_FIELD = [
    FixedSampler((6, 1), 0.785),
    InvariantSampler((0.7, 10)),
    ProtocolSampler(4),
    ProtocolSampler(5),
    SmoothSampler((0.7, 10), 50),
]


def kernel_of(parameters: torch.Tensor, scale: int, alignment: str = 'centered') -> torch.Tensor:
    return anisotropic_gaussian_kernels(parameters[None, :2], parameters[2:], 21, scale, alignment)[0]


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


@pytest.mark.parametrize('alignment', ['centered', 'published'])
@pytest.mark.parametrize(('height', 'width', 'scale'), [(90, 121, 3), (80, 81, 4), (41, 40, 2), (45, 50, 1)])
def test_each_lr_pixel_has_the_kernel_of_the_block_its_hr_position_lies_in(
    height: int, width: int, scale: int, alignment: str
) -> None:
    parameters = protocol_parameters(4, height, width, scale)
    field = block_field(parameters, height, width, scale, alignment=alignment)
    assert field.shape == (1, 441, height // scale, width // scale)
    for i in (0, height // scale // 2, height // scale - 1):
        for j in (0, width // scale // 2, width // scale - 1):
            expected = kernel_of(parameters[scale * i // 40, scale * j // 40], scale, alignment)
            torch.testing.assert_close(field[0, :, i, j], expected, atol=1e-7, rtol=0)  # float32 rounding of a tap


def test_a_single_kernel_gives_an_invariant_field() -> None:
    parameters = torch.tensor([[[6, 1, 0.5]]])
    field = block_field(parameters, 100, 90, 3)
    assert field.shape == (1, 441, 1, 1)
    torch.testing.assert_close(field[0, :, 0, 0], kernel_of(parameters[0, 0], 3))


def test_blocks_of_one_lr_pixel_give_each_its_own_kernel(generator: torch.Generator) -> None:
    parameters = smooth_parameters(20, 30, 2, (1, 5), 10, generator)
    field = block_field(parameters, 20, 30, 2, block=2)
    assert field.shape == (1, 441, 10, 15)
    torch.testing.assert_close(field[0, :, 7, 3], kernel_of(parameters[7, 3], 2), atol=1e-7, rtol=0)


def test_many_kernels_made_in_pieces_are_those_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = protocol_parameters(5, 200, 200, 4)
    whole = block_field(parameters, 200, 200, 4)
    monkeypatch.setattr('manet_basicsr.degradation.sampler._KERNELS_AT_ONCE', 7)
    torch.testing.assert_close(block_field(parameters, 200, 200, 4), whole, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        (torch.ones(3, 2), r'shape \(rows, cols, 3\) or \(B, rows, cols, 3\), found \(3, 2\)'),
        (torch.ones(2, 3, 3), '2 x 3 blocks of 40 px do not cover an image of 100 x 100 px'),
        (-torch.ones(3, 3, 3), 'positive'),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block_field(parameters, 100, 100, 4)


@pytest.mark.parametrize(('size', 'scale'), [((3, 50), 4), ((50, 0), 1), ((50, 50), 0)])
def test_an_image_without_lr_pixels_is_refused(size: tuple[int, int], scale: int) -> None:
    with pytest.raises(ValueError, match='no LR pixel|scale must be'):
        block_field(torch.ones(2, 2, 3), *size, scale)


@pytest.mark.parametrize('kind', [1, 2, 3, 4, 5, 6])
def test_protocol_field_is_the_block_field_of_its_parameters(kind: int) -> None:
    field = protocol_field(kind, 96, 64, 4, generator=torch.Generator().manual_seed(2))
    parameters = protocol_parameters(kind, 96, 64, 4, torch.Generator().manual_seed(2))
    assert torch.equal(field, block_field(parameters, 96, 64, 4))


def test_protocol_field_covers_the_lr_grid_even_where_one_block_is_the_whole_image() -> None:
    assert protocol_field(1, 40, 24, 4).shape == (1, 441, 10, 6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    height=st.integers(4, 150),
    width=st.integers(4, 150),
    scale=st.integers(1, 4),
    low=st.floats(0.1, 3),
    extent=st.floats(0, 10),
    period=st.floats(1, 300),
)
def test_smooth_parameters_stay_in_range(
    seed: int, height: int, width: int, scale: int, low: float, extent: float, period: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    parameters = smooth_parameters(height, width, scale, (low, low + extent), period, generator)
    assert parameters.shape == (height // scale, width // scale, 3)
    l1, l2, angle = parameters.unbind(2)
    rounding = 1e-5
    assert (l2 <= l1).all()
    assert l2.min() >= low - rounding
    assert l1.max() <= low + extent + rounding
    assert ((angle >= 0) & (angle <= math.pi + rounding)).all()


def test_smooth_kernels_change_little_from_pixel_to_pixel_even_where_the_angle_passes_pi() -> None:
    parameters = smooth_parameters(400, 400, 4, (1, 9), 96, torch.Generator().manual_seed(1))
    angle = parameters[..., 2]
    assert (angle.diff(dim=1).abs() > 3).any()  # the case is there
    field = block_field(parameters, 400, 400, 4, block=4)
    # Over 96 px = 24 LR pixels a kernel may turn into any other, an L1 distance of at most 2.
    assert field.diff(dim=2).abs().sum(1).max() < 2 / 24 * 2
    assert field.diff(dim=3).abs().sum(1).max() < 2 / 24 * 2
    assert (field[..., 0, 0] - field[..., 50, 50]).abs().sum() > 0.2


def test_smooth_parameters_are_the_drawn_ones_at_the_grid_points() -> None:
    parameters = smooth_parameters(97, 97, 1, (1, 9), 48, torch.Generator().manual_seed(1))
    l1, l2, angle = parameters[::48, ::48].unbind(2)
    uniform = torch.rand(16, 3, generator=torch.Generator().manual_seed(1)).view(4, 4, 3)[:3, :3]
    torch.testing.assert_close(l1, 1 + 8 * uniform[..., 0])
    torch.testing.assert_close(l2, 1 + (l1 - 1) * uniform[..., 1])
    torch.testing.assert_close(angle, math.pi * uniform[..., 2], atol=1e-4, rtol=0)  # ill-conditioned where l1 ~ l2


@pytest.mark.parametrize('field', EVERY_FIELD, ids=repr)
def test_every_field_draws_normalised_kernels_and_repeats_with_the_seed(field: FieldSampler) -> None:
    first, second = (
        field.draw(96, 130, scale=3, kernel_size=15, alignment='published', generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert first.dtype == torch.float32
    assert tuple(first.shape) in ((1, 225, 1, 1), (1, 225, 32, 43))
    torch.testing.assert_close(first.sum(1), torch.ones_like(first[:, 0]))


@pytest.mark.parametrize('field', EVERY_FIELD, ids=repr)
def test_a_field_can_be_made_again_from_its_parameters(field: FieldSampler) -> None:
    drawn = field.draw(96, 130, scale=4, generator=torch.Generator().manual_seed(4))
    parameters = field.parameters(96, 130, scale=4, generator=torch.Generator().manual_seed(4))
    assert parameters.dtype == torch.float32
    assert torch.equal(block_field(parameters, 96, 130, 4, block=field.block(4)), drawn)


@pytest.mark.parametrize('field', [InvariantSampler((0.7, 10)), ProtocolSampler(5), SmoothSampler((0.7, 10))], ids=repr)
def test_random_fields_differ_from_draw_to_draw(field: FieldSampler, generator: torch.Generator) -> None:
    first, second = (field.draw(96, 96, scale=4, generator=generator) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({'type': 'invariant', 'variance': [0.7, 10]}, InvariantSampler((0.7, 10))),
        ({'type': 'fixed', 'variances': [6, 1], 'angle': 0.785}, FixedSampler((6, 1), 0.785)),
        ({'type': 'fixed', 'variances': [6, 1]}, FixedSampler((6, 1))),
        ({'type': 'protocol', 'kind': 3}, ProtocolSampler(3)),
        ({'type': 'smooth', 'variance': [0.7, 10], 'period': 64}, SmoothSampler((0.7, 10), 64)),
    ],
)
def test_options_make_the_field_they_describe_and_are_not_changed(options: dict, expected: FieldSampler) -> None:
    before = dict(options)
    assert build_field_sampler(options) == expected
    assert options == before
    assert type(expected) is FIELD_TYPES[options['type']]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'type': 'invariante', 'variance': [1, 2]},
            f"degradation.field 'invariante' is not one of {TYPES}; did you mean 'invariant'?",
        ),
        ({'type': 3}, f'degradation.field 3 is not one of {TYPES}'),
        ({'variance': [1, 2]}, f"degradation.field lacks the key 'type', one of {TYPES}"),
        (
            {'type': 'invariant', 'varience': [1, 2]},
            "degradation.field (type invariant): key 'varience' is not one of type, variance; did you mean 'variance'?",
        ),
        ({'type': 'fixed'}, "degradation.field (type fixed) lacks the key 'variances'"),
        (
            {'type': 'invariant', 'variance': [10, 1]},
            'degradation.field.variance must be [min, max] with 0 < min <= max (HR px^2), found [10.0, 1.0]',
        ),
        (
            {'type': 'smooth', 'variance': [1, 2], 'period': 0},
            'degradation.field.period must be at least 1 (HR px), found 0',
        ),
        (
            {'type': 'fixed', 'variances': [6, 0]},
            'degradation.field.variances must be positive (HR px^2), found [6.0, 0.0]',
        ),
        ({'type': 'fixed', 'variances': 6}, 'degradation.field.variances must be a list of two numbers, found 6'),
        ({'type': 'fixed', 'variances': [6, '1']}, "degradation.field.variances must be a finite number, found '1'"),
        ({'type': 'protocol', 'kind': 7}, 'degradation.field.kind must be one of 1 to 6, found 7'),
    ],
)
def test_wrong_options_give_one_clear_line(options: dict, message: str) -> None:
    with pytest.raises(ValueError) as error:
        build_field_sampler(options)
    assert str(error.value) == message


def test_options_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(ValueError, match="degradation.field must be keys and values .* found 'invariant'"):
        build_field_sampler('invariant')  # type: ignore[arg-type]


def test_a_file_in_the_folder_is_all_that_a_new_blur_needs() -> None:
    """Every module of the folder is imported with the package; a name is taken once."""
    files = Path(manet_basicsr.degradation.__file__).parent.glob('*.py')
    registered = {name for file in files for name in re.findall(r"^@register_field\('(\w+)'\)", file.read_text(), re.M)}
    assert set(FIELD_TYPES) == registered

    @dataclass(frozen=True)
    class Twice(FieldSampler):
        pass

    with pytest.raises(ValueError, match="field type 'motion' is registered twice: MotionSampler, Twice"):
        register_field('motion')(Twice)
