"""Reading PNG files: OpenCV decodes the pixels, and all that is said about them is read here.

libpng refuses a picture for a text chunk that is long or damaged, and OpenCV's treatment of transparency and animation
changes with the kind of pixels. It is therefore given the chunks that make pixels, and no others.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import cv2
import numpy as np

from manet_basicsr.data.photograph import Photograph, decode_with_opencv, orientation_of, turned
from manet_basicsr.utils.errors import BadSampleError

SIGNATURE = b'\x89PNG\r\n\x1a\n'
_GREY, _RGB, _PALETTE = 0, 2, 3
_MAX_PROFILE = 2**26  # bytes; profiles of printers have a few million
_SRGB_GAMMA = 45455
_SRGB_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


class Chunk(NamedTuple):
    """A chunk of a PNG file: its name, and where it begins and ends, length and checksum included."""

    name: bytes
    begin: int
    end: int

    def data(self, content: bytes | memoryview) -> bytes:
        """Return what the chunk holds."""
        return bytes(content[self.begin + 8 : self.end - 4])

    def is_whole(self, content: bytes | memoryview) -> bool:
        """Tell whether the chunk's checksum is right."""
        return zlib.crc32(content[self.begin + 4 : self.end - 4]) == int.from_bytes(
            content[self.end - 4 : self.end], 'big'
        )


def list_chunks(content: bytes | memoryview) -> list[Chunk]:
    """List the chunks of a PNG file, up to its end or to the first that is cut off."""
    chunks = []
    position = len(SIGNATURE)
    while position + 12 <= len(content):
        length, name = struct.unpack_from('>I4s', content, position)
        end = position + 12 + length
        if end > len(content):
            break
        chunks.append(Chunk(name, position, end))
        position = end
        if name == b'IEND':
            break
    return chunks


def decode_png(content: bytes | memoryview) -> Photograph:
    """Decode a PNG file of any colour type and depth; of an animation the default image.

    Raises:
        BadSampleError: It is damaged.
    """
    chunks = list_chunks(content)
    if not chunks or chunks[0].name != b'IHDR' or len(chunks[0].data(content)) != 13:
        raise BadSampleError('damaged: a PNG file without a header')
    depth, colour = struct.unpack_from('>BB', chunks[0].data(content), 8)
    pixels = _decode_chunks(content, chunks, keeps_transparency=colour == _PALETTE)
    others = {chunk.name: chunk for chunk in reversed(chunks) if not _makes_pixels(chunk)}
    if not others:
        return Photograph(pixels)
    remarks = [f'its {name.decode()} chunk is damaged: left out' for name in _damaged(content, others)]
    useful = {name: chunk.data(content) for name, chunk in others.items() if chunk.is_whole(content)}
    if b'tRNS' in useful and colour in (_GREY, _RGB):
        pixels = _with_transparent_colour(pixels, useful[b'tRNS'], depth)
    profile, more = _profile(useful)
    orientation, of_exif = orientation_of(useful.get(b'eXIf', b''), profile is not None)
    return Photograph(turned(pixels, orientation), profile, (*remarks, *more, *of_exif))


def _makes_pixels(chunk: Chunk) -> bool:
    return not chunk.name[0] & 0x20  # a capital: a decoder must know it


def _decode_chunks(content: bytes | memoryview, chunks: list[Chunk], keeps_transparency: bool) -> np.ndarray:
    kept = [chunk for chunk in chunks if _makes_pixels(chunk) or (keeps_transparency and chunk.name == b'tRNS')]
    if len(kept) != len(chunks):
        parts = [content[chunk.begin : chunk.end] for chunk in kept]
        # What is cut off goes along: the decoder finds that it is.
        rest = content[chunks[-1].end :] if chunks[-1].name != b'IEND' else b''
        content = b''.join([SIGNATURE, *parts, rest])
    return decode_with_opencv(content, cv2.IMREAD_UNCHANGED)


def _damaged(content: bytes | memoryview, others: dict[bytes, Chunk]) -> list[bytes]:
    """List the chunks with a wrong checksum that say something about the pixels, and those of text."""
    known = (b'tRNS', b'iCCP', b'eXIf', b'gAMA', b'cHRM', b'cICP', b'tEXt', b'zTXt', b'iTXt')
    return [name for name in known if name in others and not others[name].is_whole(content)]


def _with_transparent_colour(pixels: np.ndarray, key: bytes, depth: int) -> np.ndarray:
    """Add the alpha of a file that calls one grey level or one colour transparent."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if len(key) != 2 * channels or channels == 4:
        return pixels
    largest = np.iinfo(pixels.dtype).max
    stored = [value & (2**depth - 1) for value in struct.unpack(f'>{channels}H', key)]
    levels = np.array([value * int(largest) // (2**depth - 1) for value in stored], pixels.dtype)
    colours = pixels[..., None] if channels == 1 else pixels
    hidden = (colours == levels).all(axis=2)
    return np.dstack([np.broadcast_to(colours, (*hidden.shape, 3)), np.where(hidden, 0, largest).astype(pixels.dtype)])


def _profile(chunks: dict[bytes, bytes]) -> tuple[bytes | None, list[str]]:
    """Return the colour profile, and a remark where the file says its colours in a way that is not kept."""
    if b'iCCP' in chunks:
        try:
            name, _, packed = chunks[b'iCCP'].partition(b'\0')
            unpacker = zlib.decompressobj()
            profile = unpacker.decompress(packed[1:], _MAX_PROFILE)
            if unpacker.eof:
                return profile, []
        except zlib.error:
            pass
        return None, ['its colour profile is damaged: left out']
    remarks = []
    if b'cICP' in chunks and tuple(chunks[b'cICP'][:2]) != (1, 13):
        remarks.append('it says in a cICP chunk that its colours are not sRGB')
    if b'sRGB' not in chunks:
        gamma, primaries = chunks.get(b'gAMA', b''), chunks.get(b'cHRM', b'')
        other_gamma = len(gamma) == 4 and abs(struct.unpack('>I', gamma)[0] - _SRGB_GAMMA) > 100
        other_primaries = len(primaries) == 32 and any(
            abs(found - expected) > 100
            for found, expected in zip(struct.unpack('>8I', primaries), _SRGB_PRIMARIES, strict=True)
        )
        named = [name for name, is_other in (('gAMA', other_gamma), ('cHRM', other_primaries)) if is_other]
        if named:
            remarks.append(f'it says by {" and ".join(named)} that its colours are not sRGB')
    return None, [f'{remark}, which is not kept: convert it to sRGB first' for remark in remarks]


def with_profile(png: bytes, profile: bytes) -> bytes:
    """Return a PNG file with a colour profile, which libpng might refuse to write."""
    data = b'iCCP' + b'ICC profile\0\0' + zlib.compress(profile)
    chunk = struct.pack('>I', len(data) - 4) + data + struct.pack('>I', zlib.crc32(data))
    end_of_header = list_chunks(png)[0].end
    return png[:end_of_header] + chunk + png[end_of_header:]
