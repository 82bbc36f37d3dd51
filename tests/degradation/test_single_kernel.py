"""A kernel that was found somewhere, as a field."""

from __future__ import annotations

import pytest
import torch

from manet_basicsr.degradation import anisotropic_gaussian_kernels, kernel_covariances
from manet_basicsr.degradation.single_kernel import field_of_kernel
from tests.degradation.drawing import centre_of_mass


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_a_kernel_that_lies_on_the_grid_stays_as_it_is(scale: int) -> None:
    kernel = anisotropic_gaussian_kernels(torch.tensor([[5.0, 1.0]]), torch.tensor([0.5]), 21, scale)
    field = field_of_kernel(3 * kernel.view(21, 21), scale)
    torch.testing.assert_close(field.view(1, -1), kernel)


@pytest.mark.parametrize('size', [13, 16, 17])
def test_a_displaced_kernel_is_moved_and_keeps_its_shape(size: int) -> None:
    axis = torch.arange(size) - 5.3
    kernel = (-(axis**2) / 8).exp()[:, None] * (-((axis - 1) ** 2) / 3).exp()
    field = field_of_kernel(kernel, 4)
    assert (centre_of_mass(field) - 1.5).abs().max() < 1e-5
    expected = kernel_covariances(kernel.flatten()[None])
    torch.testing.assert_close(kernel_covariances(field.flatten(1)), expected, atol=0.05, rtol=0)


def test_a_lopsided_kernel_is_not_turned() -> None:
    comet = torch.zeros(15, 15)
    comet[7, 7:] = torch.arange(8, 0, -1)
    rows = field_of_kernel(comet, 4).view(21, 21).sum(0)
    assert rows.argmax() < 11.5  # its thick end is at the left still


def test_negative_taps_go_and_what_is_cut_is_told() -> None:
    kernel = torch.full((41, 41), -1.0)
    kernel[20] = 1
    with pytest.warns(UserWarning, match='of the kernel of 41x41 taps that was found 56% is cut off by 18x18 taps'):
        field = field_of_kernel(kernel, 4)
    assert field.min() == 0
    assert field.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ('kernel', 'message'),
    [
        (torch.zeros(5, 5), 'no positive tap'),
        (torch.full((5, 5), float('nan')), 'finite'),
        (torch.ones(1, 5, 5), r'\(1, 5, 5\)'),
        (torch.eye(41).flip(0) * (torch.arange(41) % 40 == 0), 'found no weight within 18x18 taps of its centre of'),
    ],
)
def test_what_is_no_kernel_is_refused(kernel: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        field_of_kernel(kernel, 4)
