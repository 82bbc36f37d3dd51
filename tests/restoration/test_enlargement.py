"""Whether an image was enlarged before."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFilter

from manet_basicsr.restoration.enlargement import enlargement_period, factors_of

PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee')
FILTERS = (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)


def reduced(name: str) -> Image.Image:
    image = Image.fromarray(getattr(skimage.data, name)())
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def compressed(image: Image.Image, quality: int, form: str = 'JPEG') -> np.ndarray:
    content = io.BytesIO()
    image.save(content, form, quality=quality)
    return np.asarray(Image.open(content).convert('RGB'))


@pytest.mark.parametrize('factor', [1.25, 1.5, 2.5, 3, 3.5])
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


@pytest.mark.parametrize('name', PHOTOGRAPHS)
def test_blocks_of_a_compression_are_no_enlargement(name: str) -> None:
    """In what is soft they stand out; reduced by half, those of JPEG have the period of WebP's."""
    soft = Image.fromarray(getattr(skimage.data, name)()).filter(ImageFilter.GaussianBlur(1.6))
    for quality in (75, 90):
        assert enlargement_period(compressed(soft, quality, 'WEBP')) is None
        half = Image.fromarray(compressed(soft, quality)).reduce(2)
        assert enlargement_period(np.asarray(half)) is None


def test_steps_along_one_axis_are_no_enlargement() -> None:
    for step in (3, 4):
        line = np.repeat(np.arange(40, 220), step)[:400].astype(np.uint8)
        assert enlargement_period(np.tile(line, (300, 1))) is None


def test_of_what_is_small_or_flat_nothing_is_said() -> None:
    large = reduced('chelsea').resize((900, 600), Image.Resampling.BICUBIC)
    assert enlargement_period(np.asarray(large)[:95, :600]) is None
    assert enlargement_period(np.full((200, 200, 3), 128, np.uint8)) is None


def test_the_two_factors_of_a_period() -> None:
    assert factors_of(3) == (1.5, 3)
    assert factors_of(1.25) == pytest.approx((1.25, 5))
