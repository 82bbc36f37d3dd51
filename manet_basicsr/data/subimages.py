"""Cutting large images into overlapping sub-images, as BasicSR's data preparation does, which are cheap to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manet_basicsr.data.preparation import (
    ConflictError,
    encode_png,
    find_images,
    map_in_parallel,
    read_image,
    refuse_same_names,
)
from manet_basicsr.utils.errors import BadSampleError
from manet_basicsr.utils.files import atomic_path, check_names, remove_leftovers

# '0001x4' is the LR image of '0001': both give '0001_s001', so that pairs keep one name.
_SCALE_SUFFIX = re.compile(r'(?<=\d)x[2348]$')


@dataclass(frozen=True)
class SubimageGrid:
    """Where sub-images lie: squares of ``crop_size`` every ``step`` px in rows and columns.

    A last one flush with the border is added where more than ``threshold`` px would be left over.
    """

    crop_size: int = 480
    step: int = 240
    threshold: int = 0

    def __post_init__(self) -> None:
        if self.crop_size < 1 or self.step < 1 or self.threshold < 0:
            raise ConflictError(f'crop size and step must be at least 1 and the threshold 0, found {self}')

    def offsets(self, length: int) -> list[int]:
        """Return the offsets along a side of ``length`` px, none if it is smaller than a crop."""
        if length < self.crop_size:
            return []
        offsets = list(range(0, length - self.crop_size + 1, self.step))
        if length - (offsets[-1] + self.crop_size) > self.threshold:
            offsets.append(length - self.crop_size)
        return offsets

    def cut(self, image: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Yield the sub-images of an image, row by row, as views."""
        height, width = image.shape[:2]
        for top in self.offsets(height):
            for left in self.offsets(width):
                yield image[top : top + self.crop_size, left : left + self.crop_size]


@dataclass(frozen=True)
class ImageReport:
    """What became of one image: sub-images written and found complete, and why it was left out if it was."""

    written: int = 0
    kept: int = 0
    too_small: str | None = None
    damaged: str | None = None


def subimage_name(image_name: str) -> str:
    """Return what the names of an image's sub-images begin with: ``0001`` for ``0001.png`` and ``0001x4.png``."""
    return _SCALE_SUFFIX.sub('', Path(image_name).stem)


def extract_subimages(
    folder: Path,
    target: Path,
    grid: SubimageGrid,
    *,
    compression_level: int = 3,
    workers: int = 1,
    progress: Callable[[Iterator[Any], int], Iterator[Any]] = lambda reports, total: reports,
) -> Iterator[ImageReport]:
    """Cut every image of a folder into ``NAME_s001.png``, ``NAME_s002.png``, ... and yield a report for each image.

    Sub-images that exist already are compared with what they should be, pixel by pixel: those that are right are kept,
    broken ones written anew, and another picture is never overwritten.

    Args:
        folder: The folder of images; subfolders are not searched.
        target: Where the sub-images go; made if missing.
        grid: Where they lie.
        compression_level: Of PNG, 0 to 9.
        workers: Number of images worked on at once.
        progress: Wraps the iteration over the images, given with their number.

    Raises:
        ConflictError: If there are no images, two would share sub-image names, or the target has sub-images of the same
            names from another image or another grid.
    """
    images = find_images(folder)
    refuse_same_names((subimage_name(path.name), path) for path in images)
    if target.exists() and folder.samefile(target):
        raise ConflictError(f'output folder {target} is the input folder; a second run would cut the sub-images')
    target.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    check_names(target, (f'{subimage_name(path.name)}_s001.png' for path in images))
    extract = partial(_extract_or_describe, target=target, grid=grid, compression_level=compression_level)
    yield from progress(map_in_parallel(extract, images, workers), len(images))


def _extract_or_describe(path: Path, target: Path, grid: SubimageGrid, compression_level: int) -> ImageReport:
    try:
        image = read_image(path)
    except BadSampleError as error:
        return ImageReport(damaged=str(error))
    subimages = list(grid.cut(image))
    if not subimages:
        height, width = image.shape[:2]
        return ImageReport(too_small=f'{path}: {width}x{height} px, smaller than crops of {grid.crop_size} px')
    name = subimage_name(path.name)
    *files, one_too_many = (target / f'{name}_s{index:03d}.png' for index in range(1, len(subimages) + 2))
    if one_too_many.exists():
        raise _conflict(one_too_many, path)
    pairs = list(zip(files, subimages, strict=True))
    missing = [(file, subimage) for file, subimage in pairs if not _is_there(file, subimage, path)]
    for file, subimage in missing:
        # Not flushed one by one, which takes long on disks that turn: a second run finds what a power cut broke.
        with atomic_path(file, sync=False) as unfinished:
            unfinished.write_bytes(encode_png(subimage, compression_level))
    return ImageReport(written=len(missing), kept=len(pairs) - len(missing))


def _is_there(file: Path, subimage: NDArray[Any], source: Path) -> bool:
    """Tell whether a file holds a sub-image; raise ConflictError if it holds another picture."""
    if not file.exists():
        return False
    try:
        found = read_image(file)
    except BadSampleError:
        return False
    if found.dtype != subimage.dtype or not np.array_equal(found, subimage):
        raise _conflict(file, source)
    return True


def _conflict(file: Path, source: Path) -> ConflictError:
    return ConflictError(
        f'{file} exists and is not what {source} gives: it comes from an image of the same name or from other '
        'settings; choose another output folder'
    )
