"""What an image file holds: pixels the right way up, their colour profile, and a word on what could not be kept."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import cv2
import numpy as np

from manet_basicsr.utils.errors import BadSampleError

# EXIF's tags, and a type.
_ORIENTATION, _DETAILS, _INTEROPERABILITY = 0x0112, 0x8769, 0xA005
_SHORT = 3
NO_IMAGE = 'damaged, or no PNG, JPEG, WebP, TIFF or BMP image'


@dataclass(frozen=True)
class Photograph:
    """An image file's content, the right way up.

    Attributes:
        pixels: ``(H, W)`` grey, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGB with straight alpha; uint8 or uint16.
        profile: The ICC colour profile that the numbers are meant in, as the file has it; None for none (sRGB).
        remarks: What of the file was left out, and why; for people.
    """

    pixels: np.ndarray
    profile: bytes | None = None
    remarks: tuple[str, ...] = ()


def orientation_of(exif: bytes, has_profile: bool) -> tuple[int, tuple[str, ...]]:
    """Read the orientation off EXIF data.

    Args:
        exif: The data, with or without ``Exif\\0\\0`` before them; empty for none.
        has_profile: Whether the file has a colour profile, too, which wins over EXIF's word on colours.

    Returns:
        1 to 8 as EXIF has it, 1 where nothing is said; and remarks on what is damaged or not kept.
    """
    if not exif:
        return 1, ()
    data = exif.removeprefix(b'Exif\0\0')
    order = {b'II*\0': '<', b'MM\0*': '>'}.get(data[:4])
    try:
        if order is None:
            raise ValueError('no byte order')
        main = _directory(data, order, struct.unpack_from(f'{order}I', data, 4)[0])
    except (struct.error, ValueError):
        return 1, ('its EXIF data are damaged: it is not turned',)
    remarks: tuple[str, ...] = ()
    if not has_profile and _is_adobe_rgb(data, order, main):
        remarks = ('its EXIF data say Adobe RGB without a colour profile: it is taken for sRGB',)
    orientation = main.get(_ORIENTATION, 1)
    if not 1 <= orientation <= 8:
        return 1, (*remarks, f'its EXIF orientation is {orientation}, expected 1 to 8: it is not turned')
    return orientation, remarks


def _directory(data: bytes, order: str, begin: int) -> dict[int, int]:
    """Read the numbers of an EXIF directory, and as numbers the first bytes of all else that it has in place."""
    (count,) = struct.unpack_from(f'{order}H', data, begin)
    entries = {}
    for number in range(count):
        tag, kind = struct.unpack_from(f'{order}HH', data, begin + 2 + 12 * number)
        (entries[tag],) = struct.unpack_from(f'{order}{"H" if kind == _SHORT else "I"}', data, begin + 10 + 12 * number)
    return entries


def _is_adobe_rgb(data: bytes, order: str, main: dict[int, int]) -> bool:
    try:
        details = _directory(data, order, main[_DETAILS])
        interoperability = _directory(data, order, details[_INTEROPERABILITY])
        return struct.pack(f'{order}I', interoperability[1])[:3] == b'R03'
    except (struct.error, KeyError):
        return False


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of an image turned upright, given how EXIF says that it lies."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def check_kind(pixels: np.ndarray) -> np.ndarray:
    """Return the pixels of 8 or 16 bit, in the shapes that :class:`Photograph` has.

    Raises:
        BadSampleError: They are of another type or have another number of channels.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        raise BadSampleError(f'found {pixels.dtype} pixels, expected 8 or 16 bit')
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        return pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise BadSampleError(f'found pixels of shape {pixels.shape}, expected 1, 3 or 4 channels')
    return pixels


def decode_with_opencv(content: bytes | memoryview, flags: int) -> np.ndarray:
    """Decode an image as it is stored, in RGB order.

    Args:
        content: The bytes of its file.
        flags: How, as ``cv2.imdecode`` has it.

    Raises:
        BadSampleError: They are no whole image, or not of 8 or 16 bit.
    """
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        raise BadSampleError(f'{NO_IMAGE} ({len(content)} bytes)')
    image = check_kind(image)
    if image.ndim == 2:
        return image
    return image[..., [2, 1, 0, 3]] if image.shape[2] == 4 else image[..., ::-1]
