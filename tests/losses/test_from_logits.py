"""Losses straight from logits: the plain path's values and gradients, without the plain path's memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from manet_basicsr.losses import KernelKLLoss, KernelL1Loss

LOSSES = [KernelL1Loss(0.3), KernelL1Loss(0.3, 'sum'), KernelKLLoss(2.0)]
TARGETS = [(3, 25, 1, 1), (3, 25, 6, 4), (1, 25, 1, 1), (25, 1, 1), (1, 25, 6, 4)]


def logits_and_target(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 25, 6, 4, generator=generator, dtype=torch.float64)
    target = torch.rand(shape, generator=generator, dtype=torch.float64)
    return logits.to(dtype).requires_grad_(), (target / target.sum(-3, keepdim=True)).to(dtype)


def value_and_gradient(loss: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    (gradient,) = torch.autograd.grad(3 * loss, logits)
    return loss.detach(), gradient


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('shape', TARGETS)
@pytest.mark.parametrize('loss', LOSSES, ids=['l1-mean', 'l1-sum', 'kl'])
def test_equals_the_plain_path(loss: nn.Module, shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    logits, target = logits_and_target(shape)
    logits = logits.detach().contiguous(memory_format=memory_format).requires_grad_()
    plain = value_and_gradient(loss(logits.softmax(1), target), logits)
    fused = value_and_gradient(loss.from_logits(logits, target), logits)
    # float32: two orders of the same sums
    torch.testing.assert_close(fused[0], plain[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(fused[1], plain[1], rtol=1e-4, atol=1e-6 * plain[1].abs().max().item())
    assert fused[1].is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('shape', [(), (4,), (6, 4), (6, 1)])
def test_a_target_of_few_dimensions_is_broadcast_as_on_the_plain_path(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    logits = logits_and_target((1, 25, 1, 1), torch.float64)[0].detach()
    logits = logits.contiguous(memory_format=memory_format).requires_grad_()
    # Some taps lie above the target and some below: all on one side, the gradient would be nothing but rounding.
    target = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 25
    plain = value_and_gradient(KernelL1Loss()(logits.softmax(1), target), logits)
    fused = value_and_gradient(KernelL1Loss().from_logits(logits, target), logits)
    torch.testing.assert_close(fused[0], plain[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(fused[1], plain[1], rtol=1e-4, atol=1e-6 * plain[1].abs().max().item())


@pytest.mark.parametrize('loss', LOSSES, ids=['l1-mean', 'l1-sum', 'kl'])
def test_gradient_is_that_of_finite_differences(loss: nn.Module) -> None:
    logits, target = logits_and_target((3, 25, 6, 4), torch.float64)
    some = logits[:1, :, :2, :2].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: loss.from_logits(values, target[:1, :, :2, :2]), some)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('loss', LOSSES, ids=['l1-mean', 'l1-sum', 'kl'])
def test_half_precision_is_summed_in_float32(loss: nn.Module, dtype: torch.dtype) -> None:
    logits, target = logits_and_target((3, 25, 1, 1))
    half = logits.detach().to(dtype).requires_grad_()
    plain = value_and_gradient(loss(half.float().softmax(1), target), half)
    fused = value_and_gradient(loss.from_logits(half, target), half)
    torch.testing.assert_close(fused[0], plain[0], rtol=1e-6, atol=0)
    assert fused[1].dtype == dtype
    # Two roundings to a half type of 8 or 11 bits.
    largest = plain[1].float().abs().max().item()
    torch.testing.assert_close(fused[1].float(), plain[1].float(), rtol=2**-6, atol=2**-8 * largest)


def test_mean_does_not_vanish_in_float16() -> None:
    """1 / numel of a usual batch is below the least float16; a loss scaler multiplies only afterwards."""
    logits = torch.zeros(2, 441, 48, 48, dtype=torch.float16, requires_grad=True)
    target = torch.zeros(2, 441, 1, 1)
    target[:, 220] = 1
    (65536 * KernelL1Loss().from_logits(logits, target)).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 220] < 0).all()


def test_reduction_none_takes_the_plain_path() -> None:
    logits, target = logits_and_target((3, 25, 1, 1))
    loss = KernelL1Loss(reduction='none')
    torch.testing.assert_close(loss.from_logits(logits, target), loss(logits.softmax(1), target))


@pytest.mark.parametrize('loss', LOSSES, ids=['l1-mean', 'l1-sum', 'kl'])
def test_wrong_shape_is_refused(loss: nn.Module) -> None:
    logits, _ = logits_and_target((3, 25, 1, 1))
    with pytest.raises(ValueError, match='target has shape'):
        loss.from_logits(logits, torch.rand(3, 24, 1, 1))


@pytest.mark.parametrize('loss', LOSSES, ids=['l1-mean', 'l1-sum', 'kl'])
def test_no_float32_field_of_full_size_is_made(loss: nn.Module) -> None:
    logits = torch.randn(16, 441, 24, 24, dtype=torch.bfloat16, requires_grad=True)
    target = torch.rand(16, 441, 1, 1).softmax(1)

    class LargestFloat32(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor) and result.dtype == torch.float32:
                self.largest = max(self.largest, result.untyped_storage().size() // 4)
            return result

    with LargestFloat32() as seen:
        loss.from_logits(logits, target).backward()
    assert 0 < seen.largest <= logits.numel() // 8
