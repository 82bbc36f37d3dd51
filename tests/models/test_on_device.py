"""The tests on a simulated device, in a process of their own: torch looks for devices once, at its first gradient."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shortened import ROOT


@pytest.mark.slow
def test_nothing_waits_for_the_device_or_is_left_behind(tmp_path: Path) -> None:
    file = Path(__file__).with_name('on_device.py')
    command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:xdist', '-p', 'no:cacheprovider', str(file)]
    command.append(f'--basetemp={tmp_path / "inner"}')
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert '25 passed' in done.stdout
