"""Mutual affine convolution, the building block of MANet."""

from __future__ import annotations

import torch
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn


def split_channels(channels: int, split: int) -> list[int]:
    """Sizes of the groups that a mutual affine convolution splits its channels into.

    The first ``split - 1`` groups have ``round(channels / split)`` channels (ties to even), the last one the rest.
    Where that would leave nothing for the last group (10 channels in 6 groups), the first are rounded down instead.

    Args:
        channels: Number of channels, at least ``split``.
        split: Number of groups, at least 2.

    Returns:
        ``split`` positive sizes that add up to ``channels``.

    Raises:
        ValueError: If ``split`` is below 2 or there are fewer channels than groups.
    """
    if split < 2:
        raise ValueError(f'split is {split}, expected at least 2')
    if channels < split:
        raise ValueError(f'{channels} channels cannot be split into {split} groups, expected at least {split} channels')
    size = round(channels / split)
    if size * (split - 1) >= channels:
        size = channels // split
    return [size] * (split - 1) + [channels - size * (split - 1)]


@ARCH_REGISTRY.register()
class MAConv(nn.Module):
    """Convolve channel groups, each after an affine modulation predicted from the other groups (MANet, ICCV 2021).

    ``out_i = conv_i(x_i * sigmoid(scale_i) + shift_i)`` with ``scale_i, shift_i = fc_i(x without x_i)``; the outputs
    are concatenated. Keys of the state dict are ``fc{i}.0``, ``fc{i}.2`` and ``conv{i}``.

    Args:
        in_channels: Channels of the input, at least ``split``.
        out_channels: Channels of the output, at least ``split``.
        kernel_size: Size of the groups' convolutions.
        stride: Their stride.
        padding: Their zero padding.
        bias: Whether they have a bias.
        split: Number of groups, at least 2.
        reduction: The hidden width of ``fc_i`` is the width of the other groups divided by this (at least 1).

    Raises:
        ValueError: If ``split`` is below 2, ``reduction`` below 1, or a width is below ``split``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        bias: bool = True,
        split: int = 2,
        reduction: int = 2,
    ) -> None:
        super().__init__()
        if reduction < 1:
            raise ValueError(f'reduction is {reduction}, expected at least 1')
        self.in_sizes = split_channels(in_channels, split)
        out_sizes = split_channels(out_channels, split)
        for index, (in_size, out_size) in enumerate(zip(self.in_sizes, out_sizes, strict=True)):
            rest = in_channels - in_size
            hidden = max(1, rest // reduction)
            fc = nn.Sequential(nn.Conv2d(rest, hidden, 1), nn.ReLU(inplace=True), nn.Conv2d(hidden, 2 * in_size, 1))
            self.add_module(f'fc{index}', fc)
            self.add_module(f'conv{index}', nn.Conv2d(in_size, out_size, kernel_size, stride, padding, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, in_channels, h, w) to (B, out_channels, h', w'), sized as by an ordinary convolution."""
        # One grouped convolution for all splits was measured and is no faster on CPU.
        groups = x.split(self.in_sizes, dim=1)
        outputs = []
        for index, group in enumerate(groups):
            rest = torch.cat(groups[:index] + groups[index + 1 :], dim=1)
            scale, shift = getattr(self, f'fc{index}')(rest).chunk(2, dim=1)
            modulated = torch.addcmul(shift, group, torch.sigmoid(scale))
            outputs.append(getattr(self, f'conv{index}')(modulated))
        return torch.cat(outputs, dim=1)


@ARCH_REGISTRY.register()
class MABlock(nn.Module):
    """Residual block of two mutual affine convolutions, ``x + MAConv(ReLU(MAConv(x)))``.

    Args:
        in_channels: Channels of the input, at least ``split``.
        out_channels: Channels of the output; the residual sum needs as many as ``in_channels``.
        kernel_size: As in :class:`MAConv`, and so for all that follow.
        stride: The residual sum needs 1.
        padding: The residual sum needs ``(kernel_size - 1) / 2``.
        bias: Whether the convolutions have a bias.
        split: Number of groups, at least 2.
        reduction: Of the hidden width.

    Raises:
        ValueError: If the block would change the shape of its input, or as in :class:`MAConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        bias: bool = True,
        split: int = 2,
        reduction: int = 2,
    ) -> None:
        super().__init__()
        if in_channels != out_channels:
            raise ValueError(
                f'MABlock has {in_channels} in_channels and {out_channels} out_channels, '
                'expected as many: its output is added to its input'
            )
        if stride != 1 or 2 * padding != kernel_size - 1:
            raise ValueError(
                f'MABlock has kernel_size {kernel_size}, stride {stride} and padding {padding}, expected stride 1 and '
                'padding (kernel_size - 1) / 2: its output is added to its input'
            )
        self.res = nn.Sequential(
            MAConv(in_channels, in_channels, kernel_size, stride, padding, bias, split, reduction),
            nn.ReLU(inplace=True),
            MAConv(in_channels, in_channels, kernel_size, stride, padding, bias, split, reduction),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (B, in_channels, h, w) to the same shape."""
        return x + self.res(x)
