"""Losses of kernel fields, straight from the logits that the estimator's softmax takes.

The plain path keeps the field and what the loss made of it for its backward pass, each in float32 and of full size.
Here the gradient with respect to the logits is computed together with the loss, a few images at a time while they lie
in the cache, and is all that is kept.

With the field ``p = softmax(z)`` and a loss that is a sum over taps and positions of ``f(p)``, the gradient is
``dL/dz = p * (f'(p) - sum_taps p * f'(p))``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Gives, of a field and its target with the taps in some dimension, the sum of a loss and its derivative ``f'(p)``.
TapLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# How many taps are worked on at a time: on a CPU a few megabytes, which stay in its cache between the operations.
_TAPS_AT_ONCE = {'cpu': 2**19}
_TAPS_AT_ONCE_ON_DEVICES = 2**25


def loss_of_logits(tap_loss: TapLoss, logits: Tensor, target: Tensor, factor: float) -> Tensor:
    """Compute a loss of the field ``logits.softmax(1)`` without keeping that field.

    Args:
        tap_loss: The loss as a sum, and its derivative.
        logits: (B, k*k, h, w), of any floating type and memory format.
        target: Broadcastable to that; it gets no gradient.
        factor: What the sum is multiplied by.

    Returns:
        ``factor * sum``, a scalar in float32, or float64 for float64 logits. It can be differentiated once.
    """
    result: Tensor = _LossOfLogits.apply(tap_loss, logits, target, factor)
    return result


class _LossOfLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tap_loss: TapLoss, logits: Tensor, target: Tensor, factor: float) -> Tensor:
        target = target[(None,) * (3 - target.dim())]  # as broadcasting does
        target = target.expand(len(logits), *target.shape[-3:])
        wide, taps, gradient = logits, 1, torch.empty_like(logits)
        parts = gradient
        if logits.is_contiguous(memory_format=torch.channels_last):
            # The taps of a pixel lie side by side: as the last dimension they need no copy.
            wide, parts, target = (tensor.permute(0, 2, 3, 1) for tensor in (logits, gradient, target))
            taps = -1
        dtype = torch.promote_types(logits.dtype, torch.float32)
        total = torch.zeros((), dtype=dtype, device=logits.device)
        budget = _TAPS_AT_ONCE.get(logits.device.type, _TAPS_AT_ONCE_ON_DEVICES)
        images = max(1, budget * len(logits) // max(1, logits.numel()))
        pairs = zip(wide.split(images), target.split(images), parts.split(images), strict=True)
        for some, true, out in pairs:
            field = some.to(dtype).softmax(taps)
            value, derivative = tap_loss(field, true.to(dtype))
            total += value
            derivative.sub_((field * derivative).sum(taps, keepdim=True))
            # Without the factor: 1 / numel would vanish in float16.
            out.copy_(derivative.mul_(field))
        ctx.save_for_backward(gradient)
        ctx.factor = factor
        return total * factor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[None, Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * (grad_output * ctx.factor), None, None
