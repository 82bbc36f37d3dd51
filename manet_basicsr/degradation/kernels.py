"""Anisotropic Gaussian blur kernels and the ranges they are drawn from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from manet_basicsr.degradation.values import check_variance_range
from manet_basicsr.utils.messages import unknown_name

ALIGNMENTS = ('centered', 'published')
_LOG_EPSILON = math.log(torch.finfo(torch.float64).eps)


def check_kernel_grid(kernel_size: int, scale: int, alignment: str) -> None:
    """Refuse a kernel grid that cannot be drawn.

    Args:
        kernel_size: Side of the kernel in taps.
        scale: Downsampling factor.
        alignment: Sampling grid of the LR image.

    Raises:
        ValueError: If the scale is below 1, the kernel size even or smaller than the scale, or the alignment unknown.
    """
    if scale < 1:
        raise ValueError(f'scale must be at least 1, found {scale}')
    if kernel_size % 2 == 0 or kernel_size < scale:
        raise ValueError(f'kernel_size must be odd and at least the scale ({scale}), found {kernel_size}')
    if alignment not in ALIGNMENTS:
        raise ValueError(unknown_name('alignment', alignment, ALIGNMENTS))


def anisotropic_gaussian_kernels(
    variances: Tensor,
    angles: Tensor,
    kernel_size: int = 21,
    scale: int = 4,
    alignment: str = 'centered',
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw one anisotropic Gaussian blur kernel for each pair of variances and angle.

    The density is ``exp(-v' C^-1 v / 2)`` with ``v = (x, y)``, x to the right and y down, and
    ``C = R(t) diag(l1, l2) R(t)'``: a positive angle turns the first axis clockwise on the screen. Values under
    eps(float64) times the largest are 0. The Gaussian is drawn at size ``kernel_size - scale + 1`` and centred there;
    that square lies in the upper left corner of a ``published`` kernel, and in the lower right corner of a ``centered``
    one, so that LR pixel ``i`` samples HR position ``s i - (s-1)/2`` or ``s i + (s-1)/2``. Differentiable; the
    quadratic form is computed in float64.

    The density is sampled at the taps, as in the paper, and not integrated over them. So its variance is that of the
    arguments from 0.5 to about 7 px^2. A narrower one falls between the taps: at x1 a variance of 0.175 is drawn as
    0.103, at x2 one of 0.35 as 0.360. A wider one is cut: at x4 10 is drawn as 9.61. (Integrating would draw 0.175 as
    0.233.) :func:`kernel_covariances` tells what is drawn.

    Args:
        variances: ``(N, 2)``, the eigenvalues (l1, l2) of the covariance in HR px^2 (not standard deviations),
            positive.
        angles: ``(N,)``, angle of the first axis in radians.
        kernel_size: Side k of the kernels in taps, odd and at least the scale.
        scale: Downsampling factor s, at least 1.
        alignment: ``centered`` (the grid of bicubic resizing) or ``published`` (the grid of the released weights).
        dtype: Type of the kernels.

    Returns:
        ``(N, k*k)`` kernels in row-major tap order, each summing to 1.

    Raises:
        ValueError: If a shape, the kernel size, the scale or the alignment is wrong, or (on the CPU) a variance is not
            positive.

    Source: MANet (ICCV 2021), section 3.1; the placement is that of the authors' release.
    """
    check_kernel_grid(kernel_size, scale, alignment)
    if variances.ndim != 2 or variances.shape[1] != 2:
        raise ValueError(f'variances must have shape (N, 2), found {tuple(variances.shape)}')
    if angles.shape != variances.shape[:1]:
        raise ValueError(f'angles must have shape ({variances.shape[0]},), found {tuple(angles.shape)}')
    # On an accelerator this look at the values would make the host wait in every batch.
    if variances.device.type == 'cpu' and not bool((variances > 0).all()):
        raise ValueError(f'variances must be positive (HR px^2), found {variances.min().item():g}')

    drawn_size = kernel_size - scale + 1
    # The sums of products cancel, so they need float64; what they sum to does not.
    exponents = squared_radii(variances, angles, drawn_size, factor=-0.5).to(torch.promote_types(dtype, torch.float32))
    threshold = exponents.detach().amax(1, keepdim=True) + _LOG_EPSILON
    kernels = exponents.masked_fill(exponents < threshold, -math.inf).softmax(1).to(dtype)
    before, after = (scale - 1, 0) if alignment == 'centered' else (0, scale - 1)
    return F.pad(kernels.view(-1, drawn_size, drawn_size), (before, after, before, after)).flatten(1)


