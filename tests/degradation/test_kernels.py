from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manet_basicsr.degradation import (
    anisotropic_gaussian_kernels,
    kernel_covariances,
    sample_kernel_parameters,
    training_variance_range,
)
from tests.plain_reference import gaussian

# Taps of float32 kernels: a tap is below 1 and rounds at 6e-8; the released code rounds at other places.
TAP_TOLERANCE = 1e-6


def draw(l1: float, l2: float, angle: float, *args: Any, **kwargs: Any) -> torch.Tensor:
    kernel = anisotropic_gaussian_kernels(torch.tensor([[l1, l2]]), torch.tensor([angle]), *args, **kwargs)[0]
    side = math.isqrt(len(kernel))
    return kernel.view(side, side)


@pytest.mark.parametrize('alignment', ['centered', 'published'])
@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_kernels_have_the_asked_shape_sum_to_one_and_are_float32(scale: int, alignment: str) -> None:
    variances, angles = sample_kernel_parameters(7, training_variance_range(scale))
    kernels = anisotropic_gaussian_kernels(variances, angles, scale=scale, alignment=alignment)
    assert kernels.shape == (7, 441)
    assert kernels.dtype == torch.float32
    assert (kernels >= 0).all()
    torch.testing.assert_close(kernels.sum(1), torch.ones(7), atol=TAP_TOLERANCE, rtol=0)


def test_no_parameters_give_no_kernels() -> None:
    assert anisotropic_gaussian_kernels(torch.zeros(0, 2), torch.zeros(0)).shape == (0, 441)


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
@pytest.mark.parametrize(('l1', 'l2', 'angle'), [(6, 1, math.pi / 4), (1, 1, 0), (9, 5, 0.3), (10, 0.7, 3.0)])
def test_published_kernels_follow_the_formula(l1: float, l2: float, angle: float, scale: int) -> None:
    kernel = draw(l1, l2, angle, 21, scale, 'published')
    expected = torch.from_numpy(gaussian(l1, l2, angle, scale, 'published')).float()
    torch.testing.assert_close(kernel, expected, atol=TAP_TOLERANCE, rtol=0)


def test_published_x4_kernel_has_the_taps_of_the_released_code() -> None:
    kernel = draw(6, 1, math.pi / 4, 21, 4, 'published')
    released = [(8, 8, 0.062323216), (8, 9, 0.050602484), (10, 11, 0.025980182), (5, 5, 0.00843453)]
    for row, column, value in released:
        assert kernel[row, column].item() == pytest.approx(value, abs=TAP_TOLERANCE)


def test_small_kernels_have_known_values() -> None:
    quarter = torch.tensor([[0.25, 0.25, 0], [0.25, 0.25, 0], [0, 0, 0]])
    torch.testing.assert_close(draw(3, 3, 0, 3, 2, 'published'), quarter)
    torch.testing.assert_close(draw(3, 3, 0, 3, 2, 'centered'), quarter.flip(0, 1))
    line = torch.tensor([0.27406862, 0.45186276, 0.27406862])  # exp(-1/2), 1, exp(-1/2), normalised
    torch.testing.assert_close(draw(1, 1, 0.4, 3, 1), torch.outer(line, line))


def test_positive_angle_turns_the_long_axis_clockwise_on_the_screen() -> None:
    kernel = draw(4, 1, math.pi / 4, 5, 1)
    assert (kernel[3, 3] / kernel[2, 2]).item() == pytest.approx(math.exp(-2 / 4 / 2), rel=1e-5)  # along it, down right
    assert (kernel[3, 1] / kernel[2, 2]).item() == pytest.approx(math.exp(-2 / 1 / 2), rel=1e-5)  # across it


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_centered_is_published_flipped_in_both_axes(scale: int) -> None:
    published, centered = (draw(7, 1, 0.6, 21, scale, alignment) for alignment in ('published', 'centered'))
    assert torch.equal(centered, published.flip(0, 1))


@pytest.mark.parametrize(('alignment', 'sign'), [('centered', 1), ('published', -1)])
@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_centre_of_mass_lies_half_an_lr_pixel_less_half_an_hr_pixel_off(scale: int, alignment: str, sign: int) -> None:
    kernel = draw(4, 2, 0.6, 21, scale, alignment)
    offsets = torch.arange(21.0) - 10
    centre = torch.stack([(kernel.sum(0) * offsets).sum(), (kernel.sum(1) * offsets).sum()])
    # 1e-4: the sum of 441 float32 taps times up to 10 px.
    torch.testing.assert_close(centre, torch.full((2,), sign * (scale - 1) / 2), atol=1e-4, rtol=0)


def test_taps_below_float64_epsilon_of_the_largest_are_zero() -> None:
    kernel = draw(0.5, 0.5, 0, 21, 1, dtype=torch.float64)
    column = torch.arange(21) - 10
    # exp(-r^2) < eps(float64) from r^2 = 36.04 on
    assert torch.equal(kernel == 0, column[:, None] ** 2 + column**2 > 36)


