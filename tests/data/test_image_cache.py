"""Decoded images that are kept: the same samples, from fewer decodings, within the memory that was given."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from manet_basicsr.data import SVDegradationDataset, images
from manet_basicsr.data.image_cache import CachedImages
from manet_basicsr.data.images import open_images
from manet_basicsr.data.sampling import SampleIndex

SIDE = 200  # of the photographs
OPTIONS: dict[str, Any] = {
    'phase': 'train',
    'scale': 2,
    'gt_size': 64,
    'use_hflip': True,
    'use_rot': True,
    'degradation': {'field': {'type': 'invariant', 'variance': [0.7, 4]}},
}


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that this process decodes, as they are decoded."""
    decoded = []
    original = images.decode_image

    def decode(content: bytes, path: str, *rest: Any) -> np.ndarray:
        decoded.append(path)
        return original(content, path, *rest)

    monkeypatch.setattr(images, 'decode_image', decode)
    return decoded


@pytest.mark.parametrize('kind', ['photos', 'photos_lmdb'])
def test_images_are_decoded_once(kind: str, request: pytest.FixtureRequest, decodings: list[str]) -> None:
    plain = open_images(request.getfixturevalue(kind))
    cached = CachedImages(plain, 4 * 3 * SIDE**2)
    expected = {name: plain.read(name) for name in plain.names}
    decodings.clear()
    for _ in range(3):
        for name in cached.names:
            np.testing.assert_array_equal(cached.read(name), expected[name])
            part: Callable[[np.ndarray], np.ndarray] = lambda image: image[10:20, 30:35]  # noqa: E731
            np.testing.assert_array_equal(cached.read(name, part), expected[name][10:20, 30:35])
    assert len(decodings) == 4
    assert (cached.used_bytes, cached.root) == (4 * 3 * SIDE**2, plain.root)


def test_no_more_is_kept_than_there_is_memory_for(photos: Path, decodings: list[str]) -> None:
    cached = CachedImages(open_images(photos), 2 * 3 * SIDE**2 + 100)
    for _ in range(3):
        for name in cached.names:
            assert cached.read(name).shape == (SIDE, SIDE, 3)
    assert len(decodings) == 2 + 3 * 2
    assert cached.used_bytes == 2 * 3 * SIDE**2


def test_a_crop_that_is_changed_leaves_what_is_kept(photos: Path) -> None:
    cached = CachedImages(open_images(photos), 2**20)
    name = cached.names[0]
    first = cached.read(name).copy()
    for _ in range(2):
        cached.read(name, lambda image: image[:8])[:] = 0
        np.testing.assert_array_equal(cached.read(name), first)


def test_depths_and_odd_sizes_lie_side_by_side(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    written = {}
    for name, dtype in (('a', np.uint8), ('b', np.uint16), ('c', np.uint8), ('d', np.uint16)):
        written[name] = generator.integers(0, np.iinfo(dtype).max, (5, 7, 3), dtype, endpoint=True)
        cv2.imwrite(str(tmp_path / f'{name}.png'), written[name][..., ::-1])
    cached = CachedImages(open_images(tmp_path), 2**12)
    for _ in range(2):
        for name, pixels in written.items():
            np.testing.assert_array_equal(cached.read(name), pixels)
            assert cached.read(name).dtype == pixels.dtype
    assert cached.used_bytes == 2 * 106 + 2 * 210


@pytest.mark.parametrize('workers', [0, 3])
def test_samples_are_the_same_and_workers_fill_one_memory(workers: int, photos_lmdb: Path) -> None:
    options = {**OPTIONS, 'dataroot_gt': str(photos_lmdb)}
    plain, cached = SVDegradationDataset(options), SVDegradationDataset({**options, 'cache': '2M'})
    order = [SampleIndex(index % 4, index) for index in range(24)]
    for _ in range(2):
        for theirs, index in zip(DataLoader(cached, 1, sampler=order, num_workers=workers), order, strict=True):
            torch.testing.assert_close(theirs['lq'][0], plain[index]['lq'], rtol=0, atol=0)
    assert isinstance(cached.images, CachedImages)
    assert cached.images.used_bytes == 4 * 3 * SIDE**2  # seen here, whoever filled it


def test_a_lock_that_nobody_gives_back_costs_only_the_cache(photos: Path, decodings: list[str]) -> None:
    cached = CachedImages(open_images(photos), 2**20)
    cached._lock.acquire()  # as a killed worker leaves it
    for _ in range(2):
        cached.read(cached.names[0])
    assert len(decodings) == 2


def test_what_is_sent_to_a_spawned_worker_reads_anew(photos: Path) -> None:
    cached = CachedImages(open_images(photos), 2**20)
    expected = cached.read(cached.names[1])
    copy = pickle.loads(pickle.dumps(cached))
    np.testing.assert_array_equal(copy.read(copy.names[1]), expected)
    assert (copy.names, copy.describe('coffee')) == (cached.names, cached.describe('coffee'))


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        ({'cache': 'much'}, "cache: found 'much', expected a size such as 800M or 4G"),
        ({'cache': True}, "cache: found 'True', expected"),
        ({'cache': '1G', 'phase': 'val'}, 'cache: found 1G, expected none: images are read once'),
    ],
)
def test_wrong_options_are_told(change: dict[str, Any], problem: str, photos: Path) -> None:
    problems = list(SVDegradationDataset.problems({**OPTIONS, 'dataroot_gt': str(photos), **change}))
    assert len(problems) == 1 and problems[0].startswith(problem)


@pytest.mark.parametrize('size', [2**60, 2**70])
def test_more_memory_than_there_can_be_is_refused_by_its_key(size: int, photos: Path) -> None:
    with pytest.raises(ValueError, match=r'cache: found [0-9,]+ GiB, which this machine does not grant; ask for less'):
        CachedImages(open_images(photos), size)
