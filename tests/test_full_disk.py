"""Full disks: whatever writes names its file and the reason in a line, and leaves what was there before."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.commands import explore, restore
from manet_basicsr.commands.basicsr import main
from tests import shortened
from tests.shortened import script
from tests.small_networks import blind_network, blind_weights
from tests.trained import ENVIRONMENT, FILE, RUN, run, states

SPACE = 5_000_000  # bytes, of the small disk


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse files of more bytes, as a full disk does, where nobody may mount one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 5 MB, where this user may mount one."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=5000000', 'tmpfs', str(folder)]
    if shutil.which('mount') is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip('this user may not mount a file system; the next test limits the size of a file instead')
    yield folder
    subprocess.run(['umount', '--lazy', str(folder)], check=True)  # this process's last log is still open on it


def assert_stopped_by_the_disk(code: int, error: str) -> None:
    assert code == 1
    (line,) = [line for line in error.splitlines() if line.startswith('basicsr: error: ')]
    assert 'the newest state is that of iter ' in line and 'go on with --auto_resume' in line
    assert re.search(r'cannot write \S+\.(pth|state): (No space left on device|File too large); ', line)
    assert 'Traceback' not in error


@pytest.mark.slow
def test_full_disk_keeps_the_previous_checkpoint_says_so_and_stops(photos_lmdb: Path, small_disk: Path) -> None:
    entries = shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=100, every=1)
    words = [sys.executable, '-m', 'manet_basicsr', 'train', '-opt', str(FILE), '--force_yml', *entries, 'val=~']
    pipes: dict[str, Any] = {'capture_output': True, 'text': True, 'timeout': 120, 'check': False}
    done = subprocess.run(words, cwd=small_disk, env=ENVIRONMENT, **pipes)
    assert_stopped_by_the_disk(done.returncode, done.stderr)
    whole = states(small_disk)
    assert 0 < whole[0] < 100
    # Room was made: it goes on from there.
    (small_disk / RUN / f'training_states/{whole[-1]}.state').unlink()
    (small_disk / RUN / f'models/net_g_{whole[-1]}.pth').unlink()
    text = run(small_disk, photos_lmdb, 'val=~', total_iter=whole[0] + 1, every=1000, auto_resume=True)
    assert f'from iter: {whole[0]}.' in text


def test_checkpoint_that_cannot_be_written_stops_the_run_and_leaves_the_one_before(
    photos_lmdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, photos_lmdb)
    monkeypatch.chdir(tmp_path)
    entries = [*shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=6), 'val=~']
    with files_of_at_most(100_000):  # less than a checkpoint, more than a log
        code = main(['train', '-opt', str(FILE), '--auto_resume', '--force_yml', *entries])
    assert_stopped_by_the_disk(code, capsys.readouterr().err)
    assert states(tmp_path) == [2]
    assert 'from iter: 2.' in run(tmp_path, photos_lmdb, total_iter=3, auto_resume=True)


# ------------------------------------------------------------------------------------------------------- every command


@pytest.fixture
def inputs(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photographs in ``hr``, and weights, in the current folder."""
    folder = tmp_path / 'inputs'
    folder.mkdir()
    shutil.copytree(photos, folder / 'hr')
    blind_weights(folder)
    torch.save(blind_network(4).kernel_estimation.state_dict(), folder / 'released.pth')
    torch.save({'params': blind_network(4).kernel_estimation.state_dict()}, folder / 'estimator.pth')
    monkeypatch.chdir(folder)
    return folder


