"""What the data preparation scripts share: finding images, reading them strictly, working on them in parallel."""

from __future__ import annotations

import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from manet_basicsr.data.image_files import decode_image_file
from manet_basicsr.data.images import IMAGE_SUFFIXES
from manet_basicsr.utils.errors import BadSampleError
from manet_basicsr.utils.files import files_below

Item = TypeVar('Item')
Result = TypeVar('Result')


class ConflictError(ValueError):
    """What is asked for would lose, overwrite or confuse data; the message says what to change."""


class ExistsError(ConflictError):
    """What is to be written exists already, and was not to be replaced."""


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
        for path in (files_below(folder) if recursive else folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not path.name.startswith('.')
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


def read_image(path: Path) -> np.ndarray:
    """Read an image as its file has it, palettes expanded, the right way up.

    Returns:
        ``(H, W)`` grey, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGB with alpha, uint8 or uint16.

    Raises:
        BadSampleError: As :func:`decode_image_file`, or the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadSampleError(f'{path}: {error.strerror}') from error
    return decode_image_file(content, str(path)).pixels


def encode_png(image: np.ndarray, compression_level: int) -> bytes:
    """Return an image as a PNG file.

    Args:
        image: ``(H, W)`` grey, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGB with alpha, uint8 or uint16.
        compression_level: 0 to 9.
    """
    ordered = image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]
    settings = [cv2.IMWRITE_PNG_COMPRESSION, compression_level]
    return bytes(cv2.imencode('.png', np.ascontiguousarray(ordered), settings)[1])


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
