"""Estimating and restoring an image tile by tile, so that memory does not grow with the image.

The estimator is local, so its tiled field is the untiled one. The generator reaches farther than a tile can overlap its
neighbours (71 LR px with four blocks, 173 with ten), so its tiled image is an approximation, which the overlap makes
good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.archs import BlindSRNet
from manet_basicsr.archs.protocols import FieldEstimator, missing_attributes

#: LR pixels that a tile of the generator sees beyond each of its sides. With the weights that ship, images in tiles
#: differ by less than 5e-6 from those of one pass; with 16 those for photographs left up to two levels of 8 bit.
OVERLAP = 32


@torch.no_grad()
def estimate_field_tiled(estimator: FieldEstimator, lq: Tensor, tile: int = 192) -> Tensor:
    """Estimate a kernel field tile by tile; it is the one that the estimator gives for the whole image.

    Each tile is seen with ``estimator.halo`` more pixels at each side, from one multiple of ``estimator.size_multiple``
    to another. The image is first padded to such a multiple, as the estimator pads it: the padding reaches into the
    field.

    Args:
        estimator: A :class:`FieldEstimator`, such as :class:`MANet`.
        lq: (B, C, h, w).
        tile: Side of the tiles in LR pixels, at least 1.

    Returns:
        (B, k*k, h, w), without gradient; beside it, memory is needed for one tile.

    Raises:
        ValueError: If the tile is below 1, or the estimator lacks an attribute of :class:`FieldEstimator`.
    """
    view = _PaddedView(estimator, lq)
    return _assemble(view.estimate, lq, tile)


@torch.no_grad()
def restore_tiled(
    net: Callable[..., Tensor],
    lq: Tensor,
    field: Tensor | None = None,
    tile: int = 192,
    overlap: int = OVERLAP,
    estimator: FieldEstimator | None = None,
) -> Tensor:
    """Super-resolve an image tile by tile.

    Only for a network that reaches no farther than the overlap is the image exactly that of one pass.

    Args:
        net: A generator ``(lq, field) -> sr``; without field and estimator a network ``lq -> sr``, of which a
            :class:`BlindSRNet` estimates the field of each tile on the way, exactly.
        lq: (B, C, h, w).
        field: Kernel field (B, k*k, h, w) or (B, k*k, 1, 1).
        tile: Side of the tiles in LR pixels, at least 1.
        overlap: LR pixels that a tile sees beyond each side.
        estimator: What estimates the field of each tile, exactly, where no field is given.

    Returns:
        (B, C, s * h, s * w), without gradient; beside it, memory is needed for one tile.

    Raises:
        ValueError: If the tile is below 1 or the overlap negative.
    """
    if overlap < 0:
        raise ValueError(f'overlap must be at least 0 LR pixels, found {overlap}')
    generate = net
    if field is None and isinstance(net, BlindSRNet):
        generate, estimator = net.generator, net.kernel_estimation
    height, width = lq.shape[-2:]
    view = None if field is not None or estimator is None else _PaddedView(estimator, lq)

    def restore(rows: slice, cols: slice) -> Tensor:
        near_rows, near_cols = _grow(rows, overlap, height), _grow(cols, overlap, width)
        seen = lq[..., near_rows, near_cols]
        if view is not None:
            sr = generate(seen, view.estimate(near_rows, near_cols))
        elif field is None:
            sr = generate(seen)
        else:
            sr = generate(seen, field if field.shape[-2:] == (1, 1) else field[..., near_rows, near_cols])
        scale = sr.shape[-1] // seen.shape[-1]
        return sr[..., _inside(rows, near_rows, scale), _inside(cols, near_cols, scale)]

    return _assemble(restore, lq, tile)


class _PaddedView:
    """An image padded as an estimator pads it, any part of whose field can be estimated by itself."""

    def __init__(self, estimator: FieldEstimator, lq: Tensor) -> None:
        if missing := missing_attributes(estimator, FieldEstimator):
            raise ValueError(f'{missing}: it cannot be tiled')
        self.estimator, self.multiple, self.halo = estimator, estimator.size_multiple, estimator.halo
        height, width = lq.shape[-2:]
        self.padded = F.pad(lq, (0, -width % self.multiple, 0, -height % self.multiple), mode='replicate')

    def estimate(self, rows: slice, cols: slice) -> Tensor:
        """Estimate the field of a part of the image."""
        height, width = self.padded.shape[-2:]
        near_rows = _grow(rows, self.halo, height, self.multiple)
        near_cols = _grow(cols, self.halo, width, self.multiple)
        field: Tensor = self.estimator(self.padded[..., near_rows, near_cols])
        return field[..., _inside(rows, near_rows), _inside(cols, near_cols)]


def _assemble(make: Callable[[slice, slice], Tensor], lq: Tensor, tile: int) -> Tensor:
    """Put an image together from what is made of each tile of an LR image, at the scale that the first one has."""
    if tile < 1:
        raise ValueError(f'tile must be at least 1 LR pixel, found {tile}')
    height, width = lq.shape[-2:]
    whole: Tensor | None = None
    for rows, cols in _tiles(height, width, tile):
        part = make(rows, cols)
        scale = part.shape[-1] // (cols.stop - cols.start)
        if whole is None:
            whole = part.new_empty(*part.shape[:2], scale * height, scale * width)
        whole[..., scale * rows.start : scale * rows.stop, scale * cols.start : scale * cols.stop] = part
    assert whole is not None  # an image has at least one tile
    return whole


def _tiles(height: int, width: int, tile: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            yield slice(top, min(top + tile, height)), slice(left, min(left + tile, width))


def _grow(part: slice, by: int, size: int, multiple: int = 1) -> slice:
    """Grow a range within ``0..size`` by so much at each end, and on to the next multiples."""
    start, stop = (part.start - by) // multiple * multiple, -(-(part.stop + by) // multiple) * multiple
    return slice(max(0, start), min(size, stop))


def _inside(part: slice, grown: slice, scale: int = 1) -> slice:
    """Give where a range lies within a larger one, both times a scale."""
    return slice(scale * (part.start - grown.start), scale * (part.stop - grown.start))
