"""Image files of one's own: read with alpha, depth, orientation and colour profile, and written likewise."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from manet_basicsr.data.alpha import flatten_on_white
from manet_basicsr.data.image_files import decode_image_file
from manet_basicsr.data.images import IMAGE_SUFFIXES
from manet_basicsr.data.photograph import Photograph
from manet_basicsr.data.png_files import with_profile
from manet_basicsr.data.preparation import encode_png
from manet_basicsr.utils.files import atomic_path

__all__ = ['Photograph', 'check_size', 'read_photograph', 'write_photograph']

_JPEG = ('.jpg', '.jpeg')
_TIFF = ('.tif', '.tiff')
_WITHOUT_ALPHA = (*_JPEG, '.bmp')
#: Pillow's names of the formats that it writes here.
_PILLOW_NAMES = {'.jpg': 'JPEG', '.jpeg': 'JPEG', '.webp': 'WEBP', '.bmp': 'BMP'}
#: Largest side in px: of the format, and for PNG of libpng, whose readers refuse more.
_LARGEST_SIDE = {'.webp': 16_383, '.jpg': 65_500, '.jpeg': 65_500, '.png': 1_000_000}
_PNG_COMPRESSION = 1
_PROFILE_HEADER = 128  # bytes
_JPEG_PROFILE = 255 * 65_519  # 255 segments, less what stands before each part; Pillow would write a broken one
#: In bytes. Pillow does not open a PNG file with a larger one.
_LARGEST_PROFILE = {'.jpg': _JPEG_PROFILE, '.jpeg': _JPEG_PROFILE, '.png': 2**20}


def read_photograph(path: str | Path) -> Photograph:
    """Read an image file: PNG, JPEG, WebP, TIFF or BMP, 8 or 16 bit, grey or colour, with or without alpha.

    It is turned as its EXIF data say. A palette is converted to colours; grey with alpha becomes colour with alpha.

    Raises:
        BadSampleError: The file is damaged, or no such image; the message names it.
        FileNotFoundError: There is no such file.
    """
    found = decode_image_file(Path(path).read_bytes(), str(path))
    return Photograph(np.ascontiguousarray(found.pixels), found.profile, found.remarks)


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
    on white. The colour profile is kept in all formats but BMP.

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
    pixels = photograph.pixels
    check_size(path, pixels.shape[1], pixels.shape[0])
    remarks = []
    if suffix in _WITHOUT_ALPHA and pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = flatten_on_white(pixels)
        remarks.append(f'{suffix[1:]} files have no alpha: laid on white')
    if suffix not in ('.png', *_TIFF):
        pixels = _as_8_bit(pixels)
    profile, words = _fitting_profile(photograph.profile, pixels, suffix)
    remarks += words
    try:
        content = _encode(suffix, pixels, profile, quality)
    except Exception as error:  # each encoder has its own kinds
        if profile is None:
            raise OSError(f'cannot encode an image of shape {pixels.shape} for {path}: {error}') from error
        remarks.append(f'its colour profile of {len(profile)} bytes does not fit in a {suffix[1:]} file: left out')
        content = _encode(suffix, pixels, None, quality)
    with atomic_path(path, sync=False) as partial:
        partial.write_bytes(content)
    return tuple(remarks)


def _as_8_bit(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8)


def _fitting_profile(profile: bytes | None, pixels: np.ndarray, suffix: str) -> tuple[bytes | None, list[str]]:
    """Return a profile that is meant for such pixels and is whole, or None and why not."""
    if profile is None:
        return None, []
    length = int.from_bytes(profile[:4], 'big')
    if length <= _PROFILE_HEADER or length > len(profile) or profile[36:40] != b'acsp':
        return None, ['its colour profile is damaged: left out']
    kind = 'grey' if pixels.ndim == 2 and suffix != '.webp' else 'RGB'  # WebP has no grey
    if profile[16:20] != (b'GRAY' if kind == 'grey' else b'RGB '):
        space = profile[16:20].decode('latin-1').strip()
        return None, [f'its colour profile is for {space} colours, and the result is {kind}: left out']
    if suffix == '.bmp':
        return None, ['bmp files have no colour profile: left out']
    if length > _LARGEST_PROFILE.get(suffix, length):
        return None, [f'its colour profile of {length} bytes does not fit in a {suffix[1:]} file: left out']
    return profile[:length], []


def _encode(suffix: str, pixels: np.ndarray, profile: bytes | None, quality: int) -> bytes:
    if suffix == '.png':
        png = encode_png(pixels, _PNG_COMPRESSION)
        return png if profile is None else with_profile(png, profile)
    if suffix in _TIFF:
        return _encode_tiff(pixels, profile)
    from PIL import Image

    content = io.BytesIO()
    settings: dict[str, Any] = {} if suffix == '.bmp' else {'quality': quality, 'icc_profile': profile}
    Image.fromarray(pixels).save(content, _PILLOW_NAMES[suffix], **settings)
    return content.getvalue()


def _encode_tiff(pixels: np.ndarray, profile: bytes | None) -> bytes:
    import tifffile

    content = io.BytesIO()
    tifffile.imwrite(
        content,
        pixels,
        photometric='minisblack' if pixels.ndim == 2 else 'rgb',
        extrasamples=['unassalpha'] if pixels.ndim == 3 and pixels.shape[2] == 4 else None,
        compression='lzw',
        predictor=True,
        iccprofile=profile,
        metadata=None,
    )
    return content.getvalue()
