from __future__ import annotations

from typing import Any

import pytest
import torch

from manet_basicsr.degradation import (
    FixedSampler,
    InvariantSampler,
    ProtocolSampler,
    add_gaussian_noise,
    blur_downsample,
    jpeg_compress,
    quantize,
)
from manet_basicsr.degradation.pipeline import Degradation

FIELD = {'type': 'fixed', 'variances': [6, 1], 'angle': 0.785}


@pytest.fixture
def hr(generator: torch.Generator) -> torch.Tensor:
    """A smooth random image (3, 96, 120) in [0, 1]."""
    coarse = torch.rand(1, 3, 12, 15, generator=generator)
    return torch.nn.functional.interpolate(coarse, scale_factor=8, mode='bicubic')[0].clamp(0, 1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def degraded(options: dict[str, Any], hr: torch.Tensor, seed: int = 0) -> torch.Tensor:
    degradation, generator = Degradation.from_options(options), seeded(seed)
    height, width = hr.shape[1:]
    parameters = degradation.draw_parameters(height, width, 4, generator)
    return degradation.degrade(hr, degradation.make_field(parameters, height, width, 4), 4, generator)


def test_a_section_says_all_there_is_to_a_degradation() -> None:
    options = {'kernel_size': 15, 'alignment': 'published', 'field': FIELD, 'noise': [0, 15], 'jpeg': [70, 100]}
    degradation = Degradation.from_options(options)
    assert degradation == Degradation(FixedSampler((6, 1), 0.785), 15, 'published', (0, 15), (70, 100))
    assert options['field'] == FIELD


def test_the_defaults_are_clean_centered_kernels_of_21_taps() -> None:
    options = {'field': {'type': 'protocol', 'kind': 5}}
    assert Degradation.from_options(options) == Degradation(ProtocolSampler(5), 21, 'centered', (0, 0), None)


@pytest.mark.parametrize('field', [FIELD, {'type': 'protocol', 'kind': 5}, {'type': 'smooth', 'variance': [0.7, 10]}])
def test_the_field_is_the_one_that_its_type_draws(field: dict[str, Any]) -> None:
    degradation = Degradation.from_options({'field': field, 'kernel_size': 15, 'alignment': 'published'})
    made = degradation.make_field(degradation.draw_parameters(96, 120, 4, seeded(3)), 96, 120, 4)
    drawn = degradation.sampler.draw(96, 120, scale=4, kernel_size=15, alignment='published', generator=seeded(3))
    assert torch.equal(made, drawn)


def test_a_clean_lr_image_is_the_blurred_one_rounded_to_8_bit(hr: torch.Tensor) -> None:
    degradation = Degradation(FixedSampler((6, 1), 0.785))
    field = degradation.make_field(degradation.draw_parameters(96, 120, 4, seeded()), 96, 120, 4)
    lr = degradation.degrade(hr, field, 4, seeded())
    assert lr.shape == (3, 24, 30)
    assert torch.equal(lr, quantize(blur_downsample(hr[None], field, 4)[0]))
    assert torch.equal(lr, quantize(lr))


def test_noise_has_the_asked_deviation_and_is_rounded_to_8_bit() -> None:
    lr = degraded({'field': FIELD, 'noise': [15, 15]}, torch.full((3, 400, 400), 0.5))
    # 30,000 draws: the deviation is known to 0.4%; rounding adds 0.2%.
    assert float(lr.std() * 255) == pytest.approx(15, rel=0.02)
    assert torch.equal(lr, quantize(lr))


def test_shot_noise_grows_with_the_square_root_of_the_image() -> None:
    options = {'field': FIELD, 'shot_noise': [20, 20]}
    for grey in (0.1, 0.4, 0.7):
        lr = degraded(options, torch.full((3, 400, 400), grey))
        assert float(lr.std() * 255) == pytest.approx(20 * grey**0.5, rel=0.03)
    both = degraded({**options, 'noise': [10, 10]}, torch.full((3, 400, 400), 0.5))
    assert float(both.std() * 255) == pytest.approx((10**2 + 20**2 * 0.5) ** 0.5, rel=0.03)


def test_a_share_of_the_images_is_left_clean(hr: torch.Tensor) -> None:
    options = {'field': FIELD, 'noise': [20, 20], 'jpeg': [40, 40]}
    clean = degraded({'field': FIELD}, hr)
    found = [torch.equal(degraded({**options, 'clean': 0.3}, hr, seed), clean) for seed in range(200)]
    assert sum(found) / 200 == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 200) ** 0.5)
    assert torch.equal(degraded({**options, 'clean': 1}, hr), clean)


def test_what_is_not_asked_for_draws_nothing(hr: torch.Tensor) -> None:
    """So older option files give the same images: a level, the noise, a quality, and nothing else."""
    generator = seeded()
    clean = blur_downsample(hr[None], FixedSampler((6, 1), 0.785).draw(96, 120, scale=4), 4)[0]
    sigma = 5 + 15 * float(torch.rand((), generator=generator))
    noisy = add_gaussian_noise(clean, sigma, generator)
    expected = jpeg_compress(noisy, int(torch.randint(40, 91, (), generator=generator)))
    assert torch.equal(degraded({'field': FIELD, 'noise': [5, 20], 'jpeg': [40, 90]}, hr), expected)


@pytest.mark.parametrize(
    ('key', 'value'), [('clean', 1.5), ('clean', -0.1), ('uncompressed', 2), ('shot_noise', [5, 1]), ('shot_noise', 3)]
)
def test_wrong_shares_and_levels_are_refused(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f'degradation.{key}: found'):
        Degradation.from_options({'field': FIELD, key: value})


