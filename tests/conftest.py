"""What tests in every folder share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import manet_basicsr  # noqa: F401  (repairs the stack before anything imports basicsr)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def shared() -> Path:
    """The shared data folder (MANET_SHARED, default ../shared beside the project); skips where it is not there."""
    folder = Path(os.environ.get('MANET_SHARED', ROOT.parent / 'shared'))
    if not (folder / 'fixtures').is_dir():
        pytest.skip(f'no shared data at {folder} (set MANET_SHARED)')
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator of its own for each test."""
    return torch.Generator().manual_seed(0)
