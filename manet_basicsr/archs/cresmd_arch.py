"""CResMD: residuals weighed by how wide the blur is."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.archs.blur_width import blur_widths
from manet_basicsr.archs.cfsnet_arch import initialize_small
from manet_basicsr.archs.kernel_code import check_field_size

#: Standard deviation in HR px that counts as 1: the largest that the paper is trained with.
_WIDEST = 4.0


class _WeighedBlock(nn.Module):
    """``x + l(c) * conv(ReLU(conv(x)))`` with weights l of the condition c, one a channel."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        )
        self.weight = nn.Conv2d(1, num_feat, 1)

    def forward(self, feature: Tensor, condition: Tensor) -> Tensor:
        return feature + self.weight(condition) * self.body(feature)


@ARCH_REGISTRY.register()
class CResMD(nn.Module):
    """Restore the bicubically enlarged image, given how wide its blur is (conditional residual network, ECCV 2020).

    ``sr = up + g(c) * body(up, c)`` with ``up`` the enlarged image; the condition c is the standard deviation of the
    kernel in HR px, divided by 4. There it is one number an image, beside levels of noise and compression; here that of
    each LR pixel, for which the linear layers are 1x1 convolutions.

    Args:
        num_in_ch: Channels of the LR image, the same as of the SR image.
        num_out_ch: Channels of the SR image.
        scale: Upsampling factor, at least 1.
        num_feat: Width.
        num_block: Blocks, at least 1.
        kernel_size: Side of the kernels, in HR pixels.

    Raises:
        ValueError: If ``scale`` or ``num_block`` is below 1, or the channels differ.
    """

    output_layers = ('tail.2', 'weight')  # whose product is what is added to the enlarged image

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 32,
        kernel_size: int = 21,
    ) -> None:
        super().__init__()
        if min(scale, num_block) < 1 or num_in_ch != num_out_ch:
            raise ValueError(
                f'scale is {scale}, num_block {num_block}, num_in_ch {num_in_ch}, num_out_ch {num_out_ch}, expected at '
                'least 1 of each and as many channels in as out'
            )
        self.scale, self.kernel_size = scale, kernel_size
        self.floats_per_pixel = 9 * kernel_size**2 + 4 * num_feat * scale**2
        self.head = nn.Conv2d(num_in_ch, num_feat, 3, 2, 1)
        self.body = nn.ModuleList(_WeighedBlock(num_feat) for _ in range(num_block))
        self.upsample = nn.Sequential(
            nn.Conv2d(num_feat, 4 * num_feat, 3, 1, 1), nn.PixelShuffle(2), nn.ReLU(inplace=True)
        )
        self.tail = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, 1, 1), nn.ReLU(inplace=True), nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)
        )
        self.weight = nn.Conv2d(1, num_out_ch, 1)
        initialize_small(self)

    def forward(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve an LR image.

        Args:
            lq: (B, num_in_ch, h, w), values in [0, 1].
            field: Its kernel field, (B, kernel_size^2, h, w) or (B, kernel_size^2, 1, 1); a batch of 1 serves all.

        Returns:
            (B, num_out_ch, scale * h, scale * w), not clipped.

        Raises:
            ValueError: If the field does not fit the image or the kernel size.
        """
        check_field_size(lq, field, self.kernel_size)
        size = [side * self.scale for side in lq.shape[-2:]]
        # By Keys' cubic; without antialiasing it is OpenCV's. The CPU has no form in half precision.
        enlarged = F.interpolate(lq.float(), size, mode='bicubic', antialias=True).to(lq.dtype)
        condition = (blur_widths(field) / _WIDEST).to(lq.dtype)
        feature = self.head(enlarged)
        single = condition.shape[-2:] == (1, 1)
        small = condition if single else F.interpolate(condition, feature.shape[-2:])
        for block in self.body:
            feature = block(feature, small)
        residual = self.tail(self.upsample(feature))[..., : size[0], : size[1]]
        large = condition if single else F.interpolate(condition, size)
        return torch.addcmul(enlarged, self.weight(large).to(enlarged.dtype), residual.to(enlarged.dtype))
