"""What console scripts and files start: the commands of manet_basicsr, with Ctrl-C at any moment ending them in a line.

Beside the package, not in it: importing anything of the package imports torch, which takes seconds in which nothing of
the command's own could catch an interruption.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""


def run(module: str) -> int:
    """Import a module and run its ``main``.

    Returns:
        The exit code; 130 after Ctrl-C.
    """
    with interruption_ends_the_process():
        main = importlib.import_module(module).main
    return _interruptible(main)


def run_file(path: str) -> int:
    """Run a Python file's ``main``, as :func:`run` does that of a module."""
    with interruption_ends_the_process():
        main = runpy.run_path(path)['main']
    return _interruptible(main)


@contextmanager
def interruption_ends_the_process() -> Iterator[None]:
    """Let Ctrl-C end the process at once, in a line, while modules are imported and nothing can be lost.

    A KeyboardInterrupt would not always: Python's import runs callbacks whose exceptions it ignores, and goes on.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # signals are another's: ignored in the background, or handled by the program that calls
        return
    signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def importing() -> Iterator[None]:
    """Import the package; where Python was started by ``-m``, Ctrl-C ends it at once.

    Python imports the package before the module that it was asked for, so nothing of the module could. A program that
    imports the package gets its KeyboardInterrupt.
    """
    if sys.argv[:1] == ['-m']:  # what Python says until it has found the module
        with interruption_ends_the_process():
            yield
    else:
        yield


def _end(_signal: int, _frame: FrameType | None) -> None:
    try:
        os.write(2, b'interrupted\n')
    finally:  # also where nobody reads it any more
        os._exit(INTERRUPTED)


def _interruptible(main: Callable[[], int]) -> int:
    try:
        return int(main())
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return INTERRUPTED


def basicsr() -> int:
    """Run ``basicsr``."""
    return run('manet_basicsr.commands.basicsr')


def explore() -> int:
    """Run ``manet-explore``."""
    return run('manet_basicsr.commands.explore')


def restore() -> int:
    """Run ``manet-restore``."""
    return run('manet_basicsr.commands.restore')
