"""Gaussian kernels whose shapes are learned, by the Cholesky factors of their precisions: one, or several mixed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.degradation import blur_downsample
from manet_basicsr.degradation.kernels import check_kernel_grid


class GaussianKernels(nn.Module):
    """Anisotropic Gaussians, ``exp(-(v - mu)' M'M (v - mu) / 2)`` with M the lower triangle of a 2x2 matrix.

    So every value of the parameters is a kernel, and isotropy is no special case, as it is for an angle. They are drawn
    at size ``k - s + 1`` and centred there, as every kernel of the ``centered`` grid: also where one is cut, its centre
    of mass stays in its place.

    Args:
        scale: Downsampling factor s.
        kernel_size: Side k of the kernels in taps.
        factors: ``(N, 2, 2)``, what they begin as.

    Source: Yue et al., "Blind image super-resolution with elaborate degradation modeling on noise and kernel", 2022.
    """

    grid: Tensor

    def __init__(self, scale: int, kernel_size: int, factors: Tensor) -> None:
        super().__init__()
        check_kernel_grid(kernel_size, scale, 'centered')
        self.factors = nn.Parameter(factors)
        self.scale, self.before = scale, scale - 1
        axis = torch.arange(kernel_size - self.before) - (kernel_size - scale) / 2
        y, x = torch.meshgrid(axis, axis, indexing='ij')
        self.register_buffer('grid', torch.stack([x, y]).flatten(1), persistent=False)

    def kernels(self) -> Tensor:
        """Give the kernels (N, k*k, 1, 1), each summing to 1."""
        distances = (self.factors.tril() @ self.grid).square().sum(1)
        side = math.isqrt(distances.shape[1])
        taps = (-distances / 2).softmax(1).view(-1, side, side)
        return F.pad(taps, (self.before, 0, self.before, 0)).flatten(1)[..., None, None]

    def penalty(self) -> Tensor:
        """Give the negative logarithm of how likely the parameters are, but for a constant: the factors are normal."""
        return self.factors.tril().square().sum() / 2

    def forward(self) -> Tensor:
        """Give the kernel field (1, k*k, h, w) or (1, k*k, 1, 1)."""
        raise NotImplementedError

    def blur(self, sr: Tensor) -> Tensor:
        """Blur and reduce an image (1, C, s*h, s*w) with the field, to (1, C, h, w)."""
        return blur_downsample(sr, self(), self.scale)


class GaussianKernel(GaussianKernels):
    """One Gaussian for the whole image, at first isotropic of variance s^2, wider than any that is expected.

    Args:
        scale: Downsampling factor s.
        kernel_size: Side k of the kernel in taps.
    """

    def __init__(self, scale: int, kernel_size: int) -> None:
        super().__init__(scale, kernel_size, torch.eye(2)[None] / scale)

    def forward(self) -> Tensor:
        """Give the field (1, k*k, 1, 1)."""
        return self.kernels()


class GaussianAtoms(GaussianKernels):
    """Several Gaussians, of which every place has its own mixture: weights on a coarse grid, linear between its points.

    They begin as a narrow and a wide isotropic one and as wide ones along one axis, equally spread over the angles,
    and everywhere with equal weights.

    Args:
        scale: Downsampling factor s.
        kernel_size: Side k of the kernels in taps.
        size: Height and width of the LR image.
        number: Of Gaussians, at least 1.
        cell: Distance of the points of the grid in LR px, at most: they reach from the first pixel to the last.
        smoothness: Weight of the squared differences between neighbouring points.
    """

    def __init__(
        self, scale: int, kernel_size: int, size: Sequence[int], number: int, cell: int, smoothness: float
    ) -> None:
        wide, narrow = scale**2 / 2, scale**2 / 8
        along = max(number - 2, 1)
        shapes = [(narrow, narrow, 0.0), (wide, wide, 0.0)]
        shapes += [(wide, narrow, math.pi * turn / along) for turn in range(along)]
        super().__init__(scale, kernel_size, torch.stack([_factor(*shape) for shape in shapes[:number]]))
        self.size, self.smoothness = tuple(size), smoothness
        points = [math.ceil(side / cell) + 1 for side in self.size]
        self.weights = nn.Parameter(torch.zeros(1, number, *points))

    def mixture(self) -> Tensor:
        """Give the weights (N, h, w), which sum to 1 at every place."""
        spread = F.interpolate(self.weights, self.size, mode='bilinear', align_corners=True)
        return spread[0].softmax(0)

    def penalty(self) -> Tensor:
        """Add that neighbouring places are alike."""
        steps = sum(self.weights.diff(dim=axis).square().sum() for axis in (2, 3))
        return super().penalty() + self.smoothness * steps / 2

    def forward(self) -> Tensor:
        """Give the field (1, k*k, h, w)."""
        return torch.einsum('nhw,nk->khw', self.mixture(), self.kernels().flatten(1))[None]

    def blur(self, sr: Tensor) -> Tensor:
        """Blur with each Gaussian and mix the results, which is the same for less work."""
        blurred = blur_downsample(sr.expand(len(self.factors), -1, -1, -1), self.kernels(), self.scale)
        return (self.mixture()[:, None] * blurred).sum(0, keepdim=True)


def _factor(first: float, second: float, angle: float) -> Tensor:
    """Give M, lower triangular, of which ``M'M`` is the precision of two variances, the first along an angle."""
    cosine, sine = math.cos(angle), math.sin(angle)
    axes = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
    precision = axes @ torch.diag(torch.tensor([1 / first, 1 / second], dtype=torch.float64)) @ axes.T
    # Cholesky's is L L'; with rows and columns in reverse it becomes M'M.
    return torch.linalg.cholesky(precision.flip(0, 1)).flip(0, 1).T.float()
