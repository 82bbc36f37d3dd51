"""What tests in every folder share."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import cv2
import pytest
import torch

import manet_basicsr  # noqa: F401  (repairs the stack before anything imports basicsr)
from manet_basicsr.data.lmdb_writer import write_lmdb

# Small networks gain nothing from a second thread, and threads that outnumber the cores wait for each other.
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape names that are no UTF-8 in what a test has logged: xdist cannot send them."""
    report = yield
    report.sections = [
        (title, text.encode('utf-8', 'backslashreplace').decode('utf-8')) for title, text in report.sections
    ]
    return report


@pytest.fixture(scope='session')
def shared() -> Path:
    """What the authors' release made, and images: MANET_SHARED, or ../shared. Skips where it is not there.

    ``test_fidelity.py`` proves the formulas without it.
    """
    folder = Path(os.environ.get('MANET_SHARED', ROOT.parent / 'shared'))
    if not (folder / 'fixtures').is_dir():
        pytest.skip(f'no shared data at {folder} (set MANET_SHARED)')
    return folder


@pytest.fixture(autouse=True)
def without_bf16_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU whose choices of precision and layout are the same on every machine; tests of those say otherwise."""
    for name in ('_is_amx_tile_supported', '_is_avx512_bf16_supported'):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A command that ends for a signal ignores further ones, and so would all processes that later tests start."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator of its own for each test."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope='session')
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real photographs, those that scikit-image ships, cut to 200x200 px."""
    import skimage.data

    folder = tmp_path_factory.mktemp('photos')
    for name in ('astronaut', 'chelsea', 'coffee', 'rocket'):
        image = getattr(skimage.data, name)()[40:240, 60:260]
        cv2.imwrite(str(folder / f'{name}.png'), image[..., ::-1])
    return folder


@pytest.fixture(scope='session')
def photos_lmdb(photos: Path) -> Path:
    """The photographs as an LMDB."""
    path = photos.parent / f'{photos.name}.lmdb'
    write_lmdb(photos, path)
    return path
