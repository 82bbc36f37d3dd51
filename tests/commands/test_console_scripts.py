"""What the console scripts start."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import manet_basicsr_commands
from manet_basicsr_commands import importing, interruption_ends_the_process

ROOT = Path(__file__).parents[2]
PIPES: dict[str, Any] = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
# As a terminal has it: what runs in the background may have been started with SIGINT ignored.
STARTED = 'import signal; signal.signal(signal.SIGINT, signal.default_int_handler); '
STARTED += 'import sys, manet_basicsr_commands; assert "torch" not in sys.modules; print("started", flush=True); '


# Python's start, and a hook before that of torch, where the package begins to be imported.
HOOK = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

class SaysWhenTorchIsImported:
    def find_spec(self, name, path=None, target=None):
        if name == 'torch':
            sys.meta_path.remove(self)
            print('started', flush=True)

sys.meta_path.insert(0, SaysWhenTorchIsImported())
"""
# Instead, an interruption in a callback, where Python ignores exceptions: its import has such callbacks.
CALLBACK = 'import weakref; weakref.finalize(set(), signal.raise_signal, signal.SIGINT)'
INTERRUPTED_IN_A_CALLBACK = HOOK.replace("print('started', flush=True)", CALLBACK)
FILES = [[str(ROOT / f'manet_basicsr/{name}.py')] for name in ('train', 'test')]
FILES += [[str(file)] for file in sorted((ROOT / 'scripts').glob('*.py'))]
MODULES = [['-m', f'manet_basicsr{name}'] for name in ('', '.commands.restore', '.commands.explore')]


@pytest.mark.parametrize('words', [*MODULES, *FILES], ids=lambda words: words[-1].rpartition('/')[2])
def test_an_interruption_while_a_module_or_file_is_started_is_130_without_a_traceback(
    words: list[str], tmp_path: Path
) -> None:
    (tmp_path / 'sitecustomize.py').write_text(HOOK)
    environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}'}
    interrupt(subprocess.Popen([sys.executable, *words], env=environment, **PIPES))


@pytest.mark.parametrize(
    ('words', 'imported'),
    [
        (MODULES[0], 'torch'),
        (FILES[-1], 'torch'),
        ([*MODULES[0], 'create-lmdb'], 'manet_basicsr.commands.create_lmdb'),
    ],
    ids=['module', 'file', 'tool'],
)
def test_an_interruption_in_a_callback_of_the_import_is_not_lost(
    words: list[str], imported: str, tmp_path: Path
) -> None:
    (tmp_path / 'sitecustomize.py').write_text(INTERRUPTED_IN_A_CALLBACK.replace("'torch'", f"'{imported}'"))
    environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}'}
    ended = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, 'interrupted\n')


def test_an_interruption_ends_the_process_where_nobody_reads_what_it_says() -> None:
    """A closed standard error makes writing fail."""
    code = STARTED + 'import signal; from manet_basicsr_commands import interruption_ends_the_process as ends\n'
    code += 'import os\nwith ends():\n    os.close(2)\n    signal.raise_signal(signal.SIGINT)\nprint("went on")'
    ended = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, 'started\n')


def test_what_another_handles_is_left_to_it() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    try:
        with interruption_ends_the_process():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert got == [signal.SIGINT]


def test_a_program_that_imports_the_package_gets_its_interruption() -> None:
    with pytest.raises(KeyboardInterrupt), importing():
        raise KeyboardInterrupt


def test_an_interruption_while_the_package_is_imported_is_130_without_a_traceback() -> None:
    command = [sys.executable, '-c', STARTED + 'sys.exit(manet_basicsr_commands.restore())', 'absent.png', '-o', 'out']
    interrupt(subprocess.Popen(command, **PIPES))


def interrupt(process: subprocess.Popen[str]) -> None:
    """Interrupt a process soon after it said that it has started, and look how it ends."""
    with process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):  # the import of torch takes longer
            process.wait(timeout=0.3)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert (process.returncode, said) == (130, 'interrupted\n')


@pytest.mark.parametrize('name', ['basicsr', 'explore', 'restore'])
def test_each_command_is_there_and_its_exit_code_returned(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class Command:
        @staticmethod
        def main() -> int:
            return 7

    def import_module(module: str) -> type[Command]:
        started.append(module)
        return Command

    monkeypatch.setattr(importlib, 'import_module', import_module)
    assert getattr(manet_basicsr_commands, name)() == 7
    assert find_spec(started[0]) is not None
