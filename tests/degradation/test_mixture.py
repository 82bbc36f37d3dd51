"""Several kinds of field, one of which is drawn for each image; what batches and manifests make of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.data.manifest import DrawnEntry, Manifest, read_manifest, sharpness_of, write_manifest
from manet_basicsr.degradation import MixtureSampler, blur_downsample, build_field_sampler
from manet_basicsr.degradation.pipeline import Degradation

INVARIANT: dict[str, Any] = {'type': 'invariant', 'variance': [0.7, 10]}
COLLAGE: dict[str, Any] = {'type': 'collage', 'variance': [0.7, 10]}
MIXTURE: dict[str, Any] = {'type': 'mixture', 'of': [INVARIANT, COLLAGE]}


def test_a_mixture_draws_its_kinds_in_proportion_to_their_weights() -> None:
    field = build_field_sampler({**MIXTURE, 'weights': [3, 1]})
    generator = torch.Generator().manual_seed(0)
    drawn = [field.parameters(128, 128, scale=4, generator=generator) for _ in range(800)]
    kinds = torch.stack([parameters[0, 0, 0] for parameters in drawn])
    assert all((parameters[..., 0] == kind).all() for parameters, kind in zip(drawn, kinds, strict=True))
    # Three standard deviations of a share of 1/4 of 800.
    assert float(kinds.mean()) == pytest.approx(0.25, abs=3 * math.sqrt(0.25 * 0.75 / 800))
    distinct = torch.tensor([len(torch.unique(one.flatten(0, 1), dim=0)) for one in drawn])
    assert (distinct[kinds == 0] == 1).all()
    assert (distinct[kinds == 1] > 1).float().mean() > 0.9


def test_a_mixture_s_field_is_that_of_the_kind_it_drew() -> None:
    kinds = [
        INVARIANT,
        {'type': 'motion', 'radius': [2, 5], 'variant': True},
        {'type': 'defocus', 'radius': [2, 5], 'period': 96},
        {'type': 'protocol', 'kind': 2},
    ]
    field = build_field_sampler({'type': 'mixture', 'of': kinds})
    assert isinstance(field, MixtureSampler)
    seen = set()
    for seed in range(30):
        parameters = field.parameters(96, 96, scale=4, generator=torch.Generator().manual_seed(seed))
        number = int(parameters[0, 0, 0])
        seen.add(number)
        expected = field.kinds[number].make(parameters[..., 1:], 96, 96, scale=4)
        made = field.make(parameters, 96, 96, scale=4)
        assert made.shape == (1, 441, 24, 24)
        torch.testing.assert_close(made, expected.expand_as(made), atol=1e-7, rtol=1e-5)
    assert seen == {0, 1, 2, 3}


def test_a_kernel_for_the_whole_image_blurs_it_as_one_although_other_kinds_have_many() -> None:
    field = build_field_sampler({'type': 'mixture', 'of': [INVARIANT, COLLAGE], 'weights': [1, 1e-9]})
    made = field.draw(48, 64, scale=4, generator=torch.Generator().manual_seed(0))
    assert made.shape == (1, 441, 12, 16)
    assert made.untyped_storage().nbytes() == 441 * 4
    hr = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(blur_downsample(hr, made, 4), blur_downsample(hr, made.contiguous(), 4))


def test_a_mixture_of_invariant_kinds_keeps_one_kernel_an_image() -> None:
    field = build_field_sampler({'type': 'mixture', 'of': [INVARIANT, {'type': 'motion', 'radius': [2, 5]}]})
    shapes = {tuple(field.draw(96, 96, scale=4).shape) for _ in range(8)}
    assert shapes == {(1, 441, 1, 1)}


@pytest.mark.parametrize('options', [COLLAGE, MIXTURE], ids=['collage', 'mixture'])
def test_a_batch_degraded_at_once_is_its_images_degraded_one_by_one(options: dict[str, Any]) -> None:
    degradation = Degradation.from_options({'field': options})
    hr = torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    drawn = [degradation.draw_parameters(64, 96, 4, torch.Generator().manual_seed(seed)) for seed in range(4)]
    generator = torch.Generator().manual_seed(0)
    lq, field = degradation.degrade_batch(hr, drawn, torch.zeros(4, 3), 4, generator)
    assert field.shape == (4, 441, 16, 24)
    for index, parameters in enumerate(drawn):
        alone = degradation.make_field(parameters, 64, 96, 4)
        torch.testing.assert_close(field[index : index + 1], alone, atol=1e-7, rtol=1e-5)
        single = degradation.degrade(hr[index], alone, 4, generator)
        # Another order of summation may move a value over a half level.
        assert ((lq[index] - single).abs() * 255 > 0.5).float().mean() < 1e-3


@pytest.mark.parametrize('options', [COLLAGE, MIXTURE], ids=['collage', 'mixture'])
def test_a_validation_s_draws_depend_on_the_index_alone(options: dict[str, Any], photos: Path) -> None:
    section = {'phase': 'val', 'scale': 4, 'dataroot_gt': str(photos), 'degradation': {'field': options}}
    first, second = SVDegradationDataset(section), SVDegradationDataset(json.loads(json.dumps(section)))
    assert torch.equal(first[1]['kernel'], second[1]['kernel'])
    assert first[1]['kernel'].shape == (441, 50, 50)
    assert not torch.equal(first[0]['kernel'], first[1]['kernel'])


@pytest.mark.parametrize('options', [COLLAGE, MIXTURE], ids=['collage', 'mixture'])
def test_a_manifest_draws_the_field_of_a_test_set_again(options: dict[str, Any], tmp_path: Path) -> None:
    field = build_field_sampler(options).draw(96, 128, scale=4, generator=torch.Generator().manual_seed(7))
    entry = DrawnEntry('sea', 7, sharpness_of(field))
    write_manifest(Manifest(4, 21, 'centered', {'sea': entry}, options), tmp_path / 'kernels.json')
    assert torch.equal(read_manifest(tmp_path / 'kernels.json').field('sea', 96, 128), field)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'type': 'mixture', 'of': []}, r'degradation.field.of must be a list of fields like .*found \[\]'),
        ({'type': 'mixture', 'of': [{'type': 'collag'}]}, r"degradation.field.of\[0\] 'collag' is not one of"),
        (
            {'type': 'mixture', 'of': [INVARIANT, {**COLLAGE, 'variance': [3, 1]}]},
            r'degradation.field.of\[1\].variance must be',
        ),
        ({**MIXTURE, 'weights': [1]}, r'degradation.field.weights must be a list of 2 finite numbers, found \[1\]'),
        ({**MIXTURE, 'weights': [1, 0]}, r'degradation.field.weights must be positive, found \[1, 0\]'),
    ],
)
def test_wrong_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_field_sampler(options)


def test_a_kind_that_does_not_fit_the_taps_is_named() -> None:
    field = build_field_sampler({'type': 'mixture', 'of': [INVARIANT, {'type': 'defocus', 'radius': [2, 15]}]})
    with pytest.raises(ValueError, match=r'of\[1\].radius must be at most'):
        field.check(21, 4)


def test_kernels_are_those_of_their_kinds() -> None:
    mixture: Any = build_field_sampler(
        {'type': 'mixture', 'of': [INVARIANT, {'type': 'plateau', 'variance': [0.7, 10]}]}
    )
    shapes = torch.tensor([[4.0, 2.0, 0.5, 1.0], [5.0, 1.0, 0.1, 1.5], [2.0, 2.0, 0.0, 1.2]])
    made = mixture.kernels(torch.cat([torch.tensor([[1.0], [0.0], [1.0]]), shapes], 1), 21, 4, 'centered')
    for row, number in enumerate((1, 0, 1)):
        expected = mixture.kinds[number].kernels(shapes[row : row + 1], 21, 4, 'centered')
        torch.testing.assert_close(made[row], expected[0])
    assert not torch.allclose(made[0], mixture.kinds[0].kernels(shapes[:1], 21, 4, 'centered')[0])
