"""Pictures of numbers: training curves out of tensorboard's logs, and comparisons out of evaluations' tables.

Needs matplotlib (``pip install '.[plot]'`` in the clone).
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manet_basicsr.utils.files import atomic_path

#: Metrics of results.csv that are compared, with the name of their axis.
COMPARED = {'lr_psnr': 'LR PSNR_Y (dB)', 'psnr': 'PSNR_Y (dB)', 'kernel_psnr': 'kernel PSNR (dB)'}
#: What tells sets of one name apart.
_PLACES = ('images', 'scale', 'alignment', 'corruption')
_PANEL_INCHES = (5.0, 3.4)
_LINE_INCHES = 0.15


@dataclass(frozen=True)
class Curve:
    """One number over the iterations of one training.

    Attributes:
        run: Name of the training.
        tag: What it is, such as ``losses/l_kernel`` or ``metrics/Set5/lr_psnr``.
        steps: Iterations, ascending.
        values: The number at each.
    """

    run: str
    tag: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_curves(folder: Path) -> list[Curve]:
    """Read the losses and metrics that a training logged for tensorboard.

    Args:
        folder: ``tb_logger/NAME`` of a training with ``logger.use_tb_logger: true``.

    Returns:
        The curves, sorted by tag. Where a resumed training logged an iteration again, the last value counts.

    Raises:
        ValueError: There are no such logs in it.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not any(folder.glob('*tfevents*')):
        raise ValueError(
            f'{folder} holds no tensorboard logs, expected tb_logger/NAME of a training with logger.use_tb_logger'
        )
    events = EventAccumulator(str(folder), size_guidance={'scalars': 0})
    events.Reload()
    curves = []
    for tag in sorted(events.Tags()['scalars']):
        if tag.startswith(('losses/', 'metrics/')):
            points = sorted({event.step: event.value for event in events.Scalars(tag)}.items())
            steps, values = zip(*points, strict=True)
            curves.append(Curve(folder.name, tag, steps, values))
    if not curves:
        raise ValueError(f'{folder}: its logs have neither losses nor metrics, expected a training')
    return curves


def read_results(path: Path) -> list[dict[str, str]]:
    """Read the ``results.csv`` of an evaluation.

    Raises:
        ValueError: It is none.
    """
    expected = 'expected the results.csv that an evaluation writes'
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise ValueError(f'{path} cannot be read ({error.strerror}), {expected}') from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{path} is no table, {expected}') from error
    if not rows or not {'method', 'set', *_PLACES, *COMPARED} <= rows[0].keys():
        raise ValueError(f'{path} is not the results.csv of an evaluation, {expected}')
    for number, row in enumerate(rows, start=2):
        for metric in COMPARED:
            if not _is_number_or_empty(row[metric]):
                found = f'{metric} {row[metric]!r}'
                raise ValueError(f'{path}, line {number}: found {found}, expected a number')
    return rows


