"""Writing files of several pictures, one after the other, so that memory does not grow with their number.

Animations are put together here, of stills that the encoders make: libraries take all frames at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from manet_basicsr.data import png_files, webp_files
from manet_basicsr.data.pictures import Picture
from manet_basicsr.restoration.encoding import Beside, encode, fit_to_format, write_tiff_page
from manet_basicsr.utils.files import atomic_path

ANIMATED = ('.png', '.webp')
"""Suffixes of formats that have animations."""

PAGED = ('.tif', '.tiff')
"""Suffixes of formats that have pages."""

_Frames = Iterable[tuple[np.ndarray, Beside, int]]
_PIXELS = (b'IDAT', b'IEND')
# Flags of WebP: what a file has, and that a frame replaces what was there.
_HAS_PROFILE, _HAS_ALPHA, _HAS_EXIF, _IS_ANIMATED, _REPLACES = 0x20, 0x10, 0x08, 0x02, 0x02


def write_pictures(
    path: str | Path, pictures: Iterable[Picture], loops: int = 0, quality: int = 95, number: int = 1
) -> tuple[str, ...]:
    """Write a file of several pictures; it appears whole or not at all.

    Args:
        path: The file; ``.png`` and ``.webp`` become animations, whose pictures are of one size, RGB with alpha of
            8 bit; ``.tif`` and ``.tiff`` have pages of any kind.
        pictures: What to write. Of EXIF data, profile and colours of an animation those of the first count.
        loops: How many times an animation is shown; 0 for ever.
        quality: 1 to 100, of WebP.
        number: How many there are, about; many pages that may need more than 4 GiB make a BigTIFF file.

    Returns:
        What was left out, and why, once each.

    Raises:
        OSError: It cannot be written.
        ValueError: The format has one picture only, or the file would be larger than it can be.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (*ANIMATED, *PAGED):
        raise ValueError(
            f'{path}: {suffix[1:]} files have one picture; choose png or webp for animations, tif for pages'
        )
    remarks: dict[str, None] = {}

    def fitting() -> Iterator[tuple[np.ndarray, Beside, int]]:
        for picture in pictures:
            pixels, beside, words = fit_to_format(picture.photograph, suffix, number)
            remarks.update(dict.fromkeys(words))
            yield pixels, beside, picture.duration

    with atomic_path(path, sync=False) as partial, partial.open('w+b') as file:
        if suffix == '.png':
            _write_png(file, fitting(), loops)
        elif suffix == '.webp':
            _write_webp(file, fitting(), loops, quality)
        else:
            _write_pages(file, fitting(), number)
    return tuple(remarks)


def _write_pages(file: BinaryIO, pages: _Frames, number: int) -> None:
    for pixels, beside, _ in pages:
        try:
            write_tiff_page(file, pixels, beside, number)
        except struct.error as error:  # a position that does not fit
            raise ValueError('the result is larger than the 4 GiB that a TIFF file can have') from error


def _write_png(file: BinaryIO, frames: _Frames, loops: int) -> None:
    """Write an animated PNG file.

    Source: Portable Network Graphics, third edition, W3C 2025, 11.3.6.
    """
    control = number = 0  # where the chunk of the animation is, and how many chunks of frames there are
    shown = 0
    for pixels, beside, duration in frames:
        png = encode('.png', pixels, beside, 100)
        chunks = png_files.list_chunks(png)
        data = [chunk.data(png) for chunk in chunks if chunk.name == b'IDAT']
        if not shown:
            file.write(png[: chunks[0].end])
            control = file.tell()
            file.write(png_files.write_chunk(b'acTL', bytes(8)))
            file.write(b''.join(png[chunk.begin : chunk.end] for chunk in chunks[1:] if chunk.name not in _PIXELS))
        # A duration is a fraction of two numbers of 16 bit.
        parts = (duration, 1000) if duration < 2**16 else (min(round(duration / 1000), 2**16 - 1), 1)
        height, width = pixels.shape[:2]
        file.write(png_files.write_chunk(b'fcTL', struct.pack('>IIIIIHHBB', number, width, height, 0, 0, *parts, 0, 0)))
        number += 1
        for part in data:
            if shown:
                file.write(png_files.write_chunk(b'fdAT', struct.pack('>I', number) + part))
                number += 1
            else:
                file.write(png_files.write_chunk(b'IDAT', part))
        shown += 1
    file.write(png_files.write_chunk(b'IEND', b''))
    file.seek(control)
    file.write(png_files.write_chunk(b'acTL', struct.pack('>II', shown, loops)))


def _write_webp(file: BinaryIO, frames: _Frames, loops: int, quality: int) -> None:
    """Write an animated WebP file.

    Source: RFC 9649, WebP Image Format, 2.7.
    """
    exif = b''
    file.write(b'RIFF' + bytes(4) + b'WEBP')
    for pixels, beside, duration in frames:
        still = encode('.webp', pixels, Beside(None, b'', ()), quality)
        size = b''.join((side - 1).to_bytes(3, 'little') for side in pixels.shape[1::-1])
        if file.tell() == 12:
            exif, profile = beside.exif, beside.profile or b''
            has = _IS_ANIMATED | _HAS_ALPHA | (_HAS_PROFILE if profile else 0) | (_HAS_EXIF if exif else 0)
            file.write(_webp_chunk(b'VP8X', bytes([has, 0, 0, 0]) + size))
            file.write(_webp_chunk(b'ICCP', profile) if profile else b'')
            file.write(_webp_chunk(b'ANIM', struct.pack('<IH', 0, min(loops, 2**16 - 1))))
        data = b''.join(
            _webp_chunk(chunk.name, still[chunk.begin : chunk.end])
            for chunk in webp_files.list_chunks(still)
            if chunk.name in (b'ALPH', b'VP8 ', b'VP8L')
        )
        shown = min(duration, 2**24 - 1).to_bytes(3, 'little')
        file.write(_webp_chunk(b'ANMF', bytes(6) + size + shown + bytes([_REPLACES]) + data))
    file.write(_webp_chunk(b'EXIF', exif) if exif else b'')
    length = file.tell() - 8
    if length >= 2**32:
        raise ValueError('the result is larger than the 4 GiB that a WebP file can have')
    file.seek(4)
    file.write(struct.pack('<I', length))


def _webp_chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack('<I', len(data)) + data + bytes(len(data) % 2)
