from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from manet_basicsr.degradation import add_gaussian_noise, jpeg_compress, quantize


@pytest.fixture
def photo() -> torch.Tensor:
    return torch.from_numpy(data.astronaut()[:96, 150:278]).permute(2, 0, 1) / 255


def test_noise_has_the_asked_level_on_the_0_to_255_scale(generator: torch.Generator) -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    noise = (add_gaussian_noise(grey, 15, generator) - grey) * 255
    # 49,152 draws: the deviation scatters by 0.05, the mean by 0.07; four times that.
    assert noise.std().item() == pytest.approx(15, abs=0.2)
    assert noise.mean().item() == pytest.approx(0, abs=0.3)


def test_noise_can_have_one_level_per_image(generator: torch.Generator) -> None:
    grey = torch.full((3, 3, 64, 64), 0.5)
    noise = (add_gaussian_noise(grey, torch.tensor([0.0, 5.0, 25.0]), generator) - grey) * 255
    assert noise[0].abs().max() == 0
    assert noise[1].std().item() == pytest.approx(5, rel=0.03)
    assert noise[2].std().item() == pytest.approx(25, rel=0.03)


def test_noise_is_clipped_repeats_with_the_seed_and_keeps_the_type(photo: torch.Tensor) -> None:
    first, second = (add_gaussian_noise(photo, 80, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.min() == 0
    assert first.max() == 1
    assert add_gaussian_noise(photo.double(), 5).dtype == torch.float64
    assert torch.equal(add_gaussian_noise(photo, 0), photo)


@pytest.mark.parametrize(
    ('lq', 'sigma', 'message'),
    [
        (torch.rand(2, 3, 4, 4), -1, 'at least 0 .* found -1'),
        (torch.rand(2, 3, 4, 4), torch.tensor([1.0, -2.0]), 'at least 0 .* found -2'),
        (torch.rand(2, 3, 4, 4), torch.ones(3), r'one value per image, found \(3,\)'),
        (torch.rand(3, 4, 4), torch.ones(3), r'one value per image, found \(3,\)'),
    ],
)
def test_wrong_noise_levels_are_refused(lq: torch.Tensor, sigma: float | torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add_gaussian_noise(lq, sigma)


def test_quantize_rounds_to_the_nearest_of_256_levels_and_clips() -> None:
    levels = torch.tensor([-0.2, 0.0, 0.4, 0.6, 99.6, 254.7, 300])
    expected = torch.tensor([0.0, 0, 0, 1, 100, 255, 255]) / 255
    assert torch.equal(quantize(levels / 255), expected)


def test_quantize_leaves_8_bit_images_alone(photo: torch.Tensor) -> None:
    assert torch.equal(quantize(photo), photo)
    assert torch.equal(quantize(quantize(photo * 0.7)), quantize(photo * 0.7))


def test_jpeg_is_what_opencv_writes_for_the_rgb_image(photo: torch.Tensor) -> None:
    rgb = (photo * 255).round().byte().permute(1, 2, 0).numpy()
    _, encoded = cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 70])
    expected = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    levels = (jpeg_compress(photo, 70) * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(levels, expected)


def test_jpeg_keeps_colours_apart() -> None:
    red = torch.zeros(3, 16, 16)
    red[0] = 1
    assert jpeg_compress(red, 90).mean((1, 2)).tolist() == pytest.approx([1, 0, 0], abs=0.02)


def test_jpeg_rounds_and_does_not_truncate() -> None:
    grey = torch.full((3, 16, 16), 100.7 / 255)
    torch.testing.assert_close(jpeg_compress(grey, 100), torch.full_like(grey, 101 / 255))


def test_jpeg_error_falls_with_the_quality(photo: torch.Tensor) -> None:
    errors = [(jpeg_compress(photo, quality) - photo).square().mean().item() for quality in (10, 50, 90)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_jpeg_takes_batches_other_types_and_non_contiguous_images(photo: torch.Tensor) -> None:
    single = jpeg_compress(photo, 70)
    assert single.shape == photo.shape
    assert torch.equal(jpeg_compress(torch.stack([photo, photo]), 70), torch.stack([single, single]))
    assert torch.equal(jpeg_compress(photo.double(), 70), single.double())
    strided = photo.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(jpeg_compress(strided, 70), single)


@pytest.mark.parametrize(('shape', 'quality'), [((1, 8, 8), 70), ((8, 8), 70), ((3, 8, 8), 0), ((3, 8, 8), 101)])
def test_what_jpeg_cannot_store_is_refused(shape: tuple[int, ...], quality: int) -> None:
    with pytest.raises(ValueError, match='JPEG'):
        jpeg_compress(torch.rand(shape), quality)
