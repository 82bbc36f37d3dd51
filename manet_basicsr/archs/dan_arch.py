"""DAN: restorer and estimator take turns, trained together."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.archs.arch_util import Upsample
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from manet_basicsr.archs.kernel_code import KernelCodeNet
from manet_basicsr.archs.single_kernel import SingleKernelNet


class DualPathBlock(nn.Module):
    """Two features that condition each other: ``f1 + body1(f1) body2(f2)`` and ``f2 + body2(f2)``.

    Args:
        num_feat: Channels of each.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.body1 = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 3, 1, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(num_feat, num_feat, 3, 1, 1),
        )
        self.body2 = nn.Sequential(
            nn.Conv2d(num_feat, num_feat, 1), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(num_feat, num_feat, 1)
        )

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Map both, (B, num_feat, h, w) each; the second may have h = w = 1."""
        weight = self.body2(second)
        return first + self.body1(first) * weight, second + weight


class DualPathGroup(nn.Module):
    """Blocks in sequence, each feature added to what becomes of it.

    Args:
        num_feat: Channels.
        num_block: Blocks.
    """

    def __init__(self, num_feat: int, num_block: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DualPathBlock(num_feat) for _ in range(num_block))

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Map both as :class:`DualPathBlock` does."""
        features = first, second
        for block in self.blocks:
            features = block(*features)
        return first + features[0], second + features[1]


