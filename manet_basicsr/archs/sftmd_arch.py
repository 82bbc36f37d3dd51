"""SFTMD: the generator of IKC, residual blocks with spatial feature transforms."""

from __future__ import annotations

import math

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from manet_basicsr.archs.kernel_code import KernelCodeNet
from manet_basicsr.archs.sft_rrdb_arch import SFTLayer


class SFTBlock(nn.Module):
    """Residual block whose two convolutions each follow a spatial feature transform.

    Args:
        num_feat: Channels of the feature.
        code_length: Channels of the kernel code.
    """

    def __init__(self, num_feat: int, code_length: int) -> None:
        super().__init__()
        self.sft1 = SFTLayer(num_feat, code_length)
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.sft2 = SFTLayer(num_feat, code_length)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, 1, 1)

    def forward(self, feature: Tensor, code: Tensor) -> Tensor:
        """Map ``feature`` (B, num_feat, h, w) to the same shape, given ``code`` (B, code_length, h, w)."""
        inner = self.conv1(torch.relu(self.sft1(feature, code)))
        return feature + self.conv2(torch.relu(self.sft2(inner, code)))


def _upsampler(scale: int, num_feat: int) -> nn.Sequential:
    factors = [2, 2] if scale == 4 else [scale]
    layers: list[nn.Module] = []
    for factor in factors:
        layers += [nn.Conv2d(num_feat, num_feat * factor**2, 3, 1, 1), nn.PixelShuffle(factor)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(*layers)


@ARCH_REGISTRY.register()
class SFTMD(KernelCodeNet):
    """Super-resolve an LR image whose kernel field is known (IKC, CVPR 2019).

    IKC stretches the code of one kernel over the image; a field of several serves as well. Without the blocks that the
    release builds and never runs. The result is clipped to [0, 1], in training too.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the SR image.
        scale: Upsampling factor, at least 1.
        num_feat: Width of the convolutions.
        num_block: Residual blocks, at least 1.
        kernel_size: Side of the kernels, in HR pixels.
        code_length: Length of the kernel code.
        pca_path: File with the PCA basis; None takes the one shipped for (scale, kernel_size, code_length).
        pca_matrix: The basis itself, a tensor (kernel_size^2, code_length), instead of a file.

    Raises:
        ValueError: If ``scale`` or ``num_block`` is below 1, the basis has another shape or is given twice, or none is
            shipped for these sizes: ``scripts/compute_pca.py`` makes one.
        FileNotFoundError: If ``pca_path`` does not exist.
    """

    output_layers = ('conv_last',)

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 16,
        kernel_size: int = 21,
        code_length: int = 15,
        pca_path: str | None = None,
        pca_matrix: Tensor | None = None,
    ) -> None:
        super().__init__(scale, kernel_size, code_length, pca_path, pca_matrix)
        if num_block < 1:
            raise ValueError(f'num_block is {num_block}, expected at least 1')
        # For restoring within a limit of memory: the last features, of the SR image's size, and what they come from.
        self.floats_per_pixel = math.ceil(1.5 * kernel_size**2 + 16 * num_feat + 3 * num_feat * scale**2)
        self.head = nn.Sequential(
            nn.Conv2d(num_in_ch, num_feat, 3, 1, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(num_feat, num_feat, 3, 1, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(num_feat, num_feat, 3, 1, 1),
        )
        self.body = nn.ModuleList(SFTBlock(num_feat, code_length) for _ in range(num_block))
        self.sft = SFTLayer(num_feat, code_length)
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.upsample = _upsampler(scale, num_feat)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 9, 1, 4)

    def forward(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve an LR image.

        Args:
            lq: (B, num_in_ch, h, w), values in [0, 1].
            field: Its kernel field, (B, kernel_size^2, h, w) or, for invariant blur, (B, kernel_size^2, 1, 1); a batch
                of 1 serves all images.

        Returns:
            (B, num_out_ch, scale * h, scale * w), values in [0, 1].

        Raises:
            ValueError: If the field does not fit the image or the network's kernel size.
        """
        self.check_field(lq, field)
        first = self.head(lq)
        code = self.kernel_code(field).to(first.dtype).expand(first.shape[0], -1, *first.shape[-2:])
        feature = first
        for block in self.body:
            feature = block(feature, code)
        feature = self.conv_after_body(self.sft(feature + first, code))
        return self.conv_last(self.upsample(feature)).clamp(0, 1)
