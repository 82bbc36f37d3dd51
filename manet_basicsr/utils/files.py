"""Writing that survives a kill: a file or folder appears under its final name whole, or not at all.

What is being written lies beside its target under a hidden name that tells which process writes it, so that a later run
can remove what a killed one left (:func:`remove_leftovers`). BasicSR's folder scans skip hidden names.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from manet_basicsr.utils.errors import WriteError

_LEFTOVER = re.compile(r'^\..*\.(?P<host>[^.]+)-(?P<process>\d+)-[0-9a-f]{8}\.partial(\.[^.]*)?$')
_LONGEST_NAME = 255  # bytes, of nearly all file systems
_PROBE_BYTES = 2**20


@contextmanager
def atomic_path(target: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Yield a path to write to; on success it becomes ``target`` in one step, on any exception it is removed.

    The yielded path does not exist yet, lies in the folder of ``target`` and has its suffix (writers that choose their
    format by the suffix work). An existing ``target`` stays as it is until it is replaced. A link is replaced, not
    followed.

    Args:
        target: The file to write. Its folder must exist.
        sync: Flush file and folder to the disk, so that a power cut cannot leave an empty file under the final name
            either. Costs milliseconds a file; give False for thousands of files that can be made again.

    Raises:
        FileNotFoundError: If the folder of ``target`` is missing, or the body wrote nothing to the yielded path.
        WriteError: The system takes no such file, as on a full disk, whatever the body makes of that.
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(f'cannot write {target}: folder {target.parent} does not exist')
    partial = _partial_path(target)
    try:
        with _named_refusals(target, partial):
            yield partial
            if not partial.exists():
                raise FileNotFoundError(f'cannot write {target}: nothing was written to {partial}')
            if sync:
                _flush(partial)
            os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if sync:
        _flush_folder(target.parent)


def write_lines(path: Path, text: str) -> None:
    """Write text as UTF-8 that any program reads; of names that are none, bytes become escapes such as ``\\udce9``."""
    path.write_text(text, encoding='utf-8', errors='backslashreplace')


def check_writable(target: str | os.PathLike[str]) -> None:
    """Refuse a file that cannot be written, before the work for it; what is there stays as it is.

    Raises:
        FileNotFoundError: If the folder of ``target`` is missing.
        WriteError: The system takes no such file: its folder is read-only, its name too long, or it is a folder.
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(f'cannot write {target}: folder {target.parent} does not exist')
    check_names(target.parent, [target.name])
    if target.is_dir():
        raise WriteError(target, 'it is a folder')
    probe = _partial_path(target)  # writing tells more than permissions do
    try:
        probe.write_bytes(b'x')
    except OSError as error:
        raise WriteError(target, error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def check_names(folder: Path, names: Iterable[str]) -> None:
    """Refuse names of files that the folder's file system does not take, as too long ones.

    Raises:
        WriteError: There is such a name.
    """
    for name in names:
        try:
            os.lstat(folder / name)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise WriteError(folder / name, error.strerror or str(error)) from error


@contextmanager
def atomic_folder(target: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new, empty folder to fill; on success it becomes ``target``, on any exception it is removed.

    The folder's own files are flushed to the disk; those in subfolders are not. With ``overwrite`` the old folder is
    moved aside, under a hidden name that ends in ``.replaced``, for the moment of the exchange and then removed.

    Args:
        target: The folder to make. Its parent must exist.
        overwrite: Whether an existing ``target`` is replaced.

    Raises:
        FileExistsError: If ``target`` exists and ``overwrite`` is not given; checked before and after the body.
        WriteError: The parent of ``target`` does not exist, or the system takes no such folder or file in it.
    """
    target = Path(target)
    refuse_existing(target, overwrite=overwrite)
    partial = _partial_path(target)
    try:
        with _named_refusals(target, partial):
            partial.mkdir()
            yield partial
            for file in partial.iterdir():
                if file.is_file():
                    _flush(file)
            _flush_folder(partial)
            refuse_existing(target, overwrite=overwrite)
            _exchange_folder(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _flush_folder(target.parent)


@contextmanager
def _named_refusals(target: Path, partial: Path) -> Iterator[None]:
    """Name the target in what the system refuses: its errors have no name, or the hidden one.

    Libraries make errors of their own of it, without the reason: lmdb calls a full disk an input/output error, torch a
    failing stream, numpy counts what is missing. After any of them the system is asked once more.
    """
    try:
        yield
    except WriteError as error:  # of a file in the folder
        raise WriteError(target, error.reason) from error
    except Exception as error:
        if isinstance(error, OSError) and not (
            error.filename is None or Path(str(error.filename)).is_relative_to(partial)
        ):
            raise
        reason = getattr(error, 'strerror', None) or _why_full(partial)
        if reason is None:
            raise
        raise WriteError(target, reason) from error


def _why_full(partial: Path) -> str | None:
    """Say why the system takes no more of an unfinished file or folder; None where it does."""
    try:
        with (partial / '.probe' if partial.is_dir() else partial).open('ab') as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror
    return None


def remove_leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove what processes of this machine that no longer run left half-written directly in ``folder``.

    Args:
        folder: The folder to clean. A missing one counts as clean.

    Returns:
        The removed paths, sorted.
    """
    folder = Path(folder)
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _LEFTOVER.match(path.name)
        # Another machine may be writing to a shared folder: its process numbers say nothing here.
        if match is None or match['host'] != _host() or psutil.pid_exists(int(match['process'])):
            continue
        # Another process may tidy up, too, and what may not be removed is no reason not to work.
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed.append(path)
    return removed


def _partial_path(target: Path) -> Path:
    writer = f'.{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.partial{target.suffix}'
    return target.with_name(f'.{_shortened(target.stem, len(os.fsencode(writer)) + 1)}{writer}')


def _shortened(name: str, added: int) -> str:
    """Cut a name so that ``added`` bytes more still make a name that file systems take."""
    while name and len(os.fsencode(name)) + added > _LONGEST_NAME:
        name = name[:-1]
    return name


def _exchange_folder(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target`` and remove what was there: a folder, a file or a link."""
    if not os.path.lexists(target):
        os.replace(new, target)
        return
    # Not a name of a leftover: a kill between the two renames must not cost the old folder as well.
    aside = f'.{uuid.uuid4().hex[:8]}.replaced'
    old = target.with_name(f'.{_shortened(target.name, len(aside) + 1)}{aside}')
    os.replace(target, old)
    try:
        os.replace(new, target)
    except BaseException:
        os.replace(old, target)
        raise
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    else:
        old.unlink()


def _host() -> str:
    return socket.gethostname().split('.')[0]


def files_below(folder: Path) -> Iterator[Path]:
    """List the files below a folder, those in linked folders, too, without hidden files and folders.

    A folder that several links lead to, or that lies below as well, is listed once; one that cannot be read is left
    out, and so are links that lead nowhere.

    Args:
        folder: Where to look.
    """
    seen: set[str] = set()
    tops = [folder]
    for top in tops:  # which grows by the links on the way: they come after all that is really there
        for place, folders, names in os.walk(top):
            real = os.path.realpath(place)
            folders[:] = sorted(name for name in folders if name[0] != '.') if real not in seen else []
            if real in seen:
                continue
            seen.add(real)
            tops += [path for name in folders if (path := Path(place, name)).is_symlink()]
            files = (Path(place, name) for name in sorted(names) if name[0] != '.')
            yield from (file for file in files if file.is_file())


def refuse_existing(target: str | os.PathLike[str], *, overwrite: bool, switch: str | None = None) -> None:
    """Refuse to replace what is there, or a link that leads nowhere.

    Args:
        target: What is to be written.
        overwrite: Whether it may be replaced.
        switch: What is given for that, such as ``--force``; None where the caller does not know.

    Raises:
        FileExistsError: It exists, and ``overwrite`` is not given.
    """
    if os.path.lexists(target) and not overwrite:
        raise FileExistsError(f'{target} already exists{f"; {switch} replaces it" if switch else ""}')


def _flush(file: Path) -> None:
    """Wait until the disk has the file's bytes."""
    _flush_descriptor(os.open(file, os.O_RDWR))  # Windows flushes only what may be written


def _flush_folder(folder: Path) -> None:
    """Wait until the disk has the folder's names, where the system lets a folder be opened; Windows does not."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    _flush_descriptor(descriptor)


def _flush_descriptor(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
