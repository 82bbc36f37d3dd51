"""Restoring images of one's own: arrays and tensors of any size, tile by tile.

A grey image is restored as a colour image and made grey again; alpha is resampled unless it is to be restored, too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.archs import BlindSRNet
from manet_basicsr.archs.copies import evaluation_copy
from manet_basicsr.archs.loading import alignment_of, load_network
from manet_basicsr.archs.protocols import FieldEstimator, FieldGenerator, missing_attributes
from manet_basicsr.data.alpha import enlarge_alpha
from manet_basicsr.restoration.arrays import batch_to_image, image_to_batch, reduce_to, result_size
from manet_basicsr.restoration.precision import HalfPrecisionError, half_precision, prepare_for_half_precision
from manet_basicsr.restoration.tiling import OVERLAP, estimate_field_tiled, restore_tiled
from manet_basicsr.utils.device import pick_device
from manet_basicsr.utils.memory import resident_memory, return_freed_memory
from manet_basicsr.utils.messages import unknown_name
from manet_basicsr.utils.progress import progress_bar
from manet_basicsr.weights import SHIPPED, choose_weights, restoring_weights, shipped_for, shipped_scale

TILE = 256
"""Side of the tiles in LR pixels, where memory allows it."""

_LEAST_SIDE = 8  # of what the networks see, in LR pixels

SMALLEST_TILE = 16
"""Least side of a tile in LR pixels."""

ALPHA = ('resample', 'restore')
"""What may be done with alpha."""


@dataclass(frozen=True)
class Restored:
    """A restored image and the kernels that were found behind it.

    Attributes:
        image: The restored image, s times the size of the given one; of the same kind (array or tensor, shape of the
            channels, type, range), limited to its range.
        field: Kernel field ``(B, k*k, h, w)`` on the grid of the given image, on the CPU, float32 unless asked
            otherwise; a kernel is ``field[b, :, y, x].view(k, k)`` and sums to 1. None where it was not wanted.
    """

    image: Any
    field: Tensor | None


def restore(
    image: np.ndarray | Tensor,
    weights: str | os.PathLike[str] | nn.Module | None = None,
    scale: float | None = None,
    *,
    device: str | torch.device | None = None,
    precision: str = 'auto',
    alpha: str = 'resample',
    tile: int = TILE,
    max_memory: int | None = None,
    field_dtype: torch.dtype | None = torch.float32,
    progress: str | None = None,
) -> Restored:
    """Estimate the blur kernel behind each pixel of an image and super-resolve it with them.

    An image of up to one tile is restored in one pass, a larger one in tiles that overlap: its field is the same to
    rounding, its image an approximation without visible seams, as the generator sees farther than tiles overlap.

    Args:
        image: An array ``(h, w)`` grey, ``(h, w, 3)`` RGB or ``(h, w, 4)`` RGB with alpha, uint8, uint16, uint32 or
            floating point in [0, 1]; or a tensor ``(3, h, w)`` or ``(B, 3, h, w)``, RGB, floating point in [0, 1].
        weights: A file of weights of a blind network (stage 3), ``weights://NAME``, or a :class:`BlindSRNet`, which is
            not changed; None for those that ship and restore best at ``scale``, as :func:`choose_weights` chooses.
        scale: How many times as large the result is, 1 (sharpened alone) up to the scale of the weights, at which they
            restore before the image is reduced; None for that of the weights (4 of those that ship).
        device: Where to compute; None for CUDA where there is one, else the CPU.
        precision: ``float32``, ``bf16`` or ``float16``, or ``auto``: the half precision that the device is fast in, if
            the numbers of these weights fit into it, else float32. With the weights that ship, half precision changes
            a level of 8 bit by less than a half on average.
        alpha: ``resample`` it (cubic interpolation) or ``restore`` it as a grey image, which takes as long again.
        tile: Largest side of a tile in LR pixels.
        max_memory: Bytes that the process (on CUDA: the GPU) should stay below, by smaller tiles, and on Linux by an
            allocator that returns freed memory at once.
        field_dtype: Type of the field that is returned; None for none, which saves 441 numbers a pixel.
        progress: Label of a progress bar on standard error; None for no bar.

    Raises:
        FileNotFoundError: There is no such file of weights, or none ship with this version.
        TypeError: The image is neither an array nor a tensor.
        ValueError: The image has another shape, type or range, the file is not of a blind network or of a smaller
            scale, ``max_memory`` is too little, or what comes out is not finite (damaged weights, overflow).

    Examples:
        >>> image = np.full((12, 16, 3), 128, np.uint8)
        >>> restored = restore(image)
        >>> restored.image.shape, tuple(restored.field.shape)
        ((48, 64, 3), (1, 441, 12, 16))
    """
    network = network_for(weights, scale)
    _check_choices(field_dtype, alpha)
    lq, given_alpha = image_to_batch(image)
    chosen = pick_device(device)
    tile = _fitting_tile(network, lq, chosen, tile, max_memory, field_dtype)
    run = partial(_restore_batch, network, lq, device=chosen, tile=tile, field_dtype=field_dtype, label=progress)
    if given_alpha is not None:  # first, while the memory for the colours is not taken yet
        settings = {'device': device, 'precision': precision, 'tile': tile, 'max_memory': max_memory}
        given_alpha = _enlarged_alpha(given_alpha, network, scale, alpha, settings)
    sr, field = _in_precision(run, precision, chosen)
    size = result_size(lq.shape[-2:], network.scale if scale is None else scale)
    return Restored(batch_to_image(reduce_to(sr, size), image, lq, given_alpha), field)


def _check_choices(field_dtype: torch.dtype | None, alpha: str) -> None:
    if field_dtype is not None and not field_dtype.is_floating_point:
        raise ValueError(f'field_dtype is {field_dtype}, expected a floating point type')
    if alpha not in ALPHA:
        raise ValueError(unknown_name('alpha', alpha, ALPHA))


def _in_precision(
    run: Callable[..., tuple[Tensor, Tensor | None]], precision: str, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Run in the precision asked for; where it was left open and half precision does not reach, in float32."""
    try:
        return run(half=half_precision(precision, device))
    except HalfPrecisionError:
        if precision != 'auto':
            raise
    return run(half=None)


