"""The option files that come with the package."""

from __future__ import annotations

import os
import re
from importlib import resources
from itertools import takewhile
from pathlib import Path

_FOLDERS = ('train', 'test', 'mixing', 'ablation', 'peers')  # in the order in which they are listed


def option_files() -> dict[str, Path]:
    """List the option files that come with the package, by their names without suffix: those of the paper first.

    An installed package has them in ``option_files``; beside the package of a checkout lies ``options``, which is what
    a build copies there.
    """
    package = Path(str(resources.files('manet_basicsr')))
    installed = package / 'option_files'
    folder = installed if installed.is_dir() else package.parent / 'options'
    return {file.stem: file for name in _FOLDERS for file in sorted(folder.glob(f'{name}/*.yml'))}


def summary_of(file: Path) -> str:
    """Return the first sentence of an option file, which says what it is for."""
    lines = takewhile(lambda line: line.startswith('#'), file.read_text(encoding='utf-8').splitlines())
    text = ' '.join(line.removeprefix('# ') for line in lines)
    sentence = re.match(r'.*?\.(?=\s|$)', text)
    return sentence[0] if sentence else text


def find_option_file(path: str | os.PathLike[str]) -> str:
    """Return a path to an option file, where there is no such file that of the package's file with this name.

    Args:
        path: A path, or the name of a file that comes with the package as ``train_MANet_stage1_x4``, with or without
            suffix and folders (``options/train/train_MANet_stage1_x4.yml``).

    Returns:
        The path: of a file that is there, with or without its suffix, before that of the package; as it was given if
        the package has no such file either.
    """
    given = Path(path)
    with_suffix = given.with_name(f'{given.name}.yml') if given.name else given
    if with_suffix.is_file() and not given.is_file():
        return str(with_suffix)  # a copy of the package's, which somebody has made his own
    packaged = option_files().get(given.name.removesuffix('.yml'))
    folders = tuple(part for part in given.parent.parts if part != '.')
    if (
        (os.path.lexists(given) and not given.is_dir())
        or packaged is None
        or folders not in ((), (packaged.parent.name,), ('options', packaged.parent.name))
    ):
        return os.fspath(path)
    return str(packaged)