def test_jpeg_comes_last_and_has_the_drawn_quality(hr: torch.Tensor) -> None:
    clean = degraded({'field': FIELD}, hr)
    assert torch.equal(degraded({'field': FIELD, 'jpeg': [50, 50]}, hr), jpeg_compress(clean, 50))


def test_noise_and_quality_cover_their_ranges_one_draw_an_image(hr: torch.Tensor) -> None:
    grey = torch.full((3, 96, 120), 0.5)
    deviations = [float(degraded({'field': FIELD, 'noise': [0, 30]}, grey, seed).std()) * 255 for seed in range(40)]
    assert min(deviations) < 5
    assert max(deviations) > 25
    clean = degraded({'field': FIELD}, hr)
    qualities = {
        quality
        for seed in range(30)
        for quality in (50, 51, 52)
        if torch.equal(degraded({'field': FIELD, 'jpeg': [50, 52]}, hr, seed), jpeg_compress(clean, quality))
    }
    assert qualities == {50, 51, 52}


def test_the_kernel_does_not_depend_on_noise_and_jpeg(hr: torch.Tensor) -> None:
    field = InvariantSampler((0.7, 10))
    plain, corrupted = Degradation(field), Degradation(field, noise=(0, 15), jpeg=(70, 100))
    first, second = (d.draw_parameters(96, 120, 4, seeded(5)) for d in (plain, corrupted))
    assert torch.equal(first, second)


def test_one_generator_makes_one_image_and_no_global_state_is_touched(hr: torch.Tensor) -> None:
    options = {'field': {'type': 'smooth', 'variance': [0.7, 10]}, 'noise': [0, 15], 'jpeg': [70, 100]}
    before = torch.get_rng_state()
    assert torch.equal(degraded(options, hr, 1), degraded(options, hr, 1))
    assert not torch.equal(degraded(options, hr, 1), degraded(options, hr, 2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'noise': [15, 0]}, r'degradation\.noise: found \[15, 0\], expected \[smallest, largest\] within 0\.\.255'),
        ({'noise': 15}, r'degradation\.noise: found 15, expected'),
        ({'noise': [-1, 15]}, r'degradation\.noise: found \[-1, 15\]'),
        ({'noise': ['0', 15]}, r'degradation\.noise: found'),
        ({'noise': [0, float('nan')]}, r'degradation\.noise: found'),
        ({'noise': '15'}, r"degradation\.noise: found '15'"),
        ({'noise': None}, r'degradation\.noise: found None'),
        ({'jpeg': [0, 50]}, r'degradation\.jpeg: found \[0, 50\], expected \[smallest, largest\] within 1\.\.100'),
        ({'jpeg': [70, 101]}, r'degradation\.jpeg: found \[70, 101\]'),
        ({'jpeg': [100, 70]}, r'degradation\.jpeg: found \[100, 70\]'),
        ({'jpeg': [70.5, 70.9]}, r'degradation\.jpeg: found \[70\.5, 70\.9\], expected whole numbers'),
        ({'jpeg': 70}, r'degradation\.jpeg: found 70'),
        ({'kernel_size': 20}, r'degradation\.kernel_size: found 20, expected an odd number'),
        ({'kernel_size': 21.0}, r'degradation\.kernel_size: found 21\.0'),
        ({'kernel_size': True}, r'degradation\.kernel_size: found True'),
        ({'kernel_size': -1}, r'degradation\.kernel_size: found -1'),
        ({'alignment': 'centred'}, r"degradation\.alignment 'centred' is not one of .*did you mean 'centered'"),
        ({'nois': [0, 15]}, r"degradation key 'nois' is not one of .*did you mean 'noise'"),
        ({'field': None}, r'degradation\.field must be keys and values.*found None'),
        ({'field': 'invariant'}, r"degradation\.field must be keys and values.*found 'invariant'"),
        ({'field': {}}, r"degradation\.field lacks the key 'type'"),
        ({'field': {'type': 'invariante'}}, r"degradation\.field 'invariante' is not one of .*mean 'invariant'"),
        ({'field': {'type': 'invariant'}}, r"degradation\.field \(type invariant\) lacks the key 'variance'"),
        ({'field': {'type': 'invariant', 'variance': [10, 0.7]}}, r'degradation\.field\.variance .*found \[10'),
        ({'field': {**FIELD, 'angel': 1}}, r"degradation\.field \(type fixed\): key 'angel' .*did you mean 'angle'"),
        ({'field': {'type': 'protocol', 'kind': 7}}, r'degradation\.field\.kind must be one of 1 to 6, found 7'),
    ],
)
def test_a_mistake_in_the_section_says_what_was_found_and_expected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f'^{message}'):
        Degradation.from_options({'field': FIELD, **changes})


def test_a_section_without_field_is_an_error_with_an_example() -> None:
    with pytest.raises(ValueError, match=r'degradation\.field: missing, expected a section such as \{type: invariant'):
        Degradation.from_options({'noise': [0, 15]})


def test_a_share_of_the_noisy_images_is_not_compressed(hr: torch.Tensor) -> None:
    options = {'field': FIELD, 'noise': [15, 15], 'jpeg': [30, 30], 'uncompressed': 0.3}
    noisy = [degraded({'field': FIELD, 'noise': [15, 15]}, hr, seed) for seed in range(150)]
    found = [torch.equal(degraded(options, hr, seed), image) for seed, image in enumerate(noisy)]
    assert 0.18 < sum(found) / len(found) < 0.42  # three standard deviations about 0.3
    assert torch.equal(degraded({**options, 'uncompressed': 1}, hr), noisy[0])
    levels = [Degradation.from_options(options).draw_levels(torch.Generator().manual_seed(seed)) for seed in range(150)]
    assert 0.18 < sum(quality == 0 for _, _, quality in levels) / len(levels) < 0.42
