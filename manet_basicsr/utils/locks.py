"""Locks on files, which the system takes back from a process that dies."""

from __future__ import annotations

import errno
import importlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

fcntl: Any = None
msvcrt: Any = None
with suppress(ImportError):  # Unix
    fcntl = importlib.import_module('fcntl')
with suppress(ImportError):  # Windows
    msvcrt = importlib.import_module('msvcrt')

_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
# Windows lets nobody else read what is locked: a byte that no file here has.
_LOCKED_BYTE = 2**30


class LockedError(ValueError):
    """Another process has the lock; the message says which."""


def try_lock(file: IO[Any], *, inherited: bool = False) -> bool:
    """Lock an open file until it is closed, against everybody else who asks.

    Args:
        file: Opened for writing.
        inherited: Whether forked processes have the lock, too, and the process itself cannot have it twice.

    Returns:
        Whether nobody else has it. On file systems without locks, nobody ever has.
    """
    try:
        if fcntl is not None:
            (fcntl.flock if inherited else fcntl.lockf)(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            _lock_byte(file.fileno())
    except OSError as error:
        return error.errno not in _HELD
    return True


def _lock_byte(descriptor: int) -> None:
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)


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
    with path.open('a+', encoding='utf-8') as file:
        if not try_lock(file):
            file.seek(0)
            raise LockedError(file.read().strip() or 'another process')
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield
