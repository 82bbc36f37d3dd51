"""Reading TIFF files, as their tags say: planes, white-is-zero, kinds of alpha, tiles, orientation, compressions."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from manet_basicsr.data.exif import TELLING_TAGS, exif_of_tiff
from manet_basicsr.data.image_headers import MAX_PIXELS
from manet_basicsr.data.photograph import Photograph, check_kind, full_range, turned
from manet_basicsr.utils.errors import BadSampleError

SIGNATURES = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_DESCRIPTION, _ORIENTATION, _PROFILE, _DNG_VERSION = 270, 274, 34675, 50706
# Of what is damaged it would print lines of its own beside the one that names the file.
logging.getLogger('tifffile').addHandler(logging.NullHandler())
_COLOURS = (301, 318, 319)  # transfer function, white point, primaries
_REDUCED = 1  # bit of NewSubfileType
# Photometric interpretations.
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_RAW = (32803, 34892)  # colour filter array, linear raw
_JPEG = 7  # compression, whose decoder makes RGB of YCbCr
_FAX = (2, 3, 4)
_PREMULTIPLIED, _ALPHA = 1, 2  # ExtraSamples
_MOST_CHANNELS = 8
# What compressions can make of a byte: none, LZW (a code of 12 bits stands for 4,095 bytes), deflate twice, PackBits.
_BYTES_A_BYTE = {1: 1, 5: 2730, 8: 1032, 32946: 1032, 32773: 64}


def decode_tiff(content: bytes | memoryview) -> Photograph:
    """Decode the first page of a TIFF file.

    Raises:
        BadSampleError: It is damaged, of a kind that cannot be read without loss, or its first page is a preview.
    """
    import tifffile

    content = bytes(content)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        found = _decode_page(content, file.pages[0], 0)
        pictures, remarks = _count_pictures(file)
        exif, more = _exif(content, file.pages[0])
    return replace(found, remarks=(*found.remarks, *remarks, *more), exif=exif, pictures=pictures)


def decode_pages(content: bytes) -> Iterator[Photograph]:
    """Decode one page of a TIFF file after the other, without those that are previews; the first with EXIF data.

    Raises:
        BadSampleError: As :func:`decode_tiff`.
    """
    import tifffile

    yield decode_tiff(content)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        pages: Any = file.pages
        for number, page in enumerate(pages[1:], start=1):
            if not int(page.subfiletype) & _REDUCED:
                found = _decode_page(content, page, number)
                lost = ('EXIF data of pages behind the first are not kept',) if _tells(page) else ()
                yield replace(found, remarks=(*found.remarks, *lost))


def _decode_page(content: bytes, page: Any, number: int) -> Photograph:
    """Decode a page, without EXIF data."""
    _check_page(page, len(content))
    of_pillow = page.photometric in (_CMYK, _YCBCR) and page.compression != _JPEG or page.compression in _FAX
    remarks: list[str] = []
    if of_pillow:
        pixels, orientation = _decode_with_pillow(content, page, number), 1
    else:
        pixels, remarks = _decode(page)
        orientation = page.tags.valueof(_ORIENTATION, 1)
    profile = page.tags.valueof(_PROFILE)
    if not profile and any(tag in page.tags for tag in _COLOURS) and page.photometric not in (_PALETTE, _YCBCR):
        remarks.append('it says by tags that its colours are not sRGB, which is not kept: convert it to sRGB first')
    if not isinstance(orientation, int) or not 1 <= orientation <= 8:
        remarks.append(f'its orientation is {orientation!r}, expected 1 to 8: it is not turned')
        orientation = 1
    return Photograph(turned(pixels, orientation), bytes(profile) if profile else None, tuple(remarks))


def _exif(content: bytes, page: Any) -> tuple[bytes, list[str]]:
    """Return what the page's tags tell of its picture; nothing if all they tell is which program wrote them."""
    if not _tells(page):
        return b'', []
    try:
        return exif_of_tiff(content), []
    except ValueError:
        return b'', ['its EXIF data are damaged, or lie in a BigTIFF file: left out']


def _tells(page: Any) -> bool:
    is_of_program = page.is_shaped or page.is_imagej  # its description tells how the pixels of this file lie
    return any(tag in page.tags for tag in TELLING_TAGS if tag != _DESCRIPTION or not is_of_program)


def _count_pictures(file: Any) -> tuple[int, list[str]]:
    """Count the pages, without those that are previews."""
    try:
        return 1 + sum(not int(page.subfiletype) & _REDUCED for page in file.pages[1:]), []
    except Exception:  # what is wrong with another page costs that page
        return 1, ['its further pages are damaged']


def _check_page(page: Any, size: int) -> None:
    """Refuse what is no picture, what is absurdly large, and what is not whole."""
    if page.photometric in _RAW or _DNG_VERSION in page.tags:
        raise BadSampleError('a camera raw file; develop it and save it as 16-bit TIFF or PNG')
    if int(page.subfiletype) & _REDUCED:
        raise BadSampleError('its first page is a reduced image (a preview); save the picture as a TIFF of one page')
    _check_declared_size(page, size)
    missing = [
        1 for begin, length in zip(page.dataoffsets, page.databytecounts, strict=True)
        if not begin or not length or begin + length > size
    ]  # fmt: skip
    if missing or not page.dataoffsets:
        raise BadSampleError(f'damaged: {len(missing)} of its {len(page.dataoffsets)} strips or tiles are cut off')