def test_extremely_small_variances_give_a_delta() -> None:
    expected = torch.zeros(21, 21)
    expected[10, 10] = 1
    assert torch.equal(draw(1e-6, 1e-6, 1.0, 21, 1), expected)


def test_non_contiguous_parameters_give_the_same_kernels() -> None:
    table = torch.tensor([[6, 1, 0.2], [3, 2, 1.4]])
    sliced = anisotropic_gaussian_kernels(table[:, :2], table[:, 2])
    assert torch.equal(sliced, anisotropic_gaussian_kernels(table[:, :2].contiguous(), table[:, 2].contiguous()))


def test_gradients_are_right_in_float64() -> None:
    variances = torch.tensor([[3.0, 1.0], [2.0, 1.5]], dtype=torch.float64, requires_grad=True)
    angles = torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)

    def kernels(variances: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
        return anisotropic_gaussian_kernels(variances, angles, 5, 2, dtype=torch.float64)

    assert torch.autograd.gradcheck(kernels, (variances, angles))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'kernel_size': 20}, 'kernel_size must be odd .* found 20'),
        ({'kernel_size': 3, 'scale': 4}, r'at least the scale \(4\), found 3'),
        ({'scale': 0}, 'scale must be at least 1, found 0'),
        ({'alignment': 'centred'}, "'centred' is not one of centered, published; did you mean 'centered'"),
        ({'variances': torch.ones(3, 3)}, r'shape \(N, 2\), found \(3, 3\)'),
        ({'angles': torch.ones(2)}, r'shape \(3,\), found \(2,\)'),
        ({'variances': torch.tensor([[1.0, 1], [1, 0], [1, 1]])}, 'positive .* found 0'),
        ({'variances': torch.full((3, 2), math.nan)}, 'positive .* found nan'),
    ],
)
def test_wrong_arguments_are_named_with_what_was_expected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anisotropic_gaussian_kernels(**{'variances': torch.ones(3, 2), 'angles': torch.ones(3), **arguments})


def test_training_ranges_are_those_of_the_paper() -> None:
    assert training_variance_range(4) == pytest.approx((0.7, 10))
    assert training_variance_range(3) == pytest.approx((0.525, 7.5))
    assert training_variance_range(2) == pytest.approx((0.35, 5))
    with pytest.raises(ValueError, match='scale'):
        training_variance_range(0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), low=st.floats(0.1, 5), extent=st.floats(0, 10))
def test_sampled_parameters_stay_in_range(seed: int, low: float, extent: float) -> None:
    variances, angles = sample_kernel_parameters(50, (low, low + extent), torch.Generator().manual_seed(seed))
    rounding = 1e-5
    assert (variances[:, 1] <= variances[:, 0] + rounding).all()
    assert variances.min() >= low - rounding
    assert variances.max() <= low + extent + rounding
    assert ((angles >= 0) & (angles <= math.pi)).all()


def test_sampled_parameters_are_distributed_as_in_the_paper(generator: torch.Generator) -> None:
    variances, angles = sample_kernel_parameters(100_000, (1, 9), generator)
    # Means of uniform draws over a range of 8 scatter by 8 / sqrt(12 * 1e5) = 0.007; five times that.
    assert variances[:, 0].mean().item() == pytest.approx(5, abs=0.04)
    assert variances[:, 1].mean().item() == pytest.approx(3, abs=0.04)
    assert angles.mean().item() == pytest.approx(math.pi / 2, abs=0.02)


def test_sampling_repeats_with_the_seed_and_refuses_a_descending_range() -> None:
    first, second = (sample_kernel_parameters(5, (1, 2), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    with pytest.raises(ValueError, match='0 < min <= max'):
        sample_kernel_parameters(1, (2, 1))


@pytest.mark.parametrize(
    ('scale', 'variance', 'drawn'),
    [(1, 0.175, 0.1031), (2, 0.35, 0.3597), (3, 0.525, 0.5243), (4, 0.7, 0.7), (3, 7.5, 7.4519), (4, 10, 9.6111)],
)
@pytest.mark.parametrize('alignment', ['centered', 'published'])
def test_the_variance_that_is_drawn_can_be_told(scale: int, variance: float, drawn: float, alignment: str) -> None:
    kernel = anisotropic_gaussian_kernels(torch.full((1, 2), variance), torch.zeros(1), 21, scale, alignment)
    expected = torch.eye(2, dtype=torch.float64)[None] * drawn
    torch.testing.assert_close(kernel_covariances(kernel), expected, atol=1e-4, rtol=0)


def test_covariances_follow_the_axes_and_the_angle() -> None:
    kernels = 3 * anisotropic_gaussian_kernels(torch.tensor([[4.0, 1], [2, 2]]), torch.tensor([0.5, 0]))
    cos, sin = math.cos(0.5), math.sin(0.5)
    expected = torch.tensor(
        [[[1 + 3 * cos**2, 3 * cos * sin], [3 * cos * sin, 1 + 3 * sin**2]], [[2, 0], [0, 2]]], dtype=torch.float64
    )
    torch.testing.assert_close(kernel_covariances(kernels), expected, atol=2e-3, rtol=0)
