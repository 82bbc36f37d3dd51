"""The loss on what a generator makes of kernels."""

from __future__ import annotations

import torch

from manet_basicsr.losses.indirect_loss import IndirectLoss
from tests.small_networks import GENERATOR


def test_it_is_not_rounded_under_autocast() -> None:
    torch.manual_seed(0)
    loss = IndirectLoss({**GENERATOR, 'scale': 4})
    target = torch.rand(2, 441, 1, 1).softmax(1)
    # Nearly right: what is left is below bfloat16's steps, which are 0.004 where the image is white.
    field = (0.95 * target + 0.05 * target.flip(0)).expand(-1, -1, 8, 8).clone().requires_grad_()
    lq = torch.ones(2, 3, 8, 8)
    (expected,) = torch.autograd.grad(whole := loss(field, target, lq), field)
    with torch.autocast('cpu', torch.bfloat16):
        half = loss(field, target, lq)
    (found,) = torch.autograd.grad(half, field)
    torch.testing.assert_close(half, whole)
    torch.testing.assert_close(found, expected)
