"""The size that an image file says it has, read before a decoder sets aside memory for it.

A header of a few bytes can promise a billion pixels: OpenCV allocates them all before it finds that they are missing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

MAX_PIXELS = 2**28
"""Largest image that is decoded: 16384 x 16384, 0.8 GB in 8 bit."""

# The formats cannot say more with a byte: deflate 1032 bytes, and a JPEG scan eight blocks of 8x8 px.
_PNG_BYTES_A_BYTE = 1032
_JPEG_PIXELS_A_BYTE = 8 * 64
# An LZW code of 12 bits stands for at most 4,095 px.
_GIF_PIXELS_A_BYTE = 2730
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNM = re.compile(rb'P[1-6](?:\s|#[^\n]*\n)+(\d{1,20})(?:\s|#[^\n]*\n)+(\d{1,20})\s')
# Markers of a JPEG that begin a frame: all from C0 to CF but tables (C4, CC) and an extension (C8).
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257


def check_declared_size(content: bytes | memoryview) -> None:
    """Refuse an image file that says it is absurdly large, or larger than so few bytes can be.

    Raises:
        ValueError: It does. A header that cannot be read is left to the decoder.
    """
    try:
        size = declared_size(content)
    except (struct.error, IndexError):
        return
    if size is None:
        return
    width, height = size
    said = f'its header says {width}x{height} px'
    if min(width, height) < 1:
        raise ValueError(f'{said}, expected at least 1x1')
    if width * height > MAX_PIXELS:
        raise ValueError(f'{said}, expected at most {MAX_PIXELS:,d} in all')
    if not _fits(content, width, height):
        raise ValueError(f'{said}, more than its {len(content)} bytes can hold')


def declared_size(content: bytes | memoryview) -> tuple[int, int] | None:
    """Read width and height off the header of a PNG, JPEG, GIF, BMP, WebP, TIFF or PNM file; None for any other.

    Raises:
        IndexError, struct.error: The header is cut short.
    """
    begin = bytes(content[:30])
    if begin.startswith(b'\x89PNG\r\n\x1a\n'):
        return struct.unpack_from('>II', content, 16)
    if begin.startswith(b'\xff\xd8'):
        return _jpeg_size(content)
    if begin[:6] in (b'GIF87a', b'GIF89a'):
        return struct.unpack_from('<HH', content, 6)
    if begin.startswith(b'BM'):
        (header,) = struct.unpack_from('<I', content, 14)
        width, height = struct.unpack_from('<HH' if header == 12 else '<ii', content, 18)
        return abs(width), abs(height)  # a negative height: from the top down
    if begin.startswith(b'RIFF') and begin[8:12] == b'WEBP':
        return _webp_size(begin)
    if begin[:4] in (b'II*\0', b'MM\0*'):
        return _tiff_size(content, '<' if begin[0:1] == b'I' else '>')
    match = _PNM.match(bytes(content[:512]))
    return (int(match[1]), int(match[2])) if match else None


def jpeg_segments(content: bytes | memoryview) -> Iterator[tuple[int, int, int]]:
    """Yield the segments before a JPEG's picture: the marker, and where its contents begin and end."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # fill bytes, and markers without a length
            position += 1 if marker == 0xFF else 2
        elif marker == 0xDA:  # the picture begins
            return
        else:
            end = position + 2 + struct.unpack_from('>H', content, position + 2)[0]
            yield marker, position + 4, end
            position = end


def _jpeg_size(content: bytes | memoryview) -> tuple[int, int] | None:
    for marker, begin, _ in jpeg_segments(content):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from('>HH', content, begin + 1)
            return width, height
    return None


def _webp_size(begin: bytes) -> tuple[int, int] | None:
    kind = begin[12:16]
    if kind == b'VP8X':
        return 1 + int.from_bytes(begin[24:27], 'little'), 1 + int.from_bytes(begin[27:30], 'little')
    if kind == b'VP8L':
        (bits,) = struct.unpack_from('<I', begin, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b'VP8 ':
        width, height = struct.unpack_from('<HH', begin, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff_size(content: bytes | memoryview, order: str) -> tuple[int, int] | None:
    (directory,) = struct.unpack_from(f'{order}I', content, 4)
    (entries,) = struct.unpack_from(f'{order}H', content, directory)
    found = {}
    for number in range(entries):
        position = directory + 2 + 12 * number
        tag, kind = struct.unpack_from(f'{order}HH', content, position)
        if tag in (_TIFF_WIDTH, _TIFF_HEIGHT):
            (found[tag],) = struct.unpack_from(f'{order}{"H" if kind == 3 else "I"}', content, position + 8)
    return (found[_TIFF_WIDTH], found[_TIFF_HEIGHT]) if len(found) == 2 else None


def _fits(content: bytes | memoryview, width: int, height: int) -> bool:
    """Tell whether the bytes can hold so many pixels, as far as the format says how few they may be."""
    begin = bytes(content[:26])
    if begin.startswith(b'\x89PNG') and len(begin) == 26:
        bits = begin[24] * _PNG_CHANNELS.get(begin[25], 1)
        return height * (width * bits // 8) <= _PNG_BYTES_A_BYTE * len(content)
    if begin.startswith(b'\xff\xd8'):
        return width * height <= _JPEG_PIXELS_A_BYTE * len(content)
    if begin.startswith(b'GIF8'):
        return width * height <= _GIF_PIXELS_A_BYTE * len(content)
    return True
