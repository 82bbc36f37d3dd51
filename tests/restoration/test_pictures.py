"""Animations and pages: what one file's pictures are, and what another becomes of them."""

from __future__ import annotations

import io
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageSequence

from manet_basicsr.data.image_files import decode_image_file
from manet_basicsr.data.photograph import Photograph
from manet_basicsr.data.pictures import Picture, Pictures
from manet_basicsr.data.png_files import with_chunks, write_chunk
from manet_basicsr.restoration import encoding
from manet_basicsr.restoration import pictures as writing
from manet_basicsr.restoration.pictures import write_pictures
from manet_basicsr.utils.errors import BadSampleError

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
DURATIONS = [40, 100, 70_000]
ROWS, COLUMNS = np.mgrid[:18, :26]


def frame(number: int) -> np.ndarray:
    """RGB with alpha, of few colours, so that a palette holds them."""
    colours = np.stack([COLUMNS // 9 * 100, ROWS // 6 * 100, np.full_like(ROWS, 60 * number)], axis=2)
    alpha = np.where((COLUMNS + 3 * number) % 26 < 6, 0, 255)
    return np.dstack([colours, alpha]).astype(np.uint8)


FRAMES = [frame(number) for number in range(3)]


def exif() -> bytes:
    data = Image.Exif()
    data[0x010F] = 'Camera works'
    return data.tobytes().removeprefix(b'Exif\0\0')


def animation(kind: str, loop: int | None = 3, **settings: Any) -> bytes:
    content = io.BytesIO()
    images = [Image.fromarray(pixels) for pixels in FRAMES]
    if kind == 'gif':
        settings['disposal'] = 2
    elif kind == 'webp':
        settings |= {'lossless': True, 'exact': True, 'exif': exif(), 'icc_profile': PROFILE}
    else:
        settings |= {'exif': exif(), 'icc_profile': PROFILE, 'disposal': 1}
    settings |= {} if loop is None else {'loop': loop}
    images[0].save(content, kind, save_all=True, append_images=images[1:], duration=DURATIONS, **settings)
    return content.getvalue()


def pages() -> bytes:
    content = io.BytesIO()
    with tifffile.TiffWriter(content) as writer:
        writer.write(FRAMES[0][..., 0], photometric='minisblack', iccprofile=PROFILE, metadata=None)
        writer.write(FRAMES[0][::2, ::2, :3], photometric='rgb', subfiletype=1, metadata=None)  # a preview
        writer.write(
            FRAMES[1][:9].astype(np.uint16) * 257, photometric='rgb', extrasamples=['unassalpha'], metadata=None
        )
        orientation = [(274, 3, 1, 6, True)]
        writer.write(FRAMES[2][..., :3], photometric='rgb', extratags=orientation, metadata=None)
    return content.getvalue()


PAGES = [FRAMES[0][..., 0], FRAMES[1][:9].astype(np.uint16) * 257, np.rot90(FRAMES[2][..., :3], -1)]


def opened(content: bytes) -> Pictures:
    return Pictures(content, 'image', decode_image_file(content, 'image'))


def seen(pixels: np.ndarray) -> np.ndarray:
    """What is seen of an image: nothing of colours under alpha 0."""
    return np.where(pixels[..., 3:] > 0, pixels, 0)


@pytest.mark.parametrize('kind', ['gif', 'png', 'webp'])
def test_frames_are_read_as_they_are_seen_with_their_durations(kind: str) -> None:
    pictures = opened(animation(kind))
    found = list(pictures)
    assert pictures.first.pictures == len(found) == 3 and not pictures.are_pages
    assert [picture.duration for picture in found] == DURATIONS
    for picture, expected in zip(found, FRAMES, strict=True):
        np.testing.assert_array_equal(seen(picture.photograph.pixels), seen(expected))
        assert bool(picture.photograph.exif) == bool(picture.photograph.profile) == (kind != 'gif')


@pytest.mark.parametrize(('kind', 'loop', 'times'), [
    ('gif', None, 1), ('gif', 0, 0), ('gif', 3, 4), ('png', 0, 0), ('png', 3, 3), ('webp', 0, 0), ('webp', 3, 3),
])  # fmt: skip
def test_how_often_an_animation_is_shown_is_read_as_viewers_read_it(kind: str, loop: int | None, times: int) -> None:
    assert opened(animation(kind, loop)).loops == times


def test_of_an_animated_png_the_picture_that_stands_for_it_is_no_frame() -> None:
    content = io.BytesIO()
    images = [Image.fromarray(pixels) for pixels in FRAMES]
    Image.fromarray(FRAMES[0][::-1].copy()).save(
        content, 'png', save_all=True, append_images=images, default_image=True
    )
    pictures = opened(content.getvalue())
    assert pictures.first.pictures == 3
    for picture, expected in zip(pictures, FRAMES, strict=True):
        np.testing.assert_array_equal(seen(picture.photograph.pixels), seen(expected))


def test_pages_are_read_each_as_its_tags_say_and_previews_are_none() -> None:
    pictures = opened(pages())
    assert pictures.first.pictures == 3 and pictures.are_pages and pictures.first.remarks == ()
    for picture, expected in zip(pictures, PAGES, strict=True):
        assert picture.photograph.pixels.dtype == expected.dtype
        np.testing.assert_array_equal(picture.photograph.pixels, expected)


@pytest.mark.parametrize('target', ['png', 'webp'])
@pytest.mark.parametrize('source', ['gif', 'png', 'webp'])
def test_animations_become_animations(tmp_path: Path, source: str, target: str) -> None:
    given = opened(animation(source))
    assert write_pictures(tmp_path / f'a.{target}', given, given.loops, quality=100) == ()
    found = opened((tmp_path / f'a.{target}').read_bytes())
    assert found.loops == given.loops and found.first.profile == given.first.profile
    assert bool(found.first.exif) == bool(given.first.exif)
    for picture, other in zip(found, given, strict=True):
        # A duration beyond 65,535 ms is told in seconds by PNG.
        assert picture.duration == other.duration
        lost = np.abs(seen(picture.photograph.pixels).astype(int) - seen(other.photograph.pixels))
        assert np.median(lost) == 0 if target == 'webp' else lost.max() == 0  # WebP loses something
    with Image.open(tmp_path / f'a.{target}') as image:
        assert len(list(ImageSequence.Iterator(image))) == 3


def test_pages_become_pages(tmp_path: Path) -> None:
    assert write_pictures(tmp_path / 'a.tif', opened(pages())) == (
        'its colour profile is for RGB colours, and the result is grey: left out',
    )
    for picture, expected in zip(opened((tmp_path / 'a.tif').read_bytes()), PAGES, strict=True):
        np.testing.assert_array_equal(picture.photograph.pixels, expected)


def test_pages_keep_the_exif_data_of_the_first(tmp_path: Path) -> None:
    photograph = Photograph(FRAMES[0], exif=exif())
    write_pictures(tmp_path / 'a.tif', [Picture(photograph), Picture(photograph)])
    found = list(opened((tmp_path / 'a.tif').read_bytes()))
    assert [bool(picture.photograph.exif) for picture in found] == [True, False]
    assert all(np.array_equal(picture.photograph.pixels, FRAMES[0]) for picture in found)


def test_many_pages_become_a_big_tiff_that_has_no_exif_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Picture(Photograph(FRAMES[0], exif=exif()))
    monkeypatch.setattr(encoding, '_LARGEST_SURE', 3 * FRAMES[0].nbytes - 1)
    assert write_pictures(tmp_path / 'two.tif', [picture] * 2, number=2) == ()
    said = write_pictures(tmp_path / 'three.tif', [picture] * 3, number=3)
    assert said == ('its EXIF data are left out: a TIFF file of more than 4 GiB has no place for them',)
    for name, is_big, number in (('two', False, 2), ('three', True, 3)):
        content = (tmp_path / f'{name}.tif').read_bytes()
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            assert file.is_bigtiff == is_big
        found = [picture.photograph for picture in opened(content)]
        assert len(found) == number and all(np.array_equal(one.pixels, FRAMES[0]) for one in found)
        assert bool(found[0].exif) != is_big


def test_pages_beyond_what_a_file_holds_are_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_far(*_: Any) -> None:
        raise struct.error("'I' format requires 0 <= number <= 4294967295")

    monkeypatch.setattr(writing, 'write_tiff_page', too_far)
    with pytest.raises(ValueError, match='the result is larger than the 4 GiB that a TIFF file can have'):
        write_pictures(tmp_path / 'a.tif', opened(pages()))
    assert not list(tmp_path.iterdir())


def test_a_damaged_text_costs_an_animation_nothing() -> None:
    content = animation('png')
    text = write_chunk(b'tEXt', b'comment\0of the camera')
    damaged = with_chunks(content, [])[:33] + text[:-1] + b'?' + content[33:]
    pictures = opened(damaged)
    assert pictures.first.remarks == ('its tEXt chunk is damaged: left out',)
    assert pictures.loops == 3
    assert len(list(pictures)) == 3
    for name in (b'fcTL', b'fdAT'):  # whose checksums no decoder looks at
        end = content.rindex(name)
        end += 4 + int.from_bytes(content[end - 4 : end], 'big')
        other = content[:end] + bytes([content[end] ^ 1]) + content[end + 1 :]
        assert len(list(opened(other))) == 3
    with pytest.raises(BadSampleError, match='^image: '):
        _ = Pictures(content[:40], 'image', pictures.first).loops


@pytest.mark.parametrize('suffix', ['jpg', 'bmp'])
def test_formats_of_one_picture_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match=f'{suffix} files have one picture; choose png or webp'):
        write_pictures(tmp_path / f'a.{suffix}', opened(pages()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('kind', ['gif', 'png', 'webp', 'tif'])
def test_a_damaged_picture_costs_the_file_and_is_named(tmp_path: Path, kind: str) -> None:
    content = pages() if kind == 'tif' else animation(kind)
    first = decode_image_file(content, 'image')
    kept = len(content) - 100 if kind == 'tif' else len(content) * 2 // 3  # the last page is cut off
    damaged = content[:kept] + (b'' if kind == 'tif' else b'\xff' * (len(content) - kept))
    with pytest.raises(BadSampleError, match=r'^image: picture \d'):
        write_pictures(tmp_path / f'a.{"tif" if kind == "tif" else "png"}', Pictures(damaged, 'image', first))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('suffix', ['png', 'webp', 'tif'])
def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 4), np.uint8)

    def many(count: int) -> Iterator[Picture]:
        for number in range(count):
            yield Picture(Photograph(np.roll(pixels, number, 1)), 10)

    peaks = []
    for count in (4, 40):
        tracemalloc.start()
        write_pictures(tmp_path / f'a.{suffix}', many(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
