"""HAN: the residual groups of RCAN, whose outputs and channels attend to each other."""

from __future__ import annotations

import torch
from basicsr.archs.arch_util import Upsample
from basicsr.archs.rcan_arch import ResidualGroup
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

#: Mean of DIV2K's images, RGB, which RCAN and HAN subtract.
DIV2K_MEAN = (0.4488, 0.4371, 0.4040)


class LayerAttention(nn.Module):
    """Weigh feature maps of several depths by how they differ, ``gamma A X + X`` with ``A = softmax(max E - E)``.

    ``E = X X'`` holds the products of the maps, not divided by their size, as in the release: with an image range of
    255 the softmax is one-hot.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, stacked: Tensor) -> Tensor:
        """Map ``stacked`` (B, N, C, h, w) to (B, N * C, h, w)."""
        maps = stacked.flatten(2)
        # The sum runs over a whole image: too long for half precision.
        with torch.autocast(maps.device.type, enabled=False):
            energy = maps.float() @ maps.float().mT
            attention = (energy.amax(2, keepdim=True) - energy).softmax(2)
        attended = self.gamma * (attention.to(maps.dtype) @ maps) + maps
        return attended.view_as(stacked).flatten(1, 2)


class ChannelSpatialAttention(nn.Module):
    """Weigh a feature by a 3D convolution over channels and positions, ``f + gamma f sigmoid(conv(f))``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, 1, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``feature`` (B, C, h, w) to the same shape."""
        weight = self.conv(feature[:, None])[:, 0].sigmoid()
        return feature + self.gamma * feature * weight


@ARCH_REGISTRY.register()
class HAN(nn.Module):
    """Super-resolve images that were reduced without blur (holistic attention network, ECCV 2020).

    Args:
        num_in_ch: Channels of the LR image, 3 (colours) as those of ``num_out_ch``.
        num_out_ch: Channels of the SR image.
        scale: Upsampling factor, a power of 2, or 3.
        num_feat: Width, a multiple of ``squeeze_factor``.
        num_group: Residual groups, at least 1.
        num_block: Blocks with channel attention in each group.
        squeeze_factor: By how much channel attention narrows.
        img_range: What an image's largest value counts as. The release has 255, with which training explodes.

    Raises:
        ValueError: If ``num_group`` or ``num_block`` is below 1, the channels differ, or the scale is another number.
    """

    mean: Tensor

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_group: int = 10,
        num_block: int = 20,
        squeeze_factor: int = 16,
        img_range: float = 1.0,
    ) -> None:
        super().__init__()
        if min(num_group, num_block) < 1:
            raise ValueError(f'num_group is {num_group}, num_block {num_block}, expected at least 1 of each')
        if num_in_ch != num_out_ch:
            raise ValueError(f'num_in_ch is {num_in_ch}, num_out_ch {num_out_ch}, expected the same')
        self.scale = scale
        self.img_range = img_range
        mean = torch.tensor(DIV2K_MEAN) if num_in_ch == 3 else torch.tensor(DIV2K_MEAN).mean().expand(num_in_ch)
        self.register_buffer('mean', mean.clone().view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.body = nn.ModuleList(ResidualGroup(num_feat, num_block, squeeze_factor) for _ in range(num_group))
        self.body.append(nn.Conv2d(num_feat, num_feat, 3, 1, 1))
        self.layer_attention = LayerAttention()
        self.conv_layers = nn.Conv2d((num_group + 1) * num_feat, num_feat, 3, 1, 1)
        self.channel_spatial_attention = ChannelSpatialAttention()
        self.conv_fuse = nn.Conv2d(2 * num_feat, num_feat, 3, 1, 1)
        self.upsample = Upsample(scale, num_feat)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolve ``lq`` (B, num_in_ch, h, w), values in [0, 1], to (B, num_out_ch, scale * h, scale * w)."""
        head = self.conv_first((lq - self.mean) * self.img_range)
        feature, outputs = head, []
        for member in self.body:
            feature = member(feature)
            outputs.append(feature)
        layers = self.conv_layers(self.layer_attention(torch.stack(outputs[::-1], dim=1)))
        fused = self.conv_fuse(torch.cat((self.channel_spatial_attention(feature), layers), dim=1))
        return self.conv_last(self.upsample(fused + head)) / self.img_range + self.mean
