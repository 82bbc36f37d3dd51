"""A loss on what a generator makes of estimated kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.archs.blind_sr_arch import build_part


@LOSS_REGISTRY.register()
class IndirectLoss(nn.Module):
    """Mean absolute difference of the images that a frozen generator G makes with estimated and with true kernels.

    ``loss_weight * mean |G(lq, field) - G(lq, target)|``: kernels count as far as the generator heeds them. It is
    neither a loss on the HR image, whose detail no kernel brings back, nor on the LR image, which hardly depends on
    the kernels where it is flat.

    Args:
        generator: Options in BasicSR's form, and ``pretrained`` and ``param_key`` as in :class:`BlindSRNet`.
        loss_weight: Factor of the result.

    Source: Lew et al. (PerPix, Kernel Collage), IEEE Access 2021.

    Examples:
        >>> loss = IndirectLoss({'type': 'SFTRRDBNet', 'num_feat': 8, 'num_block': 1})
        >>> field = torch.full((1, 441, 8, 8), 1 / 441)
        >>> loss(field, field, torch.rand(1, 3, 8, 8))
        tensor(0.)
    """

    def __init__(self, generator: Mapping[str, Any], loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.generator = build_part('generator', generator).requires_grad_(False).eval()

    def forward(self, field: Tensor, target: Tensor, lq: Tensor) -> Tensor:
        """Compare what estimated and true kernels make of an LR image; only ``field`` gets a gradient.

        Args:
            field: (B, k*k, h, w).
            target: (B, k*k, h, w) or (B, k*k, 1, 1).
            lq: (B, C, h, w).

        Returns:
            A scalar, float32.
        """
        # What two kernels make of an image differs by less than the steps of bfloat16.
        with torch.autocast(lq.device.type, enabled=False):
            lq = lq.float()
            with torch.no_grad():
                true = self.generator(lq, target.float())
            return self.loss_weight * F.l1_loss(self.generator(lq, field.float()), true)
