"""Kernels to read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat


@pytest.fixture(scope='session')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lopsided kernels in every format: 1 in a png, 2 in an npy, 2 in a mat file with a cell array."""
    folder = tmp_path_factory.mktemp('bank')
    comet = np.outer(np.arange(1.0, 9), [0.5, 1, 0.5])
    cv2.imwrite(str(folder / 'comet.png'), (comet * 30).astype(np.uint8))
    np.save(folder / 'steps.npy', np.stack([np.triu(np.ones((6, 6))), np.tril(np.ones((6, 6)))]))
    cell = np.empty((1, 2), dtype=object)
    cell[0, 0], cell[0, 1] = np.eye(7), comet.T
    savemat(folder / 'cell.mat', {'kernels': cell})
    (folder / 'readme.txt').write_text('where they come from')
    return folder


@pytest.fixture(scope='session')
def lens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lopsided kernels at 3 x 4 places."""
    ramp = np.arange(1.0, 9)[:, None] ** np.linspace(0, 3, 12)[:, None, None]
    file = tmp_path_factory.mktemp('lens') / 'lens.npy'
    kernels = (ramp * [0.5, 1, 0.5]).reshape(3, 4, 8, 3)
    np.save(file, kernels / kernels.sum((2, 3), keepdims=True))
    return file
