"""Tables of an evaluation: the mean over the images of each set, as Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.evaluation.records import METRICS, Row
from manet_basicsr.evaluation.runner import Evaluation, machine
from manet_basicsr.models.scoring import EXACT_MATCH_DB
from manet_basicsr.utils.files import atomic_path, write_lines

_CELL = ('images', 'scale', 'alignment', 'corruption', 'set', 'method')
_HEADS = {
    'psnr': ('PSNR_Y', '.2f'),
    'ssim': ('SSIM_Y', '.4f'),
    'lr_psnr': ('LR PSNR_Y', '.2f'),
    'lr_ssim': ('LR SSIM_Y', '.4f'),
    'kernel_psnr': ('kernel PSNR', '.2f'),
    'seconds': ('s / image', '.3f'),
    'peak_mib': ('MiB / image', '.0f'),
}


def _mean(values: Sequence[float | None]) -> float | None:
    """Average; exact matches enter as 100 dB, unless all are exact."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if all(math.isinf(value) for value in known):
        return math.inf
    return sum(EXACT_MATCH_DB if math.isinf(value) else value for value in known) / len(known)


def summarize(evaluation: Evaluation) -> list[Row]:
    """Average the rows of each condition and method.

    Args:
        evaluation: What :func:`manet_basicsr.evaluation.evaluate` gave.

    Returns:
        A row for each, in the order of the plan: what it is of, ``scored`` and ``expected`` LR images, of which an HR
        image has nine where blur is ``invariant``, and the mean of each metric or None. Memory is the largest of any
        image, not the mean.
    """
    grouped: dict[tuple[object, ...], list[Row]] = {}
    for row in evaluation.rows:
        grouped.setdefault(tuple(row[name] for name in _CELL), []).append(row)
    summary = []
    for (condition, method), expected in evaluation.expected.items():
        sampling = (condition.scale, condition.alignment, condition.corruption)
        place = (condition.image_set, *sampling, condition.blur, method)
        rows = grouped.get(place, [])
        means = {metric: _mean([row[metric] for row in rows]) for metric in METRICS}
        means['peak_mib'] = max((row['peak_mib'] for row in rows if row['peak_mib'] is not None), default=None)
        summary.append({**dict(zip(_CELL, place, strict=True)), 'scored': len(rows), 'expected': expected, **means})
    return summary


def markdown(summary: Sequence[Row]) -> str:
    """Write a summary as Markdown, a table for each image set, scale, alignment and corruption."""
    about = ', '.join(f'{key} {value}' for key, value in machine().items())
    lines = ['# Evaluation', '', f'Measured on {about}. What the columns mean: docs/EVALUATION.md.']
    title = None
    for row in summary:
        found = f'{row["images"]} x{row["scale"]}, {row["alignment"]}, {row["corruption"]}'
        if found != title:
            title = found
            heads = [head for head, _ in _HEADS.values()]
            lines += ['', f'## {title}', '', f'| set | method | LR images | {" | ".join(heads)} |']
            lines += ['|---|---|' + '---:|' * (len(heads) + 1)]
        number = str(row['scored']) if row['scored'] == row['expected'] else f'{row["scored"]} of {row["expected"]}'
        cells = [_cell(row[metric], style) for metric, (_, style) in _HEADS.items()]
        names = (str(row[name]).replace('|', '\\|') for name in ('set', 'method'))
        lines.append(f'| {" | ".join(names)} | {number} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def _cell(value: float | None, style: str) -> str:
    if value is None:
        return ''
    return 'exact' if math.isinf(value) else format(value, style)


def write_tables(evaluation: Evaluation, folder: Path) -> str:
    """Write ``results.md`` and ``results.csv``.

    Args:
        evaluation: What :func:`manet_basicsr.evaluation.evaluate` gave.
        folder: Where to; it must exist.

    Returns:
        The Markdown.

    Raises:
        OSError: They cannot be written.
    """
    summary = summarize(evaluation)
    text, table = markdown(summary), io.StringIO()
    writer = csv.DictWriter(table, [*_CELL, 'scored', 'expected', *METRICS], lineterminator='\n')
    writer.writeheader()
    writer.writerows(summary)
    for name, content in (('results.md', text), ('results.csv', table.getvalue())):
        with atomic_path(folder / name) as temporary:
            write_lines(temporary, content)
    return text
