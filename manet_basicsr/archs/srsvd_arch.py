"""SRSVD: a network that predicts by what a wrong kernel has changed an image, beside the generator that made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from manet_basicsr.archs.single_kernel import build_generator

_GROWTH = 16
_LAYERS = 5


class DenseBlock(nn.Module):
    """Five layers, each of all before it, and their sum with the input.

    Args:
        num_feat: Channels of input and output.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        widths = [num_feat + number * _GROWTH for number in range(_LAYERS)]
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, _GROWTH, 3, 1, 1))
            for width in widths
        )
        self.merge = nn.Conv2d(num_feat + _LAYERS * _GROWTH, num_feat, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``feature`` (B, num_feat, h, w) to the same shape."""
        stacked = feature
        for layer in self.layers:
            stacked = torch.cat((stacked, layer(stacked)), dim=1).relu()
        return feature + self.merge(stacked).relu()


class KernelErrorNet(nn.Module):
    """Predict the signed error of an SR image that comes of a wrong kernel.

    Args:
        num_in_ch: Channels of the LR and the SR image.
        num_feature: Channels of the generator's features.
        code_length: Length of the kernel code.
        scale: Upsampling factor.
        num_feat: Width.
        num_block: Dense blocks.
    """

    def __init__(
        self, num_in_ch: int, num_feature: int, code_length: int, scale: int, num_feat: int, num_block: int
    ) -> None:
        super().__init__()
        self.head = nn.Conv2d(num_in_ch + num_feature + code_length, num_feat, 3, 1, 1)
        self.body = nn.Sequential(*(DenseBlock(num_feat) for _ in range(num_block)))
        self.tail = nn.Sequential(nn.Conv2d(num_feat, num_in_ch * scale**2, 3, 1, 1), nn.PixelShuffle(scale))

    def forward(self, lq: Tensor, features: Tensor, code: Tensor) -> Tensor:
        """Predict the error (B, C, s*h, s*w) of what the generator made of its features (B, F, h, w) with a code."""
        stretched = code.expand(len(lq), -1, *lq.shape[-2:])
        return self.tail(self.body(self.head(torch.cat((lq, features, stretched), dim=1)).relu()))


@ARCH_REGISTRY.register()
class SRSVDNet(nn.Module):
    """A frozen generator and a network that tells by what a kernel is wrong (SRSVD, SIGGRAPH Asia 2019).

    The kernels of an image are those of which the predicted error is least; the solver ``srsvd`` looks for them. Here
    any generator serves that hands out its features, and kernels enter as PCA codes.

    Args:
        generator: Options in BasicSR's form, and ``pretrained`` and ``param_key`` as in :class:`BlindSRNet`; of a
            type with ``features``, such as ``SFTRRDBNet``.
        num_in_ch: Channels of the LR image.
        num_feat: Width of the error network.
        num_block: Its dense blocks, at least 1.

    Raises:
        ValueError: If ``num_block`` is below 1, or the generator hands out no features.
    """

    run_by = 'KernelErrorModel'  # others take what it gives for an image

    def __init__(
        self, generator: Mapping[str, Any], num_in_ch: int = 3, num_feat: int = 64, num_block: int = 8
    ) -> None:
        super().__init__()
        if num_block < 1:
            raise ValueError(f'num_block is {num_block}, expected at least 1')
        built: Any = build_generator(generator).requires_grad_(False).eval()
        if not callable(getattr(built, 'features', None)):
            raise ValueError(f'generator.type is {generator["type"]}, expected one with features, such as SFTRRDBNet')
        self.generator = built
        self.scale, self.kernel_size = built.scale, built.kernel_size
        code_length = built.pca_matrix.shape[2]
        self.error_net = KernelErrorNet(num_in_ch, built.num_feat, code_length, built.scale, num_feat, num_block)

    def forward(self, lq: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
        """Restore an image with a kernel, and predict the error that comes of it.

        Args:
            lq: (B, C, h, w), values in [0, 1].
            field: (B, k*k, h, w) or (B, k*k, 1, 1).

        Returns:
            The SR image and its predicted error, (B, C, s*h, s*w) both.
        """
        # What two kernels make of an image differs by less than the steps of bfloat16.
        with torch.autocast(lq.device.type, enabled=False):
            features = self.generator.features(lq, field)
            sr = self.generator.upsampler(features)
        return sr, self.error_net(lq, features, self.generator.kernel_code(field).to(features.dtype))

    def train(self, mode: bool = True) -> SRSVDNet:
        """Set training mode; the frozen generator stays in evaluation mode."""
        super().train(mode)
        self.generator.eval()
        return self
