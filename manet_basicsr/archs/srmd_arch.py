"""SRMD: the kernel code stretched over the image and concatenated at the input."""

from __future__ import annotations

import math

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from manet_basicsr.archs.kernel_code import KernelCodeNet


@ARCH_REGISTRY.register()
class SRMDNet(KernelCodeNet):
    """Super-resolve an LR image whose kernel field is known, by plain convolutions (SRMD, CVPR 2018, noise-free form).

    ``sr = shuffle(conv(ReLU(conv(... ReLU(conv([lq, code]))))))``: the kernel code of each pixel (SRMD stretches that
    of the image's one kernel) is concatenated to the image. MANet's generator descends from it. Without SRMD's batch
    normalization, which later releases of it dropped.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the SR image.
        scale: Upsampling factor, at least 1.
        num_feat: Width of the convolutions.
        num_conv: Convolutions, the first and the last included, at least 2.
        kernel_size: Side of the kernels, in HR pixels.
        code_length: Length of the kernel code.
        pca_path: File with the PCA basis; None takes the one shipped for (scale, kernel_size, code_length).
        pca_matrix: The basis itself, a tensor (kernel_size^2, code_length), instead of a file.

    Raises:
        ValueError: If ``scale`` is below 1 or ``num_conv`` below 2, the basis has another shape or is given twice, or
            none is shipped for these sizes: ``scripts/compute_pca.py`` makes one.
        FileNotFoundError: If ``pca_path`` does not exist.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 128,
        num_conv: int = 12,
        kernel_size: int = 21,
        code_length: int = 15,
        pca_path: str | None = None,
        pca_matrix: Tensor | None = None,
    ) -> None:
        super().__init__(scale, kernel_size, code_length, pca_path, pca_matrix)
        if num_conv < 2:
            raise ValueError(f'num_conv is {num_conv}, expected at least 2')
        # For restoring within a limit of memory: more than was measured on the CPU (the larger of taps and 3.3 widths).
        self.floats_per_pixel = math.ceil(1.5 * kernel_size**2 + 4 * num_feat + 3 * num_out_ch * scale**2)
        layers: list[nn.Module] = []
        for width in (num_in_ch + code_length, *[num_feat] * (num_conv - 2)):
            layers += [nn.Conv2d(width, num_feat, 3, 1, 1), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, nn.Conv2d(num_feat, num_out_ch * scale**2, 3, 1, 1), nn.PixelShuffle(scale))
        self.output_layers = (f'body.{len(layers)}',)

    def forward(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve an LR image.

        Args:
            lq: (B, num_in_ch, h, w), values in [0, 1].
            field: Its kernel field, (B, kernel_size^2, h, w) or, for invariant blur, (B, kernel_size^2, 1, 1); a batch
                of 1 serves all images.

        Returns:
            (B, num_out_ch, scale * h, scale * w), values about [0, 1], not clipped.

        Raises:
            ValueError: If the field does not fit the image or the network's kernel size.
        """
        self.check_field(lq, field)
        code = self.kernel_code(field).to(lq.dtype).expand(lq.shape[0], -1, *lq.shape[-2:])
        return self.body(torch.cat((lq, code), dim=1))
