from __future__ import annotations

import math

import pytest
import torch

from manet_basicsr.degradation import (
    FIELD_TYPES,
    anisotropic_gaussian_kernels,
    build_field_sampler,
    kernel_covariances,
)
from manet_basicsr.degradation.generalized import generalized_kernels


def rows(*parameters: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(parameters)


@pytest.mark.parametrize('alignment', ['centered', 'published'])
def test_shape_1_is_the_gaussian(alignment: str) -> None:
    parameters = rows((9, 2, 0.6, 1), (0.7, 0.7, 0, 1))
    expected = anisotropic_gaussian_kernels(parameters[:, :2], parameters[:, 2], 21, 4, alignment)
    found = generalized_kernels(parameters, 21, 4, alignment)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize('shape', [0.7, 2.0, 4.0])
def test_the_variance_is_that_of_the_density(shape: float) -> None:
    """In two dimensions E[r^2] of exp(-r^(2 b) / 2) is 2^(1 / b) G(2 / b) / G(1 / b), half of it along each axis."""
    expected = 2 ** (1 / shape) * math.gamma(2 / shape) / math.gamma(1 / shape) / 2
    covariance = kernel_covariances(generalized_kernels(rows((9, 9, 0, shape)), 101, 1, 'centered'))[0]
    assert (covariance / 9).diagonal().tolist() == pytest.approx([expected] * 2, rel=1e-2)
    assert abs(covariance[0, 1]) < 1e-6


def test_a_plateau_has_half_its_height_at_the_distance_that_its_variance_says() -> None:
    kernel = generalized_kernels(rows((9, 9, 0, 2)), 21, 1, 'centered', plateau=True).view(21, 21)
    middle = kernel[10, 10]
    torch.testing.assert_close(kernel[10, 13], middle / 2)  # 3 px from the middle
    torch.testing.assert_close(kernel[16, 10], middle / (1 + 4**2))


def test_a_larger_shape_is_flatter_inside_and_steeper_at_the_edge() -> None:
    pointed, gaussian, flat = generalized_kernels(rows(*((4, 4, 0, b) for b in (0.5, 1, 4))), 21, 1, 'centered')
    ratios = [(kernel.view(21, 21)[10, 11] / kernel.max()).item() for kernel in (pointed, gaussian, flat)]
    assert ratios == sorted(ratios)
    assert flat.view(21, 21)[10, 18] < 1e-6 < gaussian.view(21, 21)[10, 18] < pointed.view(21, 21)[10, 18]


@pytest.mark.parametrize('name', ['generalized', 'plateau'])
def test_shapes_lie_evenly_about_their_geometric_mean(name: str) -> None:
    sampler = build_field_sampler({'type': name, 'variance': [0.7, 10], 'shape': [1, 8]})
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([sampler.parameters(96, 96, scale=4, generator=generator)[0] for _ in range(2000)])
    logarithms = drawn[:, 3].log()
    assert logarithms.min() >= -1e-6
    assert logarithms.max() <= math.log(8) + 1e-6
    # 2,000 draws of a uniform distribution: four standard errors.
    assert logarithms.mean().item() == pytest.approx(math.log(math.sqrt(8)), abs=4 * math.log(8) / math.sqrt(12 * 2000))
    assert drawn[:, 0].max() <= 10
    assert (drawn[:, 1] <= drawn[:, 0]).all()


@pytest.mark.parametrize('shape', [[2, 1], [0.1, 1], [0, 1], 'round', [1, math.inf], [1, 17]])
def test_wrong_shapes_are_refused(shape: object) -> None:
    with pytest.raises(ValueError, match='shape must be'):
        build_field_sampler({'type': 'generalized', 'variance': [0.7, 10], 'shape': shape})


def test_plateaus_below_1_are_refused() -> None:
    with pytest.raises(ValueError, match='1 <= min <= max <= 16'):
        build_field_sampler({'type': 'plateau', 'variance': [0.7, 10], 'shape': [0.5, 1]})


@pytest.mark.parametrize('plateau', [False, True])
@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_the_narrowest_and_the_widest_are_finite(scale: int, plateau: bool) -> None:
    parameters = rows(*((v, v, 0.3, shape) for v in (0.1, 30) for shape in (0.5, 1, 16)))
    kernels = generalized_kernels(parameters, 21, scale, 'centered', plateau)
    torch.testing.assert_close(kernels.sum(1), torch.ones(len(parameters)))
    assert (kernels >= 0).all()


def test_both_are_kinds_of_field() -> None:
    assert {'generalized', 'plateau'} <= FIELD_TYPES.keys()


def test_a_plateau_narrower_than_the_taps_are_apart_is_what_of_it_they_see() -> None:
    for scale in (1, 2, 4):
        kernels = generalized_kernels(rows((1e-4, 1e-4, 0.3, 16)), 21, scale, 'centered', plateau=True)
        nearest = (kernels > 0.01).sum()
        torch.testing.assert_close(kernels.max(), 1 / nearest)
        assert nearest == (1 if scale == 1 else 4)
