"""Pack folders of photographs, cut into tiles or whole, into an LMDB for training and one for validation.

    python scripts/make_training_set.py TRAIN.lmdb VAL.lmdb FOLDER [FOLDER ...]

The photographs that scripts/held_out_photographs.txt names go to VAL.lmdb with all their tiles, all others to
TRAIN.lmdb, so that no choice is made on what was trained on. A folder NAME with a table NAME_sources.tsv beside it
holds tiles PHOTO_0, PHOTO_1 ... of the photographs in the table's column "photo"; in other folders every image is a
photograph. Both LMDBs are raw. Exit codes: 0 done; 1 an image is damaged; 2 the message says why it stopped.
"""

from __future__ import annotations

import sys

import manet_basicsr_commands

if __name__ == '__main__':  # before the package is imported, which Ctrl-C may interrupt
    sys.exit(manet_basicsr_commands.run_file(__file__))

import argparse
import csv
import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from manet_basicsr.commands.failures import say_failure
from manet_basicsr.data.lmdb_writer import LmdbSummary, check_target, write_lmdb
from manet_basicsr.data.preparation import (
    ConflictError,
    available_cpus,
    find_images,
    refuse_same_names,
)
from manet_basicsr.utils.console import say
from manet_basicsr.utils.errors import BadSampleError
from manet_basicsr.utils.files import atomic_folder, atomic_path, remove_leftovers, write_lines

HELD_OUT = Path(__file__).with_name('held_out_photographs.txt')


def photographs_of(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Find the images of each photograph.

    Args:
        folders: Folders of images; a table ``NAME_sources.tsv`` beside a folder names the photographs of its tiles.

    Returns:
        Paths of the images by photograph, both in the order of the names.

    Raises:
        ConflictError: A folder has no images, an image is no tile of a photograph in the table, or two images have one
            name.
    """
    photographs: dict[str, list[Path]] = {}
    for folder in folders:
        place = Path(os.path.abspath(folder))  # of '.' too; not where a link leads to
        table = place.with_name(f'{place.name}_sources.tsv')
        known = _photographs_of_table(table) if table.is_file() else None
        for image in find_images(folder):
            name = image.stem if known is None else re.sub(r'_\d+$', '', image.stem)
            if known is not None and name not in known:
                raise ConflictError(f'{image}: {name!r} is not in the column "photo" of {table}')
            photographs.setdefault(name, []).append(image)
    refuse_same_names((image.stem, image) for images in photographs.values() for image in images)
    return {name: photographs[name] for name in sorted(photographs)}


def _photographs_of_table(table: Path) -> set[str]:
    rows = csv.DictReader(_read_text(table).splitlines(), delimiter='\t')
    if 'photo' not in (rows.fieldnames or []):
        raise ConflictError(f'{table} has no column "photo"')
    return {row['photo'] for row in rows}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8-sig')  # Windows' editors begin a file with a mark
    except UnicodeDecodeError as error:
        raise ConflictError(f'{path} is no text in UTF-8: {error}') from error


def choose_held_out(names: Iterable[str], number: int) -> list[str]:
    """Choose photographs by their names alone: those with the smallest SHA-256.

    A photograph that joins later changes the choice only if it is chosen itself.

    Args:
        names: Of all photographs.
        number: How many to choose.

    Returns:
        The chosen names, sorted.
    """
    return sorted(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:number])


def read_held_out(path: Path) -> list[str]:
    """Read a list of photographs: one name a line, lines that begin with # left out; none twice."""
    lines = (line.strip() for line in _read_text(path).splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.startswith('#')))


def split(photographs: Mapping[str, list[Path]], held_out: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Divide images by photograph into those to train on and those held out.

    Raises:
        ConflictError: A photograph to hold out is not there, or nothing is left to train on.
    """
    missing = [name for name in held_out if name not in photographs]
    if missing:
        raise ConflictError(f'{len(missing)} photographs to hold out are not in the folders, first {missing[0]!r}')
    train = [image for name, images in photographs.items() if name not in held_out for image in images]
    validation = [image for name in held_out for image in photographs[name]]
    if not train or not validation:
        raise ConflictError(f'found {len(train)} images to train on, {len(validation)} held out; expected some of each')
    return train, validation


def pack(parts: Mapping[Path, Iterable[Path]], *, overwrite: bool, workers: int) -> dict[Path, LmdbSummary]:
    """Pack images of several folders into raw LMDBs, all of which get their names when all are whole.

    Args:
        parts: The images by the LMDB that they go to.
        overwrite: Replace existing LMDBs.
        workers: Number of images worked on at once.
    """
    summaries = {}
    with ExitStack() as stack:
        for target, images in parts.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target.parent)
            links = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for image in images:
                (links / image.name).symlink_to(image.absolute())
            unfinished = stack.enter_context(atomic_folder(target, overwrite=overwrite))
            made = unfinished / 'whole.lmdb'
            try:
                summaries[target] = write_lmdb(links, made, raw=True, workers=workers)
            except BadSampleError as error:
                raise BadSampleError(str(error).replace(f'{links}{os.sep}', 'of the folders given: ')) from error
            for file in made.iterdir():
                file.rename(unfinished / file.name)
            made.rmdir()
    return summaries


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('train', type=Path, metavar='TRAIN.lmdb')
    parser.add_argument('val', type=Path, metavar='VAL.lmdb')
    parser.add_argument('folders', type=Path, nargs='+', metavar='FOLDER')
    parser.add_argument(
        '--held-out', type=Path, default=HELD_OUT, metavar='FILE', help='names of photographs, default %(default)s'
    )
    parser.add_argument(
        '--choose', type=int, metavar='N', help='write FILE anew: the N photographs of the smallest SHA-256'
    )
    parser.add_argument('--force', action='store_true', help='replace existing LMDBs')
    parser.add_argument('--workers', type=int, default=available_cpus(), metavar='N', help='default: one a CPU')
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        if options.choose is not None and options.choose < 1:
            raise ConflictError(f'--choose: found {options.choose}, expected at least 1')
        photographs = photographs_of(options.folders)
        chosen = None if options.choose is None else choose_held_out(photographs, options.choose)
        train, validation = split(photographs, read_held_out(options.held_out) if chosen is None else chosen)
        if options.train.resolve() == options.val.resolve():
            raise ConflictError(f'found {options.train} for both LMDBs, expected two')
        for target in (options.train, options.val):  # before the work
            check_target(target, overwrite=options.force)
        parts = {options.train: train, options.val: validation}
        packed = pack(parts, overwrite=options.force, workers=max(options.workers, 1))
        if chosen is not None:
            with atomic_path(options.held_out) as partial:
                write_lines(partial, ''.join(f'{name}\n' for name in chosen))
        for target, summary in packed.items():
            say(f'{target}: {summary.written} images')
    except (ConflictError, BadSampleError, OSError) as error:
        return say_failure(error)
    return 0
