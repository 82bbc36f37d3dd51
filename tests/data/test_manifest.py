from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.data.manifest import (
    DRAWN_FORMAT,
    FORMAT,
    DrawnEntry,
    Manifest,
    ManifestEntry,
    read_manifest,
    sharpness_of,
    write_manifest,
)
from manet_basicsr.degradation import build_field_sampler, protocol_field, protocol_parameters


@pytest.fixture
def manifest(generator: torch.Generator) -> Manifest:
    """A manifest of an invariant and a random variant image, with a name that is not ASCII."""
    images = {
        'baby_k0': ManifestEntry('baby', torch.tensor([[[6.0, 1.0, math.pi / 4]]])),
        'größe "1"': ManifestEntry('größe', protocol_parameters(5, 100, 130, 4, generator)),
    }
    return Manifest(scale=4, kernel_size=21, alignment='published', images=images)


def test_a_manifest_is_read_back_bit_by_bit(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path / 'kernels.json')
    found = read_manifest(tmp_path / 'kernels.json')
    assert dataclasses.replace(found, images={}) == dataclasses.replace(manifest, images={})
    assert list(found.images) == list(manifest.images)
    for name, entry in manifest.images.items():
        assert found.images[name].gt == entry.gt
        read = found.images[name]
        assert isinstance(entry, ManifestEntry) and isinstance(read, ManifestEntry)
        assert torch.equal(read.kernels.float(), entry.kernels)


def test_a_manifest_is_json_with_a_line_for_each_image(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path / 'kernels.json')
    text = (tmp_path / 'kernels.json').read_text(encoding='utf-8')
    content = json.loads(text)
    assert content['format'] == 'manet_basicsr kernels 1'  # what files on disk have
    assert content['images']['baby_k0']['gt'] == 'baby'
    assert len(text.splitlines()) == 2 + len(manifest.images)


def test_an_empty_manifest_is_json_too(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(dataclasses.replace(manifest, images={}), tmp_path / 'kernels.json')
    assert read_manifest(tmp_path / 'kernels.json').images == {}


def test_the_field_of_a_read_manifest_is_the_field_that_was_drawn(tmp_path: Path) -> None:
    drawn = protocol_field(5, 100, 130, 4, generator=torch.Generator().manual_seed(3))
    parameters = protocol_parameters(5, 100, 130, 4, torch.Generator().manual_seed(3))
    write_manifest(Manifest(4, 21, 'centered', {'a': ManifestEntry('a', parameters)}), tmp_path / 'kernels.json')
    assert torch.equal(read_manifest(tmp_path / 'kernels.json').field('a', 100, 130), drawn)


def test_fields_too_large_to_be_listed_are_drawn_again(tmp_path: Path) -> None:
    blur = {'type': 'motion', 'radius': [1.5, 6], 'variant': True}
    drawn = build_field_sampler(blur).draw(100, 130, scale=4, generator=torch.Generator().manual_seed(2**62 + 1))
    written = Manifest(4, 21, 'centered', {'a': DrawnEntry('b', 2**62 + 1, sharpness_of(drawn))}, blur)
    write_manifest(written, tmp_path / 'kernels.json')
    found = read_manifest(tmp_path / 'kernels.json')
    assert found == written
    assert torch.equal(found.field('a', 100, 130), drawn)
    assert (tmp_path / 'kernels.json').stat().st_size < 300
    other = dataclasses.replace(found, images={'a': DrawnEntry('b', 7, sharpness_of(drawn))})
    with pytest.raises(ValueError, match='found kernels of sharpness'):
        other.field('a', 100, 130)


def test_sharpness_is_the_mean_over_the_kernels_of_the_sum_of_their_squared_taps() -> None:
    field = torch.zeros(1, 9, 2, 2)
    field[0, :4, 0] = 0.25
    field[0, 4, 1] = 1
    assert sharpness_of(field) == pytest.approx((0.25 + 1) / 2)


def test_a_manifest_may_begin_with_a_byte_order_mark(manifest: Manifest, tmp_path: Path) -> None:
    write_manifest(manifest, tmp_path / 'kernels.json')
    text = (tmp_path / 'kernels.json').read_text(encoding='utf-8')
    (tmp_path / 'kernels.json').write_text(text, encoding='utf-8-sig')
    assert read_manifest(tmp_path / 'kernels.json').images.keys() == manifest.images.keys()


def test_a_manifest_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'none\.json: no such manifest'):
        read_manifest(tmp_path / 'none.json')


