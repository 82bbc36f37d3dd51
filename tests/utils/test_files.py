from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manet_basicsr.utils import files
from manet_basicsr.utils.errors import WriteError
from manet_basicsr.utils.files import atomic_folder, atomic_path, check_names, check_writable, remove_leftovers
from tests.forked import killed_at_the_end


def kill_while_writing(writer: str, target: Path) -> None:
    """Let a process write ``target`` by ``atomic_path`` or ``atomic_folder`` and kill it in the middle."""

    def write(ready: Callable[[], None]) -> None:
        with getattr(files, writer)(target) as path:
            (path / 'part' if path.is_dir() else path).write_bytes(b'half')
            ready()
            time.sleep(60)

    with killed_at_the_end(write):
        pass


def test_atomic_path_keeps_the_suffix_and_leaves_only_the_target(tmp_path: Path) -> None:
    with atomic_path(tmp_path / 'net.pth') as path:
        assert path.suffix == '.pth' and path.parent == tmp_path and path.name.startswith('.') and not path.exists()
        path.write_bytes(b'new')

    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {'net.pth': b'new'}


@pytest.mark.parametrize('sync', [True, False])
def test_atomic_path_replaces_only_on_success(tmp_path: Path, sync: bool) -> None:
    target = tmp_path / 'net.pth'
    target.write_bytes(b'old')

    with pytest.raises(ZeroDivisionError), atomic_path(target, sync=sync) as path:
        path.write_bytes(b'half')
        raise ZeroDivisionError
    assert target.read_bytes() == b'old' and list(tmp_path.iterdir()) == [target]

    with atomic_path(target, sync=sync) as path:
        path.write_bytes(b'new')
        assert target.read_bytes() == b'old'
    assert target.read_bytes() == b'new'


def test_atomic_path_gives_the_permissions_of_an_ordinary_new_file(tmp_path: Path) -> None:
    (tmp_path / 'ordinary').touch()
    with atomic_path(tmp_path / 'atomic') as path:
        path.touch()

    assert (tmp_path / 'atomic').stat().st_mode == (tmp_path / 'ordinary').stat().st_mode


def test_atomic_path_names_a_missing_folder_and_a_writer_that_wrote_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='missing does not exist'), atomic_path(tmp_path / 'missing/net.pth'):
        pass
    with pytest.raises(FileNotFoundError, match='nothing was written'), atomic_path(tmp_path / 'net.pth'):
        pass


def test_what_cannot_be_written_is_told_without_writing(tmp_path: Path) -> None:
    (tmp_path / 'net.pth').write_bytes(b'old')
    check_writable(tmp_path / 'net.pth')
    check_writable(tmp_path / 'new.pth')
    assert (tmp_path / 'net.pth').read_bytes() == b'old'
    assert [path.name for path in tmp_path.iterdir()] == ['net.pth']
    for target, reason in (
        (tmp_path, 'it is a folder'),
        (tmp_path / f'{"x" * 252}.pth', 'File name too long'),
        (Path('/proc/net.pth'), ''),  # a folder that even root cannot write into
    ):
        with pytest.raises(WriteError, match=f'cannot write {target}: {reason}'):
            check_writable(target)
    with pytest.raises(FileNotFoundError, match='missing does not exist'):
        check_writable(tmp_path / 'missing/net.pth')
    with pytest.raises(WriteError, match=f'{"y" * 256}: File name too long'):
        check_names(tmp_path, ['a', 'net.pth', 'y' * 256])


@pytest.mark.parametrize('writer', ['atomic_path', 'atomic_folder'])
def test_a_kill_leaves_nothing_under_the_final_name_and_the_rest_is_removed_later(tmp_path: Path, writer: str) -> None:
    target = tmp_path / 'out.lmdb'

    kill_while_writing(writer, target)

    [left] = tmp_path.iterdir()
    assert left != target and left.name.startswith('.out.')
    assert remove_leftovers(tmp_path) == [left]
    assert not any(tmp_path.iterdir())


def test_a_kill_keeps_the_file_of_before(tmp_path: Path) -> None:
    target = tmp_path / 'out.pth'
    target.write_bytes(b'old')

    kill_while_writing('atomic_path', target)

    assert target.read_bytes() == b'old'


