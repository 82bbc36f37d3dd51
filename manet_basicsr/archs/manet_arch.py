"""MANet, the estimator of kernel fields."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.archs.maconv_arch import MABlock
from manet_basicsr.utils.messages import unknown_name
from manet_basicsr.weights import ESTIMATOR_PREFIX

CONVOLUTIONS = ('maconv', 'conv', 'groupconv')
_HIGH_PASS_GAIN = 5.0
SIZE_MULTIPLE = 8
"""The estimator pads its input to a multiple of this, as for the released weights (one halving would need only 2)."""


class ConvBlock(nn.Module):
    """Residual block of two ordinary or group convolutions, ``x + conv(ReLU(conv(x)))``, in the place of MABlock.

    Args:
        channels: Channels of input and output.
        groups: Groups of the convolutions, a divisor of ``channels``.
    """

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ValueError(f'{channels} channels cannot be cut into {groups} groups of equal size')
        self.res = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, groups=groups),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, groups=groups),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, channels, h, w) to the same shape."""
        return x + self.res(x)


def _block(conv: str, channels: int, split: int) -> nn.Module:
    if conv == 'maconv':
        return MABlock(channels, channels, split=split)
    if conv not in CONVOLUTIONS:
        raise ValueError(unknown_name('conv', conv, CONVOLUTIONS))
    return ConvBlock(channels, groups=split if conv == 'groupconv' else 1)


@ARCH_REGISTRY.register()
class MANet(nn.Module):
    """Estimate the blur kernel behind each LR pixel (MANet, ICCV 2021).

    The softmax over the taps runs in float32 whatever the autocast, so each kernel sums to 1. State dicts have the
    released files' keys; the released prefix ``kernel_estimation.`` is accepted and not saved.

    Args:
        num_in_ch: Channels of the LR image.
        kernel_size: Side k of the kernels, in HR pixels.
        num_feat: Width at full LR resolution; twice that at half of it.
        num_block: MABlocks at each of the three places, at least 1. With 1 the receptive field is 22x22, with 2 38x38.
        split: Groups of the mutual affine or group convolutions, at least 2.
        conv: What the blocks are made of: ``maconv``, or for comparison ``conv`` (one convolution over all channels, so
            ``split`` is of no account) or ``groupconv`` (groups that do not know of each other).
        high_pass_head: Begin a training with head filters of mean zero, five times their usual size. They answer to
            detail, where blur shows, instead of brightness. docs/MODEL_CARD.md has what that brings a short training.

    Raises:
        ValueError: If ``kernel_size`` or ``num_block`` is below 1, ``split`` below 2, ``num_feat`` below ``split``,
            ``conv`` another word, or the groups of group convolutions are not of equal size.
    """

    output_layers = ('m_tail',)  # also within a blind network

    def __init__(
        self,
        num_in_ch: int = 3,
        kernel_size: int = 21,
        num_feat: int = 128,
        num_block: int = 1,
        split: int = 2,
        conv: str = 'maconv',
        high_pass_head: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (('kernel_size', kernel_size), ('num_block', num_block)):
            if value < 1:
                raise ValueError(f'{name} is {value}, expected at least 1')
        self.kernel_size = kernel_size
        # For tiling: the kernel of a pixel depends on no pixel farther away than this, and on where multiples lie.
        self.halo = 8 * num_block + 3
        self.size_multiple = SIZE_MULTIPLE
        # For restoring within a limit of memory: measured on the CPU (2.3 taps + 6.3 widths), rounded up.
        self.floats_per_pixel = 3 * kernel_size**2 + 8 * num_feat
        # Weights of any scale fit; who loads some of a known scale sets it.
        self.scale: int | None = None
        wide = 2 * num_feat

        def blocks(channels: int) -> list[nn.Module]:
            return [_block(conv, channels, split) for _ in range(num_block)]

        body = blocks(wide)
        self.m_head = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        if high_pass_head:
            with torch.no_grad():
                self.m_head.weight.sub_(self.m_head.weight.mean((2, 3), keepdim=True)).mul_(_HIGH_PASS_GAIN)
        self.m_down1 = nn.Sequential(*blocks(num_feat), nn.Conv2d(num_feat, wide, 2, 2))
        # The released files do not number the blocks of a sequence that has only one.
        self.m_body = body[0] if num_block == 1 else nn.Sequential(*body)
        self.m_up1 = nn.Sequential(nn.ConvTranspose2d(wide, num_feat, 2, 2), *blocks(num_feat))
        self.m_tail = nn.Conv2d(num_feat, kernel_size**2, 3, 1, 1)
        self.register_load_state_dict_pre_hook(_strip_released_prefix)

    def forward(self, lq: Tensor, *, as_logits: bool = False) -> Tensor:
        """Estimate the kernel field of an LR image.

        Args:
            lq: (B, num_in_ch, h, w), any size, values in [0, 1].
            as_logits: Whether to leave out :meth:`field_of_logits`, for a loss that takes logits.

        Returns:
            (B, kernel_size^2, h, w), non-negative, each kernel summing to 1; float32, or float64 for a float64 network.
            Or the logits of that, in the type of the network's computation.
        """
        height, width = lq.shape[-2:]
        padded = F.pad(lq, (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE), mode='replicate')
        head = self.m_head(padded)
        down = self.m_down1(head)
        up = self.m_up1(down + self.m_body(down))
        logits = self.m_tail(head + up)[..., :height, :width]
        return logits if as_logits else self.field_of_logits(logits)

    def field_of_logits(self, logits: Tensor) -> Tensor:
        """Make the kernel field (B, kernel_size^2, h, w) of logits: their softmax, at least in float32."""
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)


def _strip_released_prefix(_module: nn.Module, state_dict: dict[str, Any], prefix: str, *_arguments: Any) -> None:
    released = prefix + ESTIMATOR_PREFIX
    for key in [key for key in state_dict if key.startswith(released)]:
        state_dict[prefix + key.removeprefix(released)] = state_dict.pop(key)