def squared_radii(variances: Tensor, angles: Tensor, side: int, factor: float = 1.0) -> Tensor:
    """Compute ``v' C^-1 v`` of each tap, the squared distance from the middle in standard deviations.

    Args:
        variances: ``(N, 2)``, as for :func:`anisotropic_gaussian_kernels`.
        angles: ``(N,)``, likewise.
        side: Of the square of taps.
        factor: What they are multiplied by.

    Returns:
        ``(N, side*side)``, float64. Differentiable.
    """
    axis = torch.arange(side, dtype=torch.float64, device=variances.device) - (side - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing='ij')
    first, second = (factor / variances.double()).unbind(1)
    cos, sin = angles.double().cos(), angles.double().sin()
    precisions = [
        first * cos * cos + second * sin * sin,
        2 * (first - second) * cos * sin,
        first * sin * sin + second * cos * cos,
    ]
    return torch.stack(precisions, dim=1) @ torch.stack([x * x, x * y, y * y]).flatten(1)


def training_variance_range(scale: int) -> tuple[float, float]:
    """Give the range of variances that the paper trains with, ``[0.175 s, 2.5 s]``.

    Args:
        scale: Downsampling factor s, at least 1.

    Returns:
        Smallest and largest variance in HR px^2.

    Raises:
        ValueError: If the scale is below 1.
    """
    if scale < 1:
        raise ValueError(f'scale must be at least 1, found {scale}')
    return 0.175 * scale, 2.5 * scale


def sample_kernel_parameters(
    num: int, variance: tuple[float, float], generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw random kernel parameters as the paper trains with: l1 ~ U(min, max), l2 ~ U(min, l1), t ~ U(0, pi).

    Args:
        num: Number N of kernels.
        variance: Smallest and largest variance in HR px^2.
        generator: Source of randomness on the CPU; torch's global one when None.

    Returns:
        Variances ``(N, 2)`` with l2 <= l1 and angles ``(N,)`` in [0, pi), both float32 on the CPU.

    Raises:
        ValueError: If the range of variances is not ``0 < min <= max``.
    """
    low, high = check_variance_range(variance)
    uniform = torch.rand(num, 3, generator=generator)
    first = low + (high - low) * uniform[:, 0]
    second = low + (first - low) * uniform[:, 1]
    return torch.stack([first, second], dim=1), math.pi * uniform[:, 2]


def place_kernels(spread: Tensor, scale: int, alignment: str) -> Tensor:
    """Turn point spread functions into kernels of a field, which are cross-correlated with the image.

    ``published`` kernels have the point spread function in the upper left corner as it is, ``centered`` ones, flipped
    in both axes, in the lower right: with them the image is convolved, on the usual sampling grid.

    Args:
        spread: ``(N, d, d)`` point spread functions whose centre of mass is the middle, any positive sum.
        scale: Downsampling factor s.
        alignment: ``centered`` or ``published``.

    Returns:
        ``(N, k*k)`` kernels with ``k = d + s - 1``, each summing to 1.
    """
    spread = spread / spread.sum((1, 2), keepdim=True)
    before, after = (scale - 1, 0) if alignment == 'centered' else (0, scale - 1)
    if alignment == 'centered':
        spread = spread.flip(1, 2)
    return F.pad(spread, (before, after, before, after)).flatten(1)


def published_of_centered(field: Tensor, scale: int) -> Tensor:
    """Move kernels from the ``centered`` grid to the ``published`` one, for an image that is moved with them.

    The same LR image comes of the HR image cut by s - 1 px at the top and at the left, and of kernels moved by as many
    taps to the upper left. They are not flipped: they are cross-correlated on both grids. What leaves the ``k x k``
    taps, which no kernel made for the ``centered`` grid has, is cut off.

    Args:
        field: ``(B, k*k, h, w)`` kernels on the ``centered`` grid.
        scale: Downsampling factor s.

    Returns:
        Of the same shape, each kernel summing to 1.
    """
    side = math.isqrt(field.shape[1])
    kept = field.unflatten(1, (side, side))[:, scale - 1 :, scale - 1 :]
    moved = F.pad(kept, (0, 0, 0, 0, 0, scale - 1, 0, scale - 1)).flatten(1, 2)
    return moved / moved.sum(1, keepdim=True)


def kernel_covariances(kernels: Tensor) -> Tensor:
    """Compute the covariance matrices that kernels really have, ``C = sum k v v' - m m'`` with ``v = (x, y)``.

    They are taken about the centre of mass ``m``, so the alignment does not matter.

    Args:
        kernels: ``(N, k*k)``, of any positive sum.

    Returns:
        ``(N, 2, 2)`` in HR px^2, float64, on the device of the kernels.
    """
    side = math.isqrt(kernels.shape[1])
    axis = torch.arange(side, dtype=torch.float64, device=kernels.device) - (side - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing='ij')
    x, y = x.flatten(), y.flatten()
    sums = kernels.double() @ torch.stack([torch.ones_like(x), x, y, x * x, x * y, x * y, y * y], dim=1)
    mean, second = sums[:, 1:3] / sums[:, :1], sums[:, 3:] / sums[:, :1]
    return second.view(-1, 2, 2) - mean[:, :, None] * mean[:, None, :]
