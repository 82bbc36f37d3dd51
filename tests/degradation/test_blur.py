from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from skimage import data

from manet_basicsr.degradation import block_field, blur_downsample, protocol_field
from manet_basicsr.degradation.blur import _sum_rows
from manet_basicsr.utils.memory import peak_memory, reset_peak, resident_memory, return_freed_memory
from tests.forked import result_of

Size = tuple[int, int, int, int]

# Sums of k*k products in another order: float64 to 1e-12, float32 to 2e-6 of a value within [0, 1].
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6}


def blur_downsample_reference(hr: torch.Tensor, field: torch.Tensor, scale: int) -> torch.Tensor:
    """The plain formulation: the kernel behind each LR pixel on the HR grid, blur at stride 1, then subsampling."""
    batch, channels, height, width = hr.shape
    taps = field.shape[1]
    kernel_size = int(taps**0.5)
    lr_height, lr_width = height // scale, width // scale
    kernels = field.expand(batch, -1, lr_height, lr_width)
    kernels = kernels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    kernels = F.pad(kernels, (0, width % scale, 0, height % scale), mode='replicate')
    patches = F.unfold(F.pad(hr, [kernel_size // 2] * 4, mode='replicate'), kernel_size)
    patches = patches.view(batch, channels, taps, height, width)
    blurred = (patches * kernels[:, None]).sum(2)
    return blurred[:, :, ::scale, ::scale][:, :, :lr_height, :lr_width]


def random_case(
    hr_size: Size, field_batch: int, kernel_size: int, scale: int, invariant: bool, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    grid = (1, 1) if invariant else (hr_size[2] // scale, hr_size[3] // scale)
    hr = torch.rand(hr_size, dtype=dtype, generator=generator)
    field = torch.rand(field_batch, kernel_size**2, *grid, dtype=dtype, generator=generator)
    return hr, field / field.sum(1, keepdim=True)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('invariant', [True, False], ids=['invariant', 'variant'])
@pytest.mark.parametrize(
    ('hr_size', 'field_batch', 'kernel_size', 'scale'),
    [
        ((1, 3, 32, 40), 1, 21, 4),
        ((3, 3, 24, 20), 3, 21, 4),  # each image its own kernels
        ((3, 2, 24, 20), 1, 21, 4),  # shared kernels
        ((2, 1, 18, 27), 2, 21, 3),
        ((2, 3, 14, 18), 2, 7, 2),
        ((2, 3, 9, 11), 2, 5, 1),
        ((2, 3, 23, 18), 2, 9, 4),  # sizes that the scale does not divide
        ((1, 1, 4, 5), 1, 21, 4),  # an image smaller than the kernel
    ],
)
def test_blur_equals_the_plain_formulation(
    hr_size: Size, field_batch: int, kernel_size: int, scale: int, invariant: bool, dtype: torch.dtype
) -> None:
    hr, field = random_case(hr_size, field_batch, kernel_size, scale, invariant, dtype)
    lr = blur_downsample(hr, field, scale)
    assert lr.dtype == dtype
    assert lr.shape == (*hr_size[:2], hr_size[2] // scale, hr_size[3] // scale)
    torch.testing.assert_close(lr, blur_downsample_reference(hr, field, scale), atol=TOLERANCE[dtype], rtol=0)


def test_a_kernel_of_one_tap_picks_that_pixel_by_cross_correlation() -> None:
    hr = torch.arange(64.0).view(1, 1, 8, 8)
    field = torch.zeros(1, 9, 1, 1)
    field[0, 5] = 1  # row 1, column 2: the pixel to the right
    expected = torch.tensor([[1.0, 5], [33, 37]])
    assert torch.equal(blur_downsample(hr, field, 4)[0, 0], expected)
    assert torch.equal(blur_downsample(hr, field.expand(-1, -1, 2, 2), 4)[0, 0], expected)


def test_border_pixels_are_repeated_outside_the_image() -> None:
    hr = torch.arange(16.0).view(1, 1, 4, 4)
    field = torch.zeros(1, 441, 1, 1)
    field[0, 0] = 1  # 10 px up and to the left
    assert torch.equal(blur_downsample(hr, field, 2), torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_a_constant_image_stays_constant(scale: int) -> None:
    lr = blur_downsample(torch.full((1, 3, 48, 48), 0.6), protocol_field(4, 48, 48, scale), scale)
    torch.testing.assert_close(lr, torch.full_like(lr, 0.6))


@pytest.mark.parametrize('invariant', [True, False], ids=['invariant', 'variant'])
@pytest.mark.parametrize('field_batch', [1, 2])
@pytest.mark.parametrize('scale', [1, 2, 3])
def test_gradients_are_right_in_float64(scale: int, field_batch: int, invariant: bool) -> None:
    hr, field = random_case((2, 2, 7, 6), field_batch, 3, scale, invariant, torch.float64)
    hr.requires_grad_()
    field.requires_grad_()
    assert torch.autograd.gradcheck(lambda hr, field: blur_downsample(hr, field, scale), (hr, field))


@pytest.mark.parametrize('wanted', ['hr', 'field'])
def test_a_gradient_is_computed_for_the_argument_that_wants_it(wanted: str) -> None:
    hr, field = random_case((2, 3, 12, 12), 2, 5, 4, False, torch.float64)
    leaf = {'hr': hr, 'field': field}[wanted].requires_grad_()
    (gradient,) = torch.autograd.grad(blur_downsample(hr, field, 4).square().sum(), leaf)
    (expected,) = torch.autograd.grad(blur_downsample_reference(hr, field, 4).square().sum(), leaf)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize('invariant', [True, False], ids=['invariant', 'variant'])
def test_non_contiguous_arguments_give_the_same(invariant: bool) -> None:
    hr, field = random_case((2, 3, 24, 16), 2, 9, 4, invariant, torch.float64)
    lr = blur_downsample(hr, field, 4)
    strided_hr = hr.transpose(2, 3).contiguous().transpose(2, 3)
    strided_field = field.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert torch.equal(blur_downsample(strided_hr, strided_field, 4), lr)
    assert torch.equal(blur_downsample(hr.to(memory_format=torch.channels_last), field, 4), lr)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('invariant', [True, False], ids=['invariant', 'variant'])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype, invariant: bool) -> None:
    hr, field = (side.to(dtype) for side in random_case((1, 3, 24, 16), 1, 21, 4, invariant, torch.float32))
    lr = blur_downsample(hr, field, 4)
    assert lr.dtype == dtype
    expected = blur_downsample_reference(hr.double(), field.double(), 4).to(dtype)
    torch.testing.assert_close(lr, expected)  # one rounding, at the end


@pytest.mark.parametrize('invariant', [True, False], ids=['invariant', 'variant'])
def test_autocast_does_not_change_the_degradation(invariant: bool) -> None:
    hr, field = random_case((1, 3, 24, 16), 1, 21, 4, invariant, torch.float32)
    expected = blur_downsample(hr, field, 4)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(blur_downsample(hr, field, 4), expected)


def test_types_promote() -> None:
    hr, field = random_case((1, 1, 8, 8), 1, 3, 4, False, torch.float64)
    assert blur_downsample(hr.float(), field, 4).dtype == torch.float64
    assert blur_downsample(hr.half(), field.float(), 4).dtype == torch.float32


@pytest.mark.parametrize(
    ('hr_shape', 'field_shape', 'scale', 'message'),
    [
        ((2, 3, 24, 16), (2, 441, 5, 4), 4, r'grid of 1 x 1 or 6 x 4 \(HR 24 x 16 at scale 4\), found 5 x 4'),
        ((2, 3, 24, 16), (2, 441, 6, 1), 4, 'found 6 x 1'),
        ((2, 3, 24, 16), (3, 441, 6, 4), 4, 'batch of 1 or 2, found 3'),
        ((2, 3, 24, 16), (2, 440, 6, 4), 4, 'k odd, found 440'),
        ((2, 3, 24, 16), (2, 400, 6, 4), 4, 'k odd, found 400'),
        ((3, 24, 16), (2, 441, 6, 4), 4, '4 dimensions'),
        ((2, 3, 24, 16), (441, 6, 4), 4, '4 dimensions'),
        ((2, 3, 3, 16), (2, 441, 1, 4), 4, 'no LR pixel at scale 4'),
        ((2, 3, 24, 16), (2, 441, 6, 4), 0, 'scale must be at least 1, found 0'),
    ],
)
def test_what_does_not_fit_is_named(hr_shape: tuple, field_shape: tuple, scale: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        blur_downsample(torch.rand(hr_shape), torch.rand(field_shape), scale)


def test_integer_images_are_refused() -> None:
    with pytest.raises(ValueError, match='floating point, found torch.uint8'):
        blur_downsample(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.rand(1, 9, 1, 1), 4)


@pytest.mark.parametrize(('alignment', 'displaced'), [('centered', False), ('published', True)])
@pytest.mark.parametrize('scale', [2, 3, 4])
def test_bicubic_upsampling_of_a_centered_lr_is_not_displaced(scale: int, alignment: str, displaced: bool) -> None:
    side, margin = 192, 24
    photo = torch.from_numpy(data.astronaut()[40 : 40 + side, 150 : 150 + side]).permute(2, 0, 1)[None] / 255
    field = block_field(torch.tensor([[[2.0, 2.0, 0]]]), side, side, scale, alignment=alignment)
    lr = blur_downsample(photo, field, scale)
    upsampled = F.interpolate(lr, scale_factor=scale, mode='bicubic', align_corners=False)
    inner = photo[..., margin:-margin, margin:-margin]
    errors = {}
    for down in range(-4, 5):
        for right in range(-4, 5):
            moved = upsampled.roll((-down, -right), (2, 3))[..., margin:-margin, margin:-margin]
            errors[down, right] = F.mse_loss(moved, inner).item()
    best = min(errors, key=errors.__getitem__)
    assert best == ((scale - 1, scale - 1) if displaced else (0, 0))


def full_hd_growth() -> int:
    hr = torch.rand(1, 3, 1080, 1920)
    return_freed_memory()
    assert reset_peak()
    before = resident_memory()
    blur_downsample(hr, protocol_field(4, 1080, 1920, 4), 4)
    return (peak_memory() or before) - before


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='other systems do not tell the peak')
def test_full_hd_variant_degradation_stays_within_a_gigabyte() -> None:
    growth = result_of(full_hd_growth) / 2**20
    # The plain formulation needs 3 * 441 * 1080 * 1920 floats, 11 GB, for the patches alone.
    assert 50 < growth < 1000


@pytest.mark.parametrize('batch_of_field', [1, 2])
def test_rows_of_taps_at_once_are_the_sum_of_single_taps(batch_of_field: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hr, field = (
        torch.rand(2, 3, 50, 62, generator=generator),
        torch.rand(batch_of_field, 25, 12, 15, generator=generator),
    )
    padded = F.pad(F.pad(hr, [2] * 4, mode='replicate'), (0, 2, 0, 2))
    phases = F.pixel_unshuffle(padded, 4).view(2, 3, 4, 4, 14, 17)
    found = _sum_rows(torch.zeros(2, 3, 12, 15), phases, field, 5)
    torch.testing.assert_close(found, blur_downsample(hr, field, 4))
