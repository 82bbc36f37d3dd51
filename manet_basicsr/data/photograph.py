"""What an image file holds: pixels the right way up, what they mean, and a word on what could not be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from manet_basicsr.data.exif import PREFIX, orientation_of
from manet_basicsr.utils.errors import BadSampleError

NO_IMAGE = 'damaged, or no PNG, JPEG, WebP, TIFF, BMP, GIF or PNM image'


@dataclass(frozen=True)
class Photograph:
    """An image file's content, the right way up.

    Attributes:
        pixels: ``(H, W)`` grey, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGB with straight alpha; uint8 or uint16.
        profile: The ICC colour profile that the numbers are meant in, as the file has it; None for none (sRGB).
        remarks: What of the file was left out, and why; for people.
        exif: EXIF data as the file has them, without ``Exif\\0\\0``; empty for none. What they say of how the pixels
            lie is done already, and is corrected when they are written.
        colours: Names and contents of the chunks by which a PNG file says more of its colours.
        pictures: How many the file has, pages or frames of an animation; this is the first, or what stands for them.
    """

    pixels: np.ndarray
    profile: bytes | None = None
    remarks: tuple[str, ...] = ()
    exif: bytes = b''
    colours: tuple[tuple[bytes, bytes], ...] = ()
    pictures: int = 1


def upright(
    pixels: np.ndarray,
    exif: bytes,
    profile: bytes | None,
    remarks: Sequence[str] = (),
    colours: tuple[tuple[bytes, bytes], ...] = (),
    pictures: int = 1,
) -> Photograph:
    """Make a photograph of pixels as they are stored, turned as EXIF data say.

    Args:
        pixels: Of :class:`Photograph`, the arguments likewise.
        exif: The data, with or without ``Exif\\0\\0`` before them; damaged ones are left out with a remark.
        profile: The colour profile.
        remarks: What was left out so far.
        colours: Chunks of colour.
        pictures: How many there are.
    """
    exif = exif.removeprefix(PREFIX)
    try:
        orientation, more = orientation_of(exif, profile is not None)
    except ValueError:
        exif, orientation, more = b'', 1, ('its EXIF data are damaged: left out, and it is not turned',)
    return Photograph(turned(pixels, orientation), profile, (*remarks, *more), exif, colours, pictures)


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


def full_range(samples: np.ndarray, largest: int) -> np.ndarray:
    """Spread samples of which the largest may be any number over 8 bit or, if it is above 255, 16 bit."""
    if largest in (255, 65535):
        return samples
    target = np.uint8 if largest < 255 else np.uint16
    spread = samples.astype(np.float32) * (np.iinfo(target).max / largest)
    return np.rint(spread).clip(0, np.iinfo(target).max).astype(target)


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
