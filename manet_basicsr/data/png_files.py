"""Reading PNG files: OpenCV decodes the pixels, and all that is said about them is read here.

libpng refuses a picture for a text chunk that is long or damaged, and OpenCV's treatment of transparency and animation
changes with the kind of pixels. It is therefore given the chunks that make pixels, and no others.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from manet_basicsr.data.photograph import Photograph, decode_with_opencv, upright
from manet_basicsr.utils.errors import BadSampleError

SIGNATURE = b'\x89PNG\r\n\x1a\n'
_GREY, _RGB, _PALETTE = 0, 2, 3
#: Chunks that say what the numbers of pixels mean, beside iCCP; the one that wins first.
_COLOURS = (b'cICP', b'mDCV', b'cLLI', b'sRGB', b'gAMA', b'cHRM')
#: What an animation is made of; decoders look at no checksums in it.
_ANIMATION = (b'acTL', b'fcTL', b'fdAT')
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
    colours = tuple((name, useful[name]) for name in _COLOURS if name in useful)
    pictures = max(1, int.from_bytes(useful.get(b'acTL', b'')[:4], 'big'))
    return upright(pixels, useful.get(b'eXIf', b''), profile, (*remarks, *more), colours, pictures)


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


def only_pictures(content: bytes | memoryview) -> bytes:
    """Return a PNG file without what neither makes pixels nor tells which pictures of an animation they are."""
    kept = [
        chunk
        for chunk in list_chunks(content)
        if _makes_pixels(chunk) or chunk.name in _ANIMATION or (chunk.name == b'tRNS' and chunk.is_whole(content))
    ]
    return b''.join([SIGNATURE, *(content[chunk.begin : chunk.end] for chunk in kept)])


def _damaged(content: bytes | memoryview, others: dict[bytes, Chunk]) -> list[bytes]:
    """List the chunks with a wrong checksum that say something about the pixels, and those of text."""
    known = (b'tRNS', b'iCCP', b'eXIf', *_COLOURS, b'tEXt', b'zTXt', b'iTXt')
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
    """Return the colour profile, and a remark where it is damaged."""
    if b'iCCP' not in chunks:
        return None, []
    try:
        name, _, packed = chunks[b'iCCP'].partition(b'\0')
        unpacker = zlib.decompressobj()
        profile = unpacker.decompress(packed[1:], _MAX_PROFILE)
        if unpacker.eof:
            return profile, []
    except zlib.error:
        pass
    return None, ['its colour profile is damaged: left out']


def other_colours(colours: Sequence[tuple[bytes, bytes]], has_profile: bool) -> str:
    """Name the chunks by which a PNG file says that its colours are not sRGB; empty for none.

    Args:
        colours: Names and contents of the chunks.
        has_profile: Whether there is a colour profile, which wins over all of them but cICP.
    """
    chunks = dict(colours)
    if b'cICP' in chunks and tuple(chunks[b'cICP'][:2]) != (1, 13):
        return 'cICP'
    if b'sRGB' in chunks or has_profile:
        return ''
    gamma, primaries = chunks.get(b'gAMA', b''), chunks.get(b'cHRM', b'')
    other_gamma = len(gamma) == 4 and abs(struct.unpack('>I', gamma)[0] - _SRGB_GAMMA) > 100
    other_primaries = len(primaries) == 32 and any(
        abs(found - expected) > 100
        for found, expected in zip(struct.unpack('>8I', primaries), _SRGB_PRIMARIES, strict=True)
    )
    return ' and '.join(name for name, is_other in (('gAMA', other_gamma), ('cHRM', other_primaries)) if is_other)


def profile_chunk(profile: bytes) -> tuple[bytes, bytes]:
    """Return name and content of the chunk of a colour profile."""
    return b'iCCP', b'ICC profile\0\0' + zlib.compress(profile)


def with_chunks(png: bytes, chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return a PNG file with more chunks, some of which libpng might refuse to write, behind its header."""
    end = list_chunks(png)[0].end
    return png[:end] + b''.join(write_chunk(name, data) for name, data in chunks) + png[end:]


def write_chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk as it lies in a file."""
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
