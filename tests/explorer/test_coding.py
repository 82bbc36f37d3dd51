"""Fields made small for a page: the errors stated are those made, and the limit holds."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch
from torch import Tensor

from manet_basicsr.degradation import anisotropic_gaussian_kernels, kernel_covariances, protocol_field
from manet_basicsr.explorer import CodedField, code_field
from manet_basicsr.explorer.page import describe_error


def true_kernels(field: Tensor, stride: int = 1) -> np.ndarray:
    middle = stride // 2
    return field[0, :, middle::stride, middle::stride].flatten(1).T.numpy()


def relative_errors(coded: CodedField, field: Tensor) -> np.ndarray:
    true = true_kernels(field, coded.stride)
    return np.asarray(np.abs(coded.kernels() - true) / true.max(1, keepdims=True))


@pytest.mark.parametrize('kind', [1, 4, 5, 6])
def test_a_field_is_shown_with_the_error_that_is_stated(kind: int, generator: torch.Generator) -> None:
    field = protocol_field(kind, 240, 320, 4, generator=generator)
    coded = code_field(field, 1_000_000)
    errors = relative_errors(coded, field)
    assert coded.tap_error == pytest.approx(math.sqrt((errors**2).mean()), rel=1e-4)
    assert coded.largest_tap_error == pytest.approx(errors.max(), rel=1e-4)
    assert coded.tap_error < 0.002 and coded.largest_tap_error < 0.03
    assert f'{100 * coded.tap_error:.2g} % of the peak (rms)' in describe_error(coded)


def test_the_error_of_the_blur_is_stated(generator: torch.Generator) -> None:
    field = protocol_field(4, 240, 320, 4, generator=generator)
    coded = code_field(field, 1_000_000)
    shown, true = (
        kernel_covariances(torch.from_numpy(kernels)).diagonal(dim1=1, dim2=2).sqrt()
        for kernels in (coded.kernels(), true_kernels(field))
    )
    assert coded.spread_error == pytest.approx((shown - true).abs().max().item(), rel=1e-4)
    assert coded.spread_error < 0.05


@pytest.mark.parametrize('limit', [30_000, 60_000, 120_000])
def test_the_limit_holds_and_room_makes_it_finer(limit: int) -> None:
    # kernels that have nothing to do with their neighbours: the worst there is
    field = torch.rand(1, 441, 60, 80, generator=torch.Generator().manual_seed(0)).pow(8)
    field = field / field.sum(1, keepdim=True)
    coded, finer = code_field(field, limit), code_field(field, 2 * limit)
    assert coded.size <= limit and finer.size <= 2 * limit
    assert (finer.stride, finer.tap_error) < (coded.stride, coded.tap_error)


def test_a_large_field_keeps_one_kernel_for_a_few_pixels() -> None:
    small = protocol_field(2, 40 * 12, 40 * 12, 1)
    coded = code_field(small, 1_000_000)
    assert coded.stride == 2 and coded.levels.shape[1:] == (240, 240)
    assert relative_errors(coded, small).max() == pytest.approx(coded.largest_tap_error, rel=1e-3)
    assert describe_error(coded).startswith('one kernel for each 2x2 px, ')


def test_an_invariant_kernel_needs_no_components() -> None:
    kernel = protocol_field(6, 40, 40, 4)[..., :1, :1]
    coded = code_field(kernel, 10_000)
    assert coded.levels.shape == (0, 1, 1) and coded.largest_tap_error < 1e-6


def test_levels_are_read_as_they_are_written() -> None:
    coded = code_field(protocol_field(4, 120, 160, 4), 1_000_000)
    planes = np.frombuffer(zlib.decompress(coded.deflated), np.uint8).reshape(len(coded.basis), 2, 30, 40)
    differences = planes[:, 0] + planes[:, 1].astype(np.uint16) * 256
    assert np.array_equal(np.cumsum(differences.view(np.int16), axis=2, dtype=np.int16), coded.levels)


def test_a_limit_below_all_is_refused() -> None:
    with pytest.raises(ValueError, match='cannot be made smaller than 100 bytes'):
        code_field(protocol_field(4, 80, 80, 4), 100)


def test_covariances_are_those_of_the_gaussian() -> None:
    kernel = anisotropic_gaussian_kernels(torch.tensor([[5.0, 2.0]]), torch.tensor([0.6]))
    cos, sin = math.cos(0.6), math.sin(0.6)
    turn = torch.tensor([[cos, -sin], [sin, cos]])
    expected = turn @ torch.diag(torch.tensor([5.0, 2.0])) @ turn.T
    # The grid cuts the tails beyond 9 px.
    torch.testing.assert_close(kernel_covariances(kernel)[0].float(), expected, rtol=2e-3, atol=2e-3)