RESTORE = 'hr/coffee.png --weights blind_x2.pth'
#: The command, its words with ``-`` for the folder of the output, and the file or folder that cannot be written.
COMMANDS = {
    'create_lmdb': (script('create_lmdb'), 'hr -/a.lmdb', 'a.lmdb', 2),
    'create_lmdb --raw': (script('create_lmdb'), 'hr -/a.lmdb --raw', 'a.lmdb', 2),
    'make_training_set': (
        script('make_training_set'),
        '-/a.lmdb -/b.lmdb hr --choose 1 --held-out held_out.txt',
        'a.lmdb',
        2,
    ),
    'make_testset': (script('make_testset'), 'hr - --scale 1 --sets type1', 'x1/type1', 2),
    'extract_subimages': (script('extract_subimages'), 'hr - --crop-size 100 --workers 1', 'astronaut_s001.png', 2),
    'evaluate': (script('evaluate'), '- --images hr --sets invariant --methods bicubic fixed', 'records.jsonl', 2),
    'compute_pca': (script('compute_pca'), '-/a.npy --scale 4 --num-kernels 200', 'a.npy', 2),
    'convert_weights': (script('convert_weights'), 'released.pth -/a.pth --to basicsr', 'a.pth', 2),
    'convert_weights safetensors': (
        script('convert_weights'),
        'estimator.pth -/a.safetensors --to released',
        'a.safetensors',
        2,
    ),
    'restore': (restore.main, f'{RESTORE} -o -', 'coffee_x2.png', 1),
    'restore --format jpg': (restore.main, f'{RESTORE} -o - --format jpg', 'coffee_x2.jpg', 1),
    'restore --format tif': (restore.main, f'{RESTORE} -o - --format tif', 'coffee_x2.tif', 1),
    'explore': (explore.main, f'{RESTORE} -o -/a.html', 'a.html', 1),
}


def assert_named(code: int, expected: int, error: str, target: Path, reason: str) -> None:
    assert code == expected
    assert f'cannot write {target}: {reason}' in error.splitlines()[-1]
    assert 'Traceback' not in error


@pytest.mark.parametrize(('command', 'words', 'target', 'code'), COMMANDS.values(), ids=COMMANDS)
def test_every_command_names_what_cannot_be_written_and_leaves_nothing(
    inputs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[list[str]], int],
    words: str,
    target: str,
    code: int,
) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    with files_of_at_most(3000):
        done = command([re.sub(r'^-(?=/|$)', str(out), word) for word in words.split()])
    assert_named(done, code, capsys.readouterr().err, out / target, 'File too large')
    assert target == 'records.jsonl' or not [path for path in out.rglob('*') if path.is_file()]


@pytest.mark.parametrize('name', ['create_lmdb --raw', 'extract_subimages', 'restore --format tif'])
def test_a_full_disk_is_the_reason(
    name: str, inputs: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_disk / 'filler').write_bytes(bytes(SPACE - 10_000))
    command, words, target, code = COMMANDS[name]
    done = command([re.sub(r'^-(?=/|$)', str(small_disk), word) for word in words.split()])
    assert_named(done, code, capsys.readouterr().err, small_disk / target, 'No space left on device')
    assert [path.name for path in small_disk.iterdir()] == ['filler']


def test_an_evaluation_goes_on_where_the_disk_was_full(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)  # where there is a progress bar
    words = [str(tmp_path / 'out'), *'--images hr --sets invariant --methods bicubic'.split()]
    with files_of_at_most(3000):
        assert script('evaluate')(words) == 2
    whole = (tmp_path / 'out/records.jsonl').read_text().count('\n')
    assert 0 < whole < 36
    assert script('evaluate')(words) == 0
    assert f'0/{36 - whole} ' in capsys.readouterr().err  # the progress bar: no row twice
    assert (tmp_path / 'out/records.jsonl').read_text().count('\n') == 36


def test_images_of_a_test_name_themselves(photos: Path, inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shortened.option_file('test', 'BlindSR_stage3', 4)
    weights = inputs / 'blind_x4.pth'
    entries = shortened.test_entries('BlindSR_stage3', photos, weights)
    torch.save({'params': network_of(file, entries).state_dict()}, weights)
    with files_of_at_most(30_000):  # more than a log, less than an image
        code = main(['test', '-opt', str(file), '--force_yml', *entries, 'val:save_img=true'])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('basicsr: error: ')]
    assert code == 1
    assert re.search(r'validation of \S+, image \S+: cannot write \S+\.png: File too large$', line)


def network_of(file: Path, entries: list[str]) -> torch.nn.Module:
    from basicsr.archs import build_network

    from manet_basicsr.options.resolving import forget_pretrained

    return build_network(forget_pretrained(shortened.forced(file, entries)['network_g']))


def test_an_error_while_there_is_room_stays_what_it_is(tmp_path: Path) -> None:
    from manet_basicsr.utils.files import atomic_folder, atomic_path

    with pytest.raises(RuntimeError, match='^of its own$'), atomic_path(tmp_path / 'a') as partial:
        partial.write_bytes(b'half')
        raise RuntimeError('of its own')
    with pytest.raises(FileNotFoundError, match='absent'), atomic_folder(tmp_path / 'b'):
        Path(tmp_path / 'absent').read_bytes()
    assert list(tmp_path.iterdir()) == []
