"""Packing a folder of images into an LMDB in BasicSR's layout.

``data.mdb`` holds one encoded image a key, ``meta_info.txt`` one line an image: ``KEY.png (height,width,channels) 1``,
the last number being the level of the PNG compression, 0 for raw values. The key is the image's name without extension.
BasicSR cuts a line at its first dot and looks keys up as ASCII, so names with other dots, spaces or other than ASCII
letters would be written and never found: they are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray

from manet_basicsr.data.preparation import (
    ConflictError,
    ExistsError,
    encode_png,
    find_images,
    map_in_parallel,
    read_image,
    refuse_same_names,
)
from manet_basicsr.data.raw_pixels import encode_raw
from manet_basicsr.utils.errors import BadSampleError
from manet_basicsr.utils.files import atomic_folder, remove_leftovers

_KEY = re.compile(r'[!-\-/-~]+')  # printable ASCII without space and dot
_LONGEST_KEY = 511  # bytes, LMDB's limit
_FIRST_MAP_BYTES = 1 << 30
_COMMIT_BYTES = 1 << 28


@dataclass(frozen=True)
class LmdbSummary:
    """What :func:`write_lmdb` did: images written, how many of them raw, and a message for each image left out."""

    written: int
    raw: int
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    key: str
    value: bytes
    shape: tuple[int, int, int]
    level: int
    is_raw: bool

    @property
    def meta_line(self) -> str:
        height, width, channels = self.shape
        return f'{self.key}.png ({height},{width},{channels}) {self.level}\n'


def image_keys(folder: Path, images: list[Path]) -> list[str]:
    """Return the key of each image: its path below the folder without extension.

    Raises:
        ConflictError: If a key is one that BasicSR cannot find again, or two images have the same key; names the files.
    """
    keys = [path.relative_to(folder).with_suffix('').as_posix() for path in images]
    bad = [path for path, key in zip(images, keys, strict=True) if not _KEY.fullmatch(key) or len(key) > _LONGEST_KEY]
    if bad:
        raise ConflictError(
            f'{len(bad)} image(s) cannot be stored under their names, first {str(bad[0])!r}: BasicSR finds keys of at '
            f'most {_LONGEST_KEY} ASCII characters without spaces and dots (but the one of the extension); rename them'
        )
    refuse_same_names(zip(keys, images, strict=True))
    return keys


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse a place for an LMDB before the work for it.

    Raises:
        ConflictError: It has another suffix than ``.lmdb``, or exists and is not to be replaced.
    """
    if target.suffix != '.lmdb':
        raise ConflictError(f"output {target} must end in '.lmdb': BasicSR tells LMDBs by that")
    if os.path.lexists(target) and not overwrite:  # a link whose disk is not there is somebody's, too
        raise ExistsError(f'output {target} exists; remove it or choose another name')


def write_lmdb(
    folder: Path,
    target: Path,
    *,
    raw: bool = False,
    compression_level: int = 1,
    recursive: bool = False,
    skip_damaged: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    progress: Callable[[Iterator[Any], int], Iterator[Any]] = lambda entries, total: entries,
) -> LmdbSummary:
    """Pack a folder of images into an LMDB, which appears under its name when it is whole.

    Args:
        folder: The folder of images.
        target: The LMDB to make; BasicSR wants a name that ends in ``.lmdb``.
        raw: Store the pixels of images (see ``raw_pixels``): grey repeated to three channels. Images with alpha or 16
            bits a channel stay PNG, which readers tell apart value by value.
        compression_level: Of PNG, 0 to 9.
        recursive: Take the images of subfolders, too; their keys are ``SUBFOLDER/NAME``.
        skip_damaged: Leave damaged images out instead of raising.
        overwrite: Replace an existing target.
        workers: Number of images worked on at once.
        progress: Wraps the iteration over the images, given with their number.

    Raises:
        ConflictError: If the target exists or is no ``.lmdb``, there are no images, or their names cannot be keys.
        BadSampleError: If an image is damaged and not to be skipped, or every image is damaged.
        OSError: If it cannot be written, as on a full disk.
    """
    check_target(target, overwrite=overwrite)
    images = find_images(folder, recursive=recursive)
    keys = image_keys(folder, images)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent)
    encode = partial(_encode_or_describe, raw=raw, compression_level=compression_level)
    results = map_in_parallel(encode, zip(keys, images, strict=True), workers)
    skipped: list[str] = []
    with atomic_folder(target, overwrite=overwrite) as unfinished:
        entries = _take_entries(progress(results, len(images)), skipped if skip_damaged else None)
        written, written_raw = _write_entries(unfinished, entries)
        if not written:
            raise BadSampleError(f'none of the {len(images)} images of {folder} could be read; first: {skipped[0]}')
    return LmdbSummary(written, written_raw, tuple(skipped))


def _encode_or_describe(item: tuple[str, Path], raw: bool, compression_level: int) -> _Entry | BadSampleError:
    """Return an image's entry, or what is wrong with it: an exception raised here would end the whole iteration."""
    key, path = item
    try:
        image = read_image(path)
    except BadSampleError as error:
        return error
    channels = image.shape[2] if image.ndim == 3 else 1
    if raw and image.dtype == np.uint8 and channels in (1, 3):
        value = encode_raw(_to_rgb(image))
        return _Entry(key, value, (*image.shape[:2], 3), level=0, is_raw=True)
    return _Entry(key, encode_png(image, compression_level), (*image.shape[:2], channels), compression_level, False)


def _to_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _take_entries(results: Iterator[_Entry | BadSampleError], skipped: list[str] | None) -> Iterator[_Entry]:
    """Yield the entries; append the messages of damaged images to ``skipped``, or raise the first where it is None."""
    for result in results:
        if isinstance(result, _Entry):
            yield result
        elif skipped is None:
            raise result
        else:
            skipped.append(str(result))


def _write_entries(folder: Path, entries: Iterator[_Entry]) -> tuple[int, int]:
    """Write ``data.mdb`` and ``meta_info.txt``; return how many images were written and how many of them raw."""
    written = written_raw = 0
    # Not flushed at each commit: the folder gets its name only after all is.
    environment = lmdb.open(str(folder), map_size=_FIRST_MAP_BYTES, sync=False)
    try:
        with open(folder / 'meta_info.txt', 'w', encoding='ascii') as meta_info:
            for batch in _batches(entries):
                _put(environment, batch)
                meta_info.writelines(entry.meta_line for entry in batch)
                written += len(batch)
                written_raw += sum(entry.is_raw for entry in batch)
        environment.sync(True)
    finally:
        environment.close()
    return written, written_raw


def _batches(entries: Iterator[_Entry]) -> Iterator[list[_Entry]]:
    """Group entries into batches of about ``_COMMIT_BYTES``."""
    batch: list[_Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.value)
        if size >= _COMMIT_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _put(environment: lmdb.Environment, batch: list[_Entry]) -> None:
    """Commit a batch, with a map twice as large where it does not fit: no guess of the size can go wrong."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for entry in batch:
                    transaction.put(entry.key.encode('ascii'), entry.value)
            return
        except lmdb.MapFullError:
            environment.set_mapsize(2 * environment.info()['map_size'])
