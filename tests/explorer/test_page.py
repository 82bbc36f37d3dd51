"""The explorer's page as a file: self-contained, small, and safe whatever the image is called."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from manet_basicsr.degradation import protocol_field
from manet_basicsr.explorer import Layer, make_page


def embedded(page: str) -> dict[str, object]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1]))


@pytest.fixture(scope='module')
def photo(photos: Path) -> np.ndarray:
    return np.ascontiguousarray(cv2.imread(str(photos / 'coffee.png'))[:60, :80, ::-1])


@pytest.mark.slow
def test_a_page_of_480_by_320_with_two_fields_and_a_restored_image_is_below_5_mb(
    photos: Path, generator: torch.Generator
) -> None:
    small = cv2.imread(str(photos / 'astronaut.png'))[..., ::-1]
    lr, restored = (cv2.resize(small, size, interpolation=cv2.INTER_CUBIC) for size in ((480, 320), (1920, 1280)))
    smooth = protocol_field(4, 320, 480, 1)
    # An estimate changes from pixel to pixel: mix each kernel with others.
    share = torch.rand(1, 1, 320, 480, generator=generator)
    noisy = share * smooth + (1 - share) * smooth.roll((97, 61), (2, 3))
    layers = [Layer('LR image', lr), Layer('restored', restored)]
    page, coded = make_page('photo', layers, {'estimated': noisy, 'true': smooth}, scale=4)
    assert len(page.encode()) < 5_000_000
    for name, error in (('estimated', 0.01), ('true', 0.01)):
        assert coded[name].stride == 1 and coded[name].tap_error < error


def test_a_page_asks_for_nothing_from_elsewhere(photo: np.ndarray) -> None:
    page, _ = make_page('photo', [Layer('LR image', photo)], {'true': protocol_field(4, 240, 320, 4)}, scale=4)
    assert not re.search(r'(?:https?:)?//[a-z]', re.sub(r'[^"]{2000,}', '', page))
    assert not re.findall(r'(?:src|href)=', page)
    assert "default-src 'none'" in page


def test_a_title_cannot_break_the_page(photo: np.ndarray) -> None:
    title = '</script><script>alert(1)</script>@data@ "& \u2028.jpg'
    page, _ = make_page(title, [Layer('LR image', photo)], {'true': protocol_field(4, 240, 320, 4)}, scale=4)
    assert page.count('<script') == 2 and page.count('</script>') == 2
    assert embedded(page)['title'] == title
    assert '<title>&lt;/script&gt;' in page


def test_fields_of_another_size_are_refused(photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match='the true field is for an image of 20x10 px, the image has 80x60'):
        make_page('photo', [Layer('LR image', photo)], {'true': torch.ones(1, 441, 10, 20)}, scale=4)


@pytest.mark.parametrize('kind', ['grey', 'alpha', 'deep', 'float'])
def test_images_of_every_kind_are_shown(photo: np.ndarray, kind: str) -> None:
    pixels = {
        'grey': photo[..., 0],
        'alpha': np.dstack([photo, photo[..., 0]]),
        'deep': photo.astype(np.uint16) * 257,
        'float': photo.astype(np.float32) / 255,
    }[kind]
    page, _ = make_page('photo', [Layer('LR image', pixels)], {'true': protocol_field(4, 240, 320, 4)}, scale=4)
    assert '"source":"data:image/png;base64,' in page
