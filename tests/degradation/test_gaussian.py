"""One Gaussian for the whole image."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from manet_basicsr.degradation import FixedSampler, InvariantSampler, anisotropic_gaussian_kernels, build_field_sampler
from tests.degradation.drawing import draw


def test_a_fixed_field_is_the_kernel_of_its_variances_and_angle() -> None:
    expected = anisotropic_gaussian_kernels(torch.tensor([[6.0, 1.0]]), torch.tensor([0.785]))
    assert torch.equal(draw(FixedSampler((6, 1), 0.785))[0, :, 0, 0], expected[0])
    assert FixedSampler((6, 1)) == FixedSampler((6, 1), 0)


def test_random_kernels_differ_from_draw_to_draw_within_their_range(generator: torch.Generator) -> None:
    sampler = InvariantSampler((1, 2))
    drawn = torch.cat([sampler.parameters(96, 96, scale=4, generator=generator) for _ in range(50)])[:, 0]
    assert len(drawn.unique(dim=0)) == 50
    assert drawn[:, :2].min() >= 1 and drawn[:, :2].max() <= 2


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'type': 'invariant', 'variance': [10, 1]},
            'degradation.field.variance must be [min, max] with 0 < min <= max (HR px^2), found [10.0, 1.0]',
        ),
        (
            {'type': 'fixed', 'variances': [6, 0]},
            'degradation.field.variances must be positive (HR px^2), found [6.0, 0.0]',
        ),
        ({'type': 'fixed', 'variances': 6}, 'degradation.field.variances must be a list of 2 finite numbers, found 6'),
        (
            {'type': 'fixed', 'variances': [6, '1']},
            "degradation.field.variances must be a list of 2 finite numbers, found [6, '1']",
        ),
        (
            {'type': 'fixed', 'variances': [6, 1], 'angle': float('inf')},
            'degradation.field.angle must be a finite number, found inf',
        ),
    ],
)
def test_wrong_options_give_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        build_field_sampler(options)
    assert str(error.value) == message
