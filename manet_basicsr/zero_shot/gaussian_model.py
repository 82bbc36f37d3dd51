"""A Gaussian kernel whose shape is learned, by the Cholesky factor of its precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GaussianKernel(nn.Module):
    """One anisotropic Gaussian, ``exp(-(v - mu)' M'M (v - mu) / 2)`` with M the lower triangle of a 2x2 matrix.

    So every value of the parameters is a kernel, and isotropy is no special case, as it is for an angle.

    Args:
        scale: Downsampling factor s; the start is isotropic of variance s^2, wider than any that is expected.
        kernel_size: Side k of the kernel; ``mu = k//2 + (s-1)/2``, the ``centered`` grid.

    Source: Yue et al., "Blind image super-resolution with elaborate degradation modeling on noise and kernel", 2022.
    """

    grid: Tensor

    def __init__(self, scale: int, kernel_size: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.eye(2) / scale)
        axis = torch.arange(kernel_size) - (kernel_size // 2 + (scale - 1) / 2)
        y, x = torch.meshgrid(axis, axis, indexing='ij')
        self.register_buffer('grid', torch.stack([x, y]).flatten(1), persistent=False)

    def forward(self) -> Tensor:
        """Give the field (1, k*k, 1, 1), which sums to 1."""
        distances = (self.factor.tril() @ self.grid).square().sum(0)
        return (-distances / 2).softmax(0).view(1, -1, 1, 1)
