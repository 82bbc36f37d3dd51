"""The losses of stage 1."""

from __future__ import annotations

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from manet_basicsr.losses.from_logits import loss_of_logits

_REDUCTIONS = ('none', 'mean', 'sum')
_LEAST_TAP = 1e-9  # added to taps before their logarithm; the taps of a field sum to 1


def _check_broadcast(field: Tensor, target: Tensor) -> None:
    paired = zip(reversed(target.shape), reversed(field.shape), strict=False)
    if target.dim() > field.dim() or not all(size in (1, full) for size, full in paired):
        raise ValueError(
            f'target has shape {tuple(target.shape)}, expected one that broadcasts to {tuple(field.shape)}'
        )


def _check_taps(field: Tensor, target: Tensor) -> None:
    _check_broadcast(field, target)
    if target.dim() < 3 or target.shape[-3] != field.shape[-3]:
        raise ValueError(f'target has shape {tuple(target.shape)}, expected all {field.shape[-3]} taps of a kernel')


@LOSS_REGISTRY.register()
class KernelL1Loss(nn.Module):
    """Mean absolute difference of kernel fields, on the LR grid (MANet, ICCV 2021).

    ``loss_weight * mean |field - target|`` over all images, taps and positions. The published loss, on the HR grid and
    scaled, is 0.2713 times this at HR crops of 192. An invariant target broadcasts and is never expanded in memory.

    Args:
        loss_weight: Factor of the result.
        reduction: ``none``, ``mean`` or ``sum``.

    Raises:
        ValueError: If ``reduction`` is another word.

    Examples:
        >>> true = torch.tensor([0.50, 0.25, 0.25]).view(1, 3, 1, 1)
        >>> estimated = torch.tensor([0.25, 0.50, 0.25]).view(1, 3, 1, 1)
        >>> KernelL1Loss()(estimated, true)
        tensor(0.1667)
    """

    def __init__(self, loss_weight: float = 1.0, reduction: str = 'mean') -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            raise ValueError(f'reduction is {reduction!r}, expected one of {", ".join(_REDUCTIONS)}')
        self.loss_weight = loss_weight
        self.reduction = reduction

    def forward(self, field: Tensor, target: Tensor) -> Tensor:
        """Compare an estimated kernel field with the true one.

        Args:
            field: (B, k*k, h, w).
            target: Broadcastable to that, such as (B, k*k, 1, 1).

        Returns:
            A scalar, or (B, k*k, h, w) for ``none``; half-precision fields are compared and summed in float32.

        Raises:
            ValueError: If ``target`` cannot be broadcast to the shape of ``field``.
        """
        _check_broadcast(field, target)
        dtype = torch.promote_types(field.dtype, torch.float32)
        difference = (field.to(dtype) - target.to(dtype)).abs()
        if self.reduction == 'mean':
            difference = difference.mean()
        elif self.reduction == 'sum':
            difference = difference.sum()
        return self.loss_weight * difference

    def from_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the same of the field ``logits.softmax(1)``, in less memory than the field takes.

        Args:
            logits: (B, k*k, h, w).
            target: Broadcastable to that, such as (B, k*k, 1, 1); without a gradient.

        Returns:
            As :meth:`forward`.

        Raises:
            ValueError: If ``target`` cannot be broadcast to the shape of ``logits``.
        """
        if self.reduction == 'none':
            return self(logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1), target)
        _check_broadcast(logits, target)
        count = logits.numel() if self.reduction == 'mean' else 1
        return loss_of_logits(_absolute_difference, logits, target, self.loss_weight / count)


def _absolute_difference(field: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    difference = field - target
    return difference.abs().sum(), difference.sign_()


@LOSS_REGISTRY.register()
class KernelKLLoss(nn.Module):
    """Kullback-Leibler divergence of estimated kernels from the true ones, on the LR grid.

    ``loss_weight * mean sum_taps target log(target / field)`` over all images and positions, in nats. A kernel is a
    distribution over its taps, and the estimator ends in a softmax: its logits then get the gradient field - target
    (for taps above 1e-9, which is added before the logarithm), where the L1 loss multiplies that of each tap with the
    tap itself, about 0.002. Where several kernels explain an image, this loss asks for their mean, the L1 loss for
    their median. docs/MODEL_CARD.md compares the two in a short training.

    Args:
        loss_weight: Factor of the result.

    Examples:
        >>> true = torch.tensor([0.50, 0.25, 0.25]).view(1, 3, 1, 1)
        >>> estimated = torch.tensor([0.25, 0.50, 0.25]).view(1, 3, 1, 1)
        >>> KernelKLLoss()(estimated, true)
        tensor(0.1733)
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, field: Tensor, target: Tensor) -> Tensor:
        """Compare an estimated kernel field with the true one.

        Args:
            field: (B, k*k, h, w), not negative, of sum 1 over the taps.
            target: Broadcastable to that, with all taps, such as (B, k*k, 1, 1), likewise.

        Returns:
            A scalar; half-precision fields are compared and summed in float32.

        Raises:
            ValueError: If ``target`` cannot be broadcast to the shape of ``field``, or has another number of taps.
        """
        _check_taps(field, target)
        dtype = torch.promote_types(field.dtype, torch.float32)
        true = target.to(dtype)
        own = torch.xlogy(true, true).sum(-3).mean()
        return self.loss_weight * (own - (true * (field.to(dtype) + _LEAST_TAP).log()).sum(-3).mean())

    def from_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the same of the field ``logits.softmax(1)``, in less memory than the field takes.

        Args:
            logits: (B, k*k, h, w).
            target: As for :meth:`forward`; without a gradient.

        Returns:
            A scalar.

        Raises:
            ValueError: As :meth:`forward`.
        """
        _check_taps(logits, target)
        return loss_of_logits(_divergence, logits, target, self.loss_weight * logits.shape[1] / logits.numel())


def _divergence(field: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    field = field + _LEAST_TAP
    own = torch.xlogy(target, target).sum() * (field.numel() / target.numel())  # of each position that it is for
    value = own - (target * field.log()).sum()
    return value, target.div(field).neg_()
