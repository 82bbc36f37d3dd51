"""Decoded images, kept in memory that a loader's workers share."""

from __future__ import annotations

import mmap
import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np

from manet_basicsr.data.images import ImageFolder, ImageLmdb, keep_all

_NOT_THERE = 0
_PLACE = 4  # numbers that say where an image is: 1 + its first byte, height, width, bytes a value


class CachedImages:
    """Images of a folder or an LMDB that are decoded once, as many of them as there is memory for.

    Decoding a PNG file costs more than all else that a training sample needs; of an image that is kept, only the crop
    is touched. What was read first stays: a crop is as likely from one image as from another, so nothing is gained by
    exchanging them. The memory is taken as it is filled. Forked workers fill it together; a spawned one, which cannot
    share it, reads its images anew.

    Args:
        images: The images.
        most_bytes: Limit of the memory, at least 1.
    """

    def __init__(self, images: ImageFolder | ImageLmdb, most_bytes: int) -> None:
        self._images = images
        self.root, self.names = images.root, images.names
        self._indices = {name: index for index, name in enumerate(self.names)}
        self._lock = multiprocessing.Lock()
        # Anonymous memory: unlike files in /dev/shm it has no limit of its own in containers.
        self._memory: mmap.mmap | None = _granted(most_bytes)
        self._places = np.frombuffer(mmap.mmap(-1, 8 * _PLACE * len(images.names)), np.int64).reshape(-1, _PLACE)
        self._used = np.frombuffer(mmap.mmap(-1, 8), np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {'_images': self._images, 'root': self.root, 'names': self.names, '_memory': None}

    @property
    def used_bytes(self) -> int:
        """How much of the memory is filled."""
        return int(self._used[0])

    def path(self, name: str) -> str:
        """Give the file or the key of an image."""
        return self._images.path(name)

    def describe(self, name: str) -> str:
        """Say in messages which image it is."""
        return self._images.describe(name)

    def read(self, name: str, crop: Callable[[np.ndarray], np.ndarray] = keep_all) -> np.ndarray:
        """Read an image as ``(H, W, 3)`` RGB, uint8 or uint16, cut by ``crop``."""
        if self._memory is None:
            return self._images.read(name, crop)
        kept = self._find(self._memory, name)
        if kept is not None:
            return crop(kept).copy()
        image = self._images.read(name)
        self._keep(name, image)
        return crop(image)

    def _find(self, memory: mmap.mmap, name: str) -> np.ndarray | None:
        begin, height, width, size = self._places[self._indices[name]].tolist()
        if begin == _NOT_THERE:
            return None
        pixels = np.frombuffer(memory, np.dtype(f'u{size}'), 3 * height * width, begin - 1)
        return pixels.reshape(height, width, 3)

    def _keep(self, name: str, image: np.ndarray) -> None:
        # Never waits: a worker that was killed may hold the lock for ever, and the image may be kept another time.
        if not self._lock.acquire(block=False):
            return
        try:
            begin, place = int(self._used[0]), self._places[self._indices[name]]
            end = begin + image.nbytes
            if self._memory is None or place[0] != _NOT_THERE or end > len(self._memory):
                return
            self._memory[begin:end] = np.ascontiguousarray(image).tobytes()
            place[1:] = *image.shape[:2], image.itemsize
            self._used[0] = end + end % 2  # values of 16 bit begin at even bytes
            place[0] = 1 + begin  # last: from now on it is found
        finally:
            self._lock.release()


def _granted(size: int) -> mmap.mmap:
    """Get memory that is shared with the workers.

    Raises:
        ValueError: The machine grants no such amount.
    """
    try:
        return mmap.mmap(-1, size)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f'cache: found {size / 2**30:,.0f} GiB, which this machine does not grant; ask for less'
        ) from error
