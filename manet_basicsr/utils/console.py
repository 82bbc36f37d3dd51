"""Lines for people. One that cannot be printed is no reason to stop what it is about."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


def printable(text: str, stream: TextIO | None) -> str:
    """Return a text with escapes for what a stream cannot encode, such as a file name that is not UTF-8."""
    encoding = getattr(stream, 'encoding', None) or 'utf-8'
    return text.encode(encoding, 'backslashreplace').decode(encoding)


def is_open(stream: TextIO | None) -> bool:
    """Tell whether a stream is there (services and ``pythonw`` have none) and not closed."""
    return stream is not None and not stream.closed


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether somebody looks at a stream."""
    return is_open(stream) and getattr(stream, 'isatty', lambda: False)()


def say(line: str, *, error: bool = False) -> None:
    """Print a line at once, if anybody listens.

    A stream that is closed, missing (a service, ``pythonw``), full or a broken pipe is given up for good: the work goes
    on, and the interpreter, which flushes streams when it ends, does not fail at them.

    Args:
        line: The line.
        error: To standard error instead of standard output.
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:
        return
    try:
        stream.write(f'{printable(line, stream)}\n')
        stream.flush()
    except (OSError, ValueError):  # ValueError: closed
        give_up(stream)


def give_up(stream: TextIO) -> None:
    """Lead a stream that takes nothing more to nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
