"""EDSR with mutual affine convolutions: MABlock outside MANet."""

from __future__ import annotations

from basicsr.archs.arch_util import Upsample
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from manet_basicsr.archs.maconv_arch import MABlock


@ARCH_REGISTRY.register()
class MAEDSR(nn.Module):
    """Super-resolve with the body of EDSR (CVPR 2017) made of :class:`MABlock`, ``sr = up(head + body(head))``.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the SR image.
        scale: Upsampling factor, a power of 2, or 3.
        num_feat: Width, at least ``split``.
        num_block: MABlocks, at least 1.
        split: Groups of the mutual affine convolutions, at least 2.

    Raises:
        ValueError: If ``num_block`` is below 1, the scale is another number, or as in :class:`MABlock`.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 16,
        split: int = 2,
    ) -> None:
        super().__init__()
        if num_block < 1:
            raise ValueError(f'num_block is {num_block}, expected at least 1')
        self.scale = scale
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        blocks = [MABlock(num_feat, num_feat, split=split) for _ in range(num_block)]
        self.body = nn.Sequential(*blocks, nn.Conv2d(num_feat, num_feat, 3, 1, 1))
        self.upsample = Upsample(scale, num_feat)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolve ``lq`` (B, num_in_ch, h, w), values in [0, 1], to (B, num_out_ch, scale * h, scale * w)."""
        head = self.conv_first(lq)
        return self.conv_last(self.upsample(head + self.body(head)))
