"""JPEG compression of a batch by tensor operations, on whatever device the batch is.

What a decoder gives back, without the bytes in between: baseline JPEG, with the example tables of the standard and
chroma at half the size (4:2:0), as libjpeg, Pillow and OpenCV make it unless they are told otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from manet_basicsr.degradation.corruption import quantize

_SIDE = 8  # of the blocks of the cosine transform
# What libjpeg's transform has after its first pass, and by what its second one multiplies that: whole numbers, two bits
# of which are behind the point, of a transform that is not normalised.
_FORWARD = 4 * math.sqrt(_SIDE)
_BETWEEN = math.sqrt(_SIDE) / 4
# ITU-T T.81, annex K.1.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * _SIDE,) * 4,
)
# JFIF: R, G, B to Y, Cb, Cr.
_YCC = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


def jpeg_compress_batch(lq: Tensor, quality: Tensor) -> Tensor:
    """Pass a batch through JPEG compression on the device it is on, without waiting for that device.

    Args:
        lq: RGB images in [0, 1], ``(B, 3, h, w)``; they are rounded to 8 bit first.
        quality: ``(B,)``, JPEG quality 1 to 100 of each image; 0 leaves it uncompressed.

    Returns:
        Images on the 256 levels of [0, 1], of the same shape and type; without gradient. They are those of
        :func:`jpeg_compress` but for coefficients halfway between two steps, which it may round the other way: some 3 %
        of the values differ, most of them by a level.

    Raises:
        ValueError: If a shape is wrong, or (on the CPU) a quality out of range.

    Source: ITU-T T.81; JFIF 1.02; the tables' dependence on quality and the interpolation of chroma are libjpeg's.
    """
    if lq.ndim != 4 or lq.shape[1] != 3 or quality.shape != lq.shape[:1]:
        raise ValueError(
            f'JPEG takes images (B, 3, h, w) with a quality each, found {tuple(lq.shape)} and {tuple(quality.shape)}'
        )
    # On an accelerator this look at the values would make the host wait in every batch.
    if quality.device.type == 'cpu' and not bool(((quality >= 0) & (quality <= 100)).all()):
        raise ValueError(f'JPEG quality must be 0 to 100, found {quality.tolist()}')
    with torch.autocast(lq.device.type, enabled=False):  # a degradation is data and not a layer
        return _compress(lq, quality)


def _compress(lq: Tensor, quality: Tensor) -> Tensor:
    rounded = quantize(lq.detach().float())
    levels = rounded * 255
    matrix = _constant(_YCC, lq.device)
    offset = _constant((0.0, 128.0, 128.0), lq.device).view(3, 1, 1)
    ycc = _round(torch.einsum('ij,bjhw->bihw', matrix, levels) + offset)
    scaling = torch.where(quality < 50, 5000 / quality.clamp(min=1), 200 - 2 * quality.float()).floor()
    height, width = lq.shape[2:]
    luma = _through_blocks(ycc[:, :1], _tables(_LUMA, scaling))
    halves = _through_blocks(_halve(ycc[:, 1:]), _tables(_CHROMA, scaling))[..., : -(-width // 2)]
    chroma = _enlarge(halves)[..., :height, :width]
    blue, red = (chroma - 128).split(1, dim=1)
    green = luma - 0.344136286 * blue - 0.714136286 * red
    rgb = torch.cat([luma + 1.402 * red, green, luma + 1.772 * blue], dim=1)
    compressed = _round(rgb).clamp(0, 255) / 255
    return torch.where((quality > 0).view(-1, 1, 1, 1), compressed, rounded).to(lq.dtype)


def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """Make a tensor of numbers, without waiting for the device."""
    return torch.tensor(values, dtype=torch.float32).to(device, non_blocking=True)


def _round(values: Tensor) -> Tensor:
    return (values + 0.5).floor()


def _tables(base: tuple[tuple[int, ...], ...], scaling: Tensor) -> Tensor:
    """Give the quantisation tables (B, 8, 8) of images whose base tables are scaled by so many per cent."""
    table = _constant(base, scaling.device)
    return ((table * scaling.view(-1, 1, 1) + 50) / 100).floor().clamp(1, 255)


def _through_blocks(planes: Tensor, tables: Tensor) -> Tensor:
    """Quantise the cosine transform of planes (B, C, h, w), block by block, and undo the transform."""
    height, width = planes.shape[2:]
    padded = F.pad(planes, (0, -width % _SIDE, 0, -height % _SIDE), mode='replicate') - 128
    blocks = padded.unflatten(3, (-1, _SIDE)).unflatten(2, (-1, _SIDE)).transpose(3, 4)  # (B, C, rows, columns, 8, 8)
    transform = _cosines(planes.device)
    # Rounded where the decoder and the encoder, which compute with whole numbers, keep a few bits behind the point.
    coefficients = _round(transform @ _round(blocks @ transform.T * _FORWARD) * _BETWEEN) / _SIDE
    steps = tables.view(-1, 1, 1, 1, _SIDE, _SIDE)
    kept = coefficients / steps
    kept = (kept.abs() + 0.5).floor() * kept.sign() * steps
    restored = _round(transform.T @ kept * _FORWARD) @ transform / _FORWARD
    restored = restored.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return _round(restored[..., :height, :width] + 128).clamp(0, 255)


def _cosines(device: torch.device) -> Tensor:
    """Give the orthonormal cosine transform of 8 values as a matrix."""
    numbers = torch.arange(_SIDE, device=device, dtype=torch.float32)
    rows = torch.cos(math.pi / _SIDE * numbers[:, None] * (numbers + 0.5)) * math.sqrt(2 / _SIDE)
    rows[0] /= math.sqrt(2)
    return rows


def _halve(planes: Tensor) -> Tensor:
    """Average squares of 2 x 2 values; rows are repeated to an even number, columns until blocks of halves are full."""
    height, width = planes.shape[2:]
    even = F.pad(planes, (0, -width % (2 * _SIDE), 0, height % 2), mode='replicate')
    sums = 4 * F.avg_pool2d(even, 2)
    # Halves go down and up in turn, so that nothing gets brighter on the whole.
    bias = 1 + torch.arange(sums.shape[3], device=planes.device) % 2
    return ((sums + bias) / 4).floor()


def _enlarge(planes: Tensor) -> Tensor:
    """Double the size of planes by a triangle filter: new values lie a quarter of the way to the next old one."""
    if planes.shape[3] <= 2:  # too narrow for libjpeg's filter
        return planes.repeat_interleave(2, 2).repeat_interleave(2, 3)
    rows = _between(planes, 2)
    columns = _between(rows, 3)
    bias = _constant((8.0, 7.0), planes.device).repeat(planes.shape[3])
    return ((columns + bias) / 16).floor()


def _between(planes: Tensor, dimension: int) -> Tensor:
    """Give four times the doubled planes along one dimension, ends repeated."""
    last = planes.shape[dimension] - 1
    first_one, all_but_last = planes.narrow(dimension, 0, 1), planes.narrow(dimension, 0, last)
    all_but_first, last_one = planes.narrow(dimension, 1, last), planes.narrow(dimension, last, 1)
    before, after = torch.cat([first_one, all_but_last], dimension), torch.cat([all_but_first, last_one], dimension)
    return torch.stack([3 * planes + before, 3 * planes + after], dimension + 1).flatten(dimension, dimension + 1)
