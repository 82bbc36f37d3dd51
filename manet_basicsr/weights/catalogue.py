"""The entry of a file of weights in OpenModelDB, the catalogue of super-resolution networks (openmodeldb.info)."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manet_basicsr.archs import BlindSRNet
from manet_basicsr.archs.loading import load_network
from manet_basicsr.weights.shipped import resolve_weights

ARCHITECTURE = 'manet'
"""The word for blind networks of MANet; entries name their architecture by a word of the catalogue."""

_IDENTIFIER = re.compile(r'[a-z0-9]+(?:-[a-z0-9]+)*')
_TAG = re.compile(r'(?:[a-z0-9]+:)?[a-z0-9]+(?:-[a-z0-9]+|[+])*')
_LICENCE = re.compile(r'[A-Za-z0-9.\-]+')  # an identifier of SPDX
_LARGEST_SCALE = 16


def catalogue_entry(
    weights: str | Path,
    *,
    name: str,
    authors: Sequence[str],
    licence: str,
    urls: Sequence[str],
    tags: Sequence[str],
    description: str,
    date: datetime.date | None = None,
) -> tuple[str, dict[str, Any]]:
    """Describe a file of weights as OpenModelDB wants it.

    What the file tells is read off it: scale, channels, sizes, bytes and checksum. Pictures are left to its pages.

    Args:
        weights: A ``.pth`` file of a blind network (stage 3), as :func:`resolve_weights` takes it.
        name: What people call it.
        authors: Names of users there, such as ``your-name``; ``data/users.json`` of the catalogue has them.
        licence: Of the weights, by its SPDX identifier, such as ``CC0-1.0``; several are joined by ``OR``.
        urls: Where the file can be fetched, the same everywhere.
        tags: Words of the catalogue's ``data/tags.json``, such as ``photo``; at least one.
        description: What it is good for, in Markdown.
        date: When it was published; None for today.

    Returns:
        The identifier, which is the name of the entry's file without ``.json``; and the entry.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another kind or network, or something that is said has not the form that is wanted.
    """
    file = resolve_weights(weights)
    network = _network_of(weights, file)
    generator: Any = network.generator
    identifier = _identifier(name, network.scale)
    _check(authors, licence, urls, tags, description)
    return identifier, {
        'name': name,
        'author': list(authors) if len(authors) > 1 else authors[0],
        'license': licence,
        'tags': list(tags),
        'description': description.strip(),
        'date': (date or datetime.date.today()).isoformat(),
        'architecture': ARCHITECTURE,
        'size': [f'{generator.conv_first.out_channels}nf', f'{len(generator.RRDB_trunk)}nb'],
        'scale': network.scale,
        'inputChannels': generator.conv_first.in_channels,
        'outputChannels': generator.upsampler[0].out_channels // network.scale**2,
        'resources': [_resource(file, urls)],
        'images': [],
    }


def _network_of(weights: str | os.PathLike[str], file: Path) -> BlindSRNet:
    suffix = file.suffix
    if suffix.lower() != '.pth':
        raise ValueError(f'{weights}: found a file {suffix or "without a suffix"}, expected .pth')
    network = load_network(weights)
    if not isinstance(network, BlindSRNet):
        raise ValueError(f'{weights}: found a {type(network).__name__}, expected a blind network (stage 3)')
    return network


def _resource(path: Path, urls: Sequence[str]) -> dict[str, Any]:
    content = path.read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    return {'platform': 'pytorch', 'type': 'pth', 'size': len(content), 'sha256': checksum, 'urls': list(urls)}


def _identifier(name: str, scale: int) -> str:
    """Make the identifier that the catalogue makes of a name; the scale stands in front, and nowhere else."""
    words = re.sub('[^A-Za-z0-9]+', '-', name).strip('-')
    words = re.sub(rf'^(?:{scale}x|x{scale})-?|-(?:{scale}x|x{scale})$', '', words, flags=re.IGNORECASE)
    if not words:
        raise ValueError(f'name: found {name!r}, expected letters or digits beside the scale')
    if scale > _LARGEST_SCALE:
        raise ValueError(f'found scale {scale}, expected at most {_LARGEST_SCALE}')
    return f'{scale}x-{words}'


def _check(authors: Sequence[str], licence: str, urls: Sequence[str], tags: Sequence[str], description: str) -> None:
    for what, found, form in (('author', authors, _IDENTIFIER), ('tag', tags, _TAG)):
        if not found:
            raise ValueError(f'{what}: found none, expected at least one')
        for word in found:
            if not form.fullmatch(word):
                raise ValueError(f'{what}: found {word!r}, expected small letters and digits with dashes between')
    for part in re.split(r'\s+OR\s+', licence):
        if not _LICENCE.fullmatch(part):
            raise ValueError(f'licence: found {part!r}, expected an identifier of SPDX, such as CC0-1.0')
    if not urls or not all(re.match(r'https?://[^\s/]+\S*$', url) for url in urls):
        raise ValueError(f'url: found {", ".join(urls) or "none"}, expected where the file is, beginning with https://')
    if not description.strip():
        raise ValueError('description: found none, expected what the weights are good for')
