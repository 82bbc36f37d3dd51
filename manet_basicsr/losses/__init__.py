"""Losses; importing this package registers them with BasicSR."""

from __future__ import annotations

from manet_basicsr.losses.kernel_loss import KernelKLLoss, KernelL1Loss

__all__ = ['KernelKLLoss', 'KernelL1Loss']
