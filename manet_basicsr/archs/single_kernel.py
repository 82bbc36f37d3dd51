"""What blind networks have in common that find one kernel for a whole image by looking at what it restores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from manet_basicsr.archs.blind_sr_arch import build_part
from manet_basicsr.archs.kernel_code import KernelCodeNet
from manet_basicsr.degradation.pca import kernels_from_codes, mean_kernel


class SingleKernelNet(nn.Module):
    """A blind network that answers with one kernel an image, found by averaging over all of it.

    Images cannot be cut into tiles: each would get a kernel of its own.

    Attributes:
        needs_whole_image: True.
    """

    needs_whole_image = True
    scale: int

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolve ``lq`` (B, C, h, w), values in [0, 1], to (B, C, scale * h, scale * w)."""
        return self.restore(lq, self.estimate(lq))

    def estimate(self, lq: Tensor) -> Tensor:
        """Estimate the kernel (B, k*k, 1, 1) of ``lq`` (B, C, h, w)."""
        raise NotImplementedError

    def restore(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve ``lq`` (B, C, h, w) with a given kernel field (B, k*k, h, w) or (B, k*k, 1, 1)."""
        raise NotImplementedError


def build_generator(options: Mapping[str, Any]) -> KernelCodeNet:
    """Build a generator whose field enters as kernel code, which is what can be corrected.

    Raises:
        ValueError: It is none, or as for the parts of :class:`BlindSRNet`.
    """
    generator = build_part('generator', options)
    if not isinstance(generator, KernelCodeNet):
        raise ValueError(f'generator.type is {options["type"]}, expected one with a kernel code, such as SFTRRDBNet')
    return generator


class KernelOfCode(nn.Module):
    """The kernels that codes on a PCA basis stand for.

    Args:
        generator: The network whose basis it is. The mean is that of the training kernels of its scale, on the grid of
            its basis.
    """

    mean: Tensor

    def __init__(self, generator: KernelCodeNet) -> None:
        super().__init__()
        self.register_buffer('mean', mean_kernel(generator.scale, generator.kernel_size, generator.grid).clone())

    def forward(self, code: Tensor, basis: Tensor) -> Tensor:
        """Give the field (B, k*k, 1, 1) of codes (B, L); ``basis`` is the generator's ``pca_matrix``."""
        kernels = kernels_from_codes(code.float(), basis[0, :, :, 0, 0].float(), self.mean.float())
        return kernels[:, :, None, None]
