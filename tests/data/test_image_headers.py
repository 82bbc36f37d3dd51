from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manet_basicsr.data.image_headers import check_declared_size, declared_size
from manet_basicsr.data.images import BadSampleError, decode_image
from manet_basicsr.data.raw_pixels import encode_raw

KINDS = ('.png', '.jpg', '.bmp', '.tiff', '.webp', '.ppm', '.pgm')


def encode(kind: str, height: int = 23, width: int = 31) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 1 if kind == '.pgm' else 3), np.uint8)
    return cv2.imencode(kind, cv2.GaussianBlur(image, (0, 0), 2))[1].tobytes()


def png(width: int, height: int) -> bytes:
    """A PNG file whose header says what it likes, with the data of one row."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    data = chunk(b'IDAT', zlib.compress(bytes(100)))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + data + chunk(b'IEND', b'')


@pytest.mark.parametrize('kind', KINDS)
def test_the_declared_size_is_that_of_the_image(kind: str) -> None:
    content = encode(kind)
    assert declared_size(content) == declared_size(memoryview(content)) == (31, 23)
    check_declared_size(content)


def test_lossless_webp_and_its_extended_form_have_their_sizes() -> None:
    image = np.zeros((23, 31, 3), np.uint8)
    lossless = cv2.imencode('.webp', image, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    assert lossless[12:16] == b'VP8L' and declared_size(lossless) == (31, 23)
    extended = b'RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0' + (30).to_bytes(3, 'little') + (22).to_bytes(3, 'little')
    assert declared_size(extended) == (31, 23)


def test_bitmaps_of_both_headers_and_directions_have_their_sizes() -> None:
    begin = b'BM' + bytes(12)
    assert declared_size(begin + struct.pack('<IHH', 12, 31, 23)) == (31, 23)
    assert declared_size(begin + struct.pack('<Iii', 40, 31, -23)) == (31, 23)


def test_what_is_no_known_format_is_left_to_the_decoder() -> None:
    for content in (b'', b'no image', b'\xff\xd8\xff', b'RIFF\0\0\0\0WEBPabcd', b'II*\0', b'\x89PNG\r\n\x1a\n'):
        check_declared_size(content)


def test_a_raw_value_has_its_size() -> None:
    assert declared_size(encode_raw(np.zeros((23, 31, 3), np.uint8))) == (31, 23)


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (png(60_000, 60_000), 'its header says 60000x60000 px, expected at most 268,435,456'),
        (png(2**31 - 1, 1), 'expected at most'),
        (png(16_000, 16_000), r'its header says 16000x16000 px, more than its \d+ bytes can hold'),
        (png(0, 5), 'its header says 0x5 px, expected at least 1x1'),
        (b'P5 70000 70000 255\n', 'its header says 70000x70000 px'),
        (b'BM' + bytes(12) + struct.pack('<Iii', 40, 2**30, 2**30), 'expected at most'),
        (b'\xff\xd8\xff\xc0\x00\x11\x08' + struct.pack('>HH', 16_000, 16_000) + bytes(100), 'more than its 111 bytes'),
    ],
)
def test_absurd_sizes_are_refused_without_setting_aside_memory(content: bytes, words: str) -> None:
    before = resident()
    with pytest.raises(BadSampleError, match=f'^image: .*{words}'):
        decode_image(content, 'image')
    assert resident() - before < 50  # MB; OpenCV takes hundreds


def resident() -> float:
    """Give the largest resident memory so far, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize('kind', ['.png', '.jpg'])
def test_the_best_compressed_images_are_not_refused(kind: str) -> None:
    content = cv2.imencode(kind, np.zeros((3000, 4000, 3), np.uint8))[1].tobytes()
    check_declared_size(content)
    if kind == '.png':
        one_bit = np.zeros((3000, 4000), np.uint8)
        check_declared_size(cv2.imencode('.png', one_bit, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes())


def test_the_largest_allowed_image_is_named_in_pixels() -> None:
    check_declared_size(b'P5 16384 16384 255\n')
    with pytest.raises(ValueError, match='16384x16385'):
        check_declared_size(b'P5 16384 16385 255\n')


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_an_image_or_a_bad_sample(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([encode(kind, 8, 9) for kind in KINDS] + [png(5, 5), b''])))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    try:
        image = decode_image(bytes(content), 'some/image.png')
    except BadSampleError as error:
        assert str(error).startswith('some/image.png: ')
    else:
        assert image.ndim == 3 and image.shape[2] == 3 and image.size and image.dtype in (np.uint8, np.uint16)


def test_images_of_a_folder_and_of_basicsr_are_checked_alike(tmp_path: Path) -> None:
    from basicsr.utils import FileClient, imfrombytes

    path = tmp_path / 'huge.png'
    path.write_bytes(png(60_000, 60_000))
    with pytest.raises(BadSampleError, match=f'^{path}: its header says 60000x60000'):
        imfrombytes(FileClient('disk').get(str(path)), float32=True)


def test_a_gif_with_a_lying_canvas_is_refused_before_memory_is_taken() -> None:
    begin = b'GIF89a' + struct.pack('<HHBBB', 30000, 30000, 0x80, 0, 0) + bytes(6)
    content = begin + b',' + struct.pack('<HHHHB', 0, 0, 1, 1, 0) + b'\x02\x02\x4c\x01\0;'
    with pytest.raises(BadSampleError, match='30000'):
        decode_image(content, 'lying.gif')