def _enlarged_alpha(
    given: np.ndarray, network: Any, scale: float | None, how: str, settings: Mapping[str, Any]
) -> np.ndarray:
    if how == 'resample' or given.min() == given.max():  # one level stays what it is
        return _resampled_alpha(given, network, scale)
    enlarged: np.ndarray = restore(given, network, scale, field_dtype=None, **settings).image
    return enlarged


def _resampled_alpha(alpha: np.ndarray, network: BlindSRNet, scale: float | None) -> np.ndarray:
    alignment = alignment_of(network)  # where it is published, the image lies further up and left, and so does alpha
    if scale == 1 and alignment != 'published':
        return alpha
    larger = enlarge_alpha(alpha, network.scale, alignment)
    if scale in (None, network.scale):
        return larger
    planes, _ = image_to_batch(larger)
    reduced = reduce_to(planes, result_size(alpha.shape, scale))
    return np.asarray(batch_to_image(reduced, larger, planes, None))


def network_for(weights: str | os.PathLike[str] | nn.Module | None, scale: float | None) -> BlindSRNet:
    """Give the network that restores, with weights and scale as for :func:`restore`.

    Raises:
        FileNotFoundError: There is no such file of weights, or none ship with this version.
        ValueError: The file is not of a blind network, or the scale is below 1 or above that of the weights.
    """
    if isinstance(weights, nn.Module):
        network = _checked_blind(weights, '')
    elif weights is not None:
        network = load_blind_network(weights)
    else:
        names = restoring_weights()
        largest = max((shipped_scale(f'{SHIPPED}{name}') or 0 for name in names), default=0)
        if names and scale is not None and not 1 <= scale <= largest:
            raise ValueError(f'found scale {scale:g}, expected 1 to {largest} with the weights that ship')
        wanted = 4 if scale is None else scale
        name = choose_weights(wanted, names)
        network = load_blind_network(None, wanted) if name is None else load_blind_network(f'{SHIPPED}{name}')
    if scale is not None and not 1 <= scale <= network.scale:
        raise ValueError(f'found scale {scale:g}, expected 1 to {network.scale}, the scale of the weights')
    return network


