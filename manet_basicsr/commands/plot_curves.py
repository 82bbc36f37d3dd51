"""Draw training curves and the comparison of methods as one picture.

    basicsr plot-curves ablation.png --runs tb_logger/train_MANet_stage1_x4 tb_logger/train_MANet_conv_x4 \\
        --results results/ablation/results.csv

Runs are folders that trainings with logger.use_tb_logger write; results the results.csv of basicsr evaluate.
Needs matplotlib: pip install '.[plot]' in the clone. Exit codes: 0 done; 2 nothing was drawn, the message says why.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.commands.failures import say_failure
from manet_basicsr.utils.console import say
from manet_basicsr.visualization.curves import plot, read_curves, read_results


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('picture', type=Path, metavar='PICTURE', help='png, pdf or svg')
    parser.add_argument('--runs', type=Path, nargs='+', default=[], metavar='FOLDER', help='tb_logger/NAME')
    parser.add_argument('--results', type=Path, nargs='+', default=[], metavar='CSV', help='results.csv')
    parser.add_argument(
        '--smoothing', type=float, default=0.0, metavar='WEIGHT', help='of the past in losses, 0 (default) to below 1'
    )
    return parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser(prog).parse_args(arguments)
    try:
        if not 0 <= options.smoothing < 1:
            raise ValueError(f'--smoothing: found {options.smoothing:g}, expected 0 to below 1')
        curves = [curve for run in options.runs for curve in read_curves(run)]
        results = [row for path in options.results for row in read_results(path)]
        plot(options.picture, curves, results, options.smoothing)
    except (ValueError, OSError, ImportError) as error:
        return say_failure(error)
    say(str(options.picture))
    return 0
