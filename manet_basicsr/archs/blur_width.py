"""How wide the kernels of a field are: the number that modulated networks are told of a blur."""

from __future__ import annotations

from torch import Tensor

from manet_basicsr.degradation import kernel_covariances

_LEAST_VARIANCE = 1e-12  # below, the root's slope has no bounds


def blur_widths(field: Tensor) -> Tensor:
    """Give the standard deviation of each kernel, the root of its mean variance along both axes.

    Args:
        field: ``(B, k*k, h, w)``, h and w may be 1.

    Returns:
        ``(B, 1, h, w)`` in HR px, float32.
    """
    batch, taps, height, width = field.shape
    covariances = kernel_covariances(field.permute(0, 2, 3, 1).reshape(-1, taps))
    variances = covariances.diagonal(dim1=1, dim2=2).mean(1).clamp(min=_LEAST_VARIANCE)
    return variances.sqrt().float().view(batch, 1, height, width)
