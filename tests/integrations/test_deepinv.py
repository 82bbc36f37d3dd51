"""Spatially variant blur as an operator of deepinv."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import manet_basicsr  # noqa: F401  (repairs the stack before deepinv imports torchvision)
from manet_basicsr.degradation import blur_downsample, protocol_field
from tests.small_networks import blind_network

pytest.importorskip('deepinv', reason='the extra deepinv is not installed')

# deepinv repeats an image's border and warns of few steps of its solver.
pytestmark = pytest.mark.filterwarnings('ignore')


@pytest.fixture(scope='module')
def module() -> Any:
    import manet_basicsr.integrations.deepinv as module

    return module


def field_of(height: int, width: int, scale: int) -> Tensor:
    return protocol_field(4, height, width, scale).double()


@pytest.mark.parametrize(('size', 'scale'), [((24, 36), 4), ((24, 36), 1), ((27, 38), 4)])
def test_the_adjoint_is_that_of_the_blur(module: Any, size: tuple[int, int], scale: int) -> None:
    field = field_of(*size, scale)
    physics = module.SpatiallyVariantBlur(field, scale, size=size)
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    y = torch.rand(2, 3, size[0] // scale, size[1] // scale, dtype=torch.float64)
    assert torch.equal(physics.A(x), blur_downsample(x, field, scale))
    left, right = (physics.A(x) * y).sum(), (x * physics.A_adjoint(y)).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=0)
    assert physics.adjointness_test(x[:1]).abs() < 1e-9 * x.numel()  # deepinv's own


def test_the_adjoint_is_the_same_in_inference_mode(module: Any) -> None:
    field, y = field_of(24, 28, 4), torch.rand(1, 3, 6, 7, dtype=torch.float64)
    expected = module.SpatiallyVariantBlur(field, 4).A_adjoint(y)
    physics = module.SpatiallyVariantBlur(field, 4)
    with torch.inference_mode():
        assert torch.equal(physics.A_adjoint(y), expected)
        assert torch.equal(module.SpatiallyVariantBlur(field.clone(), 4).A_adjoint(y.clone()), expected)


def test_a_single_kernel_and_a_field_for_each_image_serve_too(module: Any) -> None:
    for shape in ((1, 441, 1, 1), (2, 441, 6, 7)):
        physics = module.SpatiallyVariantBlur(torch.rand(shape, dtype=torch.float64).softmax(1), 4)
        x, y = torch.rand(2, 3, 24, 28, dtype=torch.float64), torch.rand(2, 3, 6, 7, dtype=torch.float64)
        torch.testing.assert_close((physics.A(x) * y).sum(), (x * physics.A_adjoint(y)).sum(), rtol=1e-12, atol=0)


def test_the_adjoint_has_gradients_for_unrolled_networks(module: Any) -> None:
    physics = module.SpatiallyVariantBlur(field_of(12, 16, 4), 4)
    y = torch.rand(1, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(physics.A_adjoint, (y,))


def test_the_pseudoinverse_explains_the_measurement(module: Any) -> None:
    physics = module.SpatiallyVariantBlur(field_of(48, 48, 4), 4, max_iter=100, tol=1e-6)
    x = torch.rand(1, 3, 48, 48, dtype=torch.float64)
    y = physics.A(x)
    assert (physics.A(physics.A_dagger(y)) - y).abs().max() < 1e-3


def test_kernels_are_estimated_from_the_measurement_and_kept(module: Any) -> None:
    network = blind_network(4)
    physics = module.SpatiallyVariantBlur(scale=4)
    y = torch.rand(1, 3, 12, 16)
    with pytest.raises(ValueError, match='the blur has no kernels: give physics.update'):
        physics.A_adjoint(y)
    physics.update(**module.KernelFieldEstimator(network)(y))
    assert torch.equal(physics.field, network.estimate(y))
    assert physics.A(torch.rand(1, 3, 48, 64)).shape == y.shape
    other = torch.rand(1, 441, 1, 1).softmax(1)
    physics.A(torch.rand(1, 3, 48, 64), field=other)
    assert torch.equal(physics.field, other)


def test_the_shipped_estimator_is_the_default_and_generators_are_refused(module: Any) -> None:
    assert module.KernelFieldEstimator(scale=2)(torch.rand(1, 3, 9, 9))['field'].shape == (1, 441, 9, 9)
    with pytest.raises(ValueError, match='expected a network that estimates kernels'):
        module.KernelFieldEstimator(blind_network().generator)
