"""Image files of one's own: read with alpha, depth, orientation and colour profile, and written likewise."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from manet_basicsr.data.image_headers import check_declared_size
from manet_basicsr.data.images import IMAGE_SUFFIXES, BadSampleError, decoding_flags
from manet_basicsr.utils.files import atomic_path

_ORIENTATION = 0x0112  # EXIF
_BITS_PER_SAMPLE = 0x0102  # TIFF
_TIFF = (b'II', b'MM')
_TIFF_WITH_ALPHA = ('RGBA', 'RGBa', 'LA')  # Pillow's names
#: How OpenCV is told the quality of a format that loses something.
_QUALITY = {
    '.jpg': cv2.IMWRITE_JPEG_QUALITY,
    '.jpeg': cv2.IMWRITE_JPEG_QUALITY,
    '.webp': cv2.IMWRITE_WEBP_QUALITY,
}


@dataclass(frozen=True)
class Photograph:
    """An image file's content, the right way up.

    Attributes:
        pixels: ``(H, W)`` grey, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGB with alpha; uint8 or uint16.
        profile: The ICC colour profile that the numbers are meant in, as the file has it; None for none (sRGB).
    """

    pixels: np.ndarray
    profile: bytes | None = None


def read_photograph(path: str | Path) -> Photograph:
    """Read an image file: PNG, JPEG, WebP, TIFF or BMP, 8 or 16 bit, grey or colour, with or without alpha.

    It is turned as its EXIF data say. A palette is converted to colours; grey with alpha becomes colour with alpha.

    Raises:
        BadSampleError: The file is damaged, or no such image; the message names it.
        FileNotFoundError: There is no such file.
    """
    content = Path(path).read_bytes()
    try:
        check_declared_size(content)
    except ValueError as error:
        raise BadSampleError(f'{path}: {error}') from error
    orientation, profile, mode = _metadata(content)
    if content[:2] in _TIFF and mode in _TIFF_WITH_ALPHA:
        # OpenCV multiplies their colours with alpha, and drops that of grey.
        return Photograph(_decode_with_pillow(content, path), profile)
    image = None
    if content:
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), decoding_flags(content))
        except cv2.error as error:
            raise BadSampleError(f'{path}: {error.err or error}') from error
    if image is None:
        raise BadSampleError(f'{path}: damaged, or no PNG, JPEG, WebP, TIFF or BMP image ({len(content)} bytes)')
    if image.dtype not in (np.uint8, np.uint16):
        raise BadSampleError(f'{path}: found {image.dtype} pixels, expected 8 or 16 bit')
    # OpenCV itself turns JPEG and TIFF; the others not while it keeps their alpha.
    if content[:2] not in (b'\xff\xd8', *_TIFF):
        image = _turned(image, orientation)
    if content[:2] in _TIFF and mode == '' and image.ndim == 2 and image.dtype == np.uint8:
        # Such as 16-bit grey with alpha, of which OpenCV would make 8-bit grey.
        raise BadSampleError(f'{path}: a kind of TIFF that cannot be read without loss; save it as PNG')
    if image.ndim == 3:
        order = [2, 1, 0, 3][: image.shape[2]]
        image = image[..., 0] if image.shape[2] == 1 else image[..., order]
    return Photograph(np.ascontiguousarray(image), profile)


@contextmanager
def _opened(content: bytes) -> Iterator[Any]:
    """Open an image with Pillow, whose bound on sizes is below ours (``check_declared_size``)."""
    from PIL import Image

    bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(io.BytesIO(content)) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = bound


def _decode_with_pillow(content: bytes, path: str | Path) -> np.ndarray:
    """Decode an 8-bit image with alpha to (H, W, 4), turned upright."""
    from PIL import ImageOps

    try:
        with _opened(content) as image:
            return np.array(ImageOps.exif_transpose(image).convert('RGBA'))
    except Exception as error:  # as in _metadata
        raise BadSampleError(f'{path}: {error}') from error


def _metadata(content: bytes) -> tuple[int, bytes | None, str]:
    """Give orientation, colour profile and Pillow's mode; what Pillow cannot read has none of them."""
    try:
        with _opened(content) as image:
            # Pillow calls TIFF of 16 bit RGBA, too, and would make 8 bit of it.
            deep = max(getattr(image, 'tag_v2', {}).get(_BITS_PER_SAMPLE, (8,))) > 8
            mode = f'{image.mode};16' if deep else image.mode
            return int(image.getexif().get(_ORIENTATION, 1)), image.info.get('icc_profile'), mode
    except Exception:  # pillow reports damage as any of ten exception types
        return 1, None, ''


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image upright, given how EXIF says that it lies."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def write_photograph(path: str | Path, photograph: Photograph, quality: int = 95) -> None:
    """Write an image file in the format of its suffix; it appears whole or not at all.

    Alpha and 16 bit are kept where the format has them: PNG and TIFF have both, WebP alpha. The colour profile is kept
    in PNG, JPEG, WebP and 8-bit TIFF.

    Args:
        path: The file, ending in one of ``.png``, ``.tif``, ``.tiff``, ``.jpg``, ``.jpeg``, ``.webp``, ``.bmp``.
        photograph: What to write.
        quality: 1 to 100, of JPEG and WebP.

    Raises:
        OSError: It cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise OSError(f'cannot write {path}: the suffix is not one of {", ".join(IMAGE_SUFFIXES)}')
    pixels = photograph.pixels
    if suffix not in ('.png', '.tif', '.tiff'):
        pixels = _as_8_bit(pixels)
    if suffix in ('.jpg', '.jpeg', '.bmp') and pixels.ndim == 3:
        pixels = pixels[..., :3]
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    settings = [_QUALITY[suffix], quality] if suffix in _QUALITY else []
    profile = photograph.profile
    if profile is not None and profile[16:20] != (b'GRAY' if pixels.ndim == 2 else b'RGB '):
        profile = None  # that of the file's own colour space, such as CMYK, which the pixels have left
    if suffix in ('.tif', '.tiff') and pixels.dtype == np.uint8:
        content = _encode_tiff(photograph.pixels, profile)
    else:
        content = _encode(suffix, np.ascontiguousarray(pixels), profile, settings, path)
    with atomic_path(path, sync=False) as partial:
        partial.write_bytes(content)


def _as_8_bit(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8)


def _encode_tiff(pixels: np.ndarray, profile: bytes | None) -> bytes:
    """Encode 8 bit with Pillow: OpenCV does not say that a fourth channel is alpha, and keeps no profile."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, 'tiff', compression='tiff_lzw', icc_profile=profile)
    return content.getvalue()


def _encode(suffix: str, pixels: np.ndarray, profile: bytes | None, settings: list[int], path: str | Path) -> bytes:
    # OpenCV before 4.13 cannot write profiles.
    with_profile = profile is not None and suffix in ('.png', *_QUALITY) and hasattr(cv2, 'imencodeWithMetadata')
    try:
        if with_profile:
            chunk = np.frombuffer(profile or b'', np.uint8)
            done, content = cv2.imencodeWithMetadata(suffix, pixels, [cv2.IMAGE_METADATA_ICCP], [chunk], settings)
        else:
            done, content = cv2.imencode(suffix, pixels, settings)
    except cv2.error as error:
        raise OSError(f'cannot encode an image of shape {pixels.shape} for {path}: {error.err}') from error
    if not done:
        raise OSError(f'cannot encode an image of shape {pixels.shape} for {path}')
    return bytes(content.tobytes())
