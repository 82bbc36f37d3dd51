"""Importing, restoring and exploring where what only Unix has is missing: Windows, and in part macOS.

No other system runs here. A process of its own takes away what Python lacks there, once the other packages are loaded,
which know that this is Linux; calls that fail there fail where this package makes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from manet_basicsr.utils.files import atomic_folder, atomic_path, remove_leftovers
from tests.small_networks import blind_weights

#: Loads what others need of Unix, then takes it away from this package.
WITHOUT_UNIX = """
import builtins, os, signal, sys
import cv2, lmdb, matplotlib, psutil, scipy.ndimage, torch, torch._dynamo, torch.utils.data, yaml

missing = ['fcntl', 'grp', 'posix', 'pwd', 'resource', 'termios']
original_import, original_open, original_os_open, original_kill = builtins.__import__, open, os.open, os.kill

def is_ours(variables):
    return (variables or {}).get('__name__', '').startswith('manet_basicsr')

def guarded_import(name, globals=None, locals=None, fromlist=(), level=0):
    if is_ours(globals) and name in missing:
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)
    return original_import(name, globals, locals, fromlist, level)

builtins.__import__ = guarded_import

def without_proc(path, *args, **kwargs):
    if is_ours(sys._getframe(1).f_globals) and str(path).startswith('/proc/'):
        raise FileNotFoundError(path)
    return original_open(path, *args, **kwargs)

builtins.open = without_proc

def open_no_folder(path, *args, **kwargs):
    if is_ours(sys._getframe(1).f_globals) and os.path.isdir(path):
        raise PermissionError(13, 'Permission denied', path)
    return original_os_open(path, *args, **kwargs)

os.open = open_no_folder

def terminate(process, number):
    assert not is_ours(sys._getframe(1).f_globals), 'on Windows this ends the process'
    original_kill(process, number)

os.kill = terminate
for name in '''fork forkpty register_at_fork sysconf uname getuid geteuid getgid getpgid getpgrp killpg setsid
               sched_getaffinity sched_setaffinity nice chown fchmod fchown mkfifo statvfs fdatasync wait4'''.split():
    delattr(os, name)
for name in 'SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGCHLD SIGPIPE SIGQUIT alarm setitimer pthread_sigmask'.split():
    delattr(signal, name)
"""


def run_without_unix(script: str, *arguments: str) -> str:
    """Run a script in such a process and return what it printed."""
    command = [sys.executable, '-c', WITHOUT_UNIX + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_is_importable() -> None:
    script = """
import importlib, pkgutil
import manet_basicsr
for module in pkgutil.walk_packages(manet_basicsr.__path__, 'manet_basicsr.'):
    if not module.name.endswith('__main__'):
        importlib.import_module(module.name)
print('imported', manet_basicsr.__name__)
"""
    assert run_without_unix(script) == 'imported manet_basicsr\n'


@pytest.mark.slow
def test_images_are_restored_and_explored(tmp_path: Path) -> None:
    weights = blind_weights(tmp_path, 2)
    cv2.imwrite(str(tmp_path / 'photo.png'), np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8))
    script = """
import numpy as np
import manet_basicsr
from manet_basicsr.commands import explore, restore
folder, weights = sys.argv[1:]
photo = f'{folder}/photo.png'
image = np.zeros((24, 30, 3), np.uint8)
restored = manet_basicsr.restore(image, weights, max_memory=2**40)
assert restored.image.shape == (48, 60, 3), restored.image.shape
assert restore.main([photo, '-o', f'{folder}/restored', '--weights', weights]) == 0
assert explore.main([photo, '-o', f'{folder}/page.html', '--weights', weights]) == 0
"""
    run_without_unix(script, str(tmp_path), str(weights))
    (restored,) = (tmp_path / 'restored').iterdir()
    assert cv2.imread(str(restored)).shape == (48, 60, 3)
    assert '<html' in (tmp_path / 'page.html').read_text(encoding='utf-8')


def test_files_are_written_where_no_folder_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = os.open

    def open_no_folder(path: str | Path, *arguments: int, **options: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, 'Permission denied', str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(os, 'open', open_no_folder)
    with atomic_path(tmp_path / 'file') as file:
        file.write_text('whole')
    with atomic_folder(tmp_path / 'folder') as folder:
        (folder / 'part').write_text('whole')
    assert (tmp_path / 'file').read_text() == (tmp_path / 'folder/part').read_text() == 'whole'


@pytest.mark.slow
def test_looking_for_a_process_sends_it_nothing(tmp_path: Path) -> None:
    with atomic_path(tmp_path / 'file') as file:
        file.write_text('whole')
        script = """
from pathlib import Path
from manet_basicsr.utils.files import remove_leftovers
print(remove_leftovers(Path(sys.argv[1])))
"""
        assert run_without_unix(script, str(tmp_path)) == '[]\n'
        assert file.exists()
    assert remove_leftovers(tmp_path) == []
