"""Entries of the catalogue OpenModelDB: what it demands of one, and what is refused."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from pathlib import Path

import jsonschema
import pytest
import torch

from manet_basicsr.commands.describe_weights import main
from tests.small_networks import blind_network, blind_weights

# What the catalogue demands, written down after its src/lib/model-props.ts, schema.ts and schema-util.ts.
_COUNT = {'type': 'integer', 'minimum': 1, 'maximum': 4}
_USER = {'type': 'string', 'pattern': '^[a-z0-9]+(-[a-z0-9]+)*$'}
_TEXT = {'type': 'string', 'pattern': r'^\S(.|\n)*\S$|^\S$'}
RESOURCE = {
    'type': 'object',
    'properties': {
        'platform': {'enum': ['pytorch', 'onnx', 'ncnn']},
        'type': {'enum': ['pth', 'onnx']},
        'size': {'type': 'integer', 'minimum': 1},
        'sha256': {'type': 'string', 'pattern': '^[0-9a-f]{64}$'},
        'urls': {'type': 'array', 'minItems': 1, 'items': {'type': 'string'}},
    },
    'required': ['platform', 'type', 'size', 'sha256', 'urls'],
    'additionalProperties': False,
}
PROPERTIES = {
    'name': {'type': 'string'},
    'author': {'anyOf': [_USER, {'type': 'array', 'minItems': 1, 'items': _USER}]},
    'license': {'type': ['string', 'null'], 'pattern': r'^[A-Za-z0-9.\-]+( OR [A-Za-z0-9.\-]+)*$'},
    'tags': {
        'type': 'array',
        'minItems': 1,
        'items': {'type': 'string', 'pattern': r'^([a-z0-9]+:)?[a-z0-9]+(-[a-z0-9]+|[+])*$'},
    },
    'description': _TEXT,
    'date': {'type': 'string', 'pattern': r'^\d{4}-\d{2}-\d{2}$'},
    'architecture': {'type': 'string', 'pattern': r'^[a-z0-9]+(-[a-z0-9]+|[+])*$'},
    'size': {'type': ['array', 'null'], 'minItems': 1, 'items': {'type': 'string', 'minLength': 1}},
    'scale': {'type': 'integer', 'minimum': 1, 'maximum': 16},
    'inputChannels': _COUNT,
    'outputChannels': _COUNT,
    'resources': {'type': 'array', 'minItems': 1, 'items': RESOURCE},
    'images': {'type': 'array'},
}
SCHEMA = {'type': 'object', 'properties': PROPERTIES, 'required': sorted(PROPERTIES), 'additionalProperties': False}
IDENTIFIER = re.compile(r'\d+x-[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*')
REQUIRED = {
    '--name': 'MANet Photo',
    '--author': 'your-name',
    '--license': 'CC0-1.0',
    '--url': 'https://example.org/blind.pth',
    '--tag': 'photo',
    '--description': ' For *blurred* photographs.\n',
}


def arguments(weights: object, folder: Path, **changed: str) -> list[str]:
    said = {**REQUIRED, **{f'--{name}': value for name, value in changed.items()}}
    return [str(weights), str(folder), *(word for pair in said.items() for word in pair)]


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_an_entry_is_what_the_catalogue_demands_and_true_of_the_file(tmp_path: Path, scale: int) -> None:
    weights = blind_weights(tmp_path, scale)
    assert main([*arguments(weights, tmp_path), '--tag', 'restoration', '--date', '2026-02-03']) == 0
    (file,) = tmp_path.glob('*.json')
    assert file.stem == f'{scale}x-MANet-Photo' and IDENTIFIER.fullmatch(file.stem)
    entry = json.loads(file.read_text())
    jsonschema.validate(entry, SCHEMA)
    generator = blind_network(scale).generator
    assert (entry['scale'], entry['inputChannels'], entry['outputChannels']) == (scale, 3, 3)
    assert entry['size'] == [f'{generator.conv_first.out_channels}nf', f'{len(generator.RRDB_trunk)}nb']
    assert entry['tags'] == ['photo', 'restoration'] and entry['date'] == '2026-02-03'
    (resource,) = entry['resources']
    assert resource['sha256'] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert resource['size'] == weights.stat().st_size and resource['urls'] == [REQUIRED['--url']]


@pytest.mark.parametrize('address', ['blind_x4', 'weights://blind_x4'])
def test_weights_that_ship_are_described_by_their_address(address: str, tmp_path: Path) -> None:
    assert main(arguments(address, tmp_path)) == 0
    (file,) = tmp_path.glob('*.json')
    assert json.loads(file.read_text())['size'] == ['64nf', '4nb']


def test_several_authors_and_licences_and_today(tmp_path: Path) -> None:
    said = arguments(blind_weights(tmp_path, 2), tmp_path, license='MIT OR Apache-2.0')
    assert main([*said, '--author', 'second', '--url', 'https://example.org/mirror.pth']) == 0
    entry = json.loads((tmp_path / '2x-MANet-Photo.json').read_text())
    jsonschema.validate(entry, SCHEMA)
    assert entry['author'] == ['your-name', 'second'] and len(entry['resources'][0]['urls']) == 2
    assert datetime.date.fromisoformat(entry['date']) <= datetime.date.today()


@pytest.mark.parametrize(
    ('name', 'stem'),
    [('2x MANet_blind', '2x-MANet-blind'), ('2x_MANet', '2x-MANet'), ('MANet (photo) x2', '2x-MANet-photo')],
)
def test_the_scale_stands_once_in_the_name_of_the_file(tmp_path: Path, name: str, stem: str) -> None:
    assert main(arguments(blind_weights(tmp_path, 2), tmp_path, name=name)) == 0
    assert (tmp_path / f'{stem}.json').is_file()


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'author': 'Your Name'}, "--author: found 'Your Name', expected small letters and digits"),
        ({'license': 'my own'}, "--license: found 'my own', expected an identifier of SPDX"),
        ({'url': 'blind.pth'}, '--url: found blind.pth, expected where the file is, beginning with https://'),
        ({'tag': 'Photo!'}, "--tag: found 'Photo!', expected small letters"),
        ({'description': ' '}, '--description: found none'),
        ({'name': '2x'}, "--name: found '2x', expected letters or digits beside the scale"),
    ],
)
def test_what_the_catalogue_would_refuse_is_refused(
    tmp_path: Path, changed: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(blind_weights(tmp_path, 2), tmp_path, **changed)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: {words}')
    assert not list(tmp_path.glob('*.json'))


def test_weights_that_make_no_image_and_files_that_are_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(blind_network(2).kernel_estimation.state_dict(), tmp_path / 'manet.pth')
    (tmp_path / 'blind.safetensors').touch()
    for weights, words in (
        (tmp_path / 'manet.pth', 'found a MANet, expected a blind network (stage 3)'),
        ('weights://manet_x4', 'found a MANet, expected a blind network (stage 3)'),  # within the file of blind_x4
        (tmp_path / 'blind.safetensors', 'found a file .safetensors, expected .pth'),
        (tmp_path / 'absent.pth', 'no such file of weights'),
    ):
        assert main(arguments(weights, tmp_path)) == 2
        assert words in capsys.readouterr().err


def test_an_entry_that_is_there_is_left_alone_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = arguments(blind_weights(tmp_path, 2), tmp_path)
    (tmp_path / '2x-MANet-Photo.json').write_text('mine')
    assert main(said) == 2
    assert '--force replaces it' in capsys.readouterr().err
    assert main([*said, '--force']) == 0
    jsonschema.validate(json.loads((tmp_path / '2x-MANet-Photo.json').read_text()), SCHEMA)
