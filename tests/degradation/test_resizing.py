"""The fields whose blur is that of resizing, against the resizing that they stand for."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics.psnr_ssim import calculate_psnr
from basicsr.utils.matlab_functions import imresize

from manet_basicsr.degradation import blur_downsample, build_field_sampler
from tests.degradation.drawing import problem_of


def read_image(path: Path, scale: int) -> torch.Tensor:
    """(3, H, W), RGB, cut to a multiple of the scale."""
    image = cv2.imread(str(path))[..., ::-1].astype(np.float32) / 255
    height, width = (side // scale * scale for side in image.shape[:2])
    return torch.from_numpy(np.ascontiguousarray(image[:height, :width].transpose(2, 0, 1)))


def reduced(image: torch.Tensor, kind: str, scale: int) -> torch.Tensor:
    return blur_downsample(image[None], build_field_sampler({'type': kind}).draw(96, 96, scale=scale), scale)[0]


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_bicubic_is_basicsr_s_imresize(scale: int, photos: Path) -> None:
    for path in sorted(photos.iterdir()):
        image = read_image(path, scale)
        # imresize gives uint8 for nothing but uint8, and mirrors at the border where blur_downsample repeats.
        difference = (reduced(image, 'bicubic', scale) - imresize(image, 1 / scale)).abs()
        assert difference[:, 3:-3, 3:-3].max() < 2e-6  # float32, sums of up to 256 products
        assert difference.max() < 5 / 255


def test_bicubic_up_of_bicubic_down_has_the_known_psnr(shared: Path) -> None:
    scores = []
    for path in sorted((shared / 'data/eval/Set5').iterdir()):
        image = read_image(path, 4)
        small = (reduced(image, 'bicubic', 4).clamp(0, 1) * 255).round() / 255
        pair = [x.clamp(0, 1).permute(1, 2, 0).flip(2).numpy() * 255 for x in (imresize(small, 4), image)]
        scores.append(calculate_psnr(*(x.round().astype(np.uint8) for x in pair), crop_border=4, test_y_channel=True))
    assert scores == pytest.approx([31.79, 30.19, 22.10, 31.62, 26.47], abs=0.01)
    assert np.mean(scores) == pytest.approx(28.43, abs=0.01)


@pytest.mark.parametrize(('kind', 'half'), [
    ('bicubic', [0.43359375, 0.11328125, -0.03515625, -0.01171875]),
    ('lanczos', [0.434303, 0.1165, -0.04194, -0.008863]),
])  # fmt: skip
def test_the_taps_of_x2_are_the_textbook_s(kind: str, half: list[float]) -> None:
    field = build_field_sampler({'type': kind}).draw(96, 96, scale=2).view(21, 21)
    taps = field.sum(0)[7:15].tolist()
    assert taps == pytest.approx([*half[::-1], *half], abs=1e-5)
    assert field.count_nonzero() == 64


@pytest.mark.parametrize('kind', ['bicubic', 'lanczos'])
def test_a_reduction_that_does_not_fit_the_taps_is_refused(kind: str, photos: Path) -> None:
    sampler = build_field_sampler({'type': kind})
    sampler.check(kernel_size=19, scale=4)
    with pytest.raises(ValueError, match='type: a reduction at scale 4 needs a kernel_size of at least 19, found 17'):
        sampler.check(kernel_size=17, scale=4)
    assert 'key' in problem_of({'type': kind, 'variance': [1, 2]}, photos)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_what_just_fits_is_not_cut(scale: int) -> None:
    sampler = build_field_sampler({'type': 'bicubic'})
    least = next(size for size in range(1, 40, 2) if _fits(sampler, size, scale))
    whole, small = (sampler.draw(96, 96, scale=scale, kernel_size=size) for size in (41, least))
    assert whole.count_nonzero() == small.count_nonzero()


def _fits(sampler: object, size: int, scale: int) -> bool:
    try:
        sampler.check(size, scale)  # type: ignore[attr-defined]
    except ValueError:
        return False
    return True
