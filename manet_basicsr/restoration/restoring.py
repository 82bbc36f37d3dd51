"""Restoring images of one's own: arrays and tensors of any size, tile by tile.

A grey image is restored as a colour image and made grey again; alpha is not restored but resampled.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from manet_basicsr.archs import BlindSRNet
from manet_basicsr.archs.loading import load_network, pick_device
from manet_basicsr.restoration.tiling import OVERLAP, estimate_field_tiled, restore_tiled
from manet_basicsr.weights import SHIPPED, shipped_weights

TILE = 256
"""Side of the tiles in LR pixels, where memory allows it."""

SMALLEST_TILE = 16
"""Least side of a tile in LR pixels."""

_M_MMAP_THRESHOLD = -3  # of glibc's mallopt
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


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
    scale: int = 4,
    *,
    device: str | torch.device | None = None,
    half: bool = False,
    tile: int = TILE,
    max_memory: int | None = None,
    field_dtype: torch.dtype | None = torch.float32,
    progress: str | None = None,
) -> Restored:
    """Estimate the blur kernel behind each pixel of an image and super-resolve it with them.

    An image of up to one tile is restored in one pass. A larger one is restored in tiles that overlap; its field is the
    same to rounding, its image an approximation without visible seams (the generator sees farther than tiles overlap).

    Args:
        image: An array ``(h, w)`` grey, ``(h, w, 3)`` RGB or ``(h, w, 4)`` RGB with alpha, uint8, uint16 or floating
            point in [0, 1]; or a tensor ``(3, h, w)`` or ``(B, 3, h, w)``, RGB, floating point in [0, 1].
        weights: A file of weights of a blind network (stage 3), ``weights://NAME``, or a :class:`BlindSRNet`; None for
            the weights that ship for ``scale``.
        scale: Which shipped weights to take; weights given know their own scale.
        device: Where to compute; None for CUDA where there is one, else the CPU.
        half: Compute in half precision (float16 on CUDA, bfloat16 on the CPU): faster on most GPUs, less memory.
        tile: Largest side of a tile in LR pixels.
        max_memory: Bytes that the process (on CUDA: the GPU) should stay below; tiles are made smaller for it, and on
            Linux the process's allocator is set to return freed memory at once.
        field_dtype: Type of the field that is returned; None to return none, which saves memory for 441 numbers a
            pixel.
        progress: Label of a progress bar on standard error; None for no bar.

    Raises:
        FileNotFoundError: There is no such file of weights, or none ship for ``scale``.
        TypeError: The image is neither an array nor a tensor.
        ValueError: The image has another shape, type or range, the file is not of a blind network, or ``max_memory``
            is too little.
    """
    network = load_blind_network(weights, scale) if not isinstance(weights, nn.Module) else _checked_blind(weights, '')
    lq, alpha = image_to_batch(image)
    chosen = pick_device(device)
    tile = _fitting_tile(network, lq, chosen, tile, max_memory, field_dtype)
    count = math.ceil(lq.shape[-2] / tile) * math.ceil(lq.shape[-1] / tile)
    was_training, was_on = network.training, next(network.parameters()).device
    network.eval().to(chosen)
    try:
        with _progress_bar(progress, count if field_dtype is None else 2 * count) as tick, torch.inference_mode():
            runner = _Runner(network, chosen, half, field_dtype, tick)
            field = estimate_field_tiled(runner.kernel_estimation, lq, tile) if field_dtype is not None else None
            net: Callable[..., Tensor] = runner if field is None else runner.restore
            sr = restore_tiled(net, lq, field, tile)
    finally:
        network.train(was_training).to(was_on)
    return Restored(_like(image, sr, alpha), field)


def load_blind_network(weights: str | os.PathLike[str] | None = None, scale: int = 4) -> BlindSRNet:
    """Load a network that restores.

    Args:
        weights: A file of weights of stage 3, or ``weights://NAME``; None for those that ship for ``scale``.
        scale: Which shipped weights to take.

    Raises:
        FileNotFoundError: There is no such file, or none ship.
        ValueError: The file is damaged or of another network.
    """
    if weights is None:
        weights = f'{SHIPPED}blind_x{scale}'
        if f'blind_x{scale}' not in (names := shipped_weights()):
            there = f'this version ships only {", ".join(names)}' if names else 'no weights ship with this version yet'
            raise FileNotFoundError(
                f'{there}; for x{scale}, train a blind network (README, "Three stages") or get a released one, and '
                'give its file with --weights FILE (in Python: weights=)'
            )
    return _checked_blind(load_network(weights), f'{weights}: ')


def _checked_blind(network: nn.Module, where: str) -> BlindSRNet:
    if not isinstance(network, BlindSRNet):
        raise ValueError(
            f'{where}found a {type(network).__name__}, expected a BlindSRNet (stage 3): an estimator and a generator'
        )
    return network


class _Estimator(nn.Module):
    """The estimator of a blind network, for tiles on the CPU whatever device it is on."""

    def __init__(self, runner: _Runner) -> None:
        super().__init__()
        estimator: Any = runner.network.kernel_estimation
        self.halo, self.size_multiple = estimator.halo, estimator.size_multiple
        self.run = runner.estimate

    def forward(self, lq: Tensor) -> Tensor:
        """Estimate the field of a tile."""
        return self.run(lq)


class _Runner:
    """A blind network as :mod:`manet_basicsr.restoration.tiling` calls one, with tiles and results on the CPU.

    Args:
        network: The network, on its device.
        device: That device.
        half: Compute in half precision.
        field_dtype: Type of the fields that leave the device; None if they are only handed on to the generator.
        tick: Called after each tile.
    """

    def __init__(
        self,
        network: BlindSRNet,
        device: torch.device,
        half: bool,
        field_dtype: torch.dtype | None,
        tick: Callable[[], object],
    ) -> None:
        self.network, self.device, self.field_dtype, self.tick = network, device, field_dtype, tick
        dtype = torch.float16 if device.type == 'cuda' else torch.bfloat16
        self.precision = torch.autocast(device.type, dtype, enabled=half)
        self.kernel_estimation = _Estimator(self)

    def __call__(self, lq: Tensor) -> Tensor:
        """Super-resolve a tile with the field that is estimated from it."""
        return self.restore(lq, self.estimate(lq))

    def estimate(self, lq: Tensor) -> Tensor:
        """Estimate the field of a tile; it stays on the device if only the generator wants it."""
        with self.precision:
            field = self.network.estimate(lq.to(self.device))
        if self.field_dtype is None:
            return field
        self.tick()
        return field.to('cpu', self.field_dtype)

    def restore(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve a tile."""
        with self.precision:
            sr = self.network.restore(lq.to(self.device), field.to(self.device, torch.float32))
        self.tick()
        return sr.float().clamp(0, 1).cpu()


