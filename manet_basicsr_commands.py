"""What console scripts and files start: the commands of manet_basicsr, with Ctrl-C at any moment ending them in a line.

Beside the package, not in it: importing anything of the package imports torch, which takes seconds in which nothing of
the command's own could catch an interruption.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable

_INTERRUPTED = 130


def run(module: str) -> int:
    """Import a module and run its ``main``.

    Returns:
        The exit code; 130 after Ctrl-C, also while it is imported.
    """
    return _interruptible(lambda: importlib.import_module(module).main())


def run_file(path: str) -> int:
    """Run a Python file's ``main``, as :func:`run` does that of a module."""
    return _interruptible(lambda: runpy.run_path(path)['main']())


def _interruptible(main: Callable[[], int]) -> int:
    try:
        return int(main())
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return _INTERRUPTED


def basicsr() -> int:
    """Run ``basicsr``."""
    return run('manet_basicsr.commands.basicsr')


def explore() -> int:
    """Run ``manet-explore``."""
    return run('manet_basicsr.commands.explore')


def restore() -> int:
    """Run ``manet-restore``."""
    return run('manet_basicsr.commands.restore')
