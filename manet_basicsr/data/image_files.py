"""The one reader of image files, for training, preparing data and restoring: pixels that mean what the file says.

Decoders are chosen for what they get right: tifffile for TIFF, Pillow for BMP and GIF, and OpenCV for JPEG, PNG and
WebP, of which it gives the same pixels as Pillow, JPEG a third sooner and PNG in 16 bit. What a file says about its
pixels, such as how they lie, is not left to them.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from manet_basicsr.data import png_files, tiff_files, webp_files
from manet_basicsr.data.exif import PREFIX
from manet_basicsr.data.image_headers import check_declared_size, jpeg_segments
from manet_basicsr.data.photograph import NO_IMAGE, Photograph, check_kind, decode_with_opencv, full_range, upright
from manet_basicsr.utils.errors import BadSampleError

_JPEG = b'\xff\xd8'
_PNM = tuple(b'P%d' % kind for kind in range(1, 7))
# Width, height and the largest value, with comments between.
_PNM_MAXIMUM = re.compile(rb'P[2356](?:(?:\s|#[^\n]*\n)+(\d{1,5})(?=[\s#])){3}')
_ICC = b'ICC_PROFILE\0'
# Lengths of the headers of BMP files that say something about colours, and what they say.
_BMP_V4, _BMP_V5 = 108, 124
_CALIBRATED, _SRGB, _WINDOWS, _EMBEDDED = 0, 0x73524742, 0x57696E20, 0x4D424544
_WITHOUT_ALPHA = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION


def decode_image_file(content: bytes | memoryview, name: str) -> Photograph:
    """Decode an image file's bytes: PNG, JPEG, WebP, TIFF, BMP, GIF or PNM, of 8 or 16 bit, whatever its name says.

    The image is turned as its EXIF data or its TIFF orientation say. Palettes are expanded, grey with alpha becomes
    colour with alpha, 1 to 7 bit become 8 and 9 to 15 bit 16.

    Args:
        content: The bytes of the file.
        name: What to call the image in messages.

    Raises:
        BadSampleError: The bytes are no whole image, of a kind that cannot be read without loss, or say that they are
            an absurdly large one.
    """
    try:
        check_declared_size(content)
    except ValueError as error:
        raise BadSampleError(f'{name}: {error}') from error
    try:
        return _decode(content)
    except MemoryError:
        raise
    except BadSampleError as error:
        raise BadSampleError(f'{name}: {error}') from error
    except Exception as error:  # the decoders report damage as any of a dozen exception types
        words = getattr(error, 'err', None) or error  # OpenCV's message names its own source file, its err does not
        raise BadSampleError(f'{name}: damaged ({words})') from error


def _decode(content: bytes | memoryview) -> Photograph:
    begin = bytes(content[:12])
    if begin.startswith(png_files.SIGNATURE):
        return png_files.decode_png(content)
    if begin.startswith(_JPEG):
        return _decode_jpeg(content)
    if begin[:4] in tiff_files.SIGNATURES:
        return tiff_files.decode_tiff(content)
    if begin[:4] + begin[8:12] == b'RIFFWEBP':
        return webp_files.decode_webp(content)
    if begin.startswith(b'BM'):
        return Photograph(_decode_with_pillow(content)[0], *_colours_of_bmp(content))
    if begin.startswith(b'GIF8'):
        pixels, pictures = _decode_with_pillow(content)
        return Photograph(pixels, pictures=pictures)
    if begin.startswith(_PNM):
        return Photograph(_decode_pnm(content))
    raise BadSampleError(f'{NO_IMAGE} ({len(content)} bytes)')


def _decode_pnm(content: bytes | memoryview) -> np.ndarray:
    """Decode PBM, PGM and PPM, whose header says what the largest value is."""
    pixels = decode_with_opencv(content, _WITHOUT_ALPHA)
    header = _PNM_MAXIMUM.match(bytes(content[:4096]))
    if header is None:  # of bits
        return pixels
    largest = int(header[1])
    # OpenCV spreads small numbers that are written as text, and no others.
    return pixels if header[0][1:2] in b'23' and largest < 255 else full_range(pixels, largest)


def _decode_jpeg(content: bytes | memoryview) -> Photograph:
    # Some versions of the decoder fill in what is missing. No other bytes of a picture look like its end.
    begin = max((end for _, _, end in jpeg_segments(content)), default=0)
    if bytes(content[begin:]).rfind(b'\xff\xd9') < 0:
        raise BadSampleError('damaged: a JPEG file without an end')
    pixels = decode_with_opencv(content, _WITHOUT_ALPHA)
    exif = b''
    profile: dict[int, bytes] = {}
    expected = 0
    for data in _application_data(content):
        if data.startswith(PREFIX):
            exif = exif or data
        elif data.startswith(_ICC) and len(data) > len(_ICC) + 2:
            number, expected = data[len(_ICC)], data[len(_ICC) + 1]
            profile[number] = data[len(_ICC) + 2 :]
    is_whole = sorted(profile) == list(range(1, expected + 1))
    joined = b''.join(profile[number] for number in sorted(profile)) if is_whole else b''
    return upright(pixels, exif, joined or None, () if is_whole else ('its colour profile is damaged: left out',))


def _application_data(content: bytes | memoryview) -> Iterator[bytes]:
    """Yield what the APP1 and APP2 segments before a JPEG's picture hold."""
    for marker, begin, end in jpeg_segments(content):
        if marker in (0xE1, 0xE2):
            yield bytes(content[begin:end])


def _colours_of_bmp(content: bytes | memoryview) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the colour profile that a BMP file of the fifth version holds, and what it says else of its colours."""
    (length,) = struct.unpack_from('<I', content, 14)
    if length < _BMP_V4:
        return None, ()
    (space,) = struct.unpack_from('<I', content, 14 + 56)
    if space in (_SRGB, _WINDOWS):
        return None, ()
    if length >= _BMP_V5 and space == _EMBEDDED:
        begin, size = struct.unpack_from('<II', content, 14 + 112)
        profile = bytes(content[14 + begin : 14 + begin + size])
        return (profile, ()) if 0 < size == len(profile) else (None, ('its colour profile is damaged: left out',))
    # Writers that have nothing to say leave zeros.
    if space == _CALIBRATED and not any(content[14 + 60 : 14 + 108]):
        return None, ()
    return None, ('it says in its header that its colours are not sRGB, which is not kept: convert it to sRGB first',)


def _decode_with_pillow(content: bytes | memoryview) -> tuple[np.ndarray, int]:
    """Decode BMP and GIF, of an animation the first picture, and count the pictures.

    The class of the format is called instead of ``Image.open``, whose bound on sizes, a global, is below ours.
    """
    from PIL import BmpImagePlugin, GifImagePlugin

    opened = BmpImagePlugin.BmpImageFile if bytes(content[:2]) == b'BM' else GifImagePlugin.GifImageFile
    with opened(io.BytesIO(content)) as image:
        has_alpha = image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info
        is_grey = image.mode in ('1', 'L')
        pixels = check_kind(np.array(image.convert('RGBA' if has_alpha else 'L' if is_grey else 'RGB')))
        return pixels, _count_frames(image)


def _count_frames(image: Any) -> int:
    try:
        return int(getattr(image, 'n_frames', 1))
    except Exception:  # what is wrong with a later frame does not cost the first
        return 1
