"""IKC: a kernel code for the whole image, corrected by looking at what it restores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from manet_basicsr.archs.single_kernel import KernelOfCode, SingleKernelNet, build_generator


def _convolutions(widths: list[int], strides: list[int], kernel: int) -> nn.Sequential:
    """Build convolutions, each followed by LeakyReLU 0.2."""
    layers: list[nn.Module] = []
    for inner, outer, stride in zip(widths, widths[1:], strides, strict=False):
        layers += [nn.Conv2d(inner, outer, kernel, stride, kernel // 2), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers)


class Predictor(nn.Module):
    """Guess the kernel code (B, code_length) of an LR image (B, C, h, w): six 5x5 convolutions and a mean.

    Args:
        num_in_ch: Channels of the image.
        num_feat: Width.
        code_length: Length of the code.
    """

    def __init__(self, num_in_ch: int, num_feat: int, code_length: int) -> None:
        super().__init__()
        widths = [num_in_ch, *[num_feat] * 5, code_length]
        self.body = _convolutions(widths, [1, 1, 1, 2, 1, 1], 5)

    def forward(self, lq: Tensor) -> Tensor:
        """Guess the code."""
        return self.body(lq).mean((2, 3))


class Corrector(nn.Module):
    """Tell by what a kernel code (B, code_length) is wrong, given the SR image (B, C, H, W) that it made.

    Args:
        num_in_ch: Channels of the image.
        num_feat: Width.
        code_length: Length of the code.
    """

    def __init__(self, num_in_ch: int, num_feat: int, code_length: int) -> None:
        super().__init__()
        self.image = _convolutions([num_in_ch, *[num_feat] * 7], [1, 2, 1, 2, 1, 1, 1], 5)
        self.code = nn.Sequential(
            nn.Linear(code_length, num_feat),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(num_feat, num_feat),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.body = _convolutions([2 * num_feat, 2 * num_feat, num_feat], [1, 1], 1)
        self.last = nn.Conv2d(num_feat, code_length, 1)

    def forward(self, sr: Tensor, code: Tensor) -> Tensor:
        """Give what is to be added to the code."""
        image = self.image(sr)
        stretched = self.code(code)[:, :, None, None].expand(-1, -1, *image.shape[-2:])
        return self.last(self.body(torch.cat((image, stretched), dim=1))).mean((2, 3))


@ARCH_REGISTRY.register()
class IKCNet(SingleKernelNet):
    """Find one kernel an image and super-resolve it (iterative kernel correction, CVPR 2019).

    A predictor guesses the kernel code; then ``code += corrector(generator(lq, code), code)`` as often as asked for.
    The result is that of the last correction, while the paper takes for each image the best of all, which needs the HR
    image. The generator is frozen. A code becomes a kernel by :func:`kernels_from_codes`, so any generator serves.

    Args:
        generator: Options in BasicSR's form, and ``pretrained`` and ``param_key`` as in :class:`BlindSRNet`.
        num_correction: How often the code is corrected. The paper's seven iterations correct six times.
        num_in_ch: Channels of the LR image.
        num_feat: Width of predictor and corrector.

    Raises:
        ValueError: If ``num_correction`` is negative, or the generator takes no kernel code.
    """

    trained_by = 'IKCModel'  # a loss on images reaches the last correction alone
    output_layers = ('predictor.body.10', 'corrector.last')  # of the codes, which are small numbers

    def __init__(
        self, generator: Mapping[str, Any], num_correction: int = 6, num_in_ch: int = 3, num_feat: int = 64
    ) -> None:
        super().__init__()
        if num_correction < 0:
            raise ValueError(f'num_correction is {num_correction}, expected at least 0')
        self.num_correction = num_correction
        self.generator = build_generator(generator).requires_grad_(False).eval()
        self.scale, self.kernel_size = self.generator.scale, self.generator.kernel_size
        code_length = self.generator.pca_matrix.shape[2]
        self.kernel_of_code = KernelOfCode(self.generator)
        self.predictor = Predictor(num_in_ch, num_feat, code_length)
        self.corrector = Corrector(num_in_ch, num_feat, code_length)

    def forward(self, lq: Tensor, *, as_codes: bool = False) -> Tensor:
        """Super-resolve an image.

        Args:
            lq: (B, C, h, w), values in [0, 1].
            as_codes: Give the codes of all iterations instead, for training.

        Returns:
            (B, C, scale * h, scale * w), or (num_correction + 1, B, code_length), through each of which gradients reach
            the network that made it and no other.
        """
        return self.codes(lq) if as_codes else super().forward(lq)

    def codes(self, lq: Tensor) -> Tensor:
        """Give the kernel codes (num_correction + 1, B, code_length), the prediction first."""
        codes = [self.predictor(lq)]
        for _ in range(self.num_correction):
            code = codes[-1].detach()
            with torch.no_grad():
                sr = self.generator(lq, self.field_of(code))
            codes.append(code + self.corrector(sr, code))
        return torch.stack(codes)

    def field_of(self, code: Tensor) -> Tensor:
        """Give the field (B, k*k, 1, 1) that codes (B, code_length) stand for."""
        return self.kernel_of_code(code, self.generator.pca_matrix)

    def estimate(self, lq: Tensor) -> Tensor:
        """Estimate the kernel (B, k*k, 1, 1) of ``lq`` (B, C, h, w)."""
        return self.field_of(self.codes(lq)[-1])

    def restore(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve ``lq`` (B, C, h, w) with a given kernel field (B, k*k, h, w) or (B, k*k, 1, 1)."""
        return self.generator(lq, field)

    def train(self, mode: bool = True) -> IKCNet:
        """Set training mode; the frozen generator stays in evaluation mode."""
        super().train(mode)
        self.generator.eval()
        return self
