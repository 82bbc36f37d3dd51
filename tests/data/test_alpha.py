"""Colours under alpha 0, flattening, and the alpha of a restored image."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manet_basicsr.data.alpha import enlarge_alpha, fill_hidden_colours, flatten_on_white


def with_alpha(colours: Any, alpha: Any, dtype: Any = np.uint8) -> np.ndarray:
    return np.dstack([colours, alpha]).astype(dtype)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_hidden_colours_become_those_of_the_nearest_visible_pixel(dtype: Any) -> None:
    colours = np.zeros((9, 13, 3))
    colours[2:5, 2:5], colours[6:8, 9:12] = (1, 0.5, 0), (0, 0.25, 1)
    alpha = (colours.sum(2) > 0) * 1.0
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = (np.dstack([colours, alpha]) * scale).astype(dtype)
    before = pixels.copy()
    filled = fill_hidden_colours(pixels)
    assert np.array_equal(pixels, before) and filled.dtype == dtype
    assert np.array_equal(filled[..., 3], pixels[..., 3])
    assert np.array_equal(filled[alpha > 0], pixels[alpha > 0])
    assert np.array_equal(filled[0, 0, :3], pixels[2, 2, :3])
    assert np.array_equal(filled[8, 12, :3], pixels[7, 11, :3])
    assert np.array_equal(filled[3, 5, :3], pixels[3, 4, :3])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20), st.floats(0, 1))
def test_filled_colours_do_not_depend_on_what_was_hidden(seed: int, height: int, width: int, share: float) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
    pixels[random.random((height, width)) < share, 3] = 0
    visible = pixels[..., 3] > 0
    other = pixels.copy()
    other[~visible, :3] = random.integers(0, 256, (int((~visible).sum()), 3))
    found = fill_hidden_colours(pixels)
    if visible.any():
        assert np.array_equal(found, fill_hidden_colours(other))
        colours = {tuple(colour) for colour in pixels[visible, :3]}
        assert {tuple(colour) for colour in found.reshape(-1, 4)[:, :3]} == colours
    else:
        assert found is pixels


def test_an_image_is_flattened_on_white() -> None:
    pixels = with_alpha(np.full((1, 3, 3), 100), [[0, 51, 255]])
    assert flatten_on_white(pixels)[0, :, 0].tolist() == [255, 224, 100]
    deep = pixels.astype(np.uint16) * 257
    assert flatten_on_white(deep)[0, :, 0].tolist() == [65535, 224 * 257, 25700]
    floating = (pixels / 255).astype(np.float32)
    assert np.allclose(flatten_on_white(floating)[0, :, 0] * 255, [255, 224, 100])
    for opaque in (pixels[..., 0], pixels[..., :3]):
        assert flatten_on_white(opaque) is opaque


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_alpha_is_enlarged_on_the_usual_grid_or_displaced(scale: int) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (7, 9), dtype=np.uint8)
    usual = enlarge_alpha(alpha, scale)
    plain = cv2.resize(alpha.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    assert usual.dtype == np.uint8
    assert np.abs(usual - plain.clip(0, 255)).max() <= 0.51
    moved = enlarge_alpha(alpha, scale, 'published')
    assert moved.shape == usual.shape
    rest = slice(scale - 1, None)
    assert np.array_equal(moved[: 7 * scale - scale + 1, : 9 * scale - scale + 1], usual[rest, rest])


def test_what_has_no_hidden_or_no_visible_pixel_stays() -> None:
    grey, colour = np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.uint8)
    for image in (grey, colour, np.dstack([colour, grey]), np.dstack([colour, grey + 1])):
        assert fill_hidden_colours(image) is image
