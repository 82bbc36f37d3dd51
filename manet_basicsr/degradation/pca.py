"""The PCA basis that turns a kernel field into kernel codes."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import (
    anisotropic_gaussian_kernels,
    check_kernel_grid,
    sample_kernel_parameters,
    training_variance_range,
)
from manet_basicsr.degradation.sampler import FieldSampler

# Part of the definition: another chunk size draws the same kernels but rounds their sum differently.
_CHUNK = 10_000
_LEAST_VARIANCE = 1e-12  # of all taps together; rounding makes 1e-16
_PIXELS = 24  # side in LR px of the fields whose places are drawn, as of training crops


def kernel_covariance(
    scale: int,
    kernel_size: int = 21,
    alignment: str = 'centered',
    variance: tuple[float, float] | None = None,
    num_kernels: int = 150_000,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
    sampler: FieldSampler | None = None,
) -> Tensor:
    """Compute the covariance of random training kernels, ``mean(k k') - mean(k) mean(k)'``.

    Args:
        scale: Downsampling factor.
        kernel_size: Side k of the kernels in taps.
        alignment: ``centered`` or ``published``.
        variance: Smallest and largest variance in HR px^2; the paper's training range when None.
        num_kernels: Number of kernels, at least 2.
        seed: Seed of the draws.
        progress: Called with the number of kernels done since the last call.
        sampler: Draws the kernels, each of a random place of a field; None for Gaussians of ``variance``.

    Returns:
        ``(k*k, k*k)`` covariance, float64; memory does not grow with the number of kernels.

    Raises:
        ValueError: If an argument is out of range.
    """
    check_kernel_grid(kernel_size, scale, alignment)
    if sampler is not None:
        sampler.check(kernel_size, scale)
    if num_kernels < 2:
        raise ValueError(f'num_kernels must be at least 2, found {num_kernels}')
    variance = variance or training_variance_range(scale)
    generator = torch.Generator().manual_seed(seed)
    taps = kernel_size**2
    kernel_sum = torch.zeros(taps, dtype=torch.float64)
    product_sum = torch.zeros(taps, taps, dtype=torch.float64)
    for start in range(0, num_kernels, _CHUNK):
        num = min(_CHUNK, num_kernels - start)
        if sampler is None:
            variances, angles = sample_kernel_parameters(num, variance, generator)
            kernels = anisotropic_gaussian_kernels(variances, angles, kernel_size, scale, alignment, torch.float64)
        else:
            parameters = [_parameters_of_pixel(sampler, scale, generator) for _ in range(num)]
            field = sampler.make_batch(
                parameters, scale, scale, scale=scale, kernel_size=kernel_size, alignment=alignment
            )
            kernels = field.flatten(1).double()
        kernel_sum += kernels.sum(0)
        product_sum += kernels.T @ kernels
        if progress is not None:
            progress(num)
    mean = kernel_sum / num_kernels
    return product_sum / num_kernels - torch.outer(mean, mean)


def _parameters_of_pixel(sampler: FieldSampler, scale: int, generator: torch.Generator) -> Tensor:
    """Draw the parameters (1, 1, P) of a random place of a field of its own."""
    side = _PIXELS * scale
    cells = sampler.parameters(side, side, scale=scale, generator=generator).flatten(0, 1)
    # Copied, or the whole field would be kept.
    return cells[int(torch.randint(len(cells), (), generator=generator))][None, None].clone()


@lru_cache(maxsize=8)
def mean_kernel(scale: int, kernel_size: int = 21, alignment: str = 'centered') -> Tensor:
    """Compute the mean of random training kernels, the same at every call.

    Args:
        scale: Downsampling factor.
        kernel_size: Side k of the kernels in taps.
        alignment: ``centered`` or ``published``.

    Returns:
        ``(k*k,)``, float32, summing to 1. It is shared: do not change it.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.device('cpu'):  # also while a network is built without memory
        parameters = sample_kernel_parameters(_CHUNK, training_variance_range(scale), generator)
        kernels = anisotropic_gaussian_kernels(*parameters, kernel_size, scale, alignment, torch.float64)
        return kernels.mean(0).float()


def kernels_from_codes(codes: Tensor, basis: Tensor, mean: Tensor) -> Tensor:
    """Find the kernels that codes stand for: the nearest ones to the training kernels' mean, without negative taps.

    ``k = m + B (c - B'm)``, negative taps set to 0, divided by the sum. The mean ``m`` lies for the most part outside
    the span of the basis, which is that of deviations from it, so ``B c`` alone is no kernel.

    Args:
        codes: ``(N, code_length)``, made as ``kernel @ basis``.
        basis: ``(k*k, code_length)``, orthonormal columns.
        mean: ``(k*k,)``, as :func:`mean_kernel` gives it.

    Returns:
        ``(N, k*k)``, each summing to 1, float32 or float64. Differentiable.
    """
    kernels = (mean + (codes - mean @ basis) @ basis.T).clamp(min=0)
    return kernels / kernels.sum(1, keepdim=True)


def principal_components(covariance: Tensor, code_length: int) -> tuple[Tensor, Tensor]:
    """Compute the eigenvectors of a covariance with the largest eigenvalues.

    Args:
        covariance: ``(N, N)``, symmetric.
        code_length: Number of eigenvectors, 1 to N.

    Returns:
        The basis ``(N, code_length)``, float32, orthonormal columns by descending eigenvalue, the entry of largest
        magnitude in each positive; and the share of the total variance that each column explains ``(code_length,)``.

    Raises:
        ValueError: If the code length is out of range, or nothing varies.
    """
    if not 1 <= code_length <= len(covariance):
        raise ValueError(f'code_length must be 1 to {len(covariance)}, found {code_length}')
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    if eigenvalues.sum() <= _LEAST_VARIANCE:
        raise ValueError('the kernels are all the same, so they have no principal components')
    basis = eigenvectors[:, -code_length:].flip(1)
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return (basis * largest.sign()).float().contiguous(), eigenvalues[-code_length:].flip(0) / eigenvalues.sum()


def kernel_pca_basis(
    scale: int,
    kernel_size: int = 21,
    code_length: int = 15,
    alignment: str = 'centered',
    variance: tuple[float, float] | None = None,
    num_kernels: int = 150_000,
    seed: int = 0,
) -> Tensor:
    """Compute the basis that a kernel code is made with: ``code = kernel @ basis``, the mean not subtracted.

    Args:
        scale: Downsampling factor.
        kernel_size: Side k of the kernels in taps.
        code_length: Length of the kernel code, 1 to k*k.
        alignment: ``centered`` or ``published``.
        variance: Smallest and largest variance in HR px^2; the paper's training range when None.
        num_kernels: Number of random training kernels, at least 2.
        seed: Seed of the draws.

    Returns:
        ``(k*k, code_length)`` basis, float32, the same at every call.

    Raises:
        ValueError: If an argument is out of range.

    Source: eigenvectors of the mean-free training kernels, as in the authors' release (MANet, section 3.4).
    """
    covariance = kernel_covariance(scale, kernel_size, alignment, variance, num_kernels, seed)
    return principal_components(covariance, code_length)[0]


def pca_file_name(scale: int, kernel_size: int, code_length: int, alignment: str) -> str:
    """Give the name under which a basis is stored.

    Args:
        scale: Downsampling factor.
        kernel_size: Side of the kernels in taps.
        code_length: Length of the kernel code.
        alignment: ``centered`` or ``published``.

    Returns:
        A file name such as ``x4_k21_c15_centered.npy``.
    """
    return f'x{scale}_k{kernel_size}_c{code_length}_{alignment}.npy'


def load_pca_basis(
    scale: int, kernel_size: int = 21, code_length: int = 15, path: str | PathLike[str] | None = None
) -> Tensor:
    """Load the basis that a kernel code is made with.

    Args:
        scale: Downsampling factor.
        kernel_size: Side k of the kernels in taps.
        code_length: Length of the kernel code.
        path: A ``.npy``, ``.pt`` or ``.pth`` file holding one array ``(k*k, code_length)``, such as
            scripts/compute_pca.py writes; the basis shipped for the ``centered`` alignment when None.

    Returns:
        ``(k*k, code_length)`` basis, float32.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If no basis is shipped for these sizes, or the file holds something else.
    """
    if path is None:
        return _load_shipped_basis(scale, kernel_size, code_length)
    return _checked_basis(read_pca_basis(path), (kernel_size**2, code_length), str(path))


def read_pca_basis(path: str | os.PathLike[str]) -> Tensor:
    """Read a basis of any size.

    Args:
        path: As in :func:`load_pca_basis`.

    Returns:
        ``(k*k, code_length)``, float32.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it cannot be read or holds no matrix.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise FileNotFoundError(f'PCA basis {path} does not exist; scripts/compute_pca.py makes one')
    if path.suffix not in ('.npy', '.pt', '.pth'):
        raise ValueError(f'PCA basis {path} must be a .npy, .pt or .pth file')
    loaded: object
    try:
        if path.suffix == '.npy':
            loaded = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            loaded = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # numpy and torch report damage as any of ten exception types
        reason = textwrap.shorten(str(error), 200, placeholder=' ...') or type(error).__name__
        raise ValueError(f'PCA basis {path} cannot be read: {reason}') from error
    if not isinstance(loaded, Tensor) or not loaded.is_floating_point() or loaded.ndim != 2:
        raise ValueError(f'PCA basis {path} must hold one array of floating point numbers')
    return loaded.float().contiguous()


def _load_shipped_basis(scale: int, kernel_size: int, code_length: int) -> Tensor:
    folder = resources.files('manet_basicsr.degradation') / 'pca'
    shipped = folder / pca_file_name(scale, kernel_size, code_length, 'centered')
    if not shipped.is_file():
        names = ', '.join(sorted(entry.name for entry in folder.iterdir() if entry.name.endswith('.npy')))
        raise ValueError(
            f'no PCA basis is shipped for scale {scale}, kernel_size {kernel_size}, code_length {code_length} (there '
            f'are {names}); make one with scripts/compute_pca.py (there also for the published alignment) and name the '
            'file in pca_path'
        )
    with shipped.open('rb') as file:
        return _checked_basis(torch.from_numpy(np.load(file)), (kernel_size**2, code_length), shipped.name)


def _checked_basis(loaded: Tensor, shape: tuple[int, int], source: str) -> Tensor:
    if tuple(loaded.shape) != shape:
        raise ValueError(
            f'PCA basis {source} has shape {tuple(loaded.shape)}, expected {shape} (kernel_size**2, code_length)'
        )
    return loaded.float().contiguous()
