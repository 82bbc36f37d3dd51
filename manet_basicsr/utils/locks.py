"""A lock on a file, which the system takes back from a process that dies."""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

fcntl: Any = None
with suppress(ImportError):  # Windows, on which nothing is locked
    fcntl = importlib.import_module('fcntl')


class LockedError(ValueError):
    """Another process has the lock; the message says which."""


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock in a ``with`` block, against other processes, also of other machines that share the folder.

    The file stays: removing it would let two processes lock two files of one name. It is a lock of the process, which
    forked workers do not inherit: they may outlive a killed run for seconds.

    Args:
        path: The file, made if missing; its folder must exist.

    Raises:
        LockedError: Another process holds the lock.
    """
    if fcntl is None:
        yield
        return
    with path.open('a+', encoding='utf-8') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise LockedError(file.read().strip() or 'another process') from error
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield
