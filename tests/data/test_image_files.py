"""Image files of every kind give the pixels that went in, or a refusal that says why."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from manet_basicsr.data import image_files
from manet_basicsr.data.image_files import decode_image_file
from manet_basicsr.data.images import decode_image
from manet_basicsr.data.photograph import Photograph, turned
from manet_basicsr.data.png_files import other_colours
from manet_basicsr.utils.errors import BadSampleError

HEIGHT, WIDTH = 17, 23
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([COLUMNS * 11, ROWS * 15, (COLUMNS + ROWS) * 6], axis=2).astype(np.uint8)
GREY = (COLUMNS * 7 + ROWS * 4).astype(np.uint8)
ALPHA = (COLUMNS * 11).astype(np.uint8)
# Where the way that an image lies is undone: these are the turns that EXIF names.
UNDONE_BY = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


def deep(pixels: np.ndarray, depth: int) -> np.ndarray:
    """An image in 8 or 16 bit, the lower byte of 16 bit another than the upper."""
    return pixels if depth == 8 else (pixels.astype(np.uint16) * 257) ^ 5


def lying(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """An image as a file of such an orientation stores it."""
    return np.ascontiguousarray(turned(pixels, UNDONE_BY[orientation]))


def image_of(depth: int, channels: int) -> np.ndarray:
    planes = {1: GREY, 2: np.dstack([GREY, ALPHA]), 3: RGB, 4: np.dstack([RGB, ALPHA])}[channels]
    return deep(planes, depth)


def as_read(image: np.ndarray) -> np.ndarray:
    """What reading should give of an image: grey with alpha becomes colour with alpha."""
    return image[..., [0, 0, 0, 1]] if image.ndim == 3 and image.shape[2] == 2 else image


def check(content: bytes, expected: np.ndarray) -> Photograph:
    """Read an image for restoring and for training, and compare both with the pixels that went in."""
    found = decode_image_file(content, 'image')
    assert found.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(found.pixels, expected)
    colours = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    np.testing.assert_array_equal(decode_image(content, 'image'), colours[..., :3])
    return found


# ----------------------------------------------------------------------------------------------------------------- PNM


@pytest.mark.parametrize('is_text', [False, True])
@pytest.mark.parametrize('largest', [1, 15, 100, 254, 255, 256, 1023, 4095, 65534, 65535])
def test_the_largest_value_of_pnm_is_white(largest: int, is_text: bool) -> None:
    values = np.array([[0, largest // 3, largest], [largest, 1, largest // 2]])
    dtype, full = (np.uint8, 255) if largest <= 255 else (np.uint16, 65535)
    exact = values * (full / largest)
    for colours in (1, 3):
        magic = {(1, False): 'P5', (3, False): 'P6', (1, True): 'P2', (3, True): 'P3'}[colours, is_text]
        samples = np.repeat(values[..., None], colours, axis=2)
        text = ' '.join(map(str, samples.flatten())).encode() + b'\n'
        body = text if is_text else samples.astype('u1' if largest <= 255 else '>u2').tobytes()
        content = f'{magic}\n# 7 7 7\n3 2 # width and height\n{largest}\n'.encode() + body
        pixels = decode_image_file(content, 'image').pixels
        assert pixels.dtype == dtype
        assert np.abs(pixels - (exact if colours == 1 else exact[..., None])).max() < 1  # OpenCV cuts decimals of text
        assert pixels.max() == full


# ---------------------------------------------------------------------------------------------------------------- TIFF


def tiff(pixels: np.ndarray, **settings: Any) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, pixels, **settings)
    return content.getvalue()


@pytest.mark.parametrize('planes', ['contig', 'separate'])
@pytest.mark.parametrize('layout', [{}, {'rowsperstrip': 4}, {'tile': (16, 16)}, {'bigtiff': True, 'byteorder': '>'}])
@pytest.mark.parametrize('compression', [None, 'lzw', 'zlib', 'zstd', 'packbits'])
@pytest.mark.parametrize('depth', [8, 16])
def test_tiff_of_every_layout_depth_and_alpha(
    planes: str, layout: dict[str, object], compression: str | None, depth: int
) -> None:
    largest = 2**depth - 1
    for channels in (1, 2, 3, 4):
        image = image_of(depth, channels)
        kinds = [None] if channels in (1, 3) else ['unassalpha', 'unspecified']
        for kind in kinds:
            for base in ['rgb'] if channels > 2 else ['minisblack', 'miniswhite']:
                expected = (
                    as_read(image) if kind != 'unspecified' else image[..., 0] if channels == 2 else image[..., :3]
                )
                stored = image.copy()
                if base == 'miniswhite':
                    grey = stored if channels == 1 else stored[..., 0]
                    grey[...] = largest - grey
                is_planar = planes == 'separate' and channels > 1
                content = tiff(
                    np.ascontiguousarray(stored.transpose(2, 0, 1)) if is_planar else stored,
                    photometric=base,
                    planarconfig=planes if channels > 1 else None,
                    extrasamples=None if kind is None else [kind],
                    compression=compression,
                    **layout,
                )
                found = check(content, expected)
                assert bool(found.remarks) == (kind == 'unspecified')


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('depth', [8, 16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_tiff_is_turned_upright(orientation: int, depth: int, channels: int) -> None:
    image = image_of(depth, channels)
    content = tiff(
        lying(image, orientation),
        photometric='rgb' if channels > 2 else 'minisblack',
        planarconfig='contig' if channels > 1 else None,
        extrasamples=['unassalpha'] if channels in (2, 4) else None,
        extratags=[(274, 3, 1, orientation, True)],
    )
    check(content, as_read(image))


@pytest.mark.parametrize(('depth', 'tolerance'), [(8, 4), (16, 8)])
def test_premultiplied_colours_are_divided_by_alpha(depth: int, tolerance: int) -> None:
    image = image_of(depth, 4)
    largest = 2**depth - 1
    stored = image.astype(float)
    stored[..., :3] *= stored[..., 3:] / largest
    content = tiff(np.rint(stored).astype(image.dtype), photometric='rgb', extrasamples=['assocalpha'])
    found = decode_image_file(content, 'image').pixels
    seen = image[..., 3] >= largest / 8
    # What rounding the product loses, half a level, is divided by at least an eighth.
    assert np.abs(found.astype(int) - image)[seen].max() <= tolerance
    np.testing.assert_array_equal(found[..., 3], image[..., 3])


@pytest.mark.parametrize('depth', [8, 16])
def test_a_fourth_sample_that_is_no_alpha_hides_nothing(depth: int) -> None:
    image = image_of(depth, 3)
    stored = np.dstack([image, np.zeros_like(image[..., 0])])
    found = check(tiff(stored, photometric='rgb', extrasamples=['unspecified']), image)
    assert found.pixels.shape == (17, 23, 3)
    assert found.remarks == ('1 of its channels are neither colour nor alpha: left out',)


@pytest.mark.parametrize('white', [False, True])
def test_one_bit_tiff_of_fax_and_without(white: bool) -> None:
    bits = GREY > 100
    expected = np.where(bits, 255, 0).astype(np.uint8)
    check(tiff(bits ^ white, photometric='miniswhite' if white else 'minisblack'), expected)
    content = io.BytesIO()
    Image.fromarray(expected).convert('1').save(content, 'TIFF', compression='group4')
    check(content.getvalue(), expected)


@pytest.mark.parametrize('bits', [2, 4, 10, 12])
def test_tiff_of_few_and_of_odd_bits_fills_the_range(bits: int) -> None:
    values = GREY.astype(np.uint16) * 257 >> (16 - bits)
    content = tiff(values.astype(np.uint8 if bits < 8 else np.uint16), photometric='minisblack', bitspersample=bits)
    largest = 255 if bits < 8 else 65535
    check(content, np.rint(values * (largest / (2**bits - 1))).astype(np.uint8 if bits < 8 else np.uint16))


def test_a_palette_in_tiff_is_expanded() -> None:
    palette = (np.arange(256)[None] * np.array([[256], [200], [100]])).astype(np.uint16)
    expected = np.stack([palette[channel][GREY] for channel in range(3)], axis=2) >> 8
    check(tiff(GREY, photometric='palette', colormap=palette), expected.astype(np.uint8))


def test_cmyk_tiff_becomes_rgb() -> None:
    content = tiff(np.dstack([255 - RGB, np.zeros_like(GREY)]), photometric='separated')
    check(content, RGB)


def test_of_pages_the_first_is_read_and_they_are_counted() -> None:
    found = check(tiff(np.stack([RGB, RGB[::-1]]), photometric='rgb'), RGB)
    assert found.pictures == 2 and found.remarks == ()


def test_a_damaged_second_page_costs_itself() -> None:
    content = tiff(RGB, photometric='rgb')
    (directory,) = struct.unpack_from('<I', content, 4)
    after = directory + 2 + 12 * struct.unpack_from('<H', content, directory)[0]
    # A directory that goes beyond the end of the file.
    content = content[:after] + struct.pack('<I', len(content)) + content[after + 4 :] + b'\x02\0\xfe\0'
    assert check(content, RGB).remarks == ('its further pages are damaged',)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (tiff(RGB, photometric='rgb', subfiletype=1), r'its first page is a reduced image \(a preview\)'),
        (tiff(GREY, photometric='cfa', subfiletype=0), 'a camera raw file'),
        (tiff(GREY, photometric='minisblack', extratags=[(50706, 1, 4, b'\1\4\0\0', True)]), 'a camera raw file'),
        (tiff(GREY.astype(np.float16), photometric='minisblack'), 'found float16 pixels, expected 8 or 16 bit'),
        (tiff(GREY.astype(np.int8), photometric='minisblack'), 'found int8 pixels, expected 8 or 16 bit'),
        (tiff(GREY.astype(np.uint32), photometric='minisblack'), 'found uint32 pixels, expected 8 or 16 bit'),
        (
            tiff(np.dstack([RGB, GREY]).astype(np.uint16), photometric='separated'),
            'not supported: a TIFF file with 16-bit SEPARATED colours; save it as RGB',
        ),
        (tiff(RGB, photometric='icclab'), 'not supported: a TIFF file with 8-bit ICCLAB colours'),
    ],
)
def test_tiff_that_cannot_be_read_without_loss_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(BadSampleError, match=f'^image: {words}'):
        decode_image_file(content, 'image')


def with_tag(content: bytes, tag: int, value: int) -> bytes:
    """A little-endian TIFF file with another value of a number in its first directory."""
    (directory,) = struct.unpack_from('<I', content, 4)
    for number in range(struct.unpack_from('<H', content, directory)[0]):
        place = directory + 2 + 12 * number
        if struct.unpack_from('<H', content, place)[0] == tag:
            return content[: place + 2] + struct.pack('<HII', 4, 1, value) + content[place + 12 :]
    raise KeyError(tag)


@pytest.mark.parametrize(
    ('tags', 'words'),
    [
        ({256: 60_000, 257: 60_000}, 'its header says 60000x60000 px, expected at most'),
        ({256: 16_000, 257: 16_000}, r'its header says 16000x16000 px, more than its \d+ bytes can hold'),
        ({322: 60_000, 323: 60_000}, 'expected at most'),
        ({277: 60}, 'of 60 channels, expected at most 8'),
        ({325: 10**6}, 'damaged: 1 of its 1 strips or tiles are cut off'),
    ],
)
@pytest.mark.parametrize('compression', [None, 'packbits'])
def test_tiff_that_lies_about_its_size_is_refused(tags: dict[int, int], words: str, compression: str | None) -> None:
    content = tiff(RGB, photometric='rgb', tile=(32, 32), compression=compression)
    for tag, value in tags.items():
        content = with_tag(content, tag, value)
    with pytest.raises(BadSampleError, match=f'^image: .*{words}'):
        decode_image_file(content, 'image')


# ----------------------------------------------------------------------------------------------------------------- PNG


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def png(rows: list[bytes], width: int, bits: int, colour: int, *chunks: bytes) -> bytes:
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, len(rows), bits, colour, 0, 0, 0))
    data = chunk(b'IDAT', zlib.compress(b''.join(b'\0' + row for row in rows)))
    return b'\x89PNG\r\n\x1a\n' + header + b''.join(chunks) + data + chunk(b'IEND', b'')


def png_of(image: np.ndarray, *chunks: bytes) -> bytes:
    channels = 1 if image.ndim == 2 else image.shape[2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    stored = image.astype(image.dtype.newbyteorder('>'))
    return png([row.tobytes() for row in stored], image.shape[1], 8 * image.itemsize, colour, *chunks)


def packed(values: np.ndarray, bits: int) -> list[bytes]:
    """Rows of less than 8 bits a sample."""
    planes = values[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in planes]


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().removeprefix(b'Exif\0\0')


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('depth', [8, 16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_png_of_every_depth_and_colour_is_turned_upright(orientation: int, depth: int, channels: int) -> None:
    image = image_of(depth, channels)
    check(png_of(lying(image, orientation), chunk(b'eXIf', exif_of(orientation))), as_read(image))


@pytest.mark.parametrize('bits', [1, 2, 4])
def test_png_of_few_bits(bits: int) -> None:
    values = GREY >> (8 - bits)
    check(png(packed(values, bits), WIDTH, bits, 0), (values * (255 // (2**bits - 1))).astype(np.uint8))
    palette = np.random.default_rng(0).integers(0, 256, (2**bits, 3), np.uint8)
    check(png(packed(values, bits), WIDTH, bits, 3, chunk(b'PLTE', palette.tobytes())), palette[values])


@pytest.mark.parametrize('depth', [1, 2, 4, 8, 16])
def test_the_transparent_level_of_grey_png_has_alpha_0(depth: int) -> None:
    values = GREY.astype(np.uint16) * 257 >> (16 - depth)
    key = int(values[3, 4])
    rows = packed(values, depth) if depth < 8 else [row.astype(f'>u{depth // 8}').tobytes() for row in values]
    largest, kind = (65535, np.uint16) if depth == 16 else (255, np.uint8)
    grey = (values.astype(int) * largest // (2**depth - 1)).astype(kind)
    expected = np.dstack([grey, grey, grey, np.where(values == key, 0, largest).astype(kind)])
    check(png(rows, WIDTH, depth, 0, chunk(b'tRNS', struct.pack('>H', key))), expected)


@pytest.mark.parametrize('depth', [8, 16])
def test_the_transparent_colour_of_png_has_alpha_0(depth: int) -> None:
    image = image_of(depth, 3)
    key = image[3, 4]
    hidden = (image == key).all(axis=2)
    expected = np.dstack([image, np.where(hidden, 0, 2**depth - 1).astype(image.dtype)])
    check(png_of(image, chunk(b'tRNS', struct.pack('>3H', *key.tolist()))), expected)


def test_a_palette_with_alpha_keeps_it() -> None:
    values = GREY >> 4
    palette = np.random.default_rng(0).integers(0, 256, (16, 3), np.uint8)
    alpha = np.array([0, 100, 200] + [255] * 13, np.uint8)
    content = png(
        packed(values, 4), WIDTH, 4, 3, chunk(b'PLTE', palette.tobytes()), chunk(b'tRNS', alpha[:3].tobytes())
    )
    check(content, np.dstack([palette[values], alpha[values]]))


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
ICCP = chunk(b'iCCP', b'x\0\0' + zlib.compress(PROFILE))
WORKFLOW = b'{"a": 1}' * 300_000


@pytest.mark.parametrize(
    ('chunks', 'remarks'),
    [
        ([], ()),
        ([chunk(b'zTXt', b'workflow\0\0' + zlib.compress(WORKFLOW))], ()),
        ([chunk(b'iTXt', b'workflow\0\1\0\0\0' + zlib.compress(WORKFLOW))], ()),
        ([chunk(b'tEXt', b'workflow\0' + WORKFLOW)], ()),
        ([chunk(b'tEXt', b'workflow\0text')[:-1] + b'\0'], ('its tEXt chunk is damaged: left out',)),
    ],
)
def test_text_in_png_costs_neither_orientation_nor_profile(chunks: list[bytes], remarks: tuple[str, ...]) -> None:
    for order in ([ICCP, chunk(b'eXIf', exif_of(6)), *chunks], [*chunks, ICCP, chunk(b'eXIf', exif_of(6))]):
        found = check(png_of(lying(RGB, 6), *order), RGB)
        assert found.profile == PROFILE and len(PROFILE) == 588
        assert found.remarks == remarks


@pytest.mark.parametrize(
    ('chunks', 'words'),
    [
        ([chunk(b'iCCP', b'x\0\0no zlib')], 'its colour profile is damaged: left out'),
        ([ICCP[:-1] + bytes([ICCP[-1] ^ 1])], 'its iCCP chunk is damaged: left out'),
        ([chunk(b'eXIf', exif_of(6))[:-1] + b'\0'], 'its eXIf chunk is damaged: left out'),
        ([chunk(b'eXIf', b'MM\0*\0\0\0\x08\0\x05\x01')], 'its EXIF data are damaged'),
    ],
)
def test_what_is_lost_of_the_metadata_of_png_is_said(chunks: list[bytes], words: str) -> None:
    (remark,) = check(png_of(RGB, *chunks), RGB).remarks
    assert remark.startswith(words)


OTHER_PRIMARIES = struct.pack('>8I', 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)


@pytest.mark.parametrize(
    ('chunks', 'named'),
    [
        ({b'gAMA': struct.pack('>I', 100_000)}, 'gAMA'),
        ({b'cICP': bytes([9, 16, 0, 1])}, 'cICP'),
        ({b'gAMA': struct.pack('>I', 45_455), b'cHRM': OTHER_PRIMARIES}, 'cHRM'),
        ({b'gAMA': struct.pack('>I', 100_000), b'cHRM': OTHER_PRIMARIES}, 'gAMA and cHRM'),
        ({b'sRGB': b'\1', b'gAMA': struct.pack('>I', 45_455)}, ''),
        ({b'cICP': bytes([1, 13, 0, 1])}, ''),
    ],
)
def test_chunks_of_colour_are_read_and_those_of_other_colours_named(chunks: dict[bytes, bytes], named: str) -> None:
    found = check(png_of(RGB, *(chunk(name, data) for name, data in chunks.items())), RGB)
    assert dict(found.colours) == chunks and found.remarks == ()
    assert other_colours(found.colours, has_profile=False) == named
    assert other_colours(found.colours, has_profile=True) == (named if named == 'cICP' else '')


def test_of_an_animated_png_the_default_image_is_read() -> None:
    content = io.BytesIO()
    frames = [Image.fromarray(np.roll(RGB, 5 * number, axis=1)) for number in range(3)]
    Image.fromarray(RGB[::-1].copy()).save(content, 'PNG', save_all=True, append_images=frames, default_image=True)
    check(content.getvalue(), RGB[::-1])


# ------------------------------------------------------------------------------------------------------ BMP, WebP, JPEG


def bmp(fourth: np.ndarray | int, header: int, masks: tuple[int, ...] = ()) -> bytes:
    """A BMP file of 32 bit: RGB, and a fourth byte that may be alpha."""
    data = np.dstack([RGB[..., ::-1], np.broadcast_to(fourth, GREY.shape).astype(np.uint8)])[::-1].tobytes()
    kind = 3 if masks else 0
    begin = struct.pack('<IiiHHIIiiII', header, WIDTH, HEIGHT, 1, 32, kind, len(data), 2835, 2835, 0, 0)
    rest = struct.pack(f'<{len(masks)}I', *masks).ljust(header - 40, b'\0')
    offset = 14 + 40 + len(rest)
    return b'BM' + struct.pack('<IHHI', offset + len(data), 0, 0, offset) + begin + rest + data


MASKS = (0xFF0000, 0xFF00, 0xFF)


@pytest.mark.parametrize(
    ('header', 'masks'), [(40, ()), (124, ()), (40, MASKS), (108, (*MASKS, 0)), (124, (*MASKS, 0))]
)
@pytest.mark.parametrize('fourth', [0, 255])
def test_bmp_without_a_mask_of_alpha_is_opaque(header: int, masks: tuple[int, ...], fourth: int) -> None:
    assert check(bmp(fourth, header, masks), RGB).pixels.shape == (17, 23, 3)


@pytest.mark.parametrize('header', [108, 124])
def test_bmp_with_a_mask_of_alpha_has_alpha(header: int) -> None:
    check(bmp(ALPHA, header, (*MASKS, 0xFF000000)), np.dstack([RGB, ALPHA]))


def bmp_of_colours(space: int, said: bytes = b'', profile: bytes = b'', size: int | None = None) -> bytes:
    """A BMP file of the fifth version that says what its colours are."""
    content = bytearray(bmp(0, 124, (*MASKS, 0)))
    begin = len(content) - 14
    struct.pack_into('<I', content, 14 + 56, space)
    content[14 + 60 : 14 + 60 + len(said)] = said
    struct.pack_into('<II', content, 14 + 112, begin, len(profile) if size is None else size)
    return bytes(content) + profile


def test_the_smallest_bmp_is_read() -> None:
    content = b'BM' + struct.pack('<IHHI', 30, 0, 0, 26) + struct.pack('<IHHHH', 12, 1, 1, 1, 24) + bytes([3, 2, 1, 0])
    assert decode_image_file(content, 'image').pixels.tolist() == [[[1, 2, 3]]]


@pytest.mark.parametrize('space', [b'BGRs', b' niW', bytes(4)])
def test_bmp_of_usual_colours_needs_no_word(space: bytes) -> None:
    assert check(bmp_of_colours(int.from_bytes(space, 'little')), RGB).remarks == ()


def test_bmp_keeps_its_profile_and_says_what_is_lost() -> None:
    embedded = int.from_bytes(b'DEBM', 'little')
    assert check(bmp_of_colours(embedded, profile=PROFILE), RGB).profile == PROFILE
    for content, words in (
        (bmp_of_colours(embedded, profile=PROFILE, size=10_000), 'its colour profile is damaged: left out'),
        (bmp_of_colours(int.from_bytes(b'KNIL', 'little'), profile=b'C:/a.icm'), 'it says in its header that its col'),
        (bmp_of_colours(0, struct.pack('<I', 2**30)), 'it says in its header that its colours are not sRGB'),
    ):
        found = check(content, RGB)
        assert found.profile is None and found.remarks[0].startswith(words)


def test_a_damaged_tiff_is_named_in_one_line_and_nothing_else_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    content = with_tag(tiff(RGB, photometric='rgb'), 259, 77).replace(b'\x17\x01', b'\x17\x7f')  # no sizes of strips
    with pytest.raises(ValueError, match='^[^\n]+$'):
        decode_image_file(content, 'image')
    assert tuple(capfd.readouterr()) == ('', '')


def test_tiff_that_says_its_colours_by_tags_gets_a_word() -> None:
    primaries = [(64, 100), (33, 100), (21, 100), (71, 100), (15, 100), (6, 100)]
    tags = [(319, 5, 6, tuple(number for pair in primaries for number in pair), True)]
    (remark,) = check(tiff(RGB, photometric='rgb', extratags=tags), RGB).remarks
    assert remark.startswith('it says by tags that its colours are not sRGB, which is not kept')
    assert check(tiff(RGB, photometric='rgb', extratags=tags, iccprofile=PROFILE), RGB).remarks == ()


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('channels', [3, 4])
def test_lossless_webp_is_turned_upright(orientation: int, channels: int) -> None:
    image, content = image_of(8, channels), io.BytesIO()
    stored = Image.fromarray(lying(image, orientation))
    stored.save(content, 'WEBP', lossless=True, exact=True, exif=exif_of(orientation), icc_profile=PROFILE)
    assert check(content.getvalue(), image).profile == PROFILE


def jpeg(exif: bytes = b'', profile: bytes | None = None) -> bytes:
    content = io.BytesIO()
    Image.fromarray(RGB).save(content, 'JPEG', quality=95, icc_profile=profile)
    segment = b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif if exif else b''
    return content.getvalue()[:2] + segment + content.getvalue()[2:]


@pytest.mark.parametrize('orientation', range(1, 9))
def test_jpeg_is_turned_as_opencv_and_basicsr_turn_it(orientation: int) -> None:
    content = jpeg(b'Exif\0\0' + exif_of(orientation))
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    check(content, expected)


@pytest.mark.parametrize('size', [588, 70_000, 200_000])
def test_the_profile_of_jpeg_is_joined_of_its_parts(size: int) -> None:
    profile = PROFILE.ljust(size, b'\0')
    assert decode_image_file(jpeg(profile=profile), 'image').profile == profile


@pytest.mark.parametrize('exif', [b'MM\0*\0\0\0\x08\0\x05\x01', b'\xff' * 40])
def test_damaged_exif_data_of_jpeg_cost_the_orientation_with_a_word(exif: bytes) -> None:
    found = decode_image_file(jpeg(b'Exif\0\0' + exif, PROFILE), 'image')
    assert found.pixels.shape == RGB.shape and found.profile == PROFILE
    assert found.remarks == ('its EXIF data are damaged: left out, and it is not turned',) and found.exif == b''


@pytest.mark.parametrize(
    ('kind', 'value', 'shape'), [(3, b'\0\6', (23, 17, 3)), (4, b'\0\0\0\6', (23, 17, 3)), (2, b'6', (17, 23, 3))]
)
def test_an_orientation_of_another_type_is_read_or_said(kind: int, value: bytes, shape: tuple[int, ...]) -> None:
    directory = struct.pack('>HHHI', 1, 0x0112, kind, 1) + value.ljust(4, b'\0') + bytes(4)
    found = decode_image_file(jpeg(b'Exif\0\0MM\0*\0\0\0\x08' + directory), 'image')
    assert found.pixels.shape == shape
    assert bool(found.remarks) == (kind == 2)


def test_adobe_rgb_without_a_profile_is_said() -> None:
    # Three directories, each with one entry that leads to the next.
    pairs = ((0x8769, 4, 1, struct.pack('>I', 26)), (0xA005, 4, 1, struct.pack('>I', 44)), (1, 2, 4, b'R03\0'))
    exif = b'MM\0*\0\0\0\x08' + b''.join(struct.pack('>HHHI', 1, *pair[:3]) + pair[3] + bytes(4) for pair in pairs)
    (remark,) = decode_image_file(jpeg(b'Exif\0\0' + exif), 'image').remarks
    assert 'Adobe RGB' in remark
    assert decode_image_file(jpeg(b'Exif\0\0' + exif, PROFILE), 'image').remarks == ()


def test_the_global_limit_of_pillow_is_not_asked_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    content = io.BytesIO()
    Image.fromarray(RGB).save(content, 'WEBP', lossless=True)
    check(content.getvalue(), RGB)
    check(bmp(0, 40), RGB)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_png_that_training_refuses_is_refused_by_all(tmp_path: Path) -> None:
    from manet_basicsr.data.lmdb_writer import write_lmdb

    huge = png([b''], 16_500, 8, 2).replace(struct.pack('>II', 16_500, 1), struct.pack('>II', 16_500, 16_400))
    (tmp_path / 'huge.png').write_bytes(huge)
    with pytest.raises(BadSampleError, match=r'huge\.png: its header says 16500x16400 px, expected at most'):
        write_lmdb(tmp_path, tmp_path / 'set.lmdb')


def test_a_jpeg_file_that_is_cut_off_is_refused_whatever_the_decoder_does(monkeypatch: pytest.MonkeyPatch) -> None:
    content = cv2.imencode('.jpg', np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    assert decode_image_file(content + b'beside', 'a.jpg').pixels.shape == (64, 64, 3)
    monkeypatch.setattr(image_files, 'decode_with_opencv', lambda *_: np.zeros((64, 64, 3), np.uint8))
    for kept in (len(content) // 2, len(content) - 2):
        with pytest.raises(BadSampleError, match=r'a\.jpg: damaged: a JPEG file without an end'):
            decode_image_file(content[:kept], 'a.jpg')
