"""Locks on files: one holder, told by name; on Windows, simulated here, by other means."""

from __future__ import annotations

import errno
import fcntl
import os
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manet_basicsr.evaluation.records import RecordFile
from manet_basicsr.utils import locks
from manet_basicsr.utils.locks import LockedError, exclusive_lock, try_lock
from tests.forked import killed_at_the_end


def fake_msvcrt() -> Any:
    """Windows' locks as far as they are needed here: a byte of a file has one holder until its handle is closed."""

    def locking(descriptor: int, mode: int, length: int) -> None:
        assert (mode, length) == (2, 1)
        # What is locked cannot be read, and the holder's name is to be.
        assert os.lseek(descriptor, 0, os.SEEK_CUR) > 1000
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of a handle, too, until it is closed
        except BlockingIOError:
            raise PermissionError(errno.EACCES, 'Permission denied') from None

    return types.SimpleNamespace(locking=locking, LK_NBLCK=2)


def test_another_process_is_refused_and_told_who_has_it_until_it_ends(tmp_path: Path) -> None:
    path = tmp_path / '.run.lock'

    def hold(ready: Callable[[], None]) -> None:
        with exclusive_lock(path):
            ready()
            time.sleep(60)

    with (
        killed_at_the_end(hold) as process,
        pytest.raises(LockedError, match=f'^process {process.pid} on '),
        exclusive_lock(path),
    ):
        pass
    with exclusive_lock(path):
        assert path.read_text().startswith(f'process {os.getpid()} on ')


def test_windows_has_locks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, 'fcntl', None)
    monkeypatch.setattr(locks, 'msvcrt', fake_msvcrt())
    path = tmp_path / '.run.lock'
    for _ in range(2):  # a lock that was let go can be had again
        with exclusive_lock(path):
            assert path.read_text().startswith(f'process {os.getpid()} on ')
            with pytest.raises(LockedError, match=f'^process {os.getpid()} on '), exclusive_lock(path):
                pass
    row = {'key': 'a', 'psnr': 25.0}
    with RecordFile(tmp_path / 'records.jsonl') as record:
        record.append(row)
        with pytest.raises(ValueError, match='is in use by another run'), RecordFile(tmp_path / 'records.jsonl'):
            pass
    with RecordFile(tmp_path / 'records.jsonl') as record:
        assert {key: record.rows['a'][key] for key in row} == row


@pytest.mark.parametrize('code', [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_no_other_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(locks, 'fcntl', types.SimpleNamespace(lockf=refuse, flock=refuse, LOCK_EX=2, LOCK_NB=4))
    with (tmp_path / 'a').open('w') as file:
        assert try_lock(file)
    with exclusive_lock(tmp_path / 'b'):
        pass
