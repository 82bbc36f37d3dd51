"""The kernel loss: a plain mean, by broadcasting."""

from __future__ import annotations

import math

import pytest
import torch
from basicsr.losses import build_loss
from torch.utils._python_dispatch import TorchDispatchMode

from manet_basicsr.losses import KernelKLLoss, KernelL1Loss


def test_is_the_plain_mean_by_hand() -> None:
    field = torch.tensor([[[[0.25, 0.5]], [[0.75, 0.5]]]])  # one image, two taps, 1x2 positions
    target = torch.tensor([[[[1.0]], [[0.0]]]])
    # |0.25-1| + |0.5-1| + 0.75 + 0.5 = 2.5, over 4
    assert KernelL1Loss()(field, target).item() == pytest.approx(0.625)
    assert KernelL1Loss(loss_weight=2, reduction='sum')(field, target).item() == pytest.approx(5.0)
    each = KernelL1Loss(reduction='none')(field, target)
    torch.testing.assert_close(each, torch.tensor([[[[0.75, 0.5]], [[0.75, 0.5]]]]))


@pytest.mark.parametrize('shape', [(2, 9, 4, 5), (2, 9, 1, 1), (1, 9, 1, 1), (1, 9, 4, 5), (9, 1, 1)])
@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_broadcasting_equals_expanding(shape: tuple[int, ...], reduction: str) -> None:
    field, target = torch.rand(2, 9, 4, 5, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    loss = KernelL1Loss(0.3, reduction)
    torch.testing.assert_close(loss(field, target), loss(field, target.expand(2, 9, 4, 5).contiguous()))


def test_weight_gives_the_published_value() -> None:
    """Published: on the HR grid, divided by H W once more, times 1e4; at HR 192 that is 0.2713 of ours."""
    field, target = torch.rand(1, 9, 48, 48), torch.rand(1, 9, 1, 1)
    on_hr_grid = field.repeat_interleave(4, 2).repeat_interleave(4, 3)
    published = (on_hr_grid - target.expand_as(on_hr_grid)).abs().mean() * 1e4 / (192 * 192)
    # 0.2713 is rounded to four digits
    torch.testing.assert_close(KernelL1Loss(loss_weight=0.2713)(field, target), published, rtol=2e-4, atol=0)


def test_gradients_are_right() -> None:
    field = torch.rand(2, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 4, 1, 1, dtype=torch.float64) + 1  # never equal: the loss has a kink there
    assert torch.autograd.gradcheck(KernelL1Loss(), (field, target))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    field, target = torch.full((2, 441, 64, 64), 1e-3, dtype=dtype), torch.zeros(2, 441, 1, 1, dtype=dtype)
    loss = KernelL1Loss(reduction='sum')(field, target)
    assert loss.dtype == torch.float32
    # 3.6 million terms: a sum in half precision would stop growing long before
    torch.testing.assert_close(loss.item(), field[0, 0, 0, 0].item() * field.numel(), rtol=1e-5, atol=0)


def test_target_is_never_expanded_in_memory() -> None:
    class CountLargeOutputs(TorchDispatchMode):
        large: list[str] = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.numel() == 2 * 9 * 8 * 8:
                self.large.append(str(function))
            return result

    field, target = torch.rand(2, 9, 8, 8), torch.rand(2, 9, 1, 1)
    with CountLargeOutputs() as counter:
        KernelL1Loss()(field, target)
    assert counter.large == ['aten.sub.Tensor', 'aten.abs.default']


def test_is_built_by_basicsr_from_options() -> None:
    loss = build_loss({'type': 'KernelL1Loss', 'loss_weight': 0.5})
    assert isinstance(loss, KernelL1Loss)
    assert loss(torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 1, 1)).item() == 0.5


@pytest.mark.parametrize('shape', [(2, 9, 8, 8), (2, 8, 1, 1), (3, 9, 1, 1), (1, 2, 9, 4, 5)])
def test_a_target_that_does_not_broadcast_is_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r'target has shape .* expected one that broadcasts to \(2, 9, 4, 5\)'):
        KernelL1Loss()(torch.rand(2, 9, 4, 5), torch.rand(shape))


def test_an_unknown_reduction_is_an_error() -> None:
    with pytest.raises(ValueError, match="reduction is 'average', expected one of none, mean, sum"):
        KernelL1Loss(reduction='average')


def test_divergence_by_hand() -> None:
    field = torch.tensor([[[[0.25, 0.5]], [[0.75, 0.5]]]])  # one image, two taps, 1x2 positions
    target = torch.tensor([[[[1.0]], [[0.0]]]])
    # (log 4 + log 2) / 2
    assert KernelKLLoss()(field, target).item() == pytest.approx(1.5 * math.log(2))
    assert KernelKLLoss(loss_weight=2)(field, target).item() == pytest.approx(3 * math.log(2))
    assert KernelKLLoss()(field, field).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('shape', [(2, 9, 4, 5), (2, 9, 1, 1), (1, 9, 1, 1)])
def test_divergence_is_that_of_torch(shape: tuple[int, ...]) -> None:
    field, target = torch.rand(2, 9, 4, 5).softmax(1), torch.rand(shape).softmax(1)
    expected = torch.nn.functional.kl_div(field.log(), target.expand_as(field), reduction='sum') / (2 * 4 * 5)
    torch.testing.assert_close(KernelKLLoss()(field, target), expected, rtol=1e-4, atol=1e-6)


def test_divergence_gives_each_logit_its_error() -> None:
    """What the L1 loss weakens by the tap itself."""
    logits = torch.randn(1, 441, 1, 1, dtype=torch.float64, requires_grad=True)
    target = torch.randn(1, 441, 1, 1, dtype=torch.float64).softmax(1)
    KernelKLLoss()(logits.softmax(1), target).backward()
    torch.testing.assert_close(logits.grad, (logits.softmax(1) - target).detach(), rtol=1e-4, atol=1e-6)


def test_divergence_stays_finite_where_the_field_is_zero() -> None:
    field = torch.tensor([[[[0.0]], [[1.0]]]], requires_grad=True)
    loss = KernelKLLoss()(field, torch.tensor([[[[1.0]], [[0.0]]]]))
    loss.backward()
    assert loss.isfinite() and field.grad is not None and field.grad.isfinite().all()


def test_divergence_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r'expected one that broadcasts to \(1, 9, 2, 2\)'):
        KernelKLLoss()(torch.rand(1, 9, 2, 2), torch.rand(1, 25, 2, 2))
    with pytest.raises(ValueError, match='expected all 9 taps of a kernel'):
        KernelKLLoss()(torch.rand(1, 9, 2, 2), torch.rand(1, 1, 2, 2))
