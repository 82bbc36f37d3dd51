"""Rebuild the training images from the photographs that their projects publish.

    python scripts/rebuild_training_photos.py SOURCES FOLDER

SOURCES holds what the projects in scripts/training_photographs.tsv publish, cloned or unpacked side by side in any
layout: a photograph is known by its name and by the checksum of its content. FOLDER gets the folders photos480,
photos480b and bsds399 as make_training_set.py takes them, of all photographs that are there.

A photograph is reduced to 2040 px, if it is larger, and cut into tiles of 480x480 px; which of them were taken, and in
which order, is found by their mean grey levels in the table. Images of bsds399 are copied. Exit codes: 0 all is there;
1 some photographs are missing or others than those of the table, listed at the end; 2 the message says why it stopped.
"""

from __future__ import annotations

import sys

import manet_basicsr_commands

if __name__ == '__main__':  # before the package is imported, which Ctrl-C may interrupt
    sys.exit(manet_basicsr_commands.run_file(__file__))

import argparse
import csv
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from manet_basicsr.commands.failures import say_failure
from manet_basicsr.data.preparation import ConflictError, read_image
from manet_basicsr.utils.console import say
from manet_basicsr.utils.errors import BadSampleError
from manet_basicsr.utils.files import atomic_path, files_below, write_lines

TABLE = Path(__file__).with_name('training_photographs.tsv')
LONGEST_SIDE, TILE, QUALITY = 2040, 480, 94  # px, px, of JPEG
_COLUMNS = 7
_PARTS = 4  # a side of the tile, for its mean grey levels
#: Largest difference of a mean grey level at which a tile is that of the table. Measured: another filter changes a mean
#: by up to 0.6; of two tiles of one photograph (1107 pairs) some mean differs by 13 at least.
_TOLERANCE = 4


@dataclass(frozen=True)
class Tile:
    """A tile of a photograph: the first 16 digits of its file's SHA-256, and its mean grey levels, ``(4, 4)``."""

    checksum: str
    means: np.ndarray


@dataclass(frozen=True)
class Photograph:
    """A row of the table.

    Attributes:
        folder: That its images lie in.
        name: What the names of its tiles begin with.
        project: Who publishes it.
        path: Where it lies there.
        blob: What the SHA-1 of its content begins with, as git computes it.
        licence: As stated there.
        tiles: Those taken, in the order of their numbers; none where the file is taken as it is.
    """

    folder: str
    name: str
    project: str
    path: str
    blob: str
    licence: str
    tiles: tuple[Tile, ...]


def read_table(path: Path) -> list[Photograph]:
    """Read the table of the photographs.

    Raises:
        ConflictError: A line has other columns than the table's seven.
    """
    lines = path.read_text(encoding='utf-8').splitlines()
    rows = list(csv.reader(lines[1:], delimiter='\t', quoting=csv.QUOTE_NONE))
    for number, row in enumerate(rows, start=2):
        if len(row) != _COLUMNS:
            raise ConflictError(f'{path}, line {number}: found {len(row)} columns, expected {_COLUMNS}')
    return [
        Photograph(folder, name, project, place, blob, licence, tuple(map(_read_tile, tiles.split())))
        for folder, name, project, place, blob, licence, tiles in rows
    ]


def _read_tile(text: str) -> Tile:
    checksum, _, means = text.partition('/')
    return Tile(checksum, np.frombuffer(bytes.fromhex(means), np.uint8).reshape(_PARTS, _PARTS))


def blob_checksum(content: bytes) -> str:
    """Compute the SHA-1 that git names a file's content by."""
    return hashlib.sha1(b'blob %d\0' % len(content) + content, usedforsecurity=False).hexdigest()


def mean_levels(pixels: np.ndarray) -> np.ndarray:
    """Compute the mean grey levels of the parts of a tile.

    Args:
        pixels: ``(480, 480, 3)``, uint8.

    Returns:
        ``(4, 4)``, float64, 0 to 255.
    """
    side = TILE // _PARTS
    return pixels.reshape(_PARTS, side, _PARTS, side, -1).mean(axis=(1, 3, 4), dtype=np.float64)


def reduce_photograph(pixels: np.ndarray) -> np.ndarray:
    """Make a photograph RGB of 8 bit, and its longer side 2040 px, if it is longer (bicubic, antialiased)."""
    if pixels.dtype == np.uint16:
        pixels = (pixels / 257 + 0.5).astype(np.uint8)
    image = Image.fromarray(pixels).convert('RGB')
    factor = LONGEST_SIDE / max(image.size)
    if factor < 1:
        width, height = (round(factor * side) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def find_tiles(pixels: np.ndarray, tiles: Sequence[Tile]) -> list[np.ndarray] | None:
    """Cut out the tiles of the table: of the grid from the upper left corner, or of that in the middle.

    Args:
        pixels: The reduced photograph, ``(h, w, 3)``.
        tiles: Those of the table.

    Returns:
        The tiles, or None where the photograph has no such ones.
    """
    cells = [pixels[top : top + TILE, left : left + TILE] for top, left in _grid_places(*pixels.shape[:2])]
    if not cells:
        return None
    means = np.stack([mean_levels(cell) for cell in cells])
    found = []
    for tile in tiles:
        differences = np.abs(means - tile.means).max(axis=(1, 2))
        if differences.min() > _TOLERANCE:
            return None
        found.append(cells[differences.argmin()])
    return found


def _grid_places(height: int, width: int) -> Iterator[tuple[int, int]]:
    for top, left in {(0, 0), (height % TILE // 2, width % TILE // 2)}:
        for y in range(top, height - TILE + 1, TILE):
            for x in range(left, width - TILE + 1, TILE):
                yield y, x


def index_files(folder: Path) -> dict[str, list[Path]]:
    """List the files below a folder by their names."""
    files: dict[str, list[Path]] = {}
    for file in files_below(folder):
        files.setdefault(unicodedata.normalize('NFC', file.name), []).append(file)
    return files


def find_source(photograph: Photograph, files: dict[str, list[Path]]) -> Path | None:
    """Find the file of a photograph among :func:`index_files`, by its name and its checksum."""
    name = unicodedata.normalize('NFC', photograph.path.rpartition('/')[2])
    same = (file for file in files.get(name, []) if blob_checksum(file.read_bytes()).startswith(photograph.blob))
    return next(same, None)


def rebuild(photograph: Photograph, source: Path, target: Path) -> tuple[int, int]:
    """Write the images of a photograph into a folder.

    Returns:
        How many were written, and how many of them are those of the training to the byte.

    Raises:
        BadSampleError: The file is damaged, or has not the tiles of the table.
    """
    if not photograph.tiles:
        with atomic_path(target / source.name, sync=False) as partial:
            partial.write_bytes(source.read_bytes())
        return 1, 1
    found = find_tiles(reduce_photograph(read_image(source)), photograph.tiles)
    if found is None:
        raise BadSampleError(f'{source}: found other tiles than those of {photograph.name} in the table')
    same = 0
    for number, (tile, pixels) in enumerate(zip(photograph.tiles, found, strict=True)):
        content = encode_tile(pixels)
        same += hashlib.sha256(content).hexdigest().startswith(tile.checksum)
        with atomic_path(target / f'{photograph.name}_{number}.jpg', sync=False) as partial:
            partial.write_bytes(content)
    return len(found), same


def encode_tile(pixels: np.ndarray) -> bytes:
    """Encode a tile as JPEG of quality 94 with colours of full resolution."""
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    return bytes(cv2.imencode('.jpg', np.ascontiguousarray(pixels[..., ::-1]), settings)[1])


def write_sources(photographs: Sequence[Photograph], path: Path) -> None:
    """Write the table that tells make_training_set.py which photograph a tile is of, with licences."""
    lines = ['photo\tproject\tpath\tlicence as stated there']
    lines += ['\t'.join((one.name, one.project, one.path, one.licence)) for one in photographs]
    with atomic_path(path) as partial:
        write_lines(partial, '\n'.join(lines) + '\n')


def rebuild_set(photographs: Sequence[Photograph], files: dict[str, list[Path]], folder: Path) -> list[str]:
    """Rebuild one folder of images, say what it has, and return a line for each thing that is missing."""
    target = folder / photographs[0].folder
    target.mkdir(parents=True, exist_ok=True)
    problems: list[str] = []
    missing: Counter[str] = Counter()
    written = same = 0
    for photograph in photographs:
        source = find_source(photograph, files)
        if source is None:
            missing[photograph.project] += 1
            continue
        try:
            made = rebuild(photograph, source, target)
        except BadSampleError as error:
            problems.append(str(error))
        else:
            written, same = written + made[0], same + made[1]
    if any(photograph.tiles for photograph in photographs):
        write_sources(photographs, folder / f'{target.name}_sources.tsv')
    say(f'{target}: {written} images, {same} of them those of the training to the byte')
    return problems + [f'{count} photographs of {project} are not there' for project, count in sorted(missing.items())]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('sources', type=Path, metavar='SOURCES')
    parser.add_argument('folder', type=Path, metavar='FOLDER')
    parser.add_argument('--table', type=Path, default=TABLE, metavar='FILE', help='default %(default)s')
    parser.add_argument('--sets', nargs='+', metavar='NAME', help='folders to rebuild, default: all of the table')
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser().parse_args(arguments)
    problems = []
    try:
        if not options.sources.is_dir():
            raise ConflictError(f'{options.sources}: found no folder, expected that of the downloads')
        sets: dict[str, list[Photograph]] = {}
        for photograph in read_table(options.table):
            sets.setdefault(photograph.folder, []).append(photograph)
        wanted = options.sets or list(sets)
        if unknown := [name for name in wanted if name not in sets]:
            raise ConflictError(f'--sets: found {unknown[0]}, expected some of {", ".join(sets)}')
        files = index_files(options.sources)
        for name in wanted:
            problems += rebuild_set(sets[name], files, options.folder)
    except (ConflictError, OSError) as error:
        return say_failure(error)
    for problem in problems:
        say(f'missing: {problem}', error=True)
    return 1 if problems else 0
