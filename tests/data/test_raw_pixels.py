from __future__ import annotations

import cv2
import numpy as np
import pytest
from basicsr.utils import imfrombytes
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from manet_basicsr.data.raw_pixels import encode_raw, raw_view


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 130), st.integers(1, 130))
def test_view_gives_back_the_pixels(height: int, width: int) -> None:
    image = noise(height, width)

    view = raw_view(encode_raw(image))

    assert view is not None and np.array_equal(view, image)


def test_view_copies_nothing_and_takes_a_memoryview() -> None:
    encoded = bytearray(encode_raw(noise(5, 7)))
    view = raw_view(memoryview(encoded))
    assert view is not None

    encoded[-1] ^= 255

    assert view[-1, -1, -1] == encoded[-1]


def test_pixels_that_look_like_a_header_are_pixels() -> None:
    image = np.frombuffer(b'P6\n9 9\n255\n' * 6, np.uint8)[:63].reshape(3, 7, 3)

    view = raw_view(encode_raw(image))

    assert view is not None and np.array_equal(view, image)


def test_an_image_that_is_no_contiguous_array_is_stored_as_it_looks() -> None:
    image = noise(9, 8).transpose(1, 0, 2)[::2, ::-1]

    view = raw_view(encode_raw(image))

    assert view is not None and np.array_equal(view, image)


def test_basicsr_decodes_a_raw_image() -> None:
    image = noise(11, 13)

    assert np.array_equal(imfrombytes(encode_raw(image)), image[..., ::-1])


@pytest.mark.parametrize('extension', ['.png', '.jpg', '.bmp', '.pgm'])
def test_other_formats_are_left_to_a_decoder(extension: str) -> None:
    image = noise(8, 8)
    encoded = cv2.imencode(extension, image[..., 0] if extension == '.pgm' else image)[1].tobytes()

    assert raw_view(encoded) is None


@pytest.mark.parametrize('buffer', [b'', b'P6', b'P6\n# a comment\n1 1\n255\nabc', b'P6\n1 1\n65535\nabcdef'])
def test_what_encode_raw_does_not_write_is_left_to_a_decoder(buffer: bytes) -> None:
    assert raw_view(buffer) is None


@pytest.mark.parametrize(
    ('buffer', 'found', 'expected'),
    [
        (encode_raw(noise(2, 3))[:-1], 28, 29),
        (encode_raw(noise(2, 3)) + b'x', 30, 29),
        (b'P6\n9999999999 9999999999\n255\n', 29, 29 + 3 * 9999999999**2),
    ],
)
def test_a_header_that_lies_is_an_error_with_both_sizes(buffer: bytes, found: int, expected: int) -> None:
    with pytest.raises(ValueError, match=f'has {found} bytes, expected {expected}$'):
        raw_view(buffer)


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_shapes_and_types_are_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match='a raw image is uint8 of shape'):
        encode_raw(image)