def _is_number_or_empty(text: str | None) -> bool:
    try:
        return text == '' or math.isfinite(float(text or 'nan')) or text == 'inf'
    except ValueError:
        return False


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Average a curve over its past exponentially, ``m = weight m + (1 - weight) value``, corrected at its begin."""
    mean, norm, result = 0.0, 0.0, []
    for value in values:
        mean, norm = weight * mean + (1 - weight) * value, weight * norm + (1 - weight)
        result.append(mean / norm)
    return result


def plot(
    path: Path, curves: Sequence[Curve] = (), results: Sequence[Mapping[str, str]] = (), smoothing: float = 0.0
) -> None:
    """Draw one picture: a panel for each tag of the curves, and one for each metric that the results have.

    Args:
        path: The picture; its suffix (png, pdf, svg) is its format.
        curves: Training curves; those of one tag share a panel.
        results: Rows of ``results.csv``; a band for each set, a dot in it for each method.
        smoothing: Weight of the past, 0 to below 1, in curves of losses.

    Raises:
        ValueError: There is nothing to draw, no such format, or a method has two results on a set.
        OSError: The picture cannot be written.
    """
    from matplotlib.backend_bases import FigureCanvasBase
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    counted = Counter((_set_of(row), row['method']) for row in results)
    for (where, method), times in counted.items():
        if times > 1:
            raise ValueError(
                f'found {method} on {where[-1]} {times} times, expected once: rename it in one of the tables'
            )
    tags = list(dict.fromkeys(curve.tag for curve in curves))
    metrics = [metric for metric in COMPARED if any(row[metric] for row in results)]
    methods = list(dict.fromkeys(row['method'] for row in results))
    number = len(tags) + len(metrics)
    if not number:
        raise ValueError('there is nothing to draw, expected curves of runs or results with a metric')
    if path.suffix.lower().removeprefix('.') not in FigureCanvasBase.get_supported_filetypes():
        raise ValueError(f"picture '{path}', expected a name that ends in .png, .pdf or .svg")
    columns = min(3, number)
    rows = math.ceil(number / columns)
    sets = _names_of_sets(results)
    # A comparison is as high as its lines are many, a row of panels as its highest.
    heights = [_PANEL_INCHES[1]] * len(tags)
    heights += [max(1.5, 0.8 + _LINE_INCHES * len(sets) * (len(methods) + 1))] * len(metrics)
    row_heights = [max(heights[row * columns : (row + 1) * columns]) for row in range(rows)]
    figure = Figure(figsize=(columns * _PANEL_INCHES[0], sum(row_heights)), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False, height_ratios=row_heights).flatten()
    for panel in panels[number:]:
        panel.remove()
    for panel, tag in zip(panels, tags, strict=False):
        _draw_curves(panel, tag, [curve for curve in curves if curve.tag == tag], smoothing)
    for panel, metric in zip(panels[len(tags) :], metrics, strict=False):
        _draw_comparison(panel, metric, [row for row in results if row[metric]], methods, sets)
    if methods:
        dots = [Line2D([], [], **_dot(number)) for number in range(len(methods))]
        figure.legend(dots, methods, loc='outside lower right', ncols=min(6, len(methods)), fontsize='small')
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw_curves(panel: Any, tag: str, curves: Sequence[Curve], smoothing: float) -> None:
    for curve in curves:
        values = smoothed(curve.values, smoothing) if tag.startswith('losses/') else curve.values
        panel.plot(curve.steps, values, label=curve.run, marker='.' if len(curve.steps) < 30 else None)
    panel.set_title(tag.partition('/')[2])
    panel.set_xlabel('iteration')
    panel.grid(alpha=0.3)
    panel.legend(fontsize='small')


def _names_of_sets(results: Sequence[Mapping[str, str]]) -> dict[tuple[str, ...], str]:
    """Name each set of the results by what differs between them, in their order."""
    places = [name for name in _PLACES if len({row[name] for row in results}) > 1]
    return {
        _set_of(row): ' '.join(f'x{row[name]}' if name == 'scale' else row[name] for name in (*places, 'set'))
        for row in results
    }


def _dot(number: int) -> dict[str, Any]:
    """Give the look of a method's dots: ten colours, and from the eleventh method on other shapes."""
    return {'marker': 'osD^v'[number // 10 % 5], 'linestyle': '', 'color': f'C{number % 10}'}


def _set_of(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in (*_PLACES, 'set'))


def _draw_comparison(
    panel: Any,
    metric: str,
    rows: Sequence[Mapping[str, str]],
    methods: Sequence[str],
    sets: Mapping[tuple[str, ...], str],
) -> None:
    """Draw a band for each set, the same in every panel, and in it a line for each method with a dot.

    Dots, because decibels have no zero that bars could begin at.
    """
    values = {(_set_of(row), row['method']): float(row[metric]) for row in rows}
    finite = [value for value in values.values() if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    margin = max(0.5, 0.12 * (high - low))
    exact_at, has_exact = high + 2 * margin, len(finite) < len(values)
    # Methods without this metric take no line, so that the dots of a set lie about its label.
    shown = [method for method in methods if any(method == other for _, other in values)]
    for number, method in enumerate(shown):
        shift = (number + 1) / (len(shown) + 1) - 0.5
        present = [(place + shift, values[name, method]) for place, name in enumerate(sets) if (name, method) in values]
        dots = [(min(value, exact_at), at) for at, value in present]
        panel.plot(*zip(*dots, strict=True), **_dot(methods.index(method)))
        for (x, y), (_, value) in zip(dots, present, strict=True):
            words = f'{value:.2f}' if math.isfinite(value) else 'exact'
            panel.annotate(words, (x, y), (5, 0), textcoords='offset points', va='center', fontsize='x-small')
    for place in range(0, len(sets), 2):
        panel.axhspan(place - 0.5, place + 0.5, color='0.93', zorder=0)
    panel.set_yticks(range(len(sets)), list(sets.values()))
    panel.tick_params(axis='y', length=0)
    # Whole bands, the first on top: limits that follow the dots would put one set at other heights in each panel.
    panel.set_ylim(len(sets) - 0.5, -0.5)
    # Room for the number beside the rightmost dot.
    panel.set_xlim(low - margin, (exact_at if has_exact else high) + 2 * margin)
    if has_exact:
        # An exact match has no place on the axis, so it stands beyond its end.
        panel.axvline(exact_at - 0.4 * margin, color='0.6', linewidth=0.8, linestyle=':')
        panel.set_xticks([tick for tick in panel.get_xticks() if finite and low - margin <= tick <= high + margin])
    panel.grid(axis='x', alpha=0.3)
    panel.set_title(COMPARED[metric])
