"""Metrics; importing this package registers them with BasicSR."""

from __future__ import annotations

from manet_basicsr.metrics.kernel_metric import calculate_kernel_psnr, calculate_lr_psnr, calculate_lr_ssim
from manet_basicsr.metrics.pyiqa_metric import calculate_pyiqa, calculate_pyiqa_nr

__all__ = [
    'calculate_kernel_psnr',
    'calculate_lr_psnr',
    'calculate_lr_ssim',
    'calculate_pyiqa',
    'calculate_pyiqa_nr',
]
