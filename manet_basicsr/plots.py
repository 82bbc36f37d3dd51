"""Pictures of numbers: training curves out of tensorboard's logs, and comparisons out of evaluations' tables.

Needs matplotlib (``pip install manet_basicsr[plot]``).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manet_basicsr.files import atomic_path

#: Metrics of results.csv that are compared, with the name of their axis.
COMPARED = {'lr_psnr': 'LR PSNR_Y (dB)', 'psnr': 'PSNR_Y (dB)', 'kernel_psnr': 'kernel PSNR (dB)'}
_PANEL_INCHES = (5.0, 3.4)


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
        raise ValueError(f'{folder} holds no tensorboard logs, expected tb_logger/NAME of a training')
    events = EventAccumulator(str(folder), size_guidance={'scalars': 0})
    events.Reload()
    curves = []
    for tag in sorted(events.Tags()['scalars']):
        if tag.startswith(('losses/', 'metrics/')):
            points = sorted({event.step: event.value for event in events.Scalars(tag)}.items())
            steps, values = zip(*points, strict=True)
            curves.append(Curve(folder.name, tag, steps, values))
    if not curves:
        raise ValueError(f'{folder}: its tensorboard logs have neither losses nor metrics')
    return curves


def read_results(path: Path) -> list[dict[str, str]]:
    """Read the ``results.csv`` of an evaluation.

    Raises:
        ValueError: It is none.
    """
    with path.open(newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    if not rows or not {'method', 'set', *COMPARED} <= rows[0].keys():
        raise ValueError(f'{path} is not the results.csv of an evaluation')
    return rows


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
        results: Rows of ``results.csv``; a line for each set, a dot on it for each method.
        smoothing: Weight of the past, 0 to below 1, in curves of losses.

    Raises:
        ValueError: There is nothing to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tags = list(dict.fromkeys(curve.tag for curve in curves))
    metrics = [metric for metric in COMPARED if any(row[metric] for row in results)]
    methods = list(dict.fromkeys(row['method'] for row in results))
    number = len(tags) + len(metrics)
    if not number:
        raise ValueError('there is nothing to draw: no curves, and no results with a metric')
    columns = min(3, number)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1]), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel in panels[number:]:
        panel.remove()
    for panel, tag in zip(panels, tags, strict=False):
        _draw_curves(panel, tag, [curve for curve in curves if curve.tag == tag], smoothing)
    for panel, metric in zip(panels[len(tags) :], metrics, strict=False):
        _draw_comparison(panel, metric, [row for row in results if row[metric]], methods)
    if methods:
        dots = [Line2D([], [], marker='o', linestyle='', color=f'C{number}') for number in range(len(methods))]
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


def _draw_comparison(panel: Any, metric: str, rows: Sequence[Mapping[str, str]], methods: Sequence[str]) -> None:
    """Draw a line for each set, named by what differs between the sets, and on it a dot for each method.

    Dots, because decibels have no zero that bars could begin at.
    """
    places = [name for name in ('images', 'scale', 'alignment', 'corruption') if len({row[name] for row in rows}) > 1]
    sets = list(dict.fromkeys(tuple(row[name] for name in (*places, 'set')) for row in rows))
    values = {(tuple(row[name] for name in (*places, 'set')), row['method']): float(row[metric]) for row in rows}
    finite = [value for value in values.values() if math.isfinite(value)] or [0.0]
    margin = max(0.5, 0.12 * (max(finite) - min(finite)))
    exact_at = max(finite) + margin
    for number, method in enumerate(methods):
        shift = 0.6 * ((number + 1) / (len(methods) + 1) - 0.5)
        present = [(place + shift, values[name, method]) for place, name in enumerate(sets) if (name, method) in values]
        dots = [(min(value, exact_at), at) for at, value in present]
        # Every panel goes through the colours in the order of all methods, so that each keeps its own.
        panel.plot(*(zip(*dots, strict=True) if dots else ((), ())), 'o', color=f'C{number}')
        for (x, y), (_, value) in zip(dots, present, strict=True):
            words = f'{value:.2f}' if math.isfinite(value) else 'exact'
            panel.annotate(words, (x, y), (5, 0), textcoords='offset points', va='center', fontsize='x-small')
    panel.set_yticks(range(len(sets)), [' '.join(name) for name in sets])
    panel.invert_yaxis()
    panel.set_xlim(min(finite) - margin, exact_at + 2 * margin)
    panel.grid(axis='x', alpha=0.3)
    panel.set_title(COMPARED[metric])
