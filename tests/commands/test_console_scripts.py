"""What the console scripts start."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest

import manet_basicsr_commands

# As a terminal has it: what runs in the background may have been started with SIGINT ignored.
STARTED = 'import signal; signal.signal(signal.SIGINT, signal.default_int_handler); '
STARTED += 'import sys, manet_basicsr_commands; assert "torch" not in sys.modules; print("started", flush=True); '


def test_an_interruption_while_the_package_is_imported_is_130_without_a_traceback() -> None:
    command = [sys.executable, '-c', STARTED + 'sys.exit(manet_basicsr_commands.restore())', 'absent.png', '-o', 'out']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
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
