"""The tables of docs/PEERS.md: results, claims with their verdicts, and what is not trained yet with its cost."""

from __future__ import annotations

import dataclasses
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peers_claims import CLAIMS, VARIANT, WHOLE_CLAIMS, Claim, Inequality, Measured, Results
from peers_rows import BY_NAME, ENTRIES, LONGEST, MANET, REDUCED, STUDIED, WHOLE, Entry
from peers_train import TRAININGS, WHOLE_CROP

from manet_basicsr.evaluation.paired import image_of, mean_scores_by, paired_difference
from manet_basicsr.evaluation.records import Row
from manet_basicsr.zero_shot import build_solver

SETS = ('invariant', *VARIANT)
_METRICS = {'psnr': ('PSNR_Y', '.2f'), 'ssim': ('SSIM_Y', '.4f'), 'lr_psnr': ('LR PSNR_Y', '.2f')}
_HOURS = 3600


def fill(text: str, parts: Mapping[str, str]) -> str:
    """Write the generated parts of a page between their marks, ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.

    Raises:
        ValueError: The page has no such marks.
    """
    for name, part in parts.items():
        begin, end = (f'<!-- {name}: {word} -->' for word in ('begin', 'end'))
        pattern = re.compile(f'{begin}\n.*?{end}', re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"the page: found no '{begin}' with '{end}' after it; put them where the part belongs")
        text = pattern.sub(lambda _, part=part, begin=begin, end=end: f'{begin}\n{part.strip()}\n{end}', text)  # type: ignore[misc]
    return text


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    """Average images, each of which counts once."""
    scores = mean_scores_by(rows, metric, False)
    return statistics.fmean(scores.values()) if scores else None


def _of(rows: Sequence[Row], images: str, sets: Sequence[str] = SETS) -> list[Row]:
    return [row for row in rows if row['images'] == images and row['set'] in sets]


def _cell(rows: Sequence[Row], reference: Sequence[Row], metric: str, blur: str) -> str:
    """Write a mean, and its paired difference from the reference unless they are the same rows."""
    style = _METRICS[metric][1]
    value = _mean([row for row in rows if row['set'] == blur], metric)
    if value is None:
        return ''
    found = None if rows is reference else paired_difference(rows, reference, metric, blur)
    if found is None:
        return f'{value:{style}}'
    sign = style.replace('.', '+.')
    error = '' if found.images == 1 else f' ± {found.error:{style}}'
    return f'{value:{style}} ({found.mean:{sign}}{error})'


def _shown(words: str) -> str:
    """Write names of rows where the place says their budget."""
    return words.replace(WHOLE, '')


def result_tables(results: Results, image_sets: Sequence[str], names: Sequence[str], compared_with: str) -> str:
    """Write a table for each image set and measure.

    Args:
        results: Rows of the evaluation.
        image_sets: Their names.
        names: Of the rows, whether they are there or not.
        compared_with: The one of them that the others are compared with.
    """
    lines = []
    for images in image_sets:
        reference = _of(results.get(compared_with, []), images)
        compared = {image_of(row) for row in reference}
        for metric, (head, _) in _METRICS.items():
            times = ['s / image', 'MiB'] if metric == 'psnr' else []
            lines += [
                '',
                f'**{images}, {len(compared)} images: {head}** (paired difference from MANet ± standard error)',
                '',
            ]
            lines += [f'| | {" | ".join([*SETS, *times])} |', '|---|' + '---:|' * (len(SETS) + len(times))]
            for name in names:
                rows = _of(results.get(name, []), images)
                rows = reference if name == compared_with else [row for row in rows if image_of(row) in compared]
                cells = [_cell(rows, reference, metric, blur) for blur in SETS]
                if not rows and times:
                    cells[0] = 'not run here' if results.get(name) else _absence(name)
                elif not any(cells):
                    continue  # it is said to be absent above, knows no kernels, or makes no image
                number = len({image_of(row) for row in rows})
                fewer = f' ({number} images)' if 0 < number < len(compared) else ''
                lines.append(f'| {_shown(name)}{fewer} | {" | ".join([*cells, *(_costs(rows) if times else [])])} |')
    return '\n'.join(lines)


def _costs(rows: Sequence[Row]) -> list[str]:
    key = 'cpu_seconds' if all(row.get('cpu_seconds') is not None for row in rows) else 'seconds'
    seconds = [row[key] for row in rows if row[key] is not None]
    memory = [row['peak_mib'] for row in rows if row['peak_mib'] is not None]
    return [f'{statistics.fmean(seconds):.2f}' if seconds else '', f'{max(memory):.0f}' if memory else '']


def solver_table(results: Results, image_sets: Sequence[str]) -> str:
    """Write a row for each solver, image set and set: which images, how many seeds, and its distance to MANet there."""
    heads = ('solver', 'set', 'images', 'seeds', 'PSNR_Y', 'SSIM_Y', 'LR PSNR_Y', 's / image', 'MiB')
    lines = [f'| {" | ".join(heads)} |', '|---|---|---|---:|---:|---:|---:|---:|---:|']
    for entry in (entry for entry in ENTRIES if entry.is_solver):
        rows = results.get(entry.name, [])
        if not rows and not entry.name.endswith(WHOLE):
            lines.append(f'| {entry.name} | not run | | | | | | | |')
        for images, blur in ((images, blur) for images in image_sets for blur in SETS):
            here = _of(rows, images, [blur])
            if here:
                lines.append(f'| {" | ".join(_solver_cells(entry, here, results, images, blur))} |')
    return '\n'.join(lines)


