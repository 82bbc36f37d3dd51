"""What the model card is measured with."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor

from manet_basicsr import Restored
from tests.small_networks import blind_weights

TOOL = Path(__file__).resolve().parents[2] / 'tools/model_card.py'


@pytest.fixture(scope='module')
def tool() -> dict[str, Any]:
    return runpy.run_path(str(TOOL))


def write(folder: Path, photos: Path, name: str, height: int, width: int) -> None:
    folder.mkdir(exist_ok=True)
    image = cv2.imread(str(photos / 'coffee.png'))
    cv2.imwrite(str(folder / f'{name}.png'), cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def test_bsd68_is_what_comes_first_as_text_but_for_one(tool: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    for name in ['12', *(str(156_030 + number) for number in range(69)), '8', '9']:
        write(tmp_path, photos, name, 9, 10)
    found = tool['bsd68'](tmp_path)
    assert list(found) == ['12', *(str(156_030 + number) for number in range(68) if number != 35)]
    assert {tuple(image.shape) for image in found.values()} == {(3, 8, 8)}
    (tmp_path / '156065.png').unlink()
    with pytest.raises(ValueError, match='found 71 images, expected the 100 of BSD100'):
        tool['bsd68'](tmp_path)


def test_usrnets_images_are_blurred_around_and_centred(
    tool: dict[str, Any], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taps, variances = np.arange(25) - 12, [1.5 + 0.5 * number for number in range(12)]
    kernels = np.empty((1, 12), object)
    for number, variance in enumerate(variances):
        line = np.exp(-(taps**2) / (2 * variance))
        kernels[0, number] = np.outer(line, line) / line.sum() ** 2
    savemat(tmp_path / 'kernels_12.mat', {'kernels': kernels})
    write(tmp_path, photos, 'a', 64, 72)
    hr = torch.from_numpy(cv2.imread(str(tmp_path / 'a.png'))[..., ::-1] / 255.0).permute(2, 0, 1).float()
    seen: list[Tensor] = []

    def restore(lq: Tensor, _: str) -> Restored:
        seen.append(lq)
        return Restored(hr * 0.9, None)

    places = tool['usrnet'].__globals__  # where the tool's functions look their names up
    monkeypatch.setitem(places, 'bsd68', lambda _: {'a': hr})
    monkeypatch.setitem(places, 'restore', restore)
    found = tool['usrnet'](tmp_path, tmp_path / 'kernels_12.mat', 'weights')
    assert list(found) == [1, 3, 5, 8]
    for lq, number in zip(seen, found, strict=True):
        # Multiplied in the Fourier domain, which is circular; LR pixels are at 1.5 px of each four.
        waves = torch.fft.fftfreq(64)[:, None], torch.fft.rfftfreq(72)[None]
        spread = torch.exp(-2 * np.pi**2 * variances[number - 1] * (waves[0] ** 2 + waves[1] ** 2))
        moved = torch.exp(2j * np.pi * 1.5 * (waves[0] + waves[1]))
        expected = torch.fft.irfft2(torch.fft.rfft2(hr) * spread * moved, s=(64, 72))[:, ::4, ::4]
        assert (lq - expected).abs().max() < 0.03


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
    assert found['reduced'] == {'nothing': 0, 'noise 3': 0, 'JPEG 90': 0, 'WebP 90': 0}
    assert found['enlarged 3 times, bicubic']['nothing'] == 1
