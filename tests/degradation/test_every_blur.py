"""What holds of every blur, of those in the table and of any that is added to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.degradation import FIELD_TYPES, FieldSampler, blur_downsample, build_field_sampler
from tests.degradation.drawing import centre_of_mass, draw

#: Options by name; the first word is the type. Where a ``folder`` or ``file`` is wanted, the test fills it in.
BLURS: dict[str, dict[str, Any]] = {
    'bank': {'folder': ''},
    'bank of blocks': {'folder': '', 'period': 40},
    'bank of cropped kernels': {'folder': '', 'fit': 'crop'},
    'bicubic': {},
    'collage': {'variance': [0.7, 10]},
    'defocus': {'radius': [1.7, 6.3]},
    'defocus that changes': {'radius': [1.7, 6.3], 'period': 40},
    'fixed': {'variances': [6, 1], 'angle': 0.785},
    'generalized': {'variance': [0.7, 10], 'shape': [0.5, 4]},
    'invariant': {'variance': [0.7, 10]},
    'lanczos': {},
    'mixture': {'of': [{'type': 'invariant', 'variance': [0.7, 10]}, {'type': 'defocus', 'radius': [1.7, 6.3]}]},
    'motion': {'radius': [1.5, 6]},
    'motion of an object': {'radius': [1.5, 6], 'trajectory': 'object'},
    'motion that changes': {'radius': [1.5, 6], 'variant': True},
    'motion of a passing object': {'radius': [1.5, 6], 'trajectory': 'object', 'variant': True},
    'plateau': {'variance': [0.7, 10], 'shape': [1, 2]},
    'protocol': {'kind': 4},
    'protocol at random': {'kind': 5},
    'psf_grid': {'file': ''},
    'psf_grid at a random place': {'file': '', 'size': [400, 600]},
    'smooth': {'variance': [0.7, 10], 'period': 50},
}
REDUCTIONS = ('bicubic', 'lanczos')
INVARIANT = (
    'bank',
    'bank of cropped kernels',
    'defocus',
    'fixed',
    'generalized',
    'invariant',
    'mixture',
    'motion',
    'motion of an object',
    'plateau',
    *REDUCTIONS,
)
WITHOUT_CHANCE = ('fixed', 'protocol', 'psf_grid', *REDUCTIONS)


@pytest.fixture(params=BLURS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def options(name: str, folder: Path, lens: Path) -> dict[str, Any]:
    measured = {'folder': str(folder), 'file': str(lens)}
    filled = {key: path for key, path in measured.items() if key in BLURS[name]}
    return {'type': name.split()[0], **BLURS[name], **filled}


@pytest.fixture
def blur(options: dict[str, Any]) -> FieldSampler:
    return build_field_sampler(options)


def test_every_type_is_in_the_table() -> None:
    assert {name.split()[0] for name in BLURS} == set(FIELD_TYPES)


def test_options_make_the_field_they_describe_and_are_not_changed(options: dict[str, Any]) -> None:
    before = {key: list(value) if isinstance(value, list) else value for key, value in options.items()}
    sampler = build_field_sampler(options)
    assert options == before
    assert type(sampler) is FIELD_TYPES[options['type']]
    assert sampler == build_field_sampler(options)
    for key, value in options.items():
        if key not in ('type', 'of'):
            assert getattr(sampler, key) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_kernels_are_normalised_and_their_centre_of_mass_is_that_of_the_grid(
    name: str, options: dict[str, Any], scale: int
) -> None:
    if 'radius' in options:
        options['radius'] = [1.1, 5]
    for alignment, sign in (('centered', 1), ('published', -1)):
        field = draw(build_field_sampler(options), alignment, scale=scale)
        assert field.dtype == torch.float32
        assert field.min() >= 0 or name in REDUCTIONS
        torch.testing.assert_close(field.sum(1), torch.ones_like(field[:, 0]))
        # Only float32's rounding of 441 taps times up to 10 px.
        assert (centre_of_mass(field) - sign * (scale - 1) / 2).abs().max() < 1e-5


def test_an_image_without_an_lr_pixel_is_refused(blur: FieldSampler) -> None:
    for height, width in ((3, 40), (40, 3)):
        with pytest.raises(ValueError, match=rf'an image of {height} x {width} has no LR pixel at scale 4'):
            blur.draw(height, width, scale=4)


def test_a_centered_kernel_is_the_published_one_flipped_in_both_axes(blur: FieldSampler) -> None:
    centered, published = (draw(blur, alignment) for alignment in ('centered', 'published'))
    assert torch.equal(centered, published.flip(1))


def test_a_field_repeats_with_the_seed_and_with_its_parameters(name: str, blur: FieldSampler) -> None:
    field, again, other = (draw(blur, seed=seed) for seed in (0, 0, 3))
    assert torch.equal(field, again)
    assert torch.equal(field, other) == (name in WITHOUT_CHANCE)
    parameters = blur.parameters(96, 128, scale=4, generator=torch.Generator().manual_seed(0))
    assert parameters.dtype == torch.float32
    assert torch.equal(blur.make(parameters, 96, 128, scale=4), field)


def test_variant_fields_have_a_kernel_for_each_lr_pixel_and_invariant_ones_a_single_one(
    name: str, blur: FieldSampler
) -> None:
    draws = [draw(blur, seed=seed) for seed in (0, 3, 5)]
    assert {tuple(drawn.shape) for drawn in draws} == {(1, 441, 1, 1) if name in INVARIANT else (1, 441, 24, 32)}
    if name not in INVARIANT:
        assert max((drawn - drawn[:, :, :1, :1]).abs().sum(1).max() for drawn in draws) > 0.2


def test_the_dataset_trains_and_tests_on_it(options: dict[str, Any], photos: Path) -> None:
    opt = {'scale': 4, 'dataroot_gt': str(photos), 'degradation': {'field': options}}
    sample = SVDegradationDataset({**opt, 'phase': 'train', 'gt_size': 96})[0]
    assert sample['lq'].shape == (3, 24, 24)
    test = SVDegradationDataset({**opt, 'phase': 'test'})
    assert torch.equal(test[1]['lq'], test[1]['lq'])
    remade = blur_downsample(test[1]['gt'][None], test[1]['kernel'][None], 4)[0]
    assert (remade - test[1]['lq']).abs().max() <= 0.5 / 255 + 1e-6  # rounding to 8 bit
