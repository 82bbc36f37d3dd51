"""Figures for papers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from manet_basicsr.degradation import protocol_field
from manet_basicsr.visualization.figures import kernel_grid, write_comparison

pytest.importorskip('matplotlib', reason='the extra plot is not installed')


def test_the_grid_has_the_kernels_of_evenly_spread_places() -> None:
    field = torch.zeros(9, 4, 8)
    field[:] = torch.arange(32.0).view(1, 4, 8)
    grid = kernel_grid(field, across=4)
    assert grid.shape == (2 * 5 - 2, 4 * 5 - 2)
    assert [grid[0, column] for column in (0, 5, 10, 15)] == [9, 11, 13, 15]  # row 1, columns 1, 3, 5, 7
    assert np.isnan(grid[3]).all() and grid[5, 0] == 25
    assert kernel_grid(field[:, :1, :1]).shape == (3, 3)


@pytest.mark.parametrize('suffix', ['png', 'pdf'])
def test_a_comparison_is_written(tmp_path: Path, photos: Path, suffix: str) -> None:
    hr = cv2.imread(str(photos / 'rocket.png'))[..., ::-1]
    lr = cv2.resize(hr, (50, 50), interpolation=cv2.INTER_AREA)
    path = tmp_path / f'figure.{suffix}'
    write_comparison(path, lr.astype(np.uint16) * 257, hr, protocol_field(3, 200, 200, scale=4))
    content = path.read_bytes()
    assert content.startswith(b'%PDF' if suffix == 'pdf' else b'\x89PNG')
    if suffix == 'png':
        picture = cv2.imread(str(path))
        assert picture.shape[1] > 1500 and picture.shape[0] > picture.shape[1] / 3.2
        assert (picture == 255).all(2).mean() < 0.3  # three panels full of something


def test_titles_say_the_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr('matplotlib.axes.Axes.set_title', lambda self, text, **settings: titles.append(text))
    lr, restored = np.zeros((8, 10, 3), np.uint8), np.zeros((32, 40, 3), np.uint8)
    write_comparison(tmp_path / 'a.png', lr, restored, torch.full((1, 9, 8, 10), 1 / 9))
    assert titles == ['LR, 10x8', 'restored, x4', 'estimated kernels']


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match=r'a figure ends in one of \.png, \.pdf'):
        write_comparison(tmp_path / 'a.svg', image, image, torch.ones(1))


@pytest.mark.parametrize('shape', [(500, 1), (1, 500), (3000, 2)])
def test_figures_of_strips_have_bounded_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    lr = np.zeros((*shape, 3), np.uint8)
    restored = np.zeros((4 * shape[0], 4 * shape[1], 3), np.uint8)
    write_comparison(tmp_path / 'a.png', lr, restored, torch.full((1, 9, *shape), 1 / 9))
    assert max(cv2.imread(str(tmp_path / 'a.png')).shape) < 4000


def test_hidden_colours_are_not_drawn(tmp_path: Path) -> None:
    hidden = np.random.default_rng(0).integers(0, 256, (20, 20, 4), np.uint8)
    hidden[..., 3] = 0
    pictures = []
    for image in (hidden, np.full((20, 20, 3), 255, np.uint8)):
        write_comparison(tmp_path / 'a.png', image, image, torch.full((1, 9, 20, 20), 1 / 9))
        pictures.append((tmp_path / 'a.png').read_bytes())
    assert pictures[0] == pictures[1]
