"""Whether an image was enlarged before."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from manet_basicsr.restoration.enlargement import enlargement_period, factors_of

PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee')
FILTERS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)


def reduced(name: str) -> Image.Image:
    image = Image.fromarray(getattr(skimage.data, name)())
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def compressed(image: Image.Image, quality: int) -> np.ndarray:
    content = io.BytesIO()
    image.save(content, 'JPEG', quality=quality)
    return np.asarray(Image.open(content))


@pytest.mark.parametrize('factor', [1.5, 2.5, 3, 4])
@pytest.mark.parametrize('name', PHOTOGRAPHS)
def test_an_enlargement_is_found_with_its_factor(name: str, factor: float) -> None:
    small = reduced(name)
    for way in FILTERS:
        large = small.resize((round(small.width * factor), round(small.height * factor)), way)
        period = enlargement_period(np.asarray(large))
        assert period is not None
        assert min(abs(found / factor - 1) for found in factors_of(period)) < 0.03


@pytest.mark.parametrize('factor', [2.5, 3])
def test_an_enlargement_is_found_in_a_jpeg_file_and_in_other_pixels(factor: float) -> None:
    small = reduced('chelsea')
    large = small.resize((round(small.width * factor), round(small.height * factor)), Image.Resampling.BICUBIC)
    pixels = np.asarray(large)
    for image in (
        compressed(large, 90),
        pixels.astype(np.uint16) * 257,
        pixels.astype(np.float32) / 255,
        np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]),
        pixels[..., 1],
    ):
        assert enlargement_period(image) is not None


@pytest.mark.parametrize('name', PHOTOGRAPHS)
def test_nothing_is_found_in_what_was_not_enlarged(name: str) -> None:
    small = reduced(name)
    noisy = np.asarray(small) + np.random.default_rng(0).normal(0, 5, np.asarray(small).shape)
    for image in (
        getattr(skimage.data, name)(),
        np.asarray(small),
        np.asarray(small)[:96, :96],
        compressed(small, 90),
        compressed(small, 50),
        np.clip(np.rint(noisy), 0, 255).astype(np.uint8),
    ):
        assert enlargement_period(image) is None


def test_of_what_is_small_or_flat_nothing_is_said() -> None:
    large = reduced('chelsea').resize((900, 600), Image.Resampling.BICUBIC)
    assert enlargement_period(np.asarray(large)[:95, :600]) is None
    assert enlargement_period(np.full((200, 200, 3), 128, np.uint8)) is None


def test_the_two_factors_of_a_period() -> None:
    assert factors_of(3) == (1.5, 3)
    assert factors_of(1.25) == pytest.approx((1.25, 5))
