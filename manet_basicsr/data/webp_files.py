"""Reading WebP files: OpenCV decodes the first picture, and what is said about it is read here."""

from __future__ import annotations

import struct
from typing import NamedTuple

import cv2

from manet_basicsr.data.photograph import Photograph, decode_with_opencv, upright


class Chunk(NamedTuple):
    """A chunk of a WebP file: its name, and where what it holds begins and ends."""

    name: bytes
    begin: int
    end: int


def list_chunks(content: bytes | memoryview) -> list[Chunk]:
    """List the chunks of a WebP file, those that are cut off, too."""
    chunks = []
    position = 12
    while position + 8 <= len(content):
        name, length = struct.unpack_from('<4sI', content, position)
        chunks.append(Chunk(name, position + 8, position + 8 + length))
        position += 8 + length + length % 2
    return chunks


def decode_webp(content: bytes | memoryview) -> Photograph:
    """Decode a WebP file, of an animation the first picture.

    Raises:
        BadSampleError: It is damaged.
    """
    pixels = decode_with_opencv(content, cv2.IMREAD_UNCHANGED)
    chunks = list_chunks(content)
    said = {name: bytes(content[begin:end]) for name, begin, end in chunks if name in (b'ICCP', b'EXIF')}
    pictures = max(1, sum(chunk.name == b'ANMF' for chunk in chunks))
    return upright(pixels, said.get(b'EXIF', b''), said.get(b'ICCP') or None, pictures=pictures)
