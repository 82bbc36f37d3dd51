"""The scores of the comparison, image by image, in a table that outlives the weights: docs/peers_scores.csv."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peers_rows import BY_NAME

from manet_basicsr.evaluation.records import Row
from manet_basicsr.utils.files import atomic_path, write_lines
from manet_basicsr.zero_shot import build_solver

_KEY = ('method', 'images', 'set', 'sample')
_WORDS = (*_KEY, 'weights', 'machine')
_NUMBERS = ('psnr', 'ssim', 'lr_psnr', 'seconds', 'cpu_seconds', 'peak_mib')
_COLUMNS = ('row', *_KEY, *_NUMBERS, 'weights', 'machine')
#: The row whose weights are those of the generator that restores for all others.
_GENERATOR = 'mean'


def _read(path: Path) -> dict[str, list[Row]]:
    """Read a table: rows of an evaluation by the name of the row of the comparison."""
    found: dict[str, list[Row]] = {}
    with path.open(encoding='utf-8', newline='') as file:
        table = csv.DictReader(file)
        if tuple(table.fieldnames or ()) != _COLUMNS:
            raise ValueError(f'{path}: found the columns {table.fieldnames}, expected {", ".join(_COLUMNS)}')
        for line in table:
            numbers = {name: float(line[name]) if line[name] else None for name in _NUMBERS}
            found.setdefault(line['row'], []).append({**{name: line[name] for name in _WORDS}, **numbers})
    return found


def _together(name: str, kept: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Join what a table has of a row of the comparison with what was scored now.

    Scores of a method's other weights go, all others stay, on whatever images they are.

    Raises:
        ValueError: They are of a solver with two settings, which are not one row.
    """
    if BY_NAME[name].is_solver:
        settings = {dataclasses.replace(build_solver(str(row['method'])), seed=0).name for row in (*kept, *new)}
        if len(settings) > 1:
            raise ValueError(f'found {name} as {" and as ".join(sorted(settings))}, expected one setting')
    weights = {row['method']: row['weights'] for row in new}
    rows = [row for row in kept if weights.get(row['method'], row['weights']) == row['weights']]
    return list({tuple(row[word] for word in _KEY): row for row in (*rows, *new)}.values())


def with_scores(results: Mapping[str, Sequence[Row]], path: Path, generator: str = '') -> dict[str, list[Row]]:
    """Add the rows that a table has and that were not scored now, and write the table anew.

    Args:
        results: Rows of an evaluation by the name of the row of the comparison, with the checksum of their ``weights``
            and the ``machine``.
        path: The table; made if missing.
        generator: Checksum of the generator that the networks have which were scored now; '' where there is none.

    Returns:
        All rows likewise, in the order of the comparison.

    Raises:
        ValueError: The file is no such table, or its scores are not to be compared with these: they are of another
            generator, or of a solver with another setting.
    """
    kept = _read(path) if path.is_file() else {}
    if unknown := kept.keys() - BY_NAME.keys():
        raise ValueError(f'{path}: found the row {min(unknown)!r}, which is none of the comparison; name another file')
    by_generator = [entry.name for entry in BY_NAME.values() if entry.trained == BY_NAME[_GENERATOR].trained]
    both = {row['weights'] for found in (kept, results) for name in by_generator for row in found.get(name, [])}
    if len(both | ({generator} - {''})) > 1:
        raise ValueError(f'{path}: found scores of another generator, expected one comparison; name another file')
    try:
        whole = {name: _together(name, kept.get(name, []), results.get(name, [])) for name in BY_NAME}
    except ValueError as error:
        raise ValueError(f'{path}: {error}; name another file') from error
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction='ignore', lineterminator='\n')
    writer.writeheader()
    for name, rows in whole.items():
        for row in rows:
            writer.writerow({**row, 'row': name, **{key: _number(row.get(key)) for key in _NUMBERS}})
    with atomic_path(path) as temporary:
        write_lines(temporary, text.getvalue())
    return {name: rows for name, rows in whole.items() if rows}


def _number(value: Any) -> str:
    return '' if value is None else f'{value:.6g}'
