"""KernelGAN and ZSSR: the collapsed generator, the kernels of two reductions, what is cropped, and the rates."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from manet_basicsr.degradation import (
    anisotropic_gaussian_kernels,
    blur_downsample,
    build_field_sampler,
    kernel_covariances,
)
from manet_basicsr.zero_shot import build_solver, solve
from manet_basicsr.zero_shot.kernelgan import (
    LinearGenerator,
    PatchDiscriminator,
    _KernelLoss,
    doubled,
    kernel_field,
    reduce_by,
    sharpened,
)
from manet_basicsr.zero_shot.patch_sampling import (
    crop_at,
    crop_corners,
    detail_map,
    draw_places,
    halved,
    quantile,
)
from manet_basicsr.zero_shot.zssr import RateSchedule, ZSSRNet, enlarge, loss_weight


def photo(photos: Path, height: int, width: int, name: str = 'astronaut') -> torch.Tensor:
    image = cv2.imread(str(photos / f'{name}.png'))[:height, :width, ::-1].astype(np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


def size_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_networks_have_the_papers_sizes() -> None:
    assert size_of(LinearGenerator()) == 150_656
    assert size_of(PatchDiscriminator()) == 30_977
    assert size_of(ZSSRNet()) == 224_640


def test_the_collapsed_generator_is_its_six_layers_with_their_gradients() -> None:
    torch.manual_seed(0)
    generator = LinearGenerator(16)
    with torch.no_grad():
        for weight in generator.layers:
            weight.mul_(10)
    image = torch.rand(1, 3, 64, 64)
    plain = image.transpose(0, 1)
    for number, weight in enumerate(generator.layers):
        plain = F.conv2d(plain, weight, stride=2 if number == 5 else 1)
    fast = generator(image)
    assert fast.shape == (1, 3, 26, 26)
    assert (plain.transpose(0, 1) - fast).abs().max() / fast.abs().max() < 1e-6
    for output in (plain, fast):
        output.square().mean().backward(inputs=list(generator.parameters()), retain_graph=True)
    gradients = [weight.grad.clone() / 2 for weight in generator.layers if weight.grad is not None]
    generator.zero_grad()
    generator(image).square().mean().backward()
    for summed, weight in zip(gradients, generator.layers, strict=True):
        assert weight.grad is not None
        assert (summed - weight.grad).norm() / weight.grad.norm() < 1e-5


def test_a_new_generator_is_next_to_nothing() -> None:
    torch.manual_seed(0)
    assert LinearGenerator().kernel().abs().max() < 1e-5


def test_the_doubled_kernel_is_that_of_reducing_twice(photos: Path) -> None:
    image = photo(photos, 120, 120).double()
    kernel = torch.rand(13, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernel = kernel / kernel.sum()
    twice = reduce_by(reduce_by(image, kernel), kernel)
    planes = image.transpose(0, 1)
    once = F.conv2d(planes, doubled(kernel)[None, None], stride=4).transpose(0, 1)
    torch.testing.assert_close(once[..., : twice.shape[-2], : twice.shape[-1]], twice)


def test_at_x4_the_variance_is_five_times_as_large_and_the_grid_is_centered() -> None:
    narrow = anisotropic_gaussian_kernels(torch.tensor([[0.8, 0.5]]), torch.tensor([0.0]), 13, 2).view(13, 13)
    half, quarter = (kernel_field(narrow, scale, 21) for scale in (2, 4))
    torch.testing.assert_close(half.view(21, 21)[4:17, 4:17], narrow)
    expected = 5 * kernel_covariances(half.view(1, -1))
    torch.testing.assert_close(kernel_covariances(quarter.view(1, -1)), expected, atol=0.15, rtol=0)


def test_a_doubled_kernel_that_the_taps_cut_is_told_of_and_one_that_fits_is_not(
    recwarn: pytest.WarningsRecorder,
) -> None:
    wide, narrow = anisotropic_gaussian_kernels(torch.tensor([[6.0, 6], [0.8, 0.5]]), torch.zeros(2), 13, 2)
    kernel_field(narrow.view(13, 13), 4, 21)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r'kernel of 37x37 taps .* 1[0-9]% is cut off by 18x18 taps'):
        kernel_field(wide.view(13, 13), 4, 21)


def test_sharpening_leaves_the_forty_largest_taps_above_a_quarter_of_the_next() -> None:
    kernel = torch.arange(169.0).view(13, 13) / 169
    taps = sharpened(kernel)
    assert taps.sum().item() == pytest.approx(1)
    assert taps[0].sum() == 0
    assert taps.argmax() == 168


def test_the_bicubic_term_is_zero_for_the_bicubic_kernel_and_is_weighed_down(photos: Path) -> None:
    loss = _KernelLoss(torch.device('cpu'))
    kernel = torch.zeros(13, 13)
    kernel[3:11, 3:11] = loss.bicubic
    image = 2 * photo(photos, 64, 64) - 1
    kernel.requires_grad_(True)
    assert loss(kernel, image, reduce_by(image, kernel)).item() < 1e-4
    for _ in range(199):
        loss(kernel, image, reduce_by(image, kernel))
    assert loss.weight_bicubic == pytest.approx(0.05)
    assert loss.weight_centre == 0
    for _ in range(200):
        value = loss(kernel, image, reduce_by(image, kernel))
    assert (loss.weight_centre, loss.weight_sparse) == (1, 5)
    value = loss(kernel, image, reduce_by(image, kernel))
    value.backward()
    assert kernel.grad is not None and kernel.grad.isfinite().all()


def test_crops_are_inside_even_and_prefer_detail(generator: torch.Generator) -> None:
    image = torch.full((1, 3, 80, 100), 0.5)
    image[..., 50:70, 60:90] = torch.rand(1, 3, 20, 30, generator=generator)
    assert detail_map(image)[..., :40, :50].sum() == 0
    corners = crop_corners(image, 26, 200, generator)
    assert (corners % 2 == 0).all()
    assert corners.min() >= 0 and (corners.amax(0) <= torch.tensor([80 - 26, 100 - 26])).all()
    middle = corners.float().mean(0) + 13
    assert middle[0] > 45 and middle[1] > 55
    # Of the whole for a crop as large as the image, and for an image of one colour.
    assert crop_corners(halved(image), 80, 5, generator, image.shape[-2:])[:, 0].tolist() == [0] * 5
    assert crop_corners(torch.zeros(1, 3, 40, 40), 26, 5, generator).shape == (5, 2)
    assert crop_at(image, corners[0], 26).shape == (1, 3, 26, 26)


def test_quantiles_and_draws_are_torch_s_and_go_beyond_its_largest_images(generator: torch.Generator) -> None:
    numbers = torch.rand(1, 1, 37, 41, generator=generator)
    for share in (0.0, 0.5, 0.97, 1.0):
        torch.testing.assert_close(quantile(numbers, share), numbers.quantile(share))
    weights = (numbers.flatten() - 0.5).clamp(min=0)
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    expected = torch.multinomial(weights.double(), 500, replacement=True, generator=first)
    assert torch.equal(draw_places(weights, 500, second), expected)
    large = torch.zeros(2**24 + 1)
    large[-3:] = 1
    assert quantile(large, 0.97) == 0
    assert draw_places(large, 100, second).unique().tolist() == [2**24 - 2, 2**24 - 1, 2**24]


def test_kernelgan_says_which_images_are_too_small_and_which_scales_it_has(photos: Path) -> None:
    solver = build_solver('kernelgan[iterations=1]')
    with pytest.raises(ValueError, match='an image of 27 x 40 px is too small, expected at least 28 a side'):
        solve(solver, photo(photos, 27, 40), 2)
    field = solve(solver, photo(photos, 28, 29), 2).field
    assert field is not None and field.isfinite().all()
    with pytest.raises(ValueError, match='kernelgan: found scale 3, expected one of 2, 4'):
        solve(solver, photo(photos, 40, 40), 3)


def test_the_rate_falls_where_the_error_stays_and_not_where_it_falls() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], 1e-3)
    schedule = RateSchedule(optimizer)
    schedule.notes = [5.0, 4, 3, 2, 1]
    schedule.look(300)
    assert schedule.rate == 1e-3
    schedule.notes = [1.0, 1.01, 0.99, 1, 1]
    schedule.look(301)  # looked at every 60 steps
    assert schedule.rate == 1e-3
    schedule.look(300)
    assert schedule.rate == pytest.approx(1e-4)
    schedule.look(360)  # too soon
    assert schedule.rate == pytest.approx(1e-4)
    for step in (600, 900):
        schedule.look(step)
    assert schedule.is_over


def test_flat_parts_do_not_count_and_the_mean_weight_is_one(photos: Path) -> None:
    image = photo(photos, 40, 40)
    image[..., :20, :20] = 0.5
    weight = loss_weight(image)
    assert weight.mean().item() == pytest.approx(1)
    assert weight[..., :15, :15].max() == 0
    assert torch.equal(loss_weight(torch.zeros(1, 3, 20, 20)), torch.ones(1, 1, 20, 20))


def test_zssr_restores_what_it_was_told_and_the_lr_image_comes_back(photos: Path) -> None:
    lq = photo(photos, 40, 44)
    solution = solve(build_solver('zssr[max_steps=30]'), lq, 2)
    assert solution.sr is not None and solution.field is not None
    errors = [(blur_downsample(sr, solution.field, 2) - lq).abs().mean() for sr in (solution.sr, enlarge(lq, 2))]
    assert errors[0] < errors[1] / 2


@pytest.mark.slow
def test_what_zssr_learns_of_an_image_that_was_only_reduced_is_worth_a_decibel(photos: Path) -> None:
    gt = photo(photos, 160, 160, name='coffee')
    field = build_field_sampler({'type': 'bicubic'}).draw(160, 160, scale=2, kernel_size=21)
    lq = blur_downsample(gt, field, 2).clamp(0, 1)
    errors = []
    for steps in (2, 200):  # after two, it is little more than bicubic and two back-projections
        sr = solve(build_solver(f'zssr[max_steps={steps}]'), lq, 2).sr
        assert sr is not None
        errors.append((sr - gt)[..., 4:-4, 4:-4].square().mean().log10() * 10)
    assert errors[0] - errors[1] > 1


def test_zssr_told_the_true_kernel_takes_that_one_in_one_stage(photos: Path) -> None:
    lq, true = photo(photos, 40, 44), torch.rand(1, 441, 1, 1, generator=torch.Generator().manual_seed(0))
    true /= true.sum()
    steps: list[tuple[int, int]] = []
    told = build_solver('zssr[kernel=true,max_steps=3]')
    solution = solve(told, lq, 4, tick=lambda *pair: steps.append(pair), field=true)
    assert solution.field is not None and torch.equal(solution.field, true)
    assert steps == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(ValueError, match='zssr: found a field of 40 x 44 kernels, expected one kernel, as on the set'):
        solve(told, lq, 4, field=true.expand(-1, -1, 40, 44))
    with pytest.raises(ValueError, match='kernel'):
        build_solver('kernelgan+zssr[kernel=true]')


def test_zssr_goes_by_way_of_x2_to_x4_where_it_is_not_shortened() -> None:
    assert build_solver('zssr').scales(4) == [2, 4]  # type: ignore[attr-defined]
    assert build_solver('zssr').scales(3) == [3]  # type: ignore[attr-defined]
    assert build_solver('zssr', 'short').scales(4) == [4]  # type: ignore[attr-defined]


@pytest.mark.parametrize('size', [(1, 8), (8, 1), (3, 3)])
def test_an_image_that_cannot_be_reduced_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f'an image of {size[0]} x {size[1]} px is too small to be reduced by 4'):
        solve(build_solver('zssr[max_steps=1]'), torch.rand(1, 3, *size), 4)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_images_are_enlarged_by_keys_cubic(scale: int) -> None:
    def cubic(distance: torch.Tensor) -> torch.Tensor:
        d = distance.abs()
        inner, outer = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        return torch.where(d < 1, inner, torch.where(d < 2, outer, 0))

    point = torch.zeros(1, 1, 1, 11)
    point[..., 5] = 1
    places = (torch.arange(11 * scale) + 0.5) / scale - 0.5
    torch.testing.assert_close(enlarge(point, scale)[0, 0, 0], cubic(places - 5), atol=1e-6, rtol=0)
