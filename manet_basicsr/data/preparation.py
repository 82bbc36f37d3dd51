"""What the data preparation scripts share: finding images, reading them strictly, working on them in parallel."""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from manet_basicsr.data.images import IMAGE_SUFFIXES, decoding_flags

Item = TypeVar('Item')
Result = TypeVar('Result')


class DamagedImageError(ValueError):
    """A file that cannot be read as an image; the message names the file and what is wrong."""


class ConflictError(ValueError):
    """What is asked for would lose, overwrite or confuse data; the message says what to change."""


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == 'linux' else os.cpu_count() or 1


def find_images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Return the image files of a folder, sorted by path, without hidden files and folders.

    Args:
        folder: Where to look.
        recursive: Whether to look into subfolders, too.

    Raises:
        ConflictError: If the folder is missing or has no image.
    """
    if not folder.is_dir():
        raise ConflictError(f'input folder {folder} does not exist')
    images = sorted(
        path
        for path in (folder.rglob('*') if recursive else folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith('.') for part in path.relative_to(folder).parts)
    )
    if not images:
        hint = '' if recursive else '; subfolders were not searched'
        raise ConflictError(f'input folder {folder} has no {", ".join(IMAGE_SUFFIXES)} file{hint}')
    return images


def refuse_same_names(names: Iterable[tuple[str, Path]]) -> None:
    """Raise ConflictError if two files would be stored under one name, naming both.

    Args:
        names: Pairs of a name and the file that would get it.
    """
    pairs = list(names)
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        files = ', '.join(str(path) for name, path in pairs if name == repeated[0])
        raise ConflictError(
            f'{len(repeated)} name(s) would be used by more than one image, first {repeated[0]!r}: {files}; rename them'
        )


def read_image(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read an image as its file has it, palettes expanded.

    Returns:
        ``(H, W)`` grey, ``(H, W, 3)`` BGR or ``(H, W, 4)`` BGRA, uint8 or uint16.

    Raises:
        DamagedImageError: If the file cannot be decoded whole, or has other than 8 or 16 bits a channel.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedImageError(f'{path}: {error.strerror}') from error
    image = decode(content)
    if image is None:
        raise DamagedImageError(f'{path}: damaged, or no image in a format that OpenCV reads ({len(content)} bytes)')
    if image.dtype not in (np.uint8, np.uint16):
        raise DamagedImageError(f'{path}: has {image.dtype} values, expected 8 or 16 bits a channel')
    return image


def decode(content: bytes) -> Any:
    """Return the image that a file's bytes hold, as OpenCV has it, or None where they do not hold a whole one."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), decoding_flags(content))
    except cv2.error:  # an empty file, or more pixels than OpenCV accepts
        return None


def encode_png(image: NDArray[Any], compression_level: int) -> bytes:
    """Return an image as OpenCV has it as a PNG file, compressed at a level between 0 and 9."""
    return bytes(cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, compression_level])[1])


def map_in_parallel(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of the items, worked on by threads.

    Threads, because OpenCV lets go of the interpreter while it decodes and encodes. No more than a few results wait at
    any time, however many items there are. An exception of the function is raised where its result was due.

    Args:
        function: What to do with each item.
        items: The items.
        workers: Number of threads.
    """
    with ThreadPoolExecutor(workers) as pool:
        remaining = iter(items)
        waiting: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(remaining, 2 * workers))
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))
                yield result
        finally:  # left early: what has not begun need not begin
            pool.shutdown(wait=False, cancel_futures=True)
