"""List the option files that come with the package, copy some to change them, or print a JSON schema for editors.

    basicsr options
    basicsr options copy train_MANet_stage1_x4
    basicsr options schema > options.schema.json

-opt takes the names as they are, too. Exit codes: 0 done; 2 not done, the message says why.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.options.plugins import import_plugins
from manet_basicsr.options.schema import option_schema
from manet_basicsr.options.shipped import option_files, summary_of
from manet_basicsr.utils.console import give_up, say
from manet_basicsr.utils.files import atomic_path, refuse_existing
from manet_basicsr.utils.messages import nearest

#: Columns of the longest name.
_NAME = 36


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    actions = parser.add_subparsers(dest='action')
    actions.add_parser('list', help='list them, as without a word')
    actions.add_parser('schema', help='print the JSON schema of option files')
    copy = actions.add_parser('copy', help='write copies of some', allow_abbrev=False)
    copy.add_argument('names', nargs='+', metavar='NAME', help='as listed')
    copy.add_argument('-o', '--output', type=Path, default=Path(), metavar='FOLDER', help='default: the current folder')
    copy.add_argument('--force', action='store_true', help='replace existing files')
    return parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser(prog).parse_args(arguments)
    if options.action == 'schema':
        import_plugins()
        return _write(json.dumps(option_schema(), indent=2))
    files = option_files()
    try:
        if options.action == 'copy':
            for target in copy_option_files(options.names, options.output, overwrite=options.force):
                say(str(target))
            return 0
    except (OSError, ValueError) as error:
        say(f'error: {error}', error=True)
        return 2
    for name, file in files.items():
        say(_line(name, summary_of(file)))
    return 0


def _write(text: str) -> int:
    """Write what was asked for to the standard output, whole or with a message; return the exit code."""
    try:
        sys.stdout.write(f'{text}\n')
        sys.stdout.flush()
    except OSError as error:
        give_up(sys.stdout)
        say(f'error: standard output: {error.strerror}', error=True)
        return 2
    return 0


def _line(name: str, summary: str) -> str:
    """Write a file's line; for a terminal, whose lines end in the middle of words, as many as it needs."""
    line = f'{name:<{_NAME}} {summary}'
    if not sys.stdout.isatty():  # for grep and its like
        return line
    width = max(shutil.get_terminal_size().columns, 2 * _NAME)
    return textwrap.fill(line, width, subsequent_indent=' ' * (_NAME + 1), break_on_hyphens=False)


def copy_option_files(names: Sequence[str], folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write copies of option files that come with the package.

    Args:
        names: Their names, with or without suffix.
        folder: Where to; made if missing.
        overwrite: Whether existing files are replaced.

    Returns:
        The files written.

    Raises:
        ValueError: There is no file of such a name; nothing is written.
        FileExistsError: A file is there; nothing is written.
    """
    files = option_files()
    stems = [name.removesuffix('.yml') for name in names]
    for stem in stems:
        if stem not in files:
            raise ValueError(
                f'option file {stem!r} is not one of those that are listed by options{nearest(stem, files)}'
            )
    targets = [folder / files[stem].name for stem in stems]
    for target in targets:
        refuse_existing(target, overwrite=overwrite, switch='--force')
    folder.mkdir(parents=True, exist_ok=True)
    for stem, target in zip(stems, targets, strict=True):
        with atomic_path(target) as partial:
            shutil.copyfile(files[stem], partial)
    return targets
