"""Images stored as their pixels, for LMDBs that need no decoding.

A value is a binary PPM file: a short header, then height x width x 3 bytes, RGB, row by row. Every image decoder reads
it, BasicSR's included, so an LMDB of such values is an ordinary LMDB to all other tools.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

# Only the header that encode_raw writes. Other PPM files, with comments or 16 bit, are left to the decoder.
_HEADER = re.compile(rb'P6\n([1-9][0-9]{0,9}) ([1-9][0-9]{0,9})\n255\n')
_LONGEST_HEADER = len(b'P6\n') + 2 * len(b'0123456789 ') + len(b'255\n')


def encode_raw(image: NDArray[np.uint8]) -> bytes:
    """Return an image as a PPM file.

    Args:
        image: ``(H, W, 3)`` uint8, RGB.

    Raises:
        ValueError: If the image has another shape or type, or no pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f'a raw image is uint8 of shape (H, W, 3), found {image.dtype} of shape {image.shape}')
    height, width, _ = image.shape
    return b'P6\n%d %d\n255\n' % (width, height) + image.tobytes()


def raw_view(buffer: bytes | memoryview) -> NDArray[np.uint8] | None:
    """View the pixels of what :func:`encode_raw` made, without copying them.

    Args:
        buffer: An encoded image of any format.

    Returns:
        ``(H, W, 3)`` uint8, RGB, read-only where the buffer is, valid as long as the buffer is. None if the buffer does
        not begin as :func:`encode_raw` begins: then it is for a decoder.

    Raises:
        ValueError: If the buffer is shorter or longer than its header says.
    """
    header = _HEADER.match(bytes(buffer[:_LONGEST_HEADER]))
    if header is None:
        return None
    width, height = int(header[1]), int(header[2])
    expected, found = header.end() + height * width * 3, len(buffer)
    if found != expected:
        raise ValueError(f'raw image of {width}x{height} pixels has {found} bytes, expected {expected}')
    return np.frombuffer(buffer, np.uint8, offset=header.end()).reshape(height, width, 3)
