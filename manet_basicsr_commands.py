"""What the console scripts start: the commands of manet_basicsr, with Ctrl-C at any moment ending them in one line.

Beside the package, not in it: importing anything of the package imports torch, which takes seconds in which nothing of
the command's own could catch an interruption.
"""

from __future__ import annotations

import importlib
import sys

_INTERRUPTED = 130


def _run(module: str) -> int:
    try:
        return int(importlib.import_module(module).main())
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return _INTERRUPTED


def basicsr() -> int:
    """Run ``basicsr``."""
    return _run('manet_basicsr.commands.basicsr')


def explore() -> int:
    """Run ``manet-explore``."""
    return _run('manet_basicsr.commands.explore')


def restore() -> int:
    """Run ``manet-restore``."""
    return _run('manet_basicsr.commands.restore')