class DANRestorer(KernelCodeNet):
    """Super-resolve an LR image whose kernel is known (DAN, second version).

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the SR image.
        scale: Upsampling factor, a power of 2, or 3.
        num_feat: Width.
        num_group: Groups of blocks.
        num_block: Blocks in each group.
        kernel_size: Side of the kernels, in HR pixels.
        code_length: Length of the kernel code.
        pca_path: File with the PCA basis; None takes the one shipped.
        pca_matrix: The basis itself, (kernel_size^2, code_length), instead of a file.
    """

    output_layers = ('conv_last',)

    def __init__(
        self,
        num_in_ch: int,
        num_out_ch: int,
        scale: int,
        num_feat: int,
        num_group: int,
        num_block: int,
        kernel_size: int,
        code_length: int,
        pca_path: str | None,
        pca_matrix: Tensor | None = None,
    ) -> None:
        super().__init__(scale, kernel_size, code_length, pca_path, pca_matrix)
        self.head_image = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.head_code = nn.Conv2d(code_length, num_feat, 1)
        self.body = nn.ModuleList(DualPathGroup(num_feat, num_block) for _ in range(num_group))
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.upsample = Upsample(scale, num_feat)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, 1, 1)

    def forward(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve ``lq`` (B, C, h, w) with its field (B, k*k, h, w) or (B, k*k, 1, 1)."""
        self.check_field(lq, field)
        head = self.head_image(lq)
        features = head, self.head_code(self.kernel_code(field).to(head.dtype))
        for group in self.body:
            features = group(*features)
        return self.conv_last(self.upsample(self.conv_after_body(features[0]) + head))


class DANEstimator(nn.Module):
    """Estimate the kernel (B, k*k, 1, 1) of an LR image, given it and what was restored of it; a softmax over the taps.

    Args:
        num_in_ch: Channels of the LR and of the SR image.
        scale: Factor between the two.
        num_feat: Width.
        num_block: Blocks.
        kernel_size: Side k of the kernels, in HR pixels.
    """

    output_layers = ('conv_last',)

    def __init__(self, num_in_ch: int, scale: int, num_feat: int, num_block: int, kernel_size: int) -> None:
        super().__init__()
        self.head_lq = nn.Conv2d(num_in_ch, num_feat, 1)
        self.head_sr = nn.Conv2d(num_in_ch, num_feat, 9, scale, 4)
        self.body = DualPathGroup(num_feat, num_block)
        self.conv_after_body = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.conv_last = nn.Conv2d(num_feat, kernel_size**2, 1)

    def forward(self, sr: Tensor, lq: Tensor) -> Tensor:
        """Estimate the kernel."""
        first, _ = self.body(self.head_sr(sr), self.head_lq(lq))
        feature = self.conv_after_body(first).mean((2, 3), keepdim=True)
        return self.conv_last(feature).float().softmax(1)


def _after_loading(network: DANNet, _: Any) -> None:
    network._find_middle()


@ARCH_REGISTRY.register()
class DANNet(SingleKernelNet):
    """Find one kernel an image and super-resolve it, in turns (deep alternating network, NeurIPS 2020 and 2021).

    From the kernel of a single point on: ``sr = restorer(lq, kernel)``, ``kernel = estimator(sr, lq)``, as often as
    asked for, with the same weights. The restorer is that of the second version. So is the estimator's end, a kernel by
    softmax; its inner widths are our own, since no text tells them.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the SR image, the same.
        scale: Upsampling factor, a power of 2, or 3.
        num_feat: Width of both parts.
        num_group: Groups of the restorer.
        num_block: Blocks in each group of the restorer.
        num_estimator_block: Blocks of the estimator.
        num_loop: How often the restorer is run, at least 2.
        kernel_size: Side of the kernels, in HR pixels.
        code_length: Length of the kernel code that the restorer is given.
        pca_path: File with the PCA basis; None takes the one shipped for (scale, kernel_size, code_length).

    Raises:
        ValueError: If a number is below its least, the channels differ, or no basis is shipped for these sizes.
        FileNotFoundError: If ``pca_path`` does not exist.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_group: int = 5,
        num_block: int = 10,
        num_estimator_block: int = 2,
        num_loop: int = 4,
        kernel_size: int = 21,
        code_length: int = 15,
        pca_path: str | None = None,
    ) -> None:
        super().__init__()
        if num_in_ch != num_out_ch:
            raise ValueError(f'num_in_ch is {num_in_ch}, num_out_ch {num_out_ch}, expected the same')
        if min(num_group, num_block, num_estimator_block) < 1 or num_loop < 2:
            raise ValueError(f'num_loop is {num_loop}, expected at least 2, and at least 1 of every block and group')
        self.scale, self.kernel_size, self.num_loop = scale, kernel_size, num_loop
        self.restorer = DANRestorer(
            num_in_ch, num_out_ch, scale, num_feat, num_group, num_block, kernel_size, code_length, pca_path
        )
        self._find_middle()
        self.register_load_state_dict_post_hook(_after_loading)
        self.estimator = DANEstimator(num_out_ch, scale, num_feat, num_estimator_block, kernel_size)

    def _find_middle(self) -> None:
        """Note the middle of the basis' sampling grid in taps, maybe between two; weights may bring another basis."""
        side = -1 if self.restorer.grid == 'published' else 1
        self.middle = self.kernel_size // 2 + side * (self.scale - 1) / 2

    def start(self, lq: Tensor) -> Tensor:
        """Give the kernel (B, k*k, 1, 1) that the first restoration assumes: a point, as if there were no blur."""
        line = (1 - (torch.arange(self.kernel_size, device=lq.device) - self.middle).abs()).clamp(min=0)
        return torch.outer(line, line).view(1, -1, 1, 1).expand(len(lq), -1, -1, -1)

    def estimate(self, lq: Tensor) -> Tensor:
        """Estimate the kernel (B, k*k, 1, 1) of ``lq`` (B, C, h, w), with which the last restoration is done."""
        field = self.start(lq)
        for _ in range(self.num_loop - 1):
            field = self.estimator(self.restorer(lq, field), lq)
        return field

    def restore(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve ``lq`` (B, C, h, w) with a given kernel field (B, k*k, h, w) or (B, k*k, 1, 1)."""
        return self.restorer(lq, field)

    def forward(self, lq: Tensor, *, with_field: bool = False) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
        """Super-resolve an image.

        Args:
            lq: (B, C, h, w), values in [0, 1].
            with_field: Also estimate the kernel of what is restored, for training: gradients reach the last round of
                both parts, and no earlier one.

        Returns:
            (B, C, scale * h, scale * w), and beside it the kernel (B, k*k, 1, 1) where that is asked for.
        """
        if not with_field:
            return self.restore(lq, self.estimate(lq))
        with torch.no_grad():
            field = self.estimate(lq)
        # Older torch keeps the half-precision weights made here, which no gradient passes, for the last round.
        torch.clear_autocast_cache()
        sr = self.restorer(lq, field)
        return sr, self.estimator(sr.detach(), lq)
