"""How time and memory grow with the size of the work: the curves of tools/benchmark.py, item i.

Whatever is local costs the same for each pixel: in logarithms a straight line of slope 1. Small work lies above it,
where calls cost more than pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from benchmark_measure import in_child, measure_work
from benchmark_work import SCALE, Setting, Work, estimate_photo, restore_photo, step_ours, variant_ours

#: The letter of the item.
COST = 'i'
_MIB = 2**20
_FITTED = 3  # of the largest sizes: the slope is theirs


def _photo(prepare: Callable[..., Work], scale: int = 1) -> Callable[[Setting, int], Work]:
    return lambda setting, side: prepare(setting, size=(side // scale, side // scale))


#: What is done, with the sizes it is done at; sides are those of the HR image.
_SIDES, _FEW_SIDES = (64, 128, 256, 512, 1024, 2048), (64, 128)
CURVES: dict[str, tuple[str, Callable[[Setting, int], Work]]] = {
    'degrade': ('side', _photo(variant_ours)),
    'estimate': ('side', _photo(estimate_photo, SCALE)),
    'restore': ('side', _photo(restore_photo, SCALE)),
    'step': ('batch', lambda setting, batch: step_ours(setting, batch, 96, compile=False)),
}


def sizes(name: str, setting: Setting) -> tuple[int, ...]:
    """List the sides of images, or the batch sizes, that a curve has."""
    if CURVES[name][0] == 'batch':
        return setting.choose((1, 2, 4, 8, 16, 32, 64), (1, 2))
    return setting.choose(_SIDES, _FEW_SIDES)


def pixels(name: str, size: int) -> int:
    """Count the HR pixels of the work."""
    return size * 96**2 if CURVES[name][0] == 'batch' else size**2


def measure_point(key: str, setting: Setting) -> dict[str, float]:
    """Measure one point, such as ``i-degrade-256``, in this process: ``seconds`` and ``bytes``."""
    _, name, size = key.split('-')
    prepare = CURVES[name][1]
    return measure_work(lambda: prepare(setting, int(size)), lambda: prepare(setting, sizes(name, setting)[0]), setting)


def cost_curves(setting: Setting, in_processes: bool) -> dict[str, list[dict[str, float]]]:
    """Measure all points, each in a process of its own."""
    curves: dict[str, list[dict[str, float]]] = {}
    for name in CURVES:
        curves[name] = []
        for size in sizes(name, setting):
            key = f'{COST}-{name}-{size}'
            print(f'cost against size: {name}, {CURVES[name][0]} {size}', file=sys.stderr, flush=True)
            point = in_child(key, setting) if in_processes else measure_point(key, setting)
            curves[name].append({'size': size, 'pixels': pixels(name, size), **point})
    return curves


def slope(points: list[dict[str, float]], what: str) -> float:
    """Fit the slope of the logarithms over the largest sizes."""
    last = points[-_FITTED:]
    counts, values = ([max(point[key], 1e-9) for point in last] for key in ('pixels', what))
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def cost_table(curves: dict[str, list[dict[str, float]]]) -> str:
    """Write the curves as a Markdown table, with their slopes."""
    lines = ['| cost against size | time, memory | slope of time | slope of memory |', '|---|---|---:|---:|']
    for name, points in curves.items():
        cells = ', '.join(
            f'{point["size"]:g}: {1000 * point["seconds"]:,.3g} ms, {point["bytes"] / _MIB:,.0f} MiB'
            for point in points
        )
        slopes = ' | '.join(f'{slope(points, what):.2f}' for what in ('seconds', 'bytes'))
        lines.append(f'| {name}, by {CURVES[name][0]} | {cells} | {slopes} |')
    return '\n'.join(lines)


def draw_costs(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw time and memory against pixels, both in logarithms, with a line of slope 1 beside them."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), constrained_layout=True)
    for axis, key, unit, factor in zip(axes, ('seconds', 'bytes'), ('seconds', 'MiB'), (1, 1 / _MIB), strict=True):
        for name, points in curves.items():
            shown = [point for point in points if point[key] > 0]
            axis.loglog([p['pixels'] for p in shown], [p[key] * factor for p in shown], 'o-', label=name, markersize=4)
        low, high = axis.get_xlim()
        bottom = axis.get_ylim()[0]
        axis.loglog([low, high], [bottom, bottom * high / low], ':', color='grey', label='slope 1')
        axis.set(xlabel='HR pixels', ylabel=unit, title='time' if key == 'seconds' else 'peak memory')
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
