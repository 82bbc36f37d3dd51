"""Image files of one's own, of every kind."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from manet_basicsr.data.alpha import flatten_on_white
from manet_basicsr.data.images import BadSampleError
from manet_basicsr.restoration import encoding
from manet_basicsr.restoration.photographs import Photograph, check_size, read_photograph, write_photograph


@pytest.fixture(scope='module')
def photo(photos: Path) -> np.ndarray:
    """A photograph, RGB uint8."""
    return np.ascontiguousarray(cv2.imread(str(photos / 'coffee.png'))[:40, :56, ::-1])


@pytest.fixture(scope='module')
def alpha(photo: np.ndarray) -> np.ndarray:
    return np.linspace(0, 255, photo.shape[0] * photo.shape[1]).reshape(photo.shape[:2]).astype(np.uint8)


def test_colour_grey_and_alpha_round_trip(tmp_path: Path, photo: np.ndarray, alpha: np.ndarray) -> None:
    for pixels in (photo, photo[..., 0], np.dstack([photo, alpha])):
        for depth in (pixels, pixels.astype(np.uint16) * 257 + 1):
            for suffix in ('png', 'tif'):
                write_photograph(tmp_path / f'a.{suffix}', Photograph(depth))
                found = read_photograph(tmp_path / f'a.{suffix}').pixels
                assert found.dtype == depth.dtype and np.array_equal(found, depth)


def test_formats_without_16_bit_or_alpha_lose_them(tmp_path: Path, photo: np.ndarray, alpha: np.ndarray) -> None:
    deep = np.dstack([photo, alpha]).astype(np.uint16) * 257
    for suffix, channels in (('webp', 4), ('jpg', 3), ('bmp', 3)):
        write_photograph(tmp_path / f'a.{suffix}', Photograph(deep), quality=100)
        found = read_photograph(tmp_path / f'a.{suffix}').pixels
        assert found.shape == (*photo.shape[:2], channels) and found.dtype == np.uint8
        expected = flatten_on_white(np.dstack([photo, alpha])) if channels == 3 else photo
        lost = np.abs(found[..., :3].astype(int) - expected)
        # JPEG and WebP store colours at half the resolution, and WebP any under zero alpha
        assert np.median(lost) <= (0 if suffix == 'bmp' else 4)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['jpg', 'png', 'webp', 'tif'])
def test_photographs_are_turned_upright(tmp_path: Path, photo: np.ndarray, orientation: int, kind: str) -> None:
    path = tmp_path / f'a.{kind}'
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings: dict[str, Any] = {'lossless': True} if kind == 'webp' else {}
    Image.fromarray(photo).save(path, exif=exif, **settings)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    found = read_photograph(path).pixels
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (3 if kind == 'jpg' else 0)  # two decoders of JPEG


@pytest.mark.parametrize(('mode', 'shape'), [('P', 3), ('LA', 4), ('1', 2), ('L', 2), ('RGBA', 4)])
def test_kinds_of_png_are_read(tmp_path: Path, photo: np.ndarray, mode: str, shape: int) -> None:
    image = Image.fromarray(photo).convert(mode)
    image.save(tmp_path / 'a.png')
    found = read_photograph(tmp_path / 'a.png').pixels
    expected = np.asarray(image.convert({3: 'RGB', 4: 'RGBA', 2: 'L'}[shape]))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp', 'tif'])
def test_the_colour_profile_is_kept(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    write_photograph(tmp_path / f'a.{suffix}', Photograph(photo, profile))
    assert Image.open(tmp_path / f'a.{suffix}').info['icc_profile'] == profile
    assert read_photograph(tmp_path / f'a.{suffix}').profile == profile


def test_alpha_in_tiff_does_not_touch_the_colours(tmp_path: Path, photo: np.ndarray, alpha: np.ndarray) -> None:
    pixels = np.dstack([photo, alpha])
    grey = Image.merge('LA', (Image.fromarray(photo[..., 0]), Image.fromarray(alpha)))
    exif = Image.Exif()
    exif[0x0112] = 6
    for image, expected in ((Image.fromarray(pixels), pixels), (grey, np.dstack([photo[..., [0, 0, 0]], alpha]))):
        for suffix in ('tif', 'png', 'webp'):
            settings: dict[str, Any] = {'lossless': True, 'exact': True} if suffix == 'webp' else {}
            image.save(tmp_path / f'a.{suffix}', **settings)
            assert np.array_equal(read_photograph(tmp_path / f'a.{suffix}').pixels, expected), suffix
        image.save(tmp_path / 'turned.tif', exif=exif)
        assert np.array_equal(read_photograph(tmp_path / 'turned.tif').pixels, np.rot90(expected, -1))


def test_tiff_says_that_it_has_alpha_and_keeps_the_profile(
    tmp_path: Path, photo: np.ndarray, alpha: np.ndarray
) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    write_photograph(tmp_path / 'a.tif', Photograph(np.dstack([photo, alpha]), profile))
    with TiffImageFile(tmp_path / 'a.tif') as image:
        assert image.tag_v2[338] == (2,)  # ExtraSamples: alpha that the colours are not multiplied with
    assert read_photograph(tmp_path / 'a.tif').profile == profile


def test_deep_tiff_with_alpha_keeps_its_depth(tmp_path: Path, photo: np.ndarray, alpha: np.ndarray) -> None:
    pixels = np.dstack([photo, alpha]).astype(np.uint16) * 250 + np.uint16(7)
    tifffile.imwrite(tmp_path / 'a.tif', pixels, photometric='rgb', extrasamples=['unassalpha'])
    assert np.array_equal(read_photograph(tmp_path / 'a.tif').pixels, pixels)


def test_deep_grey_tiff_with_alpha_keeps_both(tmp_path: Path, photo: np.ndarray, alpha: np.ndarray) -> None:
    grey = np.dstack([photo[..., 0], alpha]).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / 'a.tif', grey, photometric='minisblack', extrasamples=['unassalpha'])
    assert np.array_equal(read_photograph(tmp_path / 'a.tif').pixels, grey[..., [0, 0, 0, 1]])


def test_quality_is_for_the_formats_that_lose_something(tmp_path: Path, photo: np.ndarray) -> None:
    sizes = []
    for quality in (40, 95):
        write_photograph(tmp_path / 'a.jpg', Photograph(photo), quality)
        sizes.append((tmp_path / 'a.jpg').stat().st_size)
    assert sizes[0] < 0.6 * sizes[1]


def test_bad_files_are_named(tmp_path: Path, photo: np.ndarray) -> None:
    content = io.BytesIO()
    Image.fromarray(photo).save(content, 'png')
    for name, bytes_ in (('empty.png', b''), ('text.jpg', b'hello'), ('cut.png', content.getvalue()[:60])):
        (tmp_path / name).write_bytes(bytes_)
        with pytest.raises(BadSampleError, match=rf'{name}: damaged'):
            read_photograph(tmp_path / name)
    cv2.imwrite(str(tmp_path / 'float.tiff'), photo.astype(np.float32))
    with pytest.raises(BadSampleError, match='float.tiff: found float32 pixels, expected 8 or 16 bit'):
        read_photograph(tmp_path / 'float.tiff')
    Image.fromarray(photo).convert('LA').save(tmp_path / 'la.tiff')
    content_of_tiff = (tmp_path / 'la.tiff').read_bytes()
    (tmp_path / 'cut.tiff').write_bytes(content_of_tiff[: len(content_of_tiff) // 2] + content_of_tiff[-200:])
    with pytest.raises(BadSampleError, match='cut.tiff: '):
        read_photograph(tmp_path / 'cut.tiff')
    with pytest.raises(OSError, match='suffix is not one of'):
        write_photograph(tmp_path / 'a.gif', Photograph(photo))


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()


def profile_of(size: int) -> bytes:
    """A valid profile of so many bytes."""
    return size.to_bytes(4, 'big') + PROFILE[4:].ljust(size - 4, b'\0')


def in_space(space: bytes) -> bytes:
    return PROFILE[:16] + space + PROFILE[20:]


@pytest.mark.parametrize('size', [589, 70_000, 600_000])
@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp', 'tif'])
def test_profiles_of_any_size_are_kept(tmp_path: Path, photo: np.ndarray, suffix: str, size: int) -> None:
    assert write_photograph(tmp_path / f'a.{suffix}', Photograph(photo, profile_of(size))) == ()
    assert read_photograph(tmp_path / f'a.{suffix}').profile == profile_of(size)


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp', 'tif'])
@pytest.mark.parametrize(
    ('profile', 'words'),
    [
        (PROFILE[:500], 'its colour profile is damaged: left out'),
        (PROFILE[:100], 'its colour profile is damaged: left out'),
        (b'', 'its colour profile is damaged: left out'),
        (PROFILE[:36] + b'xxxx' + PROFILE[40:], 'its colour profile is damaged: left out'),
        (in_space(b'CMYK'), 'its colour profile is for CMYK colours, and the result is RGB: left out'),
        (in_space(b'GRAY'), 'its colour profile is for GRAY colours, and the result is RGB: left out'),
    ],
    # Profiles carry the time, which workers of a parallel run must not have in the names of tests.
    ids=['cut', 'header cut', 'empty', 'no signature', 'CMYK', 'GRAY'],
)
def test_a_profile_that_does_not_fit_is_left_out_with_a_word(
    tmp_path: Path, photo: np.ndarray, suffix: str, profile: bytes, words: str
) -> None:
    assert write_photograph(tmp_path / f'a.{suffix}', Photograph(photo, profile)) == (words,)
    found = read_photograph(tmp_path / f'a.{suffix}')
    assert found.profile is None and found.pixels.shape == photo.shape


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'webp', 'tif'])
def test_what_follows_a_profile_is_cut_off(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    assert write_photograph(tmp_path / f'a.{suffix}', Photograph(photo, PROFILE + bytes(4))) == ()
    assert read_photograph(tmp_path / f'a.{suffix}').profile == PROFILE


def test_what_an_encoder_refuses_does_not_cost_the_image(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = encoding.encode

    def refuse(suffix: str, pixels: np.ndarray, beside: encoding.Beside, quality: int) -> bytes:
        if beside.profile is not None:
            raise ValueError('odd profile')
        return encode(suffix, pixels, beside, quality)

    monkeypatch.setattr(encoding, 'encode', refuse)
    words = write_photograph(tmp_path / 'a.png', Photograph(photo, PROFILE, exif=camera_exif()))
    assert words[1] == 'its colour profile of 588 bytes does not fit in a png file: left out'
    assert words[0].startswith('its EXIF data of')
    assert read_photograph(tmp_path / 'a.png').pixels.shape == photo.shape


# JPEG has room for 255 parts of 64 KB, and Pillow refuses a PNG file whose profile has more than 1 MiB.
@pytest.mark.parametrize(('suffix', 'size'), [('jpg', 17_000_000), ('png', 2_000_000)])
def test_a_profile_too_large_for_the_format_is_left_out_with_a_word(
    tmp_path: Path, photo: np.ndarray, suffix: str, size: int
) -> None:
    (words,) = write_photograph(tmp_path / f'a.{suffix}', Photograph(photo, profile_of(size)))
    assert words == f'its colour profile of {size} bytes does not fit in a {suffix} file: left out'
    with Image.open(tmp_path / f'a.{suffix}') as image:
        assert image.size == photo.shape[1::-1] and 'icc_profile' not in image.info


@pytest.mark.parametrize(('suffix', 'is_kept'), [('png', True), ('jpg', True), ('tif', True), ('webp', False)])
def test_the_profile_of_grey_is_kept_where_the_file_is_grey(
    tmp_path: Path, photo: np.ndarray, suffix: str, is_kept: bool
) -> None:
    words = write_photograph(tmp_path / f'a.{suffix}', Photograph(photo[..., 0], in_space(b'GRAY')))
    assert bool(words) != is_kept
    assert (read_photograph(tmp_path / f'a.{suffix}').profile == in_space(b'GRAY')) == is_kept


@pytest.mark.parametrize('suffix', ['png', 'tif', 'jpg', 'webp', 'bmp'])
@pytest.mark.parametrize('source', ['png', 'tif'])
@pytest.mark.parametrize('depth', [8, 16])
def test_grey_with_alpha_keeps_the_profile_of_grey_where_the_format_has_grey(
    tmp_path: Path, photo: np.ndarray, alpha: np.ndarray, suffix: str, source: str, depth: int
) -> None:
    stored = np.dstack([photo[..., 0], alpha])
    stored = stored if depth == 8 else stored.astype(np.uint16) * 257 + 3
    beside = encoding.Beside(in_space(b'GRAY'), b'', ())
    content = io.BytesIO()
    if source == 'png':
        content.write(encoding.encode_png_file(stored, beside))
    else:
        encoding.write_tiff_page(content, stored, beside)
    (tmp_path / f'la.{source}').write_bytes(content.getvalue())
    found = read_photograph(tmp_path / f'la.{source}')
    assert found.profile == in_space(b'GRAY') and np.array_equal(found.pixels, stored[..., [0, 0, 0, 1]])
    words = write_photograph(tmp_path / f'a.{suffix}', found)
    again = read_photograph(tmp_path / f'a.{suffix}')
    if suffix in ('png', 'tif'):
        assert words == () and again.profile == found.profile and np.array_equal(again.pixels, found.pixels)
        if depth == 8:  # Pillow reads no deep ones
            with Image.open(tmp_path / f'a.{suffix}') as image:
                assert image.mode == 'LA'
    elif suffix == 'jpg':
        assert words == ('jpg files have no alpha: laid on white',)
        assert again.profile == found.profile and again.pixels.ndim == 2
    else:
        assert again.profile is None
        expected = {'webp': 'for GRAY colours, and the result is RGB: left out', 'bmp': 'have no colour profile: left'}
        assert expected[suffix] in words[-1]


@pytest.mark.parametrize('suffix', ['png', 'tif'])
@pytest.mark.parametrize('depth', [8, 16])
@pytest.mark.parametrize('shape', ['grey', 'RGB', 'RGBA'])
def test_files_of_any_depth_keep_their_profile(
    tmp_path: Path, photo: np.ndarray, alpha: np.ndarray, suffix: str, depth: int, shape: str
) -> None:
    pixels = {'grey': photo[..., 0], 'RGB': photo, 'RGBA': np.dstack([photo, alpha])}[shape]
    profile = in_space(b'GRAY') if shape == 'grey' else PROFILE
    deep = pixels.astype(np.uint16) * 257 + 1 if depth == 16 else pixels
    assert write_photograph(tmp_path / f'a.{suffix}', Photograph(deep, profile)) == ()
    found = read_photograph(tmp_path / f'a.{suffix}')
    assert found.profile == profile and np.array_equal(found.pixels, deep)


# ------------------------------------------------------------------------------------------------- colours without ICC

COLOURS = ((b'cICP', bytes([9, 16, 0, 1])), (b'gAMA', (100_000).to_bytes(4, 'big')), (b'cHRM', bytes(range(32))))


@pytest.mark.parametrize('suffix', ['png', 'tif', 'webp', 'jpg', 'bmp'])
@pytest.mark.parametrize('depth', [8, 16])
def test_chunks_of_colour_are_carried_over_or_missed(
    tmp_path: Path, photo: np.ndarray, suffix: str, depth: int
) -> None:
    for count in (1, 2, 3):
        colours = COLOURS[-count:]
        pixels = photo if depth == 8 else photo.astype(np.uint16) * 257
        words = write_photograph(tmp_path / f'a.{suffix}', Photograph(pixels, colours=colours))
        assert read_photograph(tmp_path / f'a.{suffix}').colours == (colours if suffix == 'png' else ())
        if suffix == 'png':
            assert words == ()
        else:
            named = {1: 'cHRM', 2: 'gAMA and cHRM', 3: 'cICP'}[count]
            assert words == (
                f'it says by {named} that its colours are not sRGB, which {suffix} files cannot say: '
                'convert it to sRGB first',
            )


def test_a_profile_and_srgb_are_not_said_together(tmp_path: Path, photo: np.ndarray) -> None:
    write_photograph(tmp_path / 'a.png', Photograph(photo, PROFILE, colours=((b'sRGB', b'\0'), COLOURS[1])))
    found = read_photograph(tmp_path / 'a.png')
    assert found.profile == PROFILE and found.colours == COLOURS[1:2]


# ---------------------------------------------------------------------------------------------------------------- EXIF

NOTES = b'notes of the camera, with positions'


def camera_exif(orientation: int = 6, order: str = '>', thumbnail: bytes = b'') -> bytes:
    """EXIF data as a camera writes them: three directories, and with a thumbnail, which Pillow does not write, four."""
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112] = 'Camera works', orientation
    if thumbnail:
        exif[0x0100], exif[0x0101] = 4000, 3000
    exif.get_ifd(0x8769).update({0x829A: 0.004, 0x927C: NOTES, 0xA002: 4000, 0xA003: 3000})
    exif.get_ifd(0x8825).update({1: 'N', 2: (48.0, 30.0, 5.0)})
    data = bytearray(exif.tobytes().removeprefix(b'Exif\0\0'))
    if thumbnail:
        entries = [
            (0x0103, 3, 6 << 16 if order == '>' else 6),
            (0x0201, 4, len(data) + 42),
            (0x0202, 4, len(thumbnail)),
        ]
        (count,) = struct.unpack_from(f'{order}H', data, 8)
        struct.pack_into(f'{order}I', data, 10 + 12 * count, len(data))
        data += struct.pack(f'{order}H', 3)
        for tag, kind, value in entries:
            data += struct.pack(f'{order}HHII', tag, kind, 1, value)
        data += bytes(4) + thumbnail
    return bytes(data)


def with_exif(kind: str, pixels: np.ndarray, exif: bytes) -> bytes:
    content = io.BytesIO()
    settings: dict[str, Any] = {'lossless': True} if kind == 'webp' else {}
    Image.fromarray(pixels).save(content, {'jpg': 'jpeg', 'tif': 'tiff'}.get(kind, kind), exif=exif, **settings)
    return content.getvalue()


@pytest.mark.parametrize('target', ['jpg', 'png', 'webp', 'tif', 'bmp'])
@pytest.mark.parametrize('source', ['jpg', 'png', 'webp', 'tif'])
@pytest.mark.parametrize('order', ['<', '>'])
def test_exif_data_are_kept_and_made_true_of_the_result(
    tmp_path: Path, photo: np.ndarray, source: str, target: str, order: str
) -> None:
    exif = camera_exif(6, order, thumbnail=b'' if source == 'tif' else b'thumb' * 200)
    (tmp_path / f'a.{source}').write_bytes(with_exif(source, photo, b'Exif\0\0' + exif if source == 'jpg' else exif))
    found = read_photograph(tmp_path / f'a.{source}')
    assert found.pixels.shape == (56, 40, 3) and found.remarks == ()
    larger = np.repeat(np.repeat(found.pixels, 2, 0), 2, 1)
    for depth in (larger, larger.astype(np.uint16) * 257):
        words = write_photograph(tmp_path / f'b.{target}', Photograph(depth, PROFILE, exif=found.exif))
        if target == 'bmp':
            assert words[-1] == 'bmp files have no EXIF data: left out'
            continue
        assert words == ()
        again = read_photograph(tmp_path / f'b.{target}')
        assert again.pixels.shape == (112, 80, 3) and again.profile == PROFILE
        if target in ('png', 'tif'):
            np.testing.assert_array_equal(again.pixels, depth)
        if target == 'tif' and depth.dtype == np.uint16:  # Pillow reads no such file
            check_exif(Image.Exif(), again.exif, source, target)
            continue
        with Image.open(tmp_path / f'b.{target}') as image:
            image.load()
            check_exif(image.getexif(), b'', source, target)
        assert b'thumb' not in (tmp_path / f'b.{target}').read_bytes()


def check_exif(exif: Image.Exif, data: bytes, source: str, target: str) -> None:
    if data:
        exif.load(data)
    assert exif[0x010F] == 'Camera works' and exif.get(0x0112, 1) == 1
    if 0x0100 in exif:
        assert (exif[0x0100], exif[0x0101]) == (80, 112)
    details, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    assert (details[0xA002], details[0xA003]) == (80, 112) and float(details[0x829A]) == pytest.approx(0.004)
    # Read from a TIFF file, as here after writing one, the camera's notes are left out.
    assert details.get(0x927C) == (None if source == 'tif' or data else NOTES)
    assert tuple(map(float, place[2])) == (48, 30, 5) and not exif.get_ifd(1)


@pytest.mark.parametrize('target', ['jpg', 'png', 'webp', 'tif'])
@pytest.mark.parametrize('cut', [4, 9, 20, 60, 100])
def test_damaged_exif_data_cost_themselves_with_a_word(
    tmp_path: Path, photo: np.ndarray, target: str, cut: int
) -> None:
    for source in ('jpg', 'png', 'webp'):
        exif = camera_exif()[:cut]
        (tmp_path / 'a').write_bytes(with_exif(source, photo, b'Exif\0\0' + exif if source == 'jpg' else exif))
        found = read_photograph(tmp_path / 'a')
        words = (*found.remarks, *write_photograph(tmp_path / f'b.{target}', found))
        assert 'its EXIF data are damaged' in words[0] and len(words) == 1
        again = read_photograph(tmp_path / f'b.{target}')
        assert again.exif == b'' and again.pixels.shape == found.pixels.shape


def test_exif_data_too_large_for_jpeg_are_left_out_with_a_word(tmp_path: Path, photo: np.ndarray) -> None:
    exif = camera_exif().ljust(70_000, b'x')
    words = write_photograph(tmp_path / 'a.jpg', Photograph(photo, exif=exif))
    assert words == ('its EXIF data of 70000 bytes do not fit in a jpg file: left out',)
    assert write_photograph(tmp_path / 'a.png', Photograph(photo, exif=exif)) == ()


@pytest.mark.parametrize(('suffix', 'limit'), [('webp', 16_383), ('jpg', 65_500), ('png', 1_000_000)])
def test_what_a_format_cannot_hold_is_refused(tmp_path: Path, suffix: str, limit: int) -> None:
    check_size(tmp_path / f'a.{suffix}', limit, 1)
    with pytest.raises(ValueError, match=f'{suffix} files have at most {limit} px a side; choose another format'):
        check_size(tmp_path / f'a.{suffix}', 1, limit + 1)
    check_size(tmp_path / 'a.tif', 2_000_000, 1)


def test_the_largest_webp_and_jpeg_can_be_written(tmp_path: Path) -> None:
    for suffix, limit in (('webp', 16_383), ('jpg', 65_500)):
        write_photograph(tmp_path / f'a.{suffix}', Photograph(np.zeros((2, limit, 3), np.uint8)))
        assert read_photograph(tmp_path / f'a.{suffix}').pixels.shape == (2, limit, 3)
