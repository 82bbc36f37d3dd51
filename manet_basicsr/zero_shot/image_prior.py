"""The image prior of deep image prior and its descendants: an hourglass network that noise goes through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _unit(inner: int, outer: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution with reflection padding, batch normalisation, LeakyReLU 0.2."""
    # Reflecting no pixels would copy the feature.
    mode: Literal['reflect', 'zeros'] = 'reflect' if kernel > 1 else 'zeros'
    return nn.Sequential(
        nn.Conv2d(inner, outer, kernel, stride, kernel // 2, padding_mode=mode),
        nn.BatchNorm2d(outer),
        nn.LeakyReLU(0.2, inplace=True),
    )


class NonLocalBlock(nn.Module):
    """Each position plus a weighed sum of all, ``x + norm(conv(theta phi' / N g))``, which starts as nothing.

    Args:
        num_feat: Channels; the products are taken in half of them.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        inner = num_feat // 2
        self.theta, self.phi, self.g = (nn.Conv2d(num_feat, inner, 1) for _ in range(3))
        self.out = nn.Sequential(nn.Conv2d(inner, num_feat, 1), nn.BatchNorm2d(num_feat))
        nn.init.zeros_(self.out[1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.out[1].bias)  # type: ignore[arg-type]

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``feature`` (B, num_feat, h, w) to the same shape."""
        theta = self.theta(feature).flatten(2)
        phi, g = (_halved(part(feature)).flatten(2) for part in (self.phi, self.g))
        # (theta phi') g = theta (phi' g): the same sum, without a product of each position with each.
        mixed = (g @ phi.mT) @ theta / phi.shape[2]
        return feature + self.out(mixed.view(*mixed.shape[:2], *feature.shape[-2:]))


def _halved(feature: Tensor) -> Tensor:
    """Take the largest of each 2x2 positions, where there are as many."""
    return feature if min(feature.shape[-2:]) < 2 else F.max_pool2d(feature, 2)


class _Level(nn.Module):
    """One size of the hourglass, and all smaller ones."""

    def __init__(
        self, num_in: int, width: int, skip: int, levels: int, non_local: Sequence[int], depth: int = 0
    ) -> None:
        super().__init__()
        self.skip = _unit(num_in, skip, 1)
        self.down = _unit(num_in, width, 3, 2)
        self.attention = NonLocalBlock(width) if depth in non_local else nn.Identity()
        self.conv = _unit(width, width, 3)
        deeper = depth + 1 < levels
        self.deeper = _Level(width, width, skip, levels, non_local, depth + 1) if deeper else nn.Identity()
        self.norm = nn.BatchNorm2d(width + skip)
        self.merge = nn.Sequential(_unit(width + skip, width, 3), _unit(width, width, 1))

    def forward(self, feature: Tensor) -> Tensor:
        skipped = self.skip(feature)
        inner = self.deeper(self.conv(self.attention(self.down(feature))))
        enlarged = F.interpolate(inner, scale_factor=2, mode='bilinear', align_corners=False)
        height, width = (min(pair) for pair in zip(skipped.shape[-2:], enlarged.shape[-2:], strict=True))
        return self.merge(self.norm(torch.cat([_middle(part, height, width) for part in (skipped, enlarged)], 1)))


def _middle(feature: Tensor, height: int, width: int) -> Tensor:
    top, left = (feature.shape[-2] - height) // 2, (feature.shape[-1] - width) // 2
    return feature[..., top : top + height, left : left + width]


class HourglassPrior(nn.Module):
    """Make an image (1, 3, H, W) in [0, 1] of noise (1, num_in, H, W): what it can make easily looks like an image.

    Batch normalisation always works with the statistics of the one image.

    Args:
        num_in: Channels of the noise.
        width: Channels of all levels.
        skip: Channels of the connections between the two halves.
        levels: How often the size is halved.
        non_local: Levels, from 0, that have a non-local block.

    Source: Ulyanov, Vedaldi and Lempitsky, "Deep image prior", CVPR 2018.
    """

    def __init__(
        self, num_in: int = 32, width: int = 128, skip: int = 4, levels: int = 5, non_local: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.levels = levels
        self.body = _Level(num_in, width, skip, levels, non_local)
        self.last = nn.Conv2d(width, 3, 1)

    def forward(self, noise: Tensor) -> Tensor:
        """Make the image.

        Raises:
            ValueError: The image is too small to be halved so often.
        """
        least = 2**self.levels + 1  # the smallest feature has two positions an axis: one has no spread and no mirror
        if min(noise.shape[-2:]) < least:
            height, width = noise.shape[-2:]
            raise ValueError(f'an image of {height} x {width} HR px is too small, expected at least {least} x {least}')
        return self.last(self.body(noise)).sigmoid()