@pytest.mark.parametrize('text', ['', 'no json', '[]', '{}', '{"format": "other"}', '\udcff', '[' * 100_000])
def test_what_is_no_manifest_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'kernels.json'
    path.write_bytes(text.encode('utf-8', 'surrogateescape'))
    with pytest.raises(ValueError, match=r'kernels\.json is not a manifest'):
        read_manifest(path)


ENTRY = {'gt': 'baby', 'kernels': [[[1.0, 1.0, 0.0]]]}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'scale': 'four'}, 'not a whole manifest'),
        ({'scale': None}, 'not a whole manifest'),
        ({'scale': math.inf}, 'not a whole manifest'),
        ({'scale': 0}, 'scale must be at least 1, found 0'),
        ({'kernel_size': 20}, 'kernel_size must be odd'),
        ({'alignment': 'centred'}, "did you mean 'centered'"),
        ({'images': []}, 'not a whole manifest'),
        ({'images': {'a': {'gt': 'a'}}}, 'not a whole manifest'),
        ({'images': {'a': {**ENTRY, 'kernels': [[[1.0, 1.0]]]}}}, r"'a' has kernels of shape \(1, 1, 2\)"),
        ({'images': {'a': {**ENTRY, 'kernels': [1.0, 1.0, 0.0]}}}, r"'a' has kernels of shape \(3,\)"),
        ({'images': {'a': {**ENTRY, 'kernels': []}}}, r"'a' has kernels of shape \(0,\)"),
        ({'images': {'a': {**ENTRY, 'kernels': [[[1.0, 1.0, 0.0]], []]}}}, 'not a whole manifest'),
        ({'images': {'a': {**ENTRY, 'kernels': [[[1.0, -1.0, 0.0]]]}}}, "'a' has variances that are not positive"),
        ({'images': {'a': {**ENTRY, 'kernels': [[[1.0, 1.0, math.nan]]]}}}, "'a' has variances .* or an angle"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_said_with_its_path(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    content = {'format': FORMAT, 'scale': 4, 'kernel_size': 21, 'alignment': 'centered', 'images': {'baby_k0': ENTRY}}
    path = tmp_path / 'kernels.json'
    path.write_text(json.dumps({**content, **changes}), encoding='utf-8')
    with pytest.raises(ValueError, match=rf'kernels\.json.*{message}'):
        read_manifest(path)


DRAWN_ENTRY = {'gt': 'baby', 'seed': 1, 'sharpness': 0.02}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'field': None}, 'not a whole manifest'),
        ({'field': {'type': 'discus'}}, "degradation.field 'discus' is not one of"),
        ({'field': {'type': 'defocus', 'radius': [2, 90]}}, 'radius must be at most 8.50 HR px'),
        ({'field': {'type': 'bank', 'folder': 'bank'}}, 'folder: .*bank is not a folder of kernels'),
        ({'field': {'type': 'bank', 'folder': 3}}, 'folder must be a path, found 3'),
        ({'images': {'a': {'gt': 'a', 'seed': 1}}}, 'not a whole manifest'),
        ({'images': {'a': ENTRY}}, 'not a whole manifest'),
        ({'images': {'a': {**DRAWN_ENTRY, 'seed': -1}}}, "'a' has the seed -1, expected"),
        ({'images': {'a': {**DRAWN_ENTRY, 'seed': 'x'}}}, 'not a whole manifest'),
    ],
)
def test_what_is_wrong_in_a_manifest_of_draws_is_said_with_its_path(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    content = {'format': DRAWN_FORMAT, 'scale': 4, 'kernel_size': 21, 'alignment': 'centered'}
    content |= {'field': {'type': 'defocus', 'radius': [2, 6]}, 'images': {'baby': DRAWN_ENTRY}}
    path = tmp_path / 'kernels.json'
    path.write_text(json.dumps({**content, **changes}), encoding='utf-8')
    with pytest.raises(ValueError, match=rf'kernels\.json.*{message}'):
        read_manifest(path)


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='is not a manifest of kernels: Is a directory'):
        read_manifest(tmp_path)