def _check_declared_size(page: Any, size: int) -> None:
    """Refuse a page that says it is absurdly large, or larger than so few bytes can be, before memory is set aside."""
    said = f'its header says {page.imagewidth}x{page.imagelength} px'
    if page.imagedepth != 1 or page.tiledepth > 1:
        raise BadSampleError(f'{said} in {page.imagedepth} planes, expected one')
    if max(page.imagewidth * page.imagelength, page.tilewidth * page.tilelength) > MAX_PIXELS:
        raise BadSampleError(f'{said}, expected at most {MAX_PIXELS:,d} in all')
    if page.samplesperpixel > _MOST_CHANNELS:
        raise BadSampleError(f'{said} of {page.samplesperpixel} channels, expected at most {_MOST_CHANNELS}')
    bits = page.bitspersample if isinstance(page.bitspersample, int) else max(page.bitspersample)
    stored = page.imagelength * (page.imagewidth * page.samplesperpixel * bits // 8)
    if stored > size * _BYTES_A_BYTE.get(page.compression, stored):
        raise BadSampleError(f'{said}, more than its {size} bytes can hold')


def _decode(page: Any) -> tuple[np.ndarray, list[str]]:
    """Decode grey, RGB and palettes, without turning them."""
    bits, kind = page.bitspersample, page.photometric
    if kind not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE) and not (kind == _YCBCR and bits == 8):
        name = getattr(kind, 'name', kind)
        raise BadSampleError(f'not supported: a TIFF file with {bits}-bit {name} colours; save it as RGB')
    if page.sampleformat != 1 or not isinstance(bits, int) or bits > 16:
        found = page.dtype or f'{bits}-bit'
        raise BadSampleError(f'found {found} pixels, expected 8 or 16 bit')
    # (planes, 1, height, width, channels): either planes or channels are one
    stored = np.moveaxis(page.asarray(squeeze=False, maxworkers=1)[:, 0], 0, -1)
    stored = stored.reshape(*stored.shape[:2], -1)
    base = 3 if kind in (_RGB, _YCBCR) else 1
    if stored.shape[2] < base:
        raise BadSampleError(f'damaged: a colour TIFF file with {stored.shape[2]} channels')
    colours, others = stored[..., :base], stored[..., base:]
    if kind == _PALETTE:
        colours = _of_palette(colours[..., 0], page.colormap)
    else:
        colours, others = (full_range(each, 2**bits - 1) for each in (colours, others))
        if kind == _WHITE_IS_ZERO:
            colours = np.iinfo(colours.dtype).max - colours
    colours, remarks = _with_alpha(colours, others, page.extrasamples)
    return check_kind(colours), remarks


def _of_palette(indices: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Look indices up in a palette of 16 bit, of which TIFF's writers use the upper eight."""
    return (np.asarray(colours).T >> 8).astype(np.uint8)[indices]


def _with_alpha(colours: np.ndarray, others: np.ndarray, kinds: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    """Add alpha, if one of the other channels is said to be that, to colours, which are divided by it if need be."""
    count = others.shape[2]
    # Files that say nothing of the kind of a fourth channel have alpha there, as OpenCV writes it.
    said = [int(kind) for kind in kinds] or [_ALPHA] * count
    place = next((index for index, kind in enumerate(said[:count]) if kind in (_PREMULTIPLIED, _ALPHA)), None)
    left_out = count - (place is not None)
    remarks = [f'{left_out} of its channels are neither colour nor alpha: left out'] if left_out else []
    if place is None or others.dtype != colours.dtype:
        return colours, remarks
    alpha = others[..., place : place + 1]
    if said[place] == _PREMULTIPLIED:
        largest = int(np.iinfo(colours.dtype).max)
        straight = colours.astype(np.float64) * largest / np.maximum(alpha, 1)
        colours = np.rint(straight).clip(0, largest).astype(colours.dtype)
    return np.dstack([np.broadcast_to(colours, (*colours.shape[:2], 3)), alpha]), remarks


def _decode_with_pillow(content: bytes, page: Any, number: int) -> np.ndarray:
    """Decode faxes, and CMYK and YCbCr of 8 bit; Pillow turns them upright."""
    if page.bitspersample not in ((8,) if page.photometric in (_CMYK, _YCBCR) else (1,)):
        name = getattr(page.photometric, 'name', page.photometric)
        raise BadSampleError(f'not supported: a TIFF file with {page.bitspersample}-bit {name} colours; save it as RGB')
    from PIL import TiffImagePlugin

    with TiffImagePlugin.TiffImageFile(io.BytesIO(content)) as image:
        image.seek(number)
        image.load()
        pixels = np.array(image.convert('L' if image.mode in ('1', 'L') else 'RGB'))
    return pixels
