"""The metrics of pyiqa by name, where it is installed: ``{type: calculate_pyiqa, metric: lpips, better: lower}``."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor

from manet_basicsr.utils.messages import unknown_name

_MODES = {'FR': 'calculate_pyiqa', 'NR': 'calculate_pyiqa_nr'}


@METRIC_REGISTRY.register()
def calculate_pyiqa(*, img: np.ndarray, img2: np.ndarray, metric: str, crop_border: int = 0, **unused: Any) -> float:
    """Score an image against the true one with a full-reference metric of pyiqa, such as lpips or dists.

    Args:
        img: The image, (H, W, 3) BGR, uint8.
        img2: The true one.
        metric: pyiqa's name. What weights it needs pyiqa fetches when it is first used.
        crop_border: Pixels left out at each side.
        unused: What the validation knows besides.

    Raises:
        ValueError: pyiqa is not installed, or has no such metric with a reference.
    """
    return _score('FR', metric, crop_border, img, img2)


@METRIC_REGISTRY.register()
def calculate_pyiqa_nr(*, img: np.ndarray, metric: str, crop_border: int = 0, **unused: Any) -> float:
    """Score an image alone with a no-reference metric of pyiqa, such as musiq or niqe.

    Args:
        img: The image, (H, W, 3) BGR, uint8.
        metric: pyiqa's name. What weights it needs pyiqa fetches when it is first used.
        crop_border: Pixels left out at each side.
        unused: What the validation knows besides.

    Raises:
        ValueError: pyiqa is not installed, or has no such metric without a reference.
    """
    return _score('NR', metric, crop_border, img)


def pyiqa_problems(section: Mapping[str, Any], where: str) -> Iterator[str]:
    """List what is wrong with a section of ``val.metrics``, before anything is scored.

    Args:
        section: The section; that of another metric is left alone.
        where: Its key.
    """
    mode = next((mode for mode, function in _MODES.items() if section.get('type') == function), None)
    if mode is None or 'metric' not in section:
        return
    try:
        _check_name(mode, section['metric'])
    except ValueError as error:
        yield f'{where}.metric: {error}'


def _score(mode: str, name: str, crop_border: int, *images: np.ndarray) -> float:
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    with torch.no_grad():
        return float(_metric(mode, name, device)(*(_tensor(image, crop_border).to(device) for image in images)))


def _check_name(mode: str, name: object) -> None:
    """Refuse a name that pyiqa does not have, or has of the other kind."""
    if importlib.util.find_spec('pyiqa') is None:
        raise ValueError('the package pyiqa is not installed; pip install .[pyiqa] in the clone')
    import pyiqa

    known = {kind: pyiqa.list_models(kind) for kind in _MODES}
    for kind, function in _MODES.items():
        if kind != mode and name in known[kind]:
            raise ValueError(f'found {name!r}, which is of type {function}')
    if name not in known[mode]:
        raise ValueError(unknown_name('pyiqa metric', name, known[mode]))


@lru_cache(maxsize=16)
def _metric(mode: str, name: str, device: torch.device) -> Any:
    _check_name(mode, name)
    import pyiqa

    logger = logging.getLogger('pyiqa')
    logger.setLevel(max(logger.level, logging.WARNING))  # it would tell of each metric that it makes
    return pyiqa.create_metric(name, device=device)


def _tensor(image: np.ndarray, crop_border: int) -> Tensor:
    """Turn an image (H, W, 3), BGR, uint8 into (1, 3, H', W'), RGB in [0, 1]."""
    height, width = image.shape[:2]
    cropped = image[crop_border : height - crop_border, crop_border : width - crop_border, ::-1]
    return torch.from_numpy(cropped.copy()).permute(2, 0, 1)[None].float() / 255
