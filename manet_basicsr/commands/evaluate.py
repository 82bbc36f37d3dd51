"""Run the paper's evaluation: any number of methods on the whole protocol, in one command.

    basicsr evaluate OUTPUT --images datasets/Set5 datasets/BSD100.lmdb --methods bicubic fixed \\
        MANet=options/test/test_MANet_stage1_x4.yml options/test/test_BlindSR_stage3_x4.yml

IMAGES are folders or LMDBs of HR images. Methods are
    bicubic       interpolation on the grid that the LR image lies on
    FILE.yml      a BasicSR option file with weights, of stage 1, 2 or 3 or of a stock network; NAME=FILE.yml names it.
                  A file of training stands for the weights of its experiment (experiments/NAME/models/net_g_latest.pth)
                  Without a path: the name of a file that ships, or weights that ship, such as weights://blind_x4
    oracle        the generator of --generator, told the true kernel field
    mean          ... told one kernel, the mean of the true field
    fixed         ... told the isotropic kernel in the middle of the training range
    dip, bsrdm .. solvers, fitted to each image by itself: minutes an image on a CPU (docs/EVALUATION.md lists them).
                  --budget short shortens what may be shortened; the name in the tables tells every setting that is
                  other than its paper's. dip[steps=500] sets them one by one, [seed=1] draws anew
mean and fixed also run without a generator: then only their kernels are scored. So are solvers that restore nothing.

Sets: invariant (nine kernels an image), type1 .. type6, and beyond Gaussians motion, object_motion, defocus, each also
as *_variant; --field adds others: --field 'measured={type: bank, folder: datasets/kernels}', alone after an empty
--sets.

OUTPUT gets results.md, results.csv and records.jsonl, a line for each image and method. The same command again goes on
where it was stopped, and scores anew what has changed. docs/EVALUATION.md says what the numbers mean.
Exit codes: 0 done; 1 images failed, listed at the end, or the tables cannot be written; 2 wrong options, nothing was
done; 130 interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.commands.failures import say_failure
from manet_basicsr.degradation import ALIGNMENTS
from manet_basicsr.degradation.sets import PAPER_SETS, SETS
from manet_basicsr.evaluation import build_methods, evaluate, plan_conditions, write_tables
from manet_basicsr.evaluation.conditions import parse_fields
from manet_basicsr.evaluation.tables import markdown, summarize
from manet_basicsr.options.errors import OptionError
from manet_basicsr.utils.console import say
from manet_basicsr.utils.progress import with_progress
from manet_basicsr.zero_shot import BUDGETS

# What the library says of its arguments, by the flags that they come from.
_FLAGS = {name: f'--{name}' for name in ('field', 'limit', 'sets', 'generator', 'budget')} | {'output': 'OUTPUT'}


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('output', type=Path, metavar='OUTPUT', help='folder of the results; made if missing')
    parser.add_argument('--images', nargs='+', required=True, metavar='IMAGES')
    parser.add_argument('--methods', nargs='+', default=['bicubic', 'fixed'], metavar='METHOD')
    parser.add_argument('--generator', nargs='+', default=[], metavar='FILE', help='one for each scale')
    parser.add_argument('--budget', choices=BUDGETS, default='full', help='of solvers; default full')
    parser.add_argument(
        '--sets', nargs='*', choices=SETS, default=list(PAPER_SETS), metavar='SET',
        help=f'some of {", ".join(SETS)}; default: {" ".join(PAPER_SETS)}',
    )  # fmt: skip
    parser.add_argument('--field', nargs='+', default=[], metavar='NAME={...}', help='further sets, as in option files')
    parser.add_argument('--scales', type=int, nargs='+', default=[4], metavar='S', help='default 4')
    parser.add_argument(
        '--corruptions', nargs='+', default=['clean'], metavar='C', help='clean, noise15, jpeg70, noise15+jpeg70, ...'
    )
    parser.add_argument('--alignments', nargs='+', choices=ALIGNMENTS, default=['centered'])
    parser.add_argument('--kernel-size', type=int, default=21, metavar='TAPS', help='default 21')
    parser.add_argument('--limit', type=int, metavar='N', help='only the first N images of each set')
    return parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser(prog).parse_args(arguments)
    try:
        conditions = plan_conditions(
            options.images,
            sets=options.sets,
            scales=options.scales,
            alignments=options.alignments,
            corruptions=options.corruptions,
            kernel_size=options.kernel_size,
            more_fields=parse_fields(options.field),
        )
        methods = build_methods(options.methods, options.generator, budget=options.budget)
        result = evaluate(
            conditions, methods, options.output / 'records.jsonl', limit=options.limit, progress=with_progress
        )
    except (OptionError, ValueError, OSError) as error:
        return say_failure(error, _FLAGS)
    except KeyboardInterrupt:
        say(f'interrupted; the same command goes on from {options.output / "records.jsonl"}', error=True)
        return 130
    say(markdown(summarize(result)))  # before anything that can fail
    try:
        write_tables(result, options.output)
    except OSError as error:
        say_failure(error)
        say(
            f'all rows are in {options.output / "records.jsonl"}; the same command makes the tables of them', error=True
        )
        return 1
    say(f'in {options.output}: results.md, results.csv and records.jsonl')
    for failure in result.failures:
        say(f'failed: {failure}', error=True)
    if result.failures:
        say(f'{len(result.failures)} images failed; the same command tries them again', error=True)
    return 1 if result.failures else 0
