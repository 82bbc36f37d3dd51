"""CFSNet: a main and a tuning branch, blended by how wide the blur is."""

from __future__ import annotations

import math

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.archs.blur_width import blur_widths
from manet_basicsr.archs.kernel_code import check_field_size
from manet_basicsr.degradation import training_variance_range

#: Widths of the layers that make a vector of the one number which a network is controlled by.
_CONTROL = (512, 256, 128, 64)


def _block(num_feat: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(num_feat, num_feat, 3, 1, 1, bias=bias),
        nn.ReLU(inplace=True),
        nn.Conv2d(num_feat, num_feat, 3, 1, 1, bias=bias),
    )


def _tail(num_feat: int, scale: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(num_feat, num_feat, 3, 1, 1, bias=False)]
    for factor in [2] * int(math.log2(scale)) if scale & (scale - 1) == 0 else [scale]:
        layers += [nn.Conv2d(num_feat, num_feat * factor**2, 1, bias=False), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers)


def initialize_small(network: nn.Module) -> None:
    """Draw weights as Kaiming's initialisation does, a tenth as large, and set biases to 0."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            module.weight.data.mul_(0.1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@ARCH_REGISTRY.register()
class CFSNet(nn.Module):
    """Super-resolve an LR image, given how wide its blur is (controllable feature space network, ICCV 2019).

    Each block is ``(1 - alpha) main(x) + alpha tuning(x)`` with one alpha a channel, a learned number times a control
    a. There a is set by hand; here it is where the width of the kernel lies between the narrowest and the widest that
    training has, for each LR pixel. There the main branch is trained at a = 0 and then the tuning branch at a = 1; here
    both are trained together on all widths.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the SR image.
        scale: Upsampling factor, at least 1.
        num_feat: Width.
        num_block: Residual blocks of each branch, at least 1.
        kernel_size: Side of the kernels, in HR pixels.

    Raises:
        ValueError: If ``scale`` or ``num_block`` is below 1.
    """

    output_layers = ('last',)

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 30,
        kernel_size: int = 21,
    ) -> None:
        super().__init__()
        if min(scale, num_block) < 1:
            raise ValueError(f'scale is {scale}, num_block {num_block}, expected at least 1 of each')
        self.scale, self.kernel_size = scale, kernel_size
        self.floats_per_pixel = 9 * kernel_size**2 + 4 * num_feat * scale**2
        self.head = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1, bias=False)
        self.main = nn.ModuleList(_block(num_feat, bias=True) for _ in range(num_block))
        self.main_tail = _tail(num_feat, scale)
        self.last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1, bias=False)
        self.tuning = nn.ModuleList(_block(num_feat, bias=False) for _ in range(num_block))
        self.tuning_tail = _tail(num_feat, scale)
        pairs = zip(_CONTROL, _CONTROL[1:], strict=False)
        self.control = nn.Sequential(*(nn.Linear(inner, outer, bias=False) for inner, outer in pairs))
        width = _CONTROL[-1]
        self.coefficients = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width, bias=False), nn.Linear(width, num_feat, bias=False))
            for _ in range(num_block + 1)
        )
        initialize_small(self)

    def level(self, field: Tensor) -> Tensor:
        """Give the control a in [0, 1], (B, 1, h, w), of a field (B, k*k, h, w)."""
        low, high = (math.sqrt(variance) for variance in training_variance_range(self.scale))
        return ((blur_widths(field) - low) / (high - low)).clamp(0, 1)

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
        head = self.head(lq)
        level = self.level(field).to(head.dtype)
        # Without bias and nonlinearity all coefficients are the level times those of level 1.
        vector = self.control(lq.new_ones(_CONTROL[0]))
        alphas = [layers(vector).view(1, -1, 1, 1) * level for layers in self.coefficients]
        feature = head
        for main, tuning, alpha in zip(self.main, self.tuning, alphas, strict=False):
            feature = torch.lerp(feature + main(feature), tuning(feature), alpha.to(feature.dtype))
        total = feature + head
        alpha = alphas[-1] if level.shape[-2:] == (1, 1) else F.interpolate(alphas[-1], scale_factor=self.scale)
        return self.last(torch.lerp(self.main_tail(total), self.tuning_tail(total), alpha.to(total.dtype)))
