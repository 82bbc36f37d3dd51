"""pyiqa's metrics in a validation."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils.registry import METRIC_REGISTRY

from manet_basicsr.metrics import pyiqa_metric
from manet_basicsr.metrics.pyiqa_metric import pyiqa_problems
from manet_basicsr.models.scoring import score_image

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 40, 48, 3), dtype=np.uint8)
KNOWN = {'img': IMAGES[0], 'img2': IMAGES[1], 'scale': 4}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[torch.Tensor, ...]]]:
    """A package with pyiqa's interface and two metrics; what they are called with."""
    called: list[tuple[torch.Tensor, ...]] = []

    def create_metric(name: str, device: torch.device) -> Any:
        def metric(*images: torch.Tensor) -> torch.Tensor:
            called.append(images)
            return torch.tensor([[0.25 if name == 'lpips' else 3.5]])

        return metric

    package = ModuleType('pyiqa')
    package.list_models = lambda kind: {'FR': ['dists', 'lpips'], 'NR': ['niqe']}[kind]  # type: ignore[attr-defined]
    package.create_metric = create_metric  # type: ignore[attr-defined]
    package.__spec__ = importlib.util.spec_from_loader('pyiqa', None)
    monkeypatch.setitem(sys.modules, 'pyiqa', package)
    pyiqa_metric._metric.cache_clear()
    yield called
    pyiqa_metric._metric.cache_clear()


def test_metrics_get_rgb_in_the_unit_range_without_the_border(stand_in: list[tuple[torch.Tensor, ...]]) -> None:
    options = {'type': 'calculate_pyiqa', 'metric': 'lpips', 'crop_border': 4, 'better': 'lower'}
    sections = {'lpips': options, 'niqe': {'type': 'calculate_pyiqa_nr', 'metric': 'niqe'}}
    assert score_image(dict(KNOWN), sections) == {'lpips': 0.25, 'niqe': 3.5}
    (image, true), (alone,) = stand_in
    assert image.shape == (1, 3, 32, 40) and alone.shape == (1, 3, 40, 48)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(true[0, 0].numpy(), IMAGES[1][4:-4, 4:-4, 2] / 255, atol=1e-6)


def test_without_a_true_image_only_those_that_need_none_are_scored(stand_in: list[Any]) -> None:
    sections = {
        name: {'type': kind, 'metric': name}
        for name, kind in (('lpips', 'calculate_pyiqa'), ('niqe', 'calculate_pyiqa_nr'))
    }
    assert score_image({'img': IMAGES[0]}, sections) == {'niqe': 3.5}


def test_a_metric_is_given_what_it_takes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def brightness(img: np.ndarray, gain: float = 1.0) -> float:
        return float(img.mean()) * gain

    monkeypatch.setitem(METRIC_REGISTRY._obj_map, 'brightness', brightness)
    known = {'img': np.full((4, 4, 3), 2.0), 'img2': np.zeros((4, 4, 3)), 'scale': 4}
    sections = {'light': {'type': 'brightness', 'gain': 3.0, 'better': 'higher'}}
    assert score_image(known, sections) == {'light': 6.0}


@pytest.mark.parametrize(
    ('kind', 'name', 'problem'),
    [
        ('calculate_pyiqa', 'lpipss', "pyiqa metric 'lpipss' is not one of dists, lpips; did you mean 'lpips'?"),
        ('calculate_pyiqa', 'niqe', "found 'niqe', which is of type calculate_pyiqa_nr"),
        ('calculate_pyiqa_nr', 'niqe', None),
        ('calculate_psnr', 'lpipss', None),
    ],
)
@pytest.mark.usefixtures('stand_in')
def test_a_wrong_name_is_found_before_the_run(kind: str, name: str, problem: str | None) -> None:
    found = list(pyiqa_problems({'type': kind, 'metric': name}, 'val.metrics.m'))
    assert found == ([] if problem is None else [f'val.metrics.m.metric: {problem}'])


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    found = list(pyiqa_problems({'type': 'calculate_pyiqa', 'metric': 'lpips'}, 'val.metrics.m'))
    assert found == ['val.metrics.m.metric: the package pyiqa is not installed; pip install .[pyiqa] in the clone']


def test_the_real_package_agrees_with_basicsr_on_psnr_and_tells_noise_from_none() -> None:
    pytest.importorskip('pyiqa', reason='the extra pyiqa is not installed')
    theirs = {'type': 'calculate_pyiqa', 'metric': 'psnr', 'crop_border': 4}
    ours = {'type': 'calculate_psnr', 'crop_border': 4}
    expected, found = (calculate_metric(dict(KNOWN), options) for options in (ours, theirs))
    assert found == pytest.approx(expected, rel=1e-4)
    # Its SSIM is of another colour space and size than BasicSR's.
    ssim = {'type': 'calculate_pyiqa', 'metric': 'ssim'}
    assert calculate_metric({'img': IMAGES[0], 'img2': IMAGES[0]}, ssim) == pytest.approx(1, abs=1e-5)
    assert calculate_metric(dict(KNOWN), ssim) < 0.5
    assert calculate_metric({'img': IMAGES[0]}, {'type': 'calculate_pyiqa_nr', 'metric': 'piqe'}) > 0
