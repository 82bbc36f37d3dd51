"""Losses; importing this package registers them with BasicSR."""

from __future__ import annotations

from manet_basicsr.losses.indirect_loss import IndirectLoss
from manet_basicsr.losses.kernel_loss import KernelKLLoss, KernelL1Loss

__all__ = ['IndirectLoss', 'KernelKLLoss', 'KernelL1Loss']