def _solver_cells(entry: Entry, rows: Sequence[Row], results: Results, images: str, blur: str) -> list[str]:
    names = sorted({image for (_, image), _ in mean_scores_by(rows, 'seconds', False)})
    words = f'`{dataclasses.replace(build_solver(str(rows[0]["method"])), seed=0).name}`'
    seeds = len({row['method'] for row in rows})
    compared_with = MANET + WHOLE if entry.name.endswith(WHOLE) else MANET
    reference = _of(results.get(compared_with, []), images, [blur])
    scores = [_cell(rows, reference, metric, blur) for metric in _METRICS]
    which = ', '.join(names) if len(names) <= 3 else f'{len(names)}'
    return [f'{entry.name}, {words}', f'{images} {blur}', which, str(seeds), *scores, *_costs(rows)]


def study_table(results: Results) -> str:
    """Write LR PSNR of the design study's estimators, and their distance to the one that they are variations of."""
    reference = results.get(STUDIED, [])
    lines = [f'| LR PSNR_Y | trainings | {" | ".join(SETS)} |', '|---|---:|' + '---:|' * len(SETS)]
    images = {image_of(row) for row in reference}
    for name in ('fixed', *(entry.name for entry in ENTRIES if entry.study and not entry.name.endswith(WHOLE))):
        rows = reference if name == STUDIED else [row for row in results.get(name, []) if image_of(row) in images]
        number = '' if name == 'fixed' else str(len({row['method'] for row in rows}))
        cells = [_cell(rows, reference, 'lr_psnr', blur) for blur in SETS] if rows else [_absence(name)]
        lines.append(f'| {name} | {number} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def cost_table(measured: Measured) -> str:
    """Write what the trainings cost, at the budget that they have and at that of version 0.1.0's weights."""
    heads = ('training', 'option file, in `options`', 'iterations', 'TFLOP', 'CPU min', 'whole budget, CPU h')
    lines = [f'| {" | ".join(heads)} |', '|---|---|---:|---:|---:|---:|']
    for training in TRAININGS:
        cost: dict[str, Any] | None = measured.get('trainings', {}).get(training.name)
        if cost is None:
            continue
        steps, seconds = cost['steps'], cost['seconds']
        more = training.iterations * training.batch * WHOLE_CROP**2 / (cost['batch'] * cost['side'] ** 2)
        lines.append(
            f'| {training.name} | `{training.file}` | {steps:,} | {steps * cost["flop"] / 1e12:.0f} '
            f'| {steps * seconds / 60:.0f} | {more * seconds / _HOURS:.1f} |'
        )
    return '\n'.join(lines)


def _absence(name: str) -> str:
    """Say why a row, or a measurement, has no figure."""
    entry = BY_NAME.get(name)
    return 'not measured' if entry is None else 'not trained' if entry.trained and not entry.is_solver else 'not run'


def claim_table(claims: Sequence[Claim], results: Results, measured: Measured) -> str:
    """Write claims: the verdict of each, and of each of its tests the figure and the verdict."""

    def lines() -> Iterator[str]:
        yield '| | claim, and what would show it | figure | verdict |'
        yield '|---|---|---|---|'
        for claim in claims:
            verdict, outcomes = claim.judge(results, measured)
            yield f'| **{claim.number}** | **{claim.sentence}** | | **{verdict.value}** |'
            for outcome in outcomes:
                figure = outcome.figure or '; '.join(f'{name}: {_absence(name)}' for name in outcome.missing)
                yield f'| | {_shown(outcome.words)} | {_shown(figure)} | {outcome.verdict.value} |'

    return '\n'.join(lines())


def _with_rows(claims: Sequence[Claim], results: Results) -> list[Claim]:
    """List the claims of which at least one comparison of networks with the whole budget can be made."""

    def can_be_judged(claim: Claim) -> bool:
        pairs = [(test.first, test.second) for test in claim.tests if isinstance(test, Inequality)]
        return any(any(name.endswith(WHOLE) for name in pair) and all(map(results.get, pair)) for pair in pairs)

    return [claim for claim in claims if can_be_judged(claim)]


def parts_of(results: Results, measured: Measured) -> dict[str, str]:
    """Write all generated parts of the page by their names."""
    image_sets = list(dict.fromkeys(row['images'] for row in results[MANET] if row['set'] != REDUCED))
    systems = [entry.name for entry in ENTRIES if not entry.is_solver and not entry.study]
    short = [name for name in systems if not name.endswith(WHOLE) and name != LONGEST]
    whole = ['bicubic', *(name for name in systems if name not in short)]
    machines = dict.fromkeys(row['machine'] for rows in results.values() for row in rows)
    return {
        'results': f'Measured on {"; ".join(machines)}.\n{result_tables(results, image_sets, short, MANET)}',
        'whole results': result_tables(results, image_sets, whole, MANET + WHOLE),
        'solvers': solver_table(results, image_sets),
        'study': study_table(results),
        'claims': claim_table(CLAIMS, results, measured),
        'whole claims': claim_table(_with_rows(WHOLE_CLAIMS, results), results, measured),
        'costs': cost_table(measured),
    }