def test_remove_leftovers_spares_running_writers_other_machines_and_other_files(tmp_path: Path) -> None:
    foreign = tmp_path / '.net.another-machine-1-0123abcd.partial.pth'
    foreign.touch()
    ordinary = tmp_path / 'net.partial.pth'
    ordinary.touch()
    with atomic_path(tmp_path / 'net.pth') as path:
        path.touch()
        assert remove_leftovers(tmp_path) == []
        assert sorted(tmp_path.iterdir()) == sorted([foreign, ordinary, path])
    assert remove_leftovers(tmp_path / 'missing') == []


def test_atomic_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / 'set.lmdb'
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as folder:
        (folder / 'data').touch()
        raise ZeroDivisionError
    assert not any(tmp_path.iterdir())

    with atomic_folder(target) as folder:
        (folder / 'data').write_bytes(b'all')
        assert not target.exists()
    assert list(tmp_path.iterdir()) == [target] and (target / 'data').read_bytes() == b'all'


def test_atomic_folder_replaces_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / 'set.lmdb'
    target.mkdir()
    (target / 'old').touch()

    with pytest.raises(FileExistsError, match='already exists'), atomic_folder(target):
        pytest.fail('the body must not run')
    with atomic_folder(target, overwrite=True) as folder:
        (folder / 'new').touch()

    assert [path.name for path in target.iterdir()] == ['new'] and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize('kind', ['file', 'link', 'dangling link'])
def test_atomic_folder_replaces_a_file_or_a_link_of_its_name_and_nothing_behind_it(tmp_path: Path, kind: str) -> None:
    target, other = tmp_path / 'set.lmdb', tmp_path / 'other'
    other.mkdir()
    (other / 'kept').touch()
    if kind == 'file':
        target.write_text('old')
    else:
        target.symlink_to(other if kind == 'link' else tmp_path / 'nowhere')

    with atomic_folder(target, overwrite=True) as folder:
        (folder / 'new').touch()

    assert not target.is_symlink() and [path.name for path in target.iterdir()] == ['new']
    assert sorted(tmp_path.iterdir()) == [other, target] and (other / 'kept').exists()


def test_atomic_folder_puts_the_old_one_back_where_the_new_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / 'set.lmdb'
    target.mkdir()
    (target / 'old').touch()
    replace = os.replace

    def refuse_the_new_one(source: Path, destination: Path) -> None:
        if '.partial' in source.name:
            raise OSError('disk full')
        replace(source, destination)

    monkeypatch.setattr(os, 'replace', refuse_the_new_one)
    with pytest.raises(OSError, match='disk full'), atomic_folder(target, overwrite=True) as folder:
        (folder / 'new').touch()

    assert list(tmp_path.iterdir()) == [target] and [path.name for path in target.iterdir()] == ['old']


def test_writers_of_one_target_do_not_disturb_each_other(tmp_path: Path) -> None:
    target = tmp_path / 'net.pth'
    with atomic_path(target) as first, atomic_path(target) as second:
        first.write_bytes(b'first')
        second.write_bytes(b'second')

    assert target.read_bytes() == b'first' and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize('stem', ['a' * 251, 'é' * 125])
def test_a_name_that_just_fits_can_be_written(tmp_path: Path, stem: str) -> None:
    with atomic_path(tmp_path / f'{stem}.png') as path:
        assert path.suffix == '.png' and len(os.fsencode(path.name)) <= 255
        path.write_bytes(b'')
    for _ in range(2):
        with atomic_folder(tmp_path / stem, overwrite=True) as folder:
            (folder / 'a').touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [stem, f'{stem}.png']
    (leftover := files._partial_path(tmp_path / f'{stem}.png')).touch()
    assert files._LEFTOVER.match(leftover.name)


def test_what_another_process_tidies_up_meanwhile_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_while_writing('atomic_path', tmp_path / 'net.pth')
    (left,) = tmp_path.iterdir()

    def gone(*_: Any, **__: Any) -> None:
        raise FileNotFoundError(2, 'No such file or directory')

    with monkeypatch.context() as patch:
        patch.setattr(Path, 'unlink', gone)
        assert remove_leftovers(tmp_path) == []
    assert remove_leftovers(tmp_path) == [left]