def _restore_batch(
    network: BlindSRNet,
    lq: Tensor,
    *,
    device: torch.device,
    half: torch.dtype | None,
    tile: int,
    field_dtype: torch.dtype | None,
    label: str | None,
) -> tuple[Tensor, Tensor | None]:
    """Restore a batch, and give its field if it has a type."""
    height, width = lq.shape[-2:]
    # Of an image of one row convolutions would see as much of their own padding as of the image, and darken it.
    lq = F.pad(lq, (0, max(0, _LEAST_SIDE - width), 0, max(0, _LEAST_SIDE - height)), mode='replicate')
    run = evaluation_copy(network, device)
    if half is not None:
        prepare_for_half_precision(run.kernel_estimation, run.generator)
    with _progress(label, lq, tile, passes=1 if field_dtype is None else 2) as tick:
        tiles = _Tiles(device, half, tick)
        estimate = partial(tiles.estimate, run.kernel_estimation, field_dtype=field_dtype)
        estimator = _TileEstimator(run.kernel_estimation, estimate)
        field = None if field_dtype is None else estimate_field_tiled(estimator, lq, tile)
        sr = restore_tiled(partial(tiles.restore, run.generator), lq, field, tile, estimator=estimator)
    sr = sr[..., : height * network.scale, : width * network.scale]
    return sr, field if field is None else field[..., :height, :width]


def estimate_field(
    image: np.ndarray | Tensor,
    estimator: nn.Module,
    *,
    device: str | torch.device | None = None,
    tile: int = TILE,
    progress: str | None = None,
) -> Tensor:
    """Estimate the blur kernel behind each pixel of an image, and restore nothing.

    Args:
        image: As in :func:`restore`.
        estimator: A :class:`FieldEstimator`, such as :class:`MANet`; it is not changed.
        device: Where to compute; None for CUDA where there is one, else the CPU.
        tile: Largest side of a tile in LR pixels.
        progress: As in :func:`restore`.

    Returns:
        Kernel field ``(B, k*k, h, w)`` on the CPU, float32.

    Raises:
        TypeError: The image is neither an array nor a tensor.
        ValueError: The image has another shape, type or range, the network is no estimator, or what it estimates is
            not finite.
    """
    if missing := missing_attributes(estimator, FieldEstimator):
        raise ValueError(f'{missing}: it is no estimator of kernel fields')
    lq = image_to_batch(image)[0]
    chosen = pick_device(device)
    run = evaluation_copy(estimator, chosen)
    with _progress(progress, lq, tile) as tick:
        estimate = partial(_Tiles(chosen, None, tick).estimate, run, field_dtype=torch.float32)
        return estimate_field_tiled(_TileEstimator(run, estimate), lq, tile)


def load_blind_network(weights: str | os.PathLike[str] | None = None, scale: float = 4) -> BlindSRNet:
    """Load a network that restores.

    Args:
        weights: A file of weights of stage 3, or ``weights://NAME``; None for those that ship for ``scale``.
        scale: Which shipped weights to take.

    Raises:
        FileNotFoundError: There is no such file, or none ship.
        ValueError: The file is damaged or of another network.
    """
    if weights is None:
        name = shipped_for(scale)
        weights = f'{SHIPPED}{name}'
        if name is None:
            there = 'no weights ship with this version yet'
            if names := restoring_weights():
                there = f'of weights that restore, this version ships only {", ".join(names)}'
            raise FileNotFoundError(
                f'{there}; for x{scale:g}, train a blind network (docs/train.md) or get a released one, and '
                'give its file as weights'
            )
    return _checked_blind(load_network(weights), f'{weights}: ')


def _checked_blind(network: nn.Module, where: str) -> BlindSRNet:
    if not isinstance(network, BlindSRNet):
        raise ValueError(
            f'{where}found a {type(network).__name__}, expected a BlindSRNet (stage 3): an estimator and a generator'
        )
    missing = missing_attributes(network.kernel_estimation, FieldEstimator)
    missing = missing or missing_attributes(network.generator, FieldGenerator)
    if missing:
        raise ValueError(f'{where}{missing}: images cannot be restored in tiles with it')
    return network


class _Tiles:
    """Networks for tiles that are on the CPU, whatever device the networks are on; nothing that is not finite leaves.

    Args:
        device: The device.
        half: The half precision to compute in; None for float32.
        tick: Called after each tile.
    """

    def __init__(self, device: torch.device, half: torch.dtype | None, tick: Callable[[], object]) -> None:
        self.device, self.half, self.tick = device, half, tick
        self.precision = torch.autocast(device.type, half, enabled=half is not None)

    def estimate(self, estimator: nn.Module, lq: Tensor, field_dtype: torch.dtype | None) -> Tensor:
        """Estimate the field of a tile; without a type it stays on the device, for the generator."""
        with self.precision:
            field: Tensor = estimator(lq.to(self.device))
        self._check_finite(field, 'the estimated kernels are', estimator)
        if field_dtype is None:
            return field
        self.tick()
        return field.to('cpu', field_dtype)

    def restore(self, generator: nn.Module, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve a tile."""
        with self.precision:
            sr: Tensor = generator(lq.to(self.device), field.to(self.device, torch.float32)).float()
        self._check_finite(sr, 'the restored image is', generator)
        self.tick()
        return sr.clamp(0, 1).cpu()

    def _check_finite(self, values: Tensor, what: str, network: nn.Module) -> None:
        low, high = values.aminmax()  # of NaN it makes NaN
        if low.isfinite() and high.isfinite():
            return
        weights = (name for name, value in network.state_dict().items() if not value.isfinite().all())
        if damaged := next(weights, None):
            why = f'the weights are damaged ({damaged} of {type(network).__name__}); get their file again'
        elif self.half is not None:
            why = f'{self.half} does not reach as far as these weights need; restore in float32'
            raise HalfPrecisionError(f'{what} not finite (NaN or infinite): {why}')
        else:
            why = f'the weights of {type(network).__name__} make the numbers grow without bound; take others'
        raise ValueError(f'{what} not finite (NaN or infinite): {why}')


class _TileEstimator:
    """An estimator run by :class:`_Tiles`, with what tiling asks of it (a :class:`FieldEstimator`)."""

    def __init__(self, estimator: Any, run: Callable[[Tensor], Tensor]) -> None:
        self.halo, self.size_multiple = estimator.halo, estimator.size_multiple
        self.kernel_size, self.scale = estimator.kernel_size, estimator.scale
        self.floats_per_pixel = estimator.floats_per_pixel
        self._run = run

    def __call__(self, lq: Tensor) -> Tensor:
        return self._run(lq)


@contextmanager
def _progress(label: str | None, lq: Tensor, tile: int, passes: int = 1) -> Iterator[Callable[[], object]]:
    """Draw how many of the image's pixels are done; yields what to call after each tile of each pass."""
    if label is None:
        yield lambda: None
        return
    batch, _, height, width = lq.shape
    pixels, tiles = batch * height * width, math.ceil(height / tile) * math.ceil(width / tile)
    with progress_bar(pixels, label=label, unit='px', scaled=True) as update:
        yield partial(update, pixels / tiles / passes)


def memory_of_tile(network: BlindSRNet, tile: int) -> int:
    """Estimate, to the safe side, the bytes that restoring a tile takes beside the image, in full precision.

    Args:
        network: The network.
        tile: Side of the tile in LR pixels.
    """
    seen = tile + 2 * OVERLAP + 2 * network.kernel_estimation.halo
    return int(4 * max(network.kernel_estimation.floats_per_pixel, network.generator.floats_per_pixel) * seen**2)


def _fitting_tile(
    network: BlindSRNet,
    lq: Tensor,
    device: torch.device,
    tile: int,
    max_memory: int | None,
    field_dtype: torch.dtype | None,
) -> int:
    """Give the largest tile, up to ``tile``, with which memory should stay below ``max_memory``."""
    if tile < SMALLEST_TILE:
        raise ValueError(f'tile must be at least {SMALLEST_TILE} LR pixels, found {tile}')
    tile = min(tile, max(SMALLEST_TILE, *lq.shape[-2:]))
    if max_memory is None:
        return tile
    batch, channels, height, width = lq.shape
    taken = 0
    if device.type == 'cpu':
        return_freed_memory(from_now_on=True)
        outcome = 3 * channels * network.scale**2 * 4  # restored, copied, and rounded
        field = 0 if field_dtype is None else network.kernel_estimation.kernel_size**2 * field_dtype.itemsize
        taken = resident_memory() + batch * height * width * (2 * channels * 4 + outcome + field)
    for side in (*range(tile, SMALLEST_TILE, -SMALLEST_TILE // 2), SMALLEST_TILE):
        if taken + batch * memory_of_tile(network, side) <= max_memory:
            return side
    least = taken + batch * memory_of_tile(network, SMALLEST_TILE)
    raise ValueError(
        f'a {width}x{height} image needs about {least / 2**30:.1f} GiB even in the smallest tiles, more than the '
        f'{max_memory / 2**30:.1f} GiB of max_memory'
        + ('; without its kernels it needs less' if field_dtype is not None else '')
    )