def image_to_batch(image: Any) -> tuple[Tensor, np.ndarray | None]:
    """Turn an array or a tensor into a batch (B, 3, h, w) in [0, 1] on the CPU, and its alpha, if any, as it is."""
    if not isinstance(image, (np.ndarray, Tensor)):
        is_path = isinstance(image, (str, os.PathLike))
        hint = 'manet_basicsr.restoration.photographs.read_photograph(path).pixels' if is_path else 'np.asarray'
        raise TypeError(f'found a {type(image).__name__}, expected an array or a tensor; {hint} makes one')
    if isinstance(image, Tensor):
        if image.ndim not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape or not image.is_floating_point():
            raise ValueError(
                f'found a tensor of shape {tuple(image.shape)} and type {image.dtype}, expected (3, h, w) or '
                '(B, 3, h, w), floating point'
            )
        lq = image.detach().to('cpu', torch.float32)
        _check_range(lq)
        return lq if lq.ndim == 4 else lq[None], None
    fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if not fits or image.size == 0 or not (image.dtype in (np.uint8, np.uint16) or image.dtype.kind == 'f'):
        raise ValueError(
            f'found an array of shape {image.shape} and type {image.dtype}, expected (h, w), (h, w, 3) or (h, w, 4), '
            'uint8, uint16 or floating point'
        )
    color = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image[..., :3]
    planes = torch.from_numpy(np.ascontiguousarray(color.transpose(2, 0, 1), np.float32))[None]
    if image.dtype.kind == 'f':
        _check_range(planes)
    else:
        planes /= float(np.iinfo(image.dtype).max)
    return planes, image[..., 3] if image.ndim == 3 and image.shape[2] == 4 else None


def _check_range(lq: Tensor) -> None:
    low, high = (value.item() for value in lq.aminmax())
    if not -0.01 <= low <= high <= 1.01:  # room for the ringing of a resampling; not finite fails, too
        raise ValueError(f'found values from {low:g} to {high:g}, expected floating point images in [0, 1]')


