"""The images that a command is given: files, folders, globs, and the standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.data.images import IMAGE_SUFFIXES

STREAM = '-'
"""What stands for the standard input, and for the standard output."""


def read_input(file: Path) -> bytes:
    """Read a file, or the standard input."""
    return sys.stdin.buffer.read() if str(file) == STREAM else file.read_bytes()


def stem_of(file: Path) -> str:
    """Return what the names of results begin with."""
    return 'stdin' if str(file) == STREAM else file.stem


def list_inputs(inputs: Sequence[str], output: Path, suffix: str) -> tuple[list[Path], list[Path], list[str]]:
    """Find the image files that a command was given.

    Args:
        inputs: Files, folders and globs (``**`` for any folders); ``-`` is the standard input.
        output: The folder of the results. What a folder or a glob finds there and is named as the result of another
            image is left out; a file that is named itself is not.
        suffix: Of the names of results.

    Returns:
        The files in order, none twice; those left out; and a message for each input that gives none.
    """
    files: dict[str, Path] = {}
    named = {_place(Path(os.path.expanduser(given))) for given in inputs}
    problems = []
    for given in inputs:
        try:
            found = _find(given)
        except OSError as error:
            problems.append(f'{error.filename or given}: {error.strerror}')
            continue
        if not found:
            is_folder = os.path.isdir(os.path.expanduser(given))
            complaint = f'no images in this folder ({", ".join(IMAGE_SUFFIXES)})' if is_folder else 'no images match'
            problems.append(f'{given}: {complaint}')
        for file in found:
            files.setdefault(_place(file), file)
    beside = [file for file in output.iterdir() if _is_image(file)] if output.is_dir() else []
    stems = {file.stem for file in (*files.values(), *beside)}
    endings = [ending for ending in (suffix, f'{suffix}_figure') if ending]  # with none each would be its own result
    results = {f'{stem}{ending}' for stem in stems for ending in endings}
    folder = os.path.realpath(output)
    left_out = {
        place: file
        for place, file in files.items()
        if place not in named and file.stem in results and os.path.realpath(file.parent) == folder
    }
    return [file for place, file in files.items() if place not in left_out], list(left_out.values()), problems


def _find(given: str) -> list[Path]:
    """List the image files of a folder or a glob; of a file that is neither, an OSError says why it is not there."""
    if given == STREAM:
        return [Path(STREAM)]
    path = Path(os.path.expanduser(given))  # Path.expanduser raises RuntimeError for ~name.png
    if path.is_dir():
        return sorted(file for file in path.iterdir() if _is_image(file))
    if not glob.has_magic(given):
        path.stat()
        return [path]
    if path.exists():
        return [path]
    return sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if _is_image(file))


def _place(file: Path) -> str:
    """Return one name for the file, however its folder is spelled; links to files are files of their own."""
    return os.path.join(os.path.realpath(file.parent), file.name)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith('.') and file.is_file()
