"""One LMDB handle per process and database, which is all that lmdb 2 and newer allow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import lmdb


class _Handle(NamedTuple):
    environment: lmdb.Environment
    process: int
    file: tuple[int, int]  # device and inode of data.mdb


_handles: dict[str, _Handle] = {}


def open_environment(path: str | Path, *, readahead: bool = False) -> lmdb.Environment:
    """Open an LMDB for reading, or give the handle that this process already has on it.

    A forked child inherits its parent's handles and may not use them: it closes them and opens its own. A database that
    was replaced on disk is opened anew.

    Args:
        path: Folder of the database, any spelling; one real path has one handle.
        readahead: As in ``lmdb.open``; without it random reads of a database larger than memory are faster.

    Raises:
        FileNotFoundError: There is no ``data.mdb`` in the folder.
    """
    folder = os.path.realpath(path)
    try:
        status = os.stat(os.path.join(folder, 'data.mdb'))
    except FileNotFoundError:
        raise FileNotFoundError(f'{path} is not an LMDB: it holds no data.mdb') from None
    file = (status.st_dev, status.st_ino)
    handle = _handles.get(folder)
    if handle is not None:
        if handle.process == os.getpid() and handle.file == file:
            return handle.environment
        handle.environment.close()
    # max_spare_txns: a DataLoader's prefetching thread and the main one may read at the same time.
    environment = lmdb.open(folder, readonly=True, lock=False, readahead=readahead, meminit=False, max_spare_txns=8)
    _handles[folder] = _Handle(environment, os.getpid(), file)
    return environment


def close_environment(path: str | Path) -> None:
    """Close this process's handle on a database, so that the database may be replaced; nothing happens without one."""
    handle = _handles.pop(os.path.realpath(path), None)
    if handle is not None:
        handle.environment.close()
