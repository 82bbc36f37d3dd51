"""The pictures of an image file that has several: the frames of an animation, or the pages of a TIFF file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from manet_basicsr.data import png_files, tiff_files
from manet_basicsr.data.photograph import Photograph, upright
from manet_basicsr.utils.errors import BadSampleError

_GIF = b'GIF8'


@dataclass(frozen=True)
class Picture:
    """One of several pictures.

    Attributes:
        photograph: What is in it.
        duration: How long it is shown, in milliseconds; 0 for a page.
    """

    photograph: Photograph
    duration: int = 0


@dataclass(frozen=True)
class Pictures:
    """The pictures of a file, which are decoded one by one.

    Args:
        content: The bytes of a file that :func:`decode_image_file` reads.
        name: What to call it in messages.
        first: What that function found in it.
    """

    content: bytes
    name: str
    first: Photograph

    @property
    def are_pages(self) -> bool:
        """Whether they are pages instead of frames."""
        return self.content[:4] in tiff_files.SIGNATURES

    @property
    def loops(self) -> int:
        """How many times an animation is shown; 0 for ever.

        Raises:
            BadSampleError: The file cannot be opened as an animation.
        """
        if self.are_pages:
            return 0
        try:
            with self._open() as image:
                said = image.info.get('loop')
        except Exception as error:  # each decoder has its own kinds
            raise BadSampleError(f'{self.name}: {error}') from error
        if not self.content.startswith(_GIF):
            return int(said or 0)
        # A GIF file tells how often it is repeated, and one that tells nothing is shown once.
        return 1 if said is None else int(said) + 1 if said else 0

    def __iter__(self) -> Iterator[Picture]:
        """Decode one picture after the other; memory is needed for one.

        Raises:
            BadSampleError: One is damaged, or of a kind that cannot be read without loss.
        """
        pictures = map(Picture, tiff_files.decode_pages(self.content)) if self.are_pages else self._frames()
        number = 0
        while True:
            number += 1
            try:
                picture = next(pictures, None)
            except MemoryError:
                raise
            except Exception as error:  # each decoder has its own kinds
                raise BadSampleError(f'{self.name}: picture {number}: {error}') from error
            if picture is None:
                return
            yield picture

    def _open(self) -> Any:
        """Open the file with Pillow; the class of the format, because ``Image.open`` has a bound of its own."""
        from PIL import GifImagePlugin, PngImagePlugin, WebPImagePlugin

        if self.content.startswith(png_files.SIGNATURE):
            # Pillow refuses a file for a damaged text, too.
            return PngImagePlugin.PngImageFile(io.BytesIO(png_files.only_pictures(self.content)))
        file = io.BytesIO(self.content)
        return (
            GifImagePlugin.GifImageFile(file) if self.content.startswith(_GIF) else WebPImagePlugin.WebPImageFile(file)
        )

    def _frames(self) -> Iterator[Picture]:
        """Decode frames as they are seen, each laid on those before it: RGB with alpha, 8 bit."""
        with self._open() as image:
            # A PNG file may have a picture for programs that know no animations.
            for number in range(int(image.info.get('default_image', False)), image.n_frames):
                image.seek(number)
                pixels = np.array(image.convert('RGBA'))
                frame = upright(pixels, self.first.exif, self.first.profile, (), self.first.colours)
                yield Picture(frame, round(image.info.get('duration', 0)))
