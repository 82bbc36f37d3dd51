"""The kernel metrics, called as BasicSR calls them."""

from __future__ import annotations

import math

import pytest
import torch
from basicsr.metrics import calculate_metric
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.degradation import anisotropic_gaussian_kernels
from manet_basicsr.metrics import calculate_kernel_psnr, calculate_lr_psnr, calculate_lr_ssim


def gaussian(first: float, second: float, angle: float = 0.3) -> Tensor:
    return anisotropic_gaussian_kernels(torch.tensor([[first, second]]), torch.tensor([angle])).view(1, 441, 1, 1)


@pytest.fixture
def gt(generator: torch.Generator) -> Tensor:
    """A smooth random photograph of 96x80 pixels."""
    return F.interpolate(torch.rand(1, 3, 24, 20, generator=generator), scale_factor=4, mode='bicubic').clamp(0, 1)


def lr_by_loops(gt: Tensor, field: Tensor, scale: int) -> Tensor:
    """The paper's image formation pixel by pixel: the 8-bit LR image, (3, h, w), float64."""
    padded = F.pad(gt.double(), [10] * 4, mode='replicate')[0]
    height, width = gt.shape[2] // scale, gt.shape[3] // scale
    kernels = field.double().expand(1, 441, height, width)[0].view(21, 21, height, width)
    lr = torch.empty(3, height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            patch = padded[:, row * scale : row * scale + 21, column * scale : column * scale + 21]
            lr[:, row, column] = (patch * kernels[..., row, column]).sum((1, 2))
    return (lr.clamp(0, 1) * 255).round()


def luma(rgb: Tensor) -> Tensor:
    """BT.601 with head- and footroom, of values in 0..255."""
    return 16 + (65.481 * rgb[0] + 128.553 * rgb[1] + 24.966 * rgb[2]) / 255


def test_kernel_psnr_by_hand() -> None:
    field = torch.tensor([[[[0.5, 0.6]], [[0.5, 0.4]]]])
    true = torch.tensor([[[[0.5]], [[0.5]]]])
    # squared errors 0, 0.01, 0, 0.01: their mean is 0.005
    assert calculate_kernel_psnr(field=field, field_gt=true) == pytest.approx(10 * math.log10(1 / 0.005), abs=1e-4)


def test_kernel_psnr_looks_at_every_position() -> None:
    true = gaussian(6, 1)
    field = true.repeat(1, 1, 4, 4)
    field[..., 3, 3] = gaussian(1, 1).flatten()[None]
    one_wrong = (gaussian(1, 1) - true).double().square().mean()
    found = calculate_kernel_psnr(field=field, field_gt=true)
    assert found == pytest.approx(-10 * math.log10(one_wrong / 16), abs=1e-3)


def test_kernels_of_other_sizes_are_compared_about_their_middle(gt: Tensor) -> None:
    """A network finds 21x21 taps also where the blur, as of a long camera shake, has more."""
    small, large = torch.zeros(1, 9, 1, 1), torch.zeros(1, 25, 1, 1)
    small[0, 4], large[0, 12], large[0, 24] = 1, 0.9, 0.1
    for field, true in ((small, large), (large, small)):
        found = calculate_kernel_psnr(field=field, field_gt=true)
        assert found == pytest.approx(10 * math.log10(25 / (0.1**2 + 0.1**2)), abs=1e-4)
    wide = F.pad(gaussian(3, 1).view(1, 21, 21), [5] * 4).view(1, 961, 1, 1)
    assert calculate_kernel_psnr(field=gaussian(3, 1), field_gt=wide) == math.inf
    assert calculate_lr_psnr(field=gaussian(3, 1), field_gt=wide, gt=gt, scale=4) == math.inf


def test_an_exact_match_is_infinite(gt: Tensor) -> None:
    field = gaussian(6, 1)
    assert calculate_kernel_psnr(field=field, field_gt=field) == math.inf
    assert calculate_lr_psnr(field=field, field_gt=field, gt=gt, scale=4) == math.inf
    assert calculate_lr_ssim(field=field, field_gt=field, gt=gt, scale=4) == pytest.approx(1)


def test_lr_psnr_equals_the_loops(gt: Tensor) -> None:
    field = torch.cat((gaussian(3, 1).expand(1, 441, 24, 11), gaussian(9, 2).expand(1, 441, 24, 9)), dim=3)
    true = gaussian(6, 2)
    estimated, clean = (luma(lr_by_loops(gt, kernels, 4))[4:-4, 4:-4] for kernels in (field, true))
    expected = 10 * math.log10(255**2 / (estimated - clean).square().mean().item())
    # A value within float32 rounding of half a level may round the other way: at most a few of 192 pixels by one.
    assert calculate_lr_psnr(field=field, field_gt=true, gt=gt, scale=4) == pytest.approx(expected, abs=0.05)


def test_channels_are_taken_as_rgb() -> None:
    """A blue edge weighs less in Y than a red one."""
    red = torch.zeros(1, 3, 96, 96)
    red[:, 0, :, 48:] = 1
    options = {'field': gaussian(9, 9), 'field_gt': gaussian(1, 1), 'scale': 4}
    difference = calculate_lr_psnr(gt=red.flip(1), **options) - calculate_lr_psnr(gt=red, **options)
    assert difference == pytest.approx(20 * math.log10(65.481 / 24.966), abs=0.2)  # 8-bit rounding


def test_border_is_scale_unless_given(gt: Tensor) -> None:
    options = {'field': gaussian(3, 1), 'field_gt': gaussian(6, 2), 'gt': gt}
    for metric in (calculate_lr_psnr, calculate_lr_ssim):
        values = [metric(**options, scale=4, crop_border=border) for border in (None, 4, 0)]
        assert values[0] == values[1] != values[2]


def test_better_kernels_score_higher(gt: Tensor) -> None:
    true = gaussian(6, 2)
    for metric in (calculate_lr_psnr, calculate_lr_ssim):
        near, far = (metric(field=field, field_gt=true, gt=gt, scale=4) for field in (gaussian(5.5, 2), gaussian(1, 1)))
        assert near > far


def test_the_batch_dimension_may_be_missing(gt: Tensor) -> None:
    field, true = gaussian(3, 1), gaussian(6, 2)
    without = {'field': field[0], 'field_gt': true[0], 'gt': gt[0], 'scale': 4}
    assert calculate_lr_psnr(**without) == calculate_lr_psnr(field=field, field_gt=true, gt=gt, scale=4)
    assert calculate_kernel_psnr(**without) == calculate_kernel_psnr(field=field, field_gt=true)


@pytest.mark.parametrize('name', ['calculate_kernel_psnr', 'calculate_lr_psnr', 'calculate_lr_ssim'])
def test_basicsr_calls_them_with_everything_it_knows(gt: Tensor, name: str) -> None:
    data = {'field': gaussian(3, 1), 'field_gt': gaussian(6, 2), 'gt': gt, 'scale': 4, 'img': None, 'img2': None}
    assert math.isfinite(calculate_metric(data, {'type': name}))


def test_inputs_are_not_changed_and_need_no_gradient(gt: Tensor) -> None:
    field = gaussian(3, 1).requires_grad_()
    image = gt * 1.5 - 0.2  # beyond [0, 1]
    kept = image.clone()
    for metric in (calculate_kernel_psnr, calculate_lr_psnr, calculate_lr_ssim):
        assert isinstance(metric(field=field, field_gt=gaussian(6, 2), gt=image, scale=4), float)
    torch.testing.assert_close(image, kept, rtol=0, atol=0)


@pytest.mark.parametrize('metric', [calculate_kernel_psnr, calculate_lr_psnr, calculate_lr_ssim])
def test_more_than_one_image_is_an_error(gt: Tensor, metric: object) -> None:
    with pytest.raises(ValueError, match=r'field has shape \(2, 441, 1, 1\), expected one image'):
        metric(field=gaussian(3, 1).repeat(2, 1, 1, 1), field_gt=gaussian(6, 2), gt=gt, scale=4)


def test_fields_that_do_not_fit_are_an_error() -> None:
    for shape in ((1, 8, 1, 1), (1, 16, 1, 1), (1, 441, 3, 4), (1, 9, 3, 4)):
        with pytest.raises(ValueError, match='expected k\\*k taps with k odd, on grids of one size'):
            calculate_kernel_psnr(field=torch.rand(1, 441, 4, 4), field_gt=torch.rand(shape))


def test_too_small_an_image_is_an_error() -> None:
    options = {'field': gaussian(3, 1), 'field_gt': gaussian(6, 2), 'scale': 4}
    with pytest.raises(ValueError, match='the LR image has 8x8 pixels, crop_border is 4: expected at least 1x1'):
        calculate_lr_psnr(gt=torch.rand(1, 3, 32, 32), **options)
    with pytest.raises(ValueError, match='the LR image has 16x16 pixels, crop_border is 4: expected at least 11x11'):
        calculate_lr_ssim(gt=torch.rand(1, 3, 64, 64), **options)
