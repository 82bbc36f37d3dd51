"""Gaussians that change smoothly over the image."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manet_basicsr.degradation import block_field, build_field_sampler, smooth_parameters


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


def test_a_period_below_a_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match=r'^degradation\.field\.period must be at least 1 \(HR px\), found 0$'):
        build_field_sampler({'type': 'smooth', 'variance': [1, 2], 'period': 0})
