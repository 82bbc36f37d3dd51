"""The scores of the comparison, image by image, in a table that outlives the weights: docs/peers_scores.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peers_rows import BY_NAME

from manet_basicsr.evaluation.records import Row
from manet_basicsr.utils.files import atomic_path, write_lines

_WORDS = ('method', 'images', 'set', 'sample')
_NUMBERS = ('psnr', 'ssim', 'lr_psnr', 'seconds', 'cpu_seconds', 'peak_mib')
_COLUMNS = ('row', *_WORDS, *_NUMBERS)


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
    """Join the rows that a table has of a row of the comparison with those that were scored now.

    A solver is fitted to each image by itself, so what it was run on before stays. Of a network that is scored now
    nothing stays: it may be of another training.
    """
    if not BY_NAME[name].is_solver:
        return list(new or kept)
    rows = {tuple(row[word] for word in _WORDS): row for row in (*kept, *new)}
    return list(rows.values())


def with_scores(results: Mapping[str, Sequence[Row]], path: Path) -> dict[str, list[Row]]:
    """Add the rows that a table has and that were not scored now, and write the table anew.

    Args:
        results: Rows of an evaluation by the name of the row of the comparison.
        path: The table; made if missing.

    Returns:
        All rows likewise, in the order of the comparison.

    Raises:
        ValueError: The file is no such table.
    """
    kept = _read(path) if path.is_file() else {}
    whole = {name: _together(name, kept.get(name, []), results.get(name, [])) for name in BY_NAME}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(_COLUMNS)
    for name, rows in whole.items():
        writer.writerows(
            [name, *(row[word] for word in _WORDS), *(_number(row.get(key)) for key in _NUMBERS)] for row in rows
        )
    with atomic_path(path) as temporary:
        write_lines(temporary, text.getvalue())
    return {name: rows for name, rows in whole.items() if rows}


def _number(value: Any) -> str:
    return '' if value is None else f'{value:.6g}'
