"""No command fails for a line that nobody can read: closed, missing and full streams."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from manet_basicsr.commands import basicsr, explore
from tests import shortened
from tests.shortened import script
from tests.small_networks import blind_weights

COMMANDS = {
    'create_lmdb': (script('create_lmdb'), 'hr a.lmdb'),
    'make_training_set': (script('make_training_set'), 'a.lmdb b.lmdb hr --choose 1 --held-out held_out.txt'),
    'make_testset': (script('make_testset'), 'hr sets --scale 4 --sets type1'),
    'extract_subimages': (script('extract_subimages'), 'hr sub --crop-size 60 --workers 1'),
    'evaluate': (script('evaluate'), 'ev --images hr --sets type1 --methods bicubic'),
    'compute_pca': (script('compute_pca'), 'a.npy --scale 4 --num-kernels 100'),
    'explore': (explore.main, 'hr/coffee.png --weights blind_x2.pth -o a.html'),
    'check': (basicsr.main, f'check -opt {shortened.option_file("train", "MANet_stage1", 4)} --force_yml OPTIONS'),
    'train': (basicsr.main, f'train -opt {shortened.option_file("train", "MANet_stage1", 4)} --force_yml OPTIONS'),
}
STATES = [('stdout', 'full'), ('stdout', 'missing'), ('stderr', 'missing'), ('stderr', 'closed')]


@pytest.mark.parametrize(('stream', 'state'), STATES)
@pytest.mark.parametrize(('command', 'words'), COMMANDS.values(), ids=COMMANDS)
def test_lines_that_cannot_be_printed_are_no_failure(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[[list[str]], int],
    words: str,
    stream: str,
    state: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'hr').mkdir()
    for name in ('astronaut', 'coffee'):
        cv2.imwrite(f'hr/{name}.png', cv2.imread(str(photos / f'{name}.png'))[:96, :96])
    blind_weights(tmp_path)
    entries = [*shortened.train_entries('MANet_stage1', tmp_path / 'hr'), 'val:pbar=true']
    gone = None if state == 'missing' else io.TextIOWrapper(io.FileIO('/dev/full', 'w'))
    if state == 'closed' and gone is not None:
        gone.close()
    monkeypatch.setattr(sys, stream, gone)
    given = [word for part in words.split() for word in (entries if part == 'OPTIONS' else [part])]
    assert command(given) == 0
