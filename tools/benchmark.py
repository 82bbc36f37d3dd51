"""Measure the package against other forms of the same work: time, peak memory, and the ratios.

    make bench
    python tools/benchmark.py --only a,b

Prints a Markdown table and writes it beside a JSON file. The other form is the authors' (benchmark_published.py) where
a row does not say otherwise; where it has none, that does not fit into 24 GiB. Each side of a row is measured in
processes that do nothing else, the two sides in turn. Peak memory is how far the memory of such a process grows, inputs
and weights included; time is the median by torch.utils.benchmark, and behind it half the spread between processes.
The cost of images of many sizes (item i) is drawn as well, cost.png beside the table.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from benchmark_cases import ITEMS, make_cases
from benchmark_cost import COST, cost_curves, cost_table, draw_costs, measure_point
from benchmark_measure import ROUNDS, measure, measure_side, shares_of_convolutions
from benchmark_work import Setting

import manet_basicsr
from manet_basicsr.utils.device import cpu_name
from manet_basicsr.utils.files import check_writable

MIB = 2**20
_BUSY = 20  # per cent of the machine's CPU time; an idle one is below


def machine(setting: Setting) -> dict[str, str]:
    """Describe what is measured on, and how busy others keep it."""
    others = psutil.cpu_percent(interval=1.0)
    return {
        'machine': cpu_name() if setting.device == 'cpu' else torch.cuda.get_device_name(),
        'threads': str(torch.get_num_threads()),
        'clock': setting.clock,
        'load': ' '.join(f'{load:.1f}' for load in os.getloadavg()) + ' (1, 5, 15 minutes, at the start)',
        'others': f'{others:.0f} % of the CPU time' + (' (**not idle**)' if others > _BUSY else ''),
        'system': platform.platform(),
        'versions': f'python {platform.python_version()}, torch {torch.__version__}, '
        f'manet_basicsr {manet_basicsr.__version__}',
        'date': datetime.date.today().isoformat(),
    }


def _time(row: dict[str, Any], side: str) -> str:
    value = row.get(f'{side}_seconds')
    if value is None:
        return '-'
    spread = row.get(f'{side}_spread')
    return (f'{value:.3g} s' if value >= 1 else f'{1000 * value:.3g} ms') + (f' ± {spread / 2:.0%}' if spread else '')


def _memory(value: float | None) -> str:
    return '-' if value is None else f'{value / MIB:,.0f} MiB'


def _asked(row: dict[str, Any]) -> Iterator[str]:
    """Say of each target whether it is met."""
    targets = row['targets']
    if targets['speedup']:
        yield f'>= {targets["speedup"]:g}x: {_met(row["speedup"] >= targets["speedup"])}'
    if targets['memory_share'] and 'memory_share' in row:
        yield f'<= {targets["memory_share"]:.3g} of the memory: {_met(row["memory_share"] <= targets["memory_share"])}'
    if targets['memory_bound'] and 'ours_bytes' in row:
        yield f'<= {_memory(targets["memory_bound"])}: {_met(row["ours_bytes"] <= targets["memory_bound"])}'


def _met(yes: bool) -> str:
    return 'yes' if yes else '**no**'


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the measurements as a Markdown table."""
    lines = [
        '| | | against | ours | other | faster | ours, memory | other, memory | share | asked |',
        '|---|---|---|---:|---:|---:|---:|---:|---:|---|',
    ]
    for row in rows:
        title = row['title']
        if 'parameters' in row:
            title += f'; {row["parameters"]:,} parameters, {row["MACs_per_pixel"]:,} MACs a pixel'
        if 'ours_samples_per_second' in row:
            title += f' ({row["ours_samples_per_second"]:,.0f} against {row["other_samples_per_second"]:,.0f} a second)'
        faster = f'{row["speedup"]:.3g}x' if 'speedup' in row else '-'
        share = f'{row["memory_share"]:.3f}' if 'memory_share' in row else '-'
        item = f'{ITEMS[row["key"][0]]}: {title}'
        memories = (_memory(row.get(f'{side}_bytes')) for side in ('ours', 'other'))
        asked = '; '.join(_asked(row)) or '-'
        against = row.get('against') or '-'
        times = _time(row, 'ours'), _time(row, 'other')
        cells = [row['key'][0], item, against, *times, faster, *memories, share, asked]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def run(setting: Setting, items: Sequence[str], with_memory: bool = True, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure the items asked for, telling the progress on stderr."""
    about, rows = machine(setting), []
    cases = [case for case in make_cases(setting) if case.key[0] in items]
    for number, case in enumerate(cases, start=1):
        print(f'[{number}/{len(cases)}] {ITEMS[case.key[0]]}: {case.title}', file=sys.stderr, flush=True)
        rows.append(measure(case, setting, with_memory, rounds))
    report: dict[str, Any] = {**about, 'rows': rows}
    if 'd' in items:
        print("the ceiling: the step's convolutions alone", file=sys.stderr, flush=True)
        report['share_of_convolutions'] = shares_of_convolutions(rows, setting)
    if COST in items:
        report['costs'] = cost_curves(setting, in_processes=bool(rounds))
    return report


def text_of(report: dict[str, Any], command: str) -> str:
    """Write a report as Markdown."""
    names = ('machine', 'threads', 'clock', 'load', 'others', 'system', 'versions', 'date')
    about = [f'- {name}: {report[name]}' for name in names]
    lines = [*about, f'- command: `{command}`', '', table(report['rows'])]
    for key, share in report.get('share_of_convolutions', {}).items():
        lines += ['', f"{key}: the step's convolutions alone take {share:.0%} of its time (asked: >= 55%)."]
    if 'costs' in report:
        lines += ['', cost_table(report['costs'])]
    return '\n'.join(lines) + '\n'


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    letters = ', '.join(f'{letter}: {name}' for letter, name in (ITEMS | {COST: 'cost against size'}).items())
    parser.add_argument(
        '--only', default=','.join([*ITEMS, COST]), metavar='a,b', help=f'the items to measure; {letters}'
    )
    parser.add_argument('--quick', action='store_true', help='tiny sizes: whether it runs, not how fast')
    parser.add_argument(
        '--clock',
        default='wall',
        choices=['wall', 'cpu'],
        help='cpu: CPU time instead, for a busy machine, with OMP_NUM_THREADS=1; g then without a worker',
    )
    parser.add_argument(
        '--rounds', type=int, default=ROUNDS, help='processes that time each side; 0: this one; default %(default)s'
    )
    parser.add_argument('--no-memory', action='store_true', help='time alone')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', choices=['cpu', 'cuda'])
    parser.add_argument(
        '--output', type=Path, default=Path('bench/benchmark.json'), help='and .md beside it; default %(default)s'
    )
    parser.add_argument('--child', help=argparse.SUPPRESS)
    parser.add_argument('--side', help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    in_this_process = not options.rounds
    setting = Setting(options.device, options.quick, options.clock, compiling=not in_this_process)
    if options.child and options.child.startswith(COST):
        print(json.dumps(measure_point(options.child, setting)))
        return 0
    if options.child:
        case = next(case for case in make_cases(setting) if case.key == options.child)
        print(json.dumps(measure_side(case, options.side, setting, with_memory=not options.no_memory)))
        return 0
    items = options.only.split(',')
    if unknown := set(items) - {*ITEMS, COST}:
        parser.error(f'--only: {", ".join(sorted(unknown))}: expected some of {", ".join([*ITEMS, COST])}')
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for target in (options.output, options.output.with_suffix('.md'), options.output.with_name('cost.png')):
        check_writable(target)  # before an hour of work
    report = run(setting, items, with_memory=not options.no_memory, rounds=options.rounds)
    words = ' '.join(['python tools/benchmark.py', *(sys.argv[1:] if arguments is None else arguments)])
    text = text_of(report, f'OMP_NUM_THREADS={torch.get_num_threads()} {words}')
    options.output.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    options.output.with_suffix('.md').write_text(text, encoding='utf-8')
    if 'costs' in report:
        draw_costs(report['costs'], options.output.with_name('cost.png'))
    print(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
