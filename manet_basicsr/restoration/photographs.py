"""Image files of one's own: read and written with what they say of their pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from manet_basicsr.data.image_files import decode_image_file
from manet_basicsr.data.images import IMAGE_SUFFIXES
from manet_basicsr.data.photograph import Photograph
from manet_basicsr.restoration.encoding import encode_photograph
from manet_basicsr.utils.files import atomic_path

__all__ = ['Photograph', 'check_size', 'read_photograph', 'write_photograph']

#: Largest side in px: of the format, and for PNG of libpng, whose readers refuse more.
_LARGEST_SIDE = {'.webp': 16_383, '.jpg': 65_500, '.jpeg': 65_500, '.png': 1_000_000}


def read_photograph(path: str | Path) -> Photograph:
    """Read an image file: PNG, JPEG, WebP, TIFF or BMP, 8 or 16 bit, grey or colour, with or without alpha.

    It is turned as its EXIF data say. A palette is converted to colours; grey with alpha becomes colour with alpha.

    Raises:
        BadSampleError: The file is damaged, or no such image; the message names it.
        FileNotFoundError: There is no such file.
    """
    found = decode_image_file(Path(path).read_bytes(), str(path))
    return replace(found, pixels=np.ascontiguousarray(found.pixels))


def check_size(path: str | Path, width: int, height: int) -> None:
    """Refuse an image that the format of a file cannot hold, before it is made.

    Raises:
        ValueError: It is too wide or too high.
    """
    limit = _LARGEST_SIDE.get(Path(path).suffix.lower())
    if limit is not None and max(width, height) > limit:
        raise ValueError(
            f'{path}: the result would be {width}x{height} px, and {Path(path).suffix[1:]} files have at most {limit} '
            'px a side; choose another format, such as tif'
        )


def write_photograph(path: str | Path, photograph: Photograph, quality: int = 95) -> tuple[str, ...]:
    """Write an image file in the format of its suffix; it appears whole or not at all.

    Alpha and 16 bit are kept where the format has them: PNG and TIFF have both, WebP alpha; elsewhere the image is laid
    on white. The colour profile and EXIF data are kept in all formats but BMP, PNG's other chunks of colour in PNG.

    Args:
        path: The file, ending in one of ``.png``, ``.tif``, ``.tiff``, ``.jpg``, ``.jpeg``, ``.webp``, ``.bmp``.
        photograph: What to write.
        quality: 1 to 100, of JPEG and WebP.

    Returns:
        What was left out, and why.

    Raises:
        OSError: It cannot be written.
        ValueError: It is larger than the format allows.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise OSError(f'cannot write {path}: the suffix is not one of {", ".join(IMAGE_SUFFIXES)}')
    check_size(path, photograph.pixels.shape[1], photograph.pixels.shape[0])
    content, remarks = encode_photograph(photograph, suffix, quality)
    with atomic_path(path, sync=False) as partial:
        partial.write_bytes(content)
    return remarks
