"""Blocks with a kernel each: their distribution is that of one kernel a crop, as is that of smooth fields."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from manet_basicsr.degradation import (
    CollageSampler,
    FieldSampler,
    InvariantSampler,
    SmoothSampler,
    build_field_sampler,
)

RANGE = (0.7, 10.0)
COLLAGE: dict[str, Any] = {'type': 'collage', 'variance': [0.7, 10]}


def uniform_numbers(parameters: Tensor) -> Tensor:
    """Turn (N, 3) rows of (l1, l2, angle) into what is uniform and independent where they are as in training."""
    low, high = RANGE
    l1, l2, angle = parameters.unbind(1)
    return torch.stack([(l1 - low) / (high - low), (l2 - low) / (l1 - low), angle / math.pi], dim=1)


def pixels_of_draws(field: FieldSampler, draws: int, pixel: tuple[int, int], seed: int = 0) -> Tensor:
    """Draw fields of 128x128 px and give the parameters (draws, P) of one LR pixel of each."""
    generator = torch.Generator().manual_seed(seed)
    drawn = (field.parameters(128, 128, scale=4, generator=generator) for _ in range(draws))
    return torch.stack([parameters[pixel if len(parameters) > 1 else (0, 0)] for parameters in drawn])


def kolmogorov_distance(numbers: Tensor) -> float:
    """Largest distance of the empirical distribution of numbers from the uniform one on [0, 1]."""
    ordered = numbers.double().sort().values
    steps = torch.arange(len(ordered) + 1) / len(ordered)
    return float(torch.maximum((ordered - steps[:-1]).abs(), (ordered - steps[1:]).abs()).max())


@pytest.mark.parametrize(
    'pixel', [(13, 17), *(pytest.param(corner, marks=pytest.mark.slow) for corner in ((0, 0), (31, 31)))]
)
@pytest.mark.parametrize(
    'field',
    [InvariantSampler(RANGE), CollageSampler(RANGE), SmoothSampler(RANGE, 96), SmoothSampler(RANGE, 40)],
    ids=repr,
)
def test_each_pixel_s_kernel_has_the_distribution_of_the_invariant_training(
    field: FieldSampler, pixel: tuple[int, int]
) -> None:
    draws = 4000
    numbers = uniform_numbers(pixels_of_draws(field, draws, pixel))
    for column in numbers.unbind(1):
        # The limit of Kolmogorov's test at 0.1 %; the seed is fixed.
        assert kolmogorov_distance(column) < 1.95 / math.sqrt(draws)
    correlations = torch.corrcoef(numbers.T) - torch.eye(3)
    assert correlations.abs().max() < 3.5 / math.sqrt(draws)


def test_the_distribution_test_can_fail() -> None:
    narrow = uniform_numbers(pixels_of_draws(InvariantSampler((1.0, 9.0)), 4000, (0, 0)))
    assert kolmogorov_distance(narrow[:, 0]) > 1.95 / math.sqrt(4000)


def test_blocks_have_sides_of_the_range_at_random_offsets() -> None:
    field = CollageSampler(RANGE, (24, 40))
    generator = torch.Generator().manual_seed(0)
    inner, first = [], []
    for _ in range(50):
        parameters = field.parameters(480, 480, scale=4, generator=generator)
        borders = (parameters[0].diff(dim=0).abs().sum(1) > 0).nonzero()[:, 0] + 1
        first.append(int(borders[0]))
        inner += borders.diff().tolist()
        # Blocks are rectangles: each row has its borders where the first has them.
        assert ((parameters.diff(dim=1).abs().sum(2) > 0) == (parameters[:1].diff(dim=1).abs().sum(2) > 0)).all()
    # On the LR grid a side of 24 .. 40 HR px is 6 .. 10 px.
    assert (min(inner), max(inner)) == (6, 10)
    assert len(set(first)) > 5


def test_different_blocks_have_independent_kernels() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [CollageSampler(RANGE, (24, 24)).parameters(128, 128, scale=4, generator=generator) for _ in range(2000)]
    near, far = (uniform_numbers(torch.stack([one[pixel] for one in drawn])) for pixel in ((0, 0), (0, 8)))
    for number in range(3):
        correlation = torch.corrcoef(torch.stack([near[:, number], far[:, number]]))[0, 1]
        assert abs(float(correlation)) < 3.5 / math.sqrt(2000)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({**COLLAGE, 'variance': [0, 10]}, 'degradation.field.variance must be .min, max. with 0 < min'),
        ({**COLLAGE, 'block_size': [96, 24]}, 'degradation.field.block_size must be .min, max. of whole numbers'),
        ({**COLLAGE, 'block_size': [24.5, 96]}, 'degradation.field.block_size must be .min, max. of whole numbers'),
        ({**COLLAGE, 'block_size': 24}, 'degradation.field.block_size must be a list of 2 finite numbers, found 24'),
        ({**COLLAGE, 'blok_size': [1, 2]}, "key 'blok_size' is not one of .* did you mean 'block_size'"),
    ],
)
def test_wrong_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_field_sampler(options)
