"""One LMDB handle per process and database, which is all that lmdb 2 and newer allow."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NamedTuple

import lmdb

from manet_basicsr.utils.errors import BadSampleError, MissingKeyError


class _Handle(NamedTuple):
    environment: lmdb.Environment
    process: int
    file: tuple[int, int]  # device and inode of data.mdb


_handles: dict[str, _Handle] = {}
_opening = threading.RLock()


def _renew_lock() -> None:
    """Forget a lock that another thread of the parent held when it forked."""
    global _opening
    _opening = threading.RLock()


if hasattr(os, 'register_at_fork'):  # where processes fork: not on Windows
    os.register_at_fork(after_in_child=_renew_lock)


def open_environment(path: str | Path, *, readahead: bool = False) -> lmdb.Environment:
    """Open an LMDB for reading, or give the handle that this process already has on it.

    A forked child inherits its parent's handles and may not use them: it closes them and opens its own. A database that
    was replaced on disk is opened anew. Threads may call this at the same time.

    Args:
        path: Folder of the database, any spelling; one real path has one handle.
        readahead: As in ``lmdb.open``; without it random reads of a database larger than memory are faster.

    Raises:
        FileNotFoundError: There is no ``data.mdb`` in the folder.
        ValueError: It is no LMDB, cut short, or open in this process by other means than this function.
    """
    folder = os.path.realpath(path)
    try:
        status = os.stat(os.path.join(folder, 'data.mdb'))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f'{path} is not an LMDB: it holds no data.mdb') from None
    file = (status.st_dev, status.st_ino)
    with _opening:
        handle = _handles.get(folder)
        if handle is not None:
            if handle.process == os.getpid() and handle.file == file:
                return handle.environment
            del _handles[folder]
            handle.environment.close()
        environment = _open(path, readahead)
        _handles[folder] = _Handle(environment, os.getpid(), file)
    return environment


def _open(path: str | Path, readahead: bool) -> lmdb.Environment:
    folder = os.path.realpath(path)
    try:
        # max_spare_txns: a DataLoader's prefetching thread and the main one may read at the same time.
        environment = lmdb.open(folder, readonly=True, lock=False, readahead=readahead, meminit=False, max_spare_txns=8)
    except lmdb.Error as error:
        if 'already open' in str(error):
            raise ValueError(
                f'{path} is already open in this process by lmdb.open, and lmdb allows one handle; close that one, or '
                'get it from manet_basicsr.utils.lmdb_handles.open_environment'
            ) from error
        raise ValueError(f'{path} is not a whole LMDB: {str(error).removeprefix(f"{folder}: ")}') from error
    # Reading what is missing of a mapped file kills the process without a word. Not all pages up to the last one need
    # to be there, those of deleted values may not; the pages in use do, and the two of the header.
    used = environment.stat()
    needed = (2 + used['branch_pages'] + used['leaf_pages'] + used['overflow_pages']) * used['psize']
    size = os.path.getsize(os.path.join(folder, 'data.mdb'))
    if size < needed:
        environment.close()
        raise ValueError(f'{path} is not a whole LMDB: data.mdb has {size} bytes, expected at least {needed}')
    return environment


def close_environment(path: str | Path) -> None:
    """Close this process's handle on a database, so that the database may be replaced; nothing happens without one."""
    with _opening:
        handle = _handles.pop(os.path.realpath(path), None)
        if handle is not None:
            handle.environment.close()


class LmdbBackend:
    """BasicSR's LMDB backend on shared handles, opened where they are used: it may be pickled and forked."""

    def __init__(
        self,
        db_paths: str | os.PathLike[str] | list[str],
        client_keys: str | list[str] = 'default',
        readonly: bool = True,
        lock: bool = False,
        readahead: bool = False,
    ) -> None:
        if not readonly or lock:
            raise ValueError('an LMDB of images is opened with readonly: true and lock: false only')
        paths = [db_paths] if isinstance(db_paths, (str, os.PathLike)) else db_paths
        self.db_paths = [str(path) for path in paths]
        keys = [client_keys] if isinstance(client_keys, str) else client_keys
        if len(keys) != len(self.db_paths):
            raise ValueError(f'{len(keys)} client_keys for {len(self.db_paths)} db_paths')
        self.readahead = readahead
        self._paths = dict(zip(keys, self.db_paths, strict=True))
        for path in self.db_paths:
            open_environment(path, readahead=readahead)

    def get(self, filepath: str, client_key: str) -> bytes:
        if client_key not in self._paths:
            raise KeyError(f"client_key '{client_key}' is not one of {', '.join(self._paths)}")
        path, key = self._paths[client_key], str(filepath).encode()
        with open_environment(path, readahead=self.readahead).begin() as transaction:
            try:
                value = transaction.get(key) if key else None  # lmdb refuses to look for nothing
            except lmdb.Error as error:
                raise BadSampleError(f'{path}: {filepath}: {error}') from error
        if value is None:
            raise MissingKeyError(f"no key '{filepath}' in {path}")
        return value

    def get_text(self, filepath: str) -> str:
        raise NotImplementedError('an LMDB of images holds no text')
