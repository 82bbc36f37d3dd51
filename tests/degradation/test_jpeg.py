"""Compression of a batch by tensor operations, against the codec."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from manet_basicsr.degradation import jpeg_compress, quantize
from manet_basicsr.degradation.jpeg import jpeg_compress_batch

QUALITIES = (1, 10, 30, 49, 60, 75, 90, 95, 100)


@pytest.mark.parametrize('size', [(32, 32), (50, 37), (17, 16), (9, 33), (1, 1)], ids=str)
def test_a_batch_is_compressed_as_the_codec_does(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(len(QUALITIES), 3, 5, 6, generator=generator)
    images = F.interpolate(coarse, size, mode='bicubic', align_corners=True)
    images = (images + 0.03 * torch.randn(images.shape, generator=generator)).clamp(0, 1)
    compressed = jpeg_compress_batch(images, torch.tensor(QUALITIES))
    levels = 0.0
    for image, found, quality in zip(images, compressed, QUALITIES, strict=True):
        expected = jpeg_compress(image, quality)
        assert torch.equal(quantize(found), found)
        difference = (found - expected).abs() * 255
        # A coefficient that is rounded the other way is as large as a step of its table.
        assert difference.mean() < 0.05 * (quantize(image) - expected).abs().mean() * 255 + 0.2
        levels += float(difference.mean()) / len(QUALITIES)
    assert levels < 0.15


@pytest.mark.parametrize('size', [(24, 24), (20, 20), (27, 41)], ids=str)
def test_the_edges_are_the_codec_s(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.rand(12, 3, 5, 6, generator=generator), size, mode='bicubic').clamp(0, 1)
    expected = torch.stack([jpeg_compress(image, 75) for image in images])
    difference = (jpeg_compress_batch(images, torch.full((12,), 75)) - expected).abs() * 255
    rows, columns = difference.mean((0, 1, 3)), difference.mean((0, 1, 2))
    assert columns[-4:].mean() < 0.3 + 2 * columns[:8].mean()
    assert rows[-4:].mean() < 0.3 + 2 * rows[:8].mean()


def test_quality_0_is_no_compression_and_wrong_shapes_are_refused() -> None:
    image = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(jpeg_compress_batch(image, torch.zeros(2)), quantize(image))
    with pytest.raises(ValueError, match=r'found \(2, 1, 20, 24\) and \(2,\)'):
        jpeg_compress_batch(image[:, :1], torch.zeros(2))
    with pytest.raises(ValueError, match=r'and \(3,\)'):
        jpeg_compress_batch(image, torch.zeros(3))


def test_autocast_does_not_reach_in() -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = jpeg_compress_batch(images, torch.tensor([40, 80]))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert torch.equal(jpeg_compress_batch(images, torch.tensor([40, 80])), expected)


@pytest.mark.parametrize('quality', [-3, 150])
def test_a_quality_that_is_none_is_refused(quality: int) -> None:
    with pytest.raises(ValueError, match=rf'JPEG quality must be 0 to 100, found \[75, {quality}\]'):
        jpeg_compress_batch(torch.rand(2, 3, 16, 16), torch.tensor([75, quality]))
