"""What Ctrl-C does while the package is imported, which takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended."""


@contextmanager
def importing() -> Iterator[None]:
    """End ``python -m manet_basicsr...`` in one line where a ``with`` block of imports is interrupted.

    Nothing of the command could: Python imports the package before the module that it was asked for. A program that
    imports the package gets its KeyboardInterrupt, and the console scripts catch it themselves.
    """
    try:
        yield
    except KeyboardInterrupt:
        if sys.argv[:1] != ['-m']:  # what Python says until it has found the module
            raise
        print('interrupted', file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
