"""A Gaussian kernel whose shape is learned, by the Cholesky factor of its precision."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.degradation.kernels import check_kernel_grid


class GaussianKernel(nn.Module):
    """One anisotropic Gaussian, ``exp(-(v - mu)' M'M (v - mu) / 2)`` with M the lower triangle of a 2x2 matrix.

    So every value of the parameters is a kernel, and isotropy is no special case, as it is for an angle. It is drawn at
    size ``k - s + 1`` and centred there, as every kernel of the ``centered`` grid: also where it is cut, its centre of
    mass stays in its place.

    Args:
        scale: Downsampling factor s; the start is isotropic of variance s^2, wider than any that is expected.
        kernel_size: Side k of the kernel in taps.

    Source: Yue et al., "Blind image super-resolution with elaborate degradation modeling on noise and kernel", 2022.
    """

    grid: Tensor

    def __init__(self, scale: int, kernel_size: int) -> None:
        super().__init__()
        check_kernel_grid(kernel_size, scale, 'centered')
        self.factor = nn.Parameter(torch.eye(2) / scale)
        self.before = scale - 1
        axis = torch.arange(kernel_size - self.before) - (kernel_size - scale) / 2
        y, x = torch.meshgrid(axis, axis, indexing='ij')
        self.register_buffer('grid', torch.stack([x, y]).flatten(1), persistent=False)

    def forward(self) -> Tensor:
        """Give the field (1, k*k, 1, 1), which sums to 1."""
        distances = (self.factor.tril() @ self.grid).square().sum(0)
        side = math.isqrt(len(distances))
        taps = (-distances / 2).softmax(0).view(side, side)
        return F.pad(taps, (self.before, 0, self.before, 0)).view(1, -1, 1, 1)
