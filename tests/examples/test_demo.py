"""What ``make demo`` runs, with the weights that ship."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from manet_basicsr.data.field_files import load_field
from manet_basicsr.restoration.photographs import read_photograph

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_demo_restores_a_photograph_and_shows_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(ROOT / 'examples/demo.py'))['main']
    assert main(['--folder', str(tmp_path)]) == 0
    words = capfd.readouterr().out
    assert '$ manet-restore lr.png -o . --kernels' in words
    lines = [line for line in words.splitlines() if ' dB, ' in line]
    scores = {line.split()[0]: float(line.split('PSNR_Y ')[1].split()[0]) for line in lines}
    assert scores['restored'] > scores['bicubic'] + 1
    assert scores['kernels'] > 38
    small, large = (read_photograph(tmp_path / name).pixels for name in ('lr.png', 'lr_x4.png'))
    assert large.shape == (4 * small.shape[0], 4 * small.shape[1], 3)
    assert load_field(tmp_path / 'lr_x4_kernels.npz').field.shape[-2:] == small.shape[:2]
    assert read_photograph(tmp_path / 'comparison.png').pixels.shape[1] > 1000
    assert b'true' in (tmp_path / 'lr_kernels.html').read_bytes()


@pytest.mark.slow
def test_a_second_demo_replaces_the_first(tmp_path: Path) -> None:
    main = runpy.run_path(str(ROOT / 'examples/demo.py'))['main']
    assert main(['--folder', str(tmp_path)]) == 0
    first = (tmp_path / 'comparison.png').read_bytes()
    assert main(['--folder', str(tmp_path), '--photograph', 'chelsea']) == 0
    assert (tmp_path / 'comparison.png').read_bytes() != first
