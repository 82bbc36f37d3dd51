"""The test sets by name: which ``degradation.field`` each stands for, wherever sets are scored or written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from manet_basicsr.degradation.kernels import training_variance_range
from manet_basicsr.utils.messages import unknown_name

#: The names of the protocol's sets, and the ``kind`` of their fields in an option file.
KINDS = {'invariant': 0, **{f'type{kind}': kind for kind in range(1, 7)}}
#: Blur that is not Gaussian, whose variances span the same range.
BEYOND_GAUSSIANS = ('motion', 'motion_variant', 'object_motion', 'object_motion_variant', 'defocus', 'defocus_variant')
SETS = (*KINDS, *BEYOND_GAUSSIANS)
PAPER_SETS = tuple(KINDS)[:6]


def field_of(blur: str, scale: int) -> dict[str, Any]:
    """Give the ``degradation.field`` that a set's name stands for.

    Args:
        blur: One of :data:`SETS`.
        scale: Downsampling factor, which the ranges of motion and defocus follow.

    Raises:
        ValueError: The name is unknown.
    """
    if blur in KINDS:
        return {'type': 'protocol', 'kind': KINDS[blur]}
    if blur not in SETS:
        raise ValueError(unknown_name('sets', blur, SETS))
    low, high = training_variance_range(scale)
    if blur.startswith('defocus'):
        # A disk of radius r has the variance r^2 / 4 along each axis.
        radius = [max(1.0, round(2 * low**0.5, 2)), round(2 * high**0.5, 2)]
        return {'type': 'defocus', 'radius': radius, **({'period': 96} if blur.endswith('_variant') else {})}
    # A straight path of half length r has the variance r^2 / 3 along it; at x4 1.5 to 6.
    return {
        'type': 'motion',
        'radius': [round(0.75 * scale**0.5, 2), round(3 * scale**0.5, 2)],
        'trajectory': 'object' if blur.startswith('object') else 'camera',
        'variant': blur.endswith('_variant'),
        'variance': round(low, 3),
    }


def fields_of(
    sets: Sequence[str], scale: int, more_fields: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, dict[str, Any]]:
    """Give the ``degradation.field`` of each set by its name, those of ``more_fields`` last.

    Args:
        sets: Some of :data:`SETS`.
        scale: Downsampling factor.
        more_fields: Further kinds of blur by name, as ``degradation.field`` of an option file has them.

    Raises:
        ValueError: A name is unknown, or there are no sets.
    """
    if not sets and not more_fields:
        raise ValueError(f'sets: found none, expected some of {", ".join(SETS)}, or a field of your own')
    return {blur: field_of(blur, scale) for blur in sets} | {k: dict(v) for k, v in (more_fields or {}).items()}


_CORRUPTION = re.compile(r'(?P<kind>noise|jpeg)(?P<low>\d+(?:\.\d+)?)(?:-(?P<high>\d+(?:\.\d+)?))?')


def parse_corruption(words: str) -> tuple[list[float], list[int] | None]:
    """Return the ranges of noise and of JPEG quality that a name stands for, as a ``degradation`` section has them.

    Args:
        words: ``clean``, or ``noise`` and its standard deviation (0..255 scale), or ``jpeg`` and its quality, or both
            joined by ``+``; each a number or a range such as ``noise0-15``.

    Returns:
        Smallest and largest standard deviation, and quality, or None for no JPEG.

    Raises:
        ValueError: It is no such name.
    """
    noise, jpeg = [0.0, 0.0], None
    kinds: set[str] = set()
    for word in [] if words == 'clean' else words.split('+'):
        match = _CORRUPTION.fullmatch(word)
        if match is None or (match['kind'] == 'jpeg' and '.' in word) or match['kind'] in kinds:
            raise ValueError(
                f"corruption: found '{words}', expected clean, noise15, jpeg70, noise15+jpeg70 or ranges (noise0-15)"
            )
        kinds.add(match['kind'])
        low, high = match['low'], match['high'] or match['low']
        if match['kind'] == 'noise':
            noise = [float(low), float(high)]
        else:
            jpeg = [int(low), int(high)]
    return noise, jpeg
