"""Putting image, fields, style and program together in one HTML file."""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from manet_basicsr.explorer.coding import CodedField, code_field
from manet_basicsr.visualization.pictures import as_shown

LIMIT = 5_000_000
"""Bytes that a page stays below."""

_LONGEST = {'png': 1024, 'webp': 1920}  # px of an image in a page
_MOST_PNG_BYTES = 500_000
_TEXT_GROWTH = 4 / 3  # of base64


@dataclass(frozen=True)
class Layer:
    """An image that a page can show, all of them of the same view.

    Attributes:
        name: What to call it, such as ``LR image``.
        pixels: ``(H, W)`` grey, or ``(H, W, 3)`` or ``(H, W, 4)`` RGB, shown on white where it is
            transparent; unsigned integers or floating point in [0, 1].
    """

    name: str
    pixels: np.ndarray


def make_page(
    title: str, layers: Sequence[Layer], fields: Mapping[str, Tensor], scale: int, limit: int = LIMIT
) -> tuple[str, dict[str, CodedField]]:
    """Make a page.

    Args:
        title: What it is about, such as the image file's name.
        layers: Images to look at; the first is the LR image, whose pixels are the places.
        fields: One or two kernel fields ``(1, k*k, h, w)``, or ``(1, k*k, 1, 1)``, by name, such as ``estimated`` and
            ``true``.
        scale: LR pixels are so many HR px.
        limit: Bytes that the page stays below; fields are coded as finely as this allows.

    Returns:
        The HTML text, and the fields as it holds them.

    Raises:
        ValueError: A field is not of the size of the LR image, or the limit is too small.
    """
    height, width = layers[0].pixels.shape[:2]
    for name, field in fields.items():
        if tuple(field.shape[-2:]) not in ((height, width), (1, 1)):
            found = f'{field.shape[-1]}x{field.shape[-2]}'
            raise ValueError(f'the {name} field is for an image of {found} px, the image has {width}x{height}')
    data: dict[str, Any] = {'title': title, 'width': width, 'height': height, 'scale': scale}
    data['images'] = [{'name': layer.name, 'source': _image_source(layer.pixels)} for layer in layers]
    left = limit - len(_fill(data)) - 20_000
    coded = {name: code_field(field, int(left / len(fields) / _TEXT_GROWTH)) for name, field in fields.items()}
    data['fields'] = [_field_data(name, field) for name, field in coded.items()]
    return _fill(data), coded


def _image_source(pixels: np.ndarray) -> str:
    """Encode an image as a data address: PNG if that is small, WebP otherwise; on white where it is transparent."""
    if max(pixels.shape[:2]) <= _LONGEST['png']:
        content = _encode('.png', as_shown(pixels, _LONGEST['png']), [])
        if len(content) <= _MOST_PNG_BYTES:
            return f'data:image/png;base64,{_text(content)}'
    quality = [cv2.IMWRITE_WEBP_QUALITY, 88]
    return f'data:image/webp;base64,{_text(_encode(".webp", as_shown(pixels, _LONGEST["webp"]), quality))}'


def _encode(suffix: str, image: np.ndarray, settings: list[int]) -> bytes:
    ordered = image if image.ndim == 2 else image[..., ::-1]
    done, content = cv2.imencode(suffix, np.ascontiguousarray(ordered), settings)
    if not done:
        raise ValueError(f'an image of shape {image.shape} cannot be encoded as {suffix}')
    return bytes(content.tobytes())


def _field_data(name: str, field: CodedField) -> dict[str, Any]:
    components, rows, columns = field.levels.shape
    return {
        'name': name,
        'kernelSize': math.isqrt(len(field.mean)),
        'rows': rows,
        'columns': columns,
        'stride': field.stride,
        'components': components,
        'step': field.step,
        'mean': _text(field.mean.astype('<f4').tobytes()),
        'basis': _text(field.basis.astype('<f4').tobytes()),
        'levels': _text(field.deflated),
        'error': describe_error(field),
    }


def describe_error(field: CodedField) -> str:
    """Say how exactly a page shows a field."""
    kept = '' if field.stride == 1 else f'one kernel for each {field.stride}x{field.stride} px, '
    return (
        f'{kept}{len(field.basis)} components; taps within {100 * field.tap_error:.2g} % of the peak (rms), '
        f'{100 * field.largest_tap_error:.2g} % at most; blur within {field.spread_error:.2g} px'
    )


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode('ascii')


def _fill(data: Mapping[str, Any]) -> str:
    """Put data, style and program into the page."""
    folder = resources.files('manet_basicsr.explorer')
    files = ('page.html', 'page.css', 'drawing.js', 'page.js')
    page, style, *programs = ((folder / name).read_text(encoding='utf-8') for name in files)
    # Inside a script element only '<' can end it.
    parts = {
        'title': html.escape(str(data['title'])),
        'style': style,
        'data': json.dumps(data, separators=(',', ':')).replace('<', '\\u003c'),
        'program': ''.join(programs),
    }
    return re.sub('@(title|style|data|program)@', lambda place: parts[place[1]], page)