def _like(image: np.ndarray | Tensor, sr: Tensor, alpha: np.ndarray | None) -> Any:
    """Turn a restored batch into what the image given was."""
    if isinstance(image, Tensor):
        restored = sr.to(image.device, image.dtype)
        return restored if image.ndim == 4 else restored[0]
    pixels = sr[0].permute(1, 2, 0).contiguous().numpy()
    if image.ndim == 2 or (image[..., :1] == image[..., 1:3]).all():  # grey stays grey, however it is stored
        pixels = pixels @ _LUMA
        pixels = pixels if image.ndim == 2 else np.repeat(pixels[..., None], 3, axis=2)
    if image.dtype.kind != 'f':
        pixels *= np.iinfo(image.dtype).max
        np.rint(pixels, out=pixels)
    pixels = pixels.astype(image.dtype)
    if alpha is None:
        return pixels
    return np.dstack([pixels, _resample(alpha, pixels.shape[1], pixels.shape[0])])


def _resample(plane: np.ndarray, width: int, height: int) -> np.ndarray:
    """Enlarge a plane by cubic interpolation, on the usual sampling grid, within its type's range."""
    enlarged = cv2.resize(plane.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    if plane.dtype.kind == 'f':
        return enlarged.clip(0, 1).astype(plane.dtype)
    return np.rint(enlarged).clip(0, np.iinfo(plane.dtype).max).astype(plane.dtype)


@contextmanager
def _progress_bar(label: str | None, total: int) -> Iterator[Callable[[], object]]:
    if label is None:
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit='tile', disable=None, leave=False) as bar:
        yield bar.update


def memory_of_tile(network: BlindSRNet, tile: int) -> int:
    """Estimate, to the safe side, the bytes that restoring a tile takes beside the image, in full precision.

    Args:
        network: The network.
        tile: Side of the tile in LR pixels.
    """
    estimator: Any = network.kernel_estimation
    width, taps = _width(estimator, 'm_head'), int(estimator.kernel_size) ** 2
    features, scale = _width(network.generator, 'conv_first'), int(getattr(network.generator, 'scale', 1))
    # Measured on the CPU, rounded up: 2.3 taps + 6.3 widths, and 1.2 taps + 15 features, float32 numbers an LR pixel.
    estimating, restoring = 3 * taps + 8 * width, 1.5 * taps + 16 * features + 9 * scale**2
    seen = tile + 2 * OVERLAP + 2 * int(estimator.halo)
    return int(4 * max(estimating, restoring)) * seen**2


def _width(network: Any, first: str) -> int:
    layer = getattr(network, first, None)
    return int(layer.out_channels) if layer is not None else 64


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
    tile = min(tile, max(lq.shape[-2:]))
    if max_memory is None:
        return tile
    batch, channels, height, width = lq.shape
    taken = 0
    if device.type == 'cpu':
        _return_freed_memory()
        scale = int(getattr(network.generator, 'scale', 1))
        outcome = 3 * channels * scale**2 * 4  # restored, copied, and rounded
        estimator: Any = network.kernel_estimation
        field = 0 if field_dtype is None else int(estimator.kernel_size) ** 2 * field_dtype.itemsize
        taken = _resident_memory() + batch * height * width * (2 * channels * 4 + outcome + field)
    for side in range(tile, SMALLEST_TILE - 1, -SMALLEST_TILE // 2):
        if taken + batch * memory_of_tile(network, side) <= max_memory:
            return side
    least = taken + batch * memory_of_tile(network, SMALLEST_TILE)
    raise ValueError(
        f'a {width}x{height} image needs about {least / 2**30:.1f} GiB even in the smallest tiles, more than the '
        f'{max_memory / 2**30:.1f} GiB of --max-memory (in Python: max_memory)'
        + ('; without its kernels it needs less' if field_dtype is not None else '')
    )


def _return_freed_memory() -> None:
    """Let glibc give the memory of freed tensors back to the system, now and, for those above 1 MiB, always.

    Left alone it keeps blocks of up to 32 MiB for later, more than the tiles themselves take.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, 'mallopt') and hasattr(library, 'malloc_trim'):
        library.mallopt(_M_MMAP_THRESHOLD, 2**20)
        library.malloc_trim(0)


def _resident_memory() -> int:
    """Give the bytes that this process holds now; 0 where the system does not tell."""
    try:
        with open('/proc/self/statm', encoding='ascii') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
    except OSError:
        return 0
