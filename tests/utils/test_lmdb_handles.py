"""One handle a process and database, whatever opens it, and no read that kills the process."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path

import lmdb
import pytest

from manet_basicsr.utils.lmdb_handles import close_environment, open_environment


def write_database(folder: Path, entries: dict[str, bytes]) -> Path:
    with lmdb.open(str(folder), map_size=2**26) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return folder


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with twenty values of 20 kB."""
    return write_database(tmp_path / 'set.lmdb', {str(number): bytes([number]) * 20_000 for number in range(20)})


def read(folder: Path, key: str) -> bytes | None:
    with open_environment(folder).begin() as transaction:
        return transaction.get(key.encode())


def test_every_spelling_of_a_path_gives_the_same_handle(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.parent)
    os.symlink(database, 'link.lmdb')
    spellings: list[Path | str] = [database, str(database), 'set.lmdb', './set.lmdb/', 'link.lmdb']
    assert len({id(open_environment(path)) for path in spellings}) == 1


def test_forked_child_opens_its_own_handle_and_leaves_the_parents(database: Path) -> None:
    handle = open_environment(database)
    process = os.fork()
    if process == 0:
        own = open_environment(database)
        os._exit(0 if own is not handle and read(database, '3') == bytes([3]) * 20_000 else 1)
    assert os.waitpid(process, 0)[1] == 0
    assert open_environment(database) is handle
    assert read(database, '3') == bytes([3]) * 20_000


def test_child_forked_while_a_thread_opens_a_database_can_open_it(database: Path) -> None:
    from manet_basicsr.utils import lmdb_handles

    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lmdb_handles._opening:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    process = os.fork()
    if process == 0:
        os._exit(0 if read(database, '1') else 1)
    release.set()
    thread.join()
    assert os.waitpid(process, 0)[1] == 0


def test_many_threads_may_open_one_database_at_once(database: Path) -> None:
    found: list[object] = []
    barrier = threading.Barrier(16)

    def work() -> None:
        barrier.wait()
        try:
            found.append(read(database, '7'))
        except Exception as error:
            found.append(error)

    for _ in range(5):
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        close_environment(database)
    assert found == [bytes([7]) * 20_000] * 80


def test_database_that_was_replaced_is_opened_anew(database: Path, tmp_path: Path) -> None:
    assert read(database, '1') == bytes([1]) * 20_000
    write_database(tmp_path / 'other', {'1': b'new'})
    os.replace(tmp_path / 'other/data.mdb', database / 'data.mdb')
    assert read(database, '1') == b'new'


def test_database_may_be_removed_and_made_again_after_it_is_closed(database: Path) -> None:
    assert read(database, '1')
    close_environment(database)
    shutil.rmtree(database)
    with pytest.raises(FileNotFoundError, match='holds no data.mdb'):
        open_environment(database)
    assert read(write_database(database, {'1': b'again'}), '1') == b'again'


def test_a_database_that_other_code_has_open_is_told_as_that(database: Path) -> None:
    with lmdb.open(str(database), readonly=True, lock=False):
        with pytest.raises(ValueError, match=r'already open in this process by lmdb\.open') as raised:
            open_environment(database)
        assert 'not a whole' not in str(raised.value)
    assert open_environment(database).info()['num_readers'] >= 0  # closed there, it opens here


def test_closing_what_is_not_open_does_nothing(tmp_path: Path) -> None:
    close_environment(tmp_path)


def test_file_in_place_of_a_folder_is_no_database(tmp_path: Path) -> None:
    (tmp_path / 'set.lmdb').write_bytes(b'')
    with pytest.raises(FileNotFoundError, match='is not an LMDB'):
        open_environment(tmp_path / 'set.lmdb')


@pytest.mark.parametrize('content', [b'', b'no database' * 1000])
def test_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'data.mdb').write_bytes(content)
    with pytest.raises(ValueError, match='is not a whole LMDB') as raised:
        open_environment(tmp_path)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize('kept', [0.1, 0.5, 0.99])
def test_truncated_database_is_refused_and_does_not_kill_the_process(database: Path, kept: float) -> None:
    # Reading beyond the end of a mapped file is a SIGBUS.
    os.truncate(database / 'data.mdb', int(kept * (database / 'data.mdb').stat().st_size))
    with pytest.raises(ValueError, match='is not a whole LMDB'):
        open_environment(database)


@pytest.mark.parametrize('seed', range(40))
def test_database_whose_last_values_were_replaced_or_deleted_is_whole(tmp_path: Path, seed: int) -> None:
    # LMDB leaves out pages at the end that were freed before they were written (seeds 5, 25 and 30 have such an end).
    draw = random.Random(seed)
    expected: dict[bytes, bytes] = {}
    with lmdb.open(str(tmp_path), map_size=2**28) as environment:
        for _ in range(draw.randint(1, 6)):
            with environment.begin(write=True) as transaction:
                for _ in range(draw.randint(1, 200)):
                    key = str(draw.randint(0, 60)).encode()
                    if draw.random() < 0.65:
                        expected[key] = draw.randbytes(draw.choice([10, 100, 5000, 50000]))
                        transaction.put(key, expected[key])
                    else:
                        expected.pop(key, None)
                        transaction.delete(key)
    with open_environment(tmp_path).begin() as transaction:
        assert dict(transaction.cursor()) == expected
    close_environment(tmp_path)
