"""What generators that are given a kernel field have in common: the projection of the field on a PCA basis."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.degradation.pca import load_pca_basis


class KernelCodeNet(nn.Module):
    """A network whose kernel field enters as kernel code, its projection on a PCA basis.

    The basis is the buffer ``pca_matrix`` (1, kernel_size^2, code_length, 1, 1): a constant of the construction until a
    state dict replaces it.

    Args:
        scale: Upsampling factor, at least 1.
        kernel_size: Side of the kernels, in HR pixels.
        code_length: Length of the kernel code.
        pca_path: File with the PCA basis; None takes the one shipped for (scale, kernel_size, code_length).
        pca_matrix: The basis itself, (kernel_size^2, code_length), instead of a file.

    Raises:
        ValueError: If ``scale`` is below 1, the basis has another shape or is given twice, or none is shipped for these
            sizes: ``scripts/compute_pca.py`` makes one.
        FileNotFoundError: If ``pca_path`` does not exist.
    """

    pca_matrix: Tensor

    def __init__(
        self, scale: int, kernel_size: int, code_length: int, pca_path: str | None, pca_matrix: Tensor | None = None
    ) -> None:
        super().__init__()
        if scale < 1:
            raise ValueError(f'scale is {scale}, expected at least 1')
        self.scale = scale
        self.kernel_size = kernel_size
        if pca_matrix is None:
            basis = load_pca_basis(scale, kernel_size, code_length, pca_path)
        else:
            basis = _checked_matrix(pca_matrix, kernel_size, code_length, pca_path)
        self.register_buffer('pca_matrix', basis.clone().view(1, kernel_size**2, code_length, 1, 1))

    @property
    def alignment(self) -> str:
        """The grid on which the kernels lie whose basis this is: ``centered``, ``published``, or ``unknown``."""
        if self.pca_matrix.is_meta:  # built without memory
            return 'unknown'
        return alignment_of_basis(self.pca_matrix.detach()[0, :, :, 0, 0], self.scale)

    @property
    def grid(self) -> str:
        """The grid to make kernels on for this network: its :attr:`alignment`, ``centered`` where that is unknown."""
        found = self.alignment
        return 'centered' if found == 'unknown' else found

    def kernel_code(self, field: Tensor) -> Tensor:
        """Project a kernel field on the PCA basis, ``code = basis^T field``, without subtracting the mean kernel.

        Args:
            field: (B, kernel_size^2, h, w), h and w may be 1.

        Returns:
            (B, code_length, h, w), in float32 (a half-precision sum over the taps loses the code's small entries), or
            float64 for a float64 network.
        """
        dtype = torch.promote_types(self.pca_matrix.dtype, torch.float32)
        projection = self.pca_matrix[0].transpose(0, 1).flatten(2).unsqueeze(-1).to(dtype)
        with torch.autocast(field.device.type, enabled=False):
            return F.conv2d(field.to(dtype), projection)

    def check_field(self, lq: Tensor, field: Tensor) -> None:
        """Refuse a field that does not fit an LR image or the kernel size.

        Raises:
            ValueError: It does not.
        """
        check_field_size(lq, field, self.kernel_size)


def alignment_of_basis(basis: Tensor, scale: int) -> str:
    """Tell the grid on which the kernels of a PCA basis lie: ``centered``, ``published``, or ``unknown``.

    Kernels of scale s are 0 in the first s - 1 rows and columns where they are ``centered``, in the last ones where
    they are ``published``, and so is their basis. At scale 1 both are the same: ``centered``.

    Args:
        basis: (kernel_size^2, code_length).
        scale: Of its kernels.
    """
    side, margin = math.isqrt(len(basis)), scale - 1
    weight = basis.abs().sum(1).view(side, side)
    limit = 1e-6 * weight.sum().item()
    first = weight[:margin].sum() + weight[:, :margin].sum()
    last = weight[side - margin :].sum() + weight[:, side - margin :].sum()
    if first.item() <= limit:
        return 'centered'
    return 'published' if last.item() <= limit else 'unknown'


def check_field_size(lq: Tensor, field: Tensor, kernel_size: int) -> None:
    """Refuse a field that does not fit an LR image or the kernel size.

    Raises:
        ValueError: It does not.
    """
    batch, _, height, width = lq.shape
    taps = kernel_size**2
    fits = field.dim() == 4 and field.shape[0] in (1, batch) and field.shape[1] == taps
    if not fits or tuple(field.shape[-2:]) not in ((height, width), (1, 1)):
        raise ValueError(
            f'kernel field has shape {tuple(field.shape)}, expected ({batch}, {taps}, {height}, {width}) or '
            f'({batch}, {taps}, 1, 1) for an LR image of shape {tuple(lq.shape)} and kernel_size {kernel_size}'
        )


def _checked_matrix(matrix: Tensor, kernel_size: int, code_length: int, pca_path: str | None) -> Tensor:
    if pca_path is not None:
        raise ValueError('pca_path and pca_matrix both give the PCA basis; leave one out')
    if not isinstance(matrix, Tensor) or not matrix.is_floating_point():
        raise ValueError(
            f'pca_matrix is {type(matrix).__name__}, expected a floating point tensor; pca_path takes a file'
        )
    if tuple(matrix.shape) != (kernel_size**2, code_length):
        raise ValueError(
            f'pca_matrix has shape {tuple(matrix.shape)}, expected {(kernel_size**2, code_length)} '
            '(kernel_size**2, code_length)'
        )
    return matrix.detach().float()
