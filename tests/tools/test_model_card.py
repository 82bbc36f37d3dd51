"""What the model card is measured with."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from tests.small_networks import blind_weights

TOOL = Path(__file__).resolve().parents[2] / 'tools/model_card.py'


@pytest.fixture(scope='module')
def tool() -> dict[str, Any]:
    return runpy.run_path(str(TOOL))


def write(folder: Path, photos: Path, name: str, height: int, width: int) -> None:
    folder.mkdir(exist_ok=True)
    image = cv2.imread(str(photos / 'coffee.png'))
    cv2.imwrite(str(folder / f'{name}.png'), cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def test_bsd68_is_what_comes_first_but_for_one(tool: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    for number in range(71):
        write(tmp_path, photos, str(156_045 + number), 9, 10)
    found = tool['bsd68'](tmp_path)
    assert len(found) == 68 and '156065' not in found and list(found) == sorted(found)
    assert {tuple(image.shape) for image in found.values()} == {(3, 8, 8)}


def test_usrnets_table_is_of_its_kernels(tool: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    taps = np.arange(25) - 12
    kernels = np.empty((1, 12), object)
    for number in range(12):
        line = np.exp(-(taps**2) / (2 * (1 + 0.3 * number) ** 2))
        kernels[0, number] = np.outer(line, line) / line.sum() ** 2
    (tmp_path / 'kernels').mkdir()
    savemat(tmp_path / 'kernels/kernels_12.mat', {'kernels': kernels})
    write(tmp_path / 'images', photos, 'a', 64, 72)
    found = tool['usrnet'](tmp_path / 'images', tmp_path / 'kernels', str(blind_weights(tmp_path, 4)))
    assert list(found) == [1, 3, 5, 8]
    assert len(set(found.values())) == 4


def test_noise_and_jpeg_cost_what_is_to_be_sharpened(tool: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    write(tmp_path / 'images', photos, 'a', 60, 72)
    weights = str(blind_weights(tmp_path, 1))
    clean, noisy, compressed = (
        tool['sharpening'](tmp_path / 'images', weights, 48, **more) for more in ({}, {'noise': 20}, {'quality': 30})
    )
    for variance, (before, _) in clean.items():
        assert noisy[variance][0] < before and compressed[variance][0] < before


def test_enlargements_are_counted(tool: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    write(tmp_path / 'images', photos, 'a', 220, 320)
    found = tool['enlarged'](tmp_path / 'images')
    assert found['reduced'] == {'nothing': 0, 'noise 3': 0, 'JPEG 90': 0}
    assert found['enlarged 3 times, bicubic']['nothing'] == 1
