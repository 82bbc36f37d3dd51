"""Compare MANet with the systems that the paper's authors compare with: docs/PEERS.md.

    python tools/peers_train.py results/peers --data datasets/photos1200.lmdb
    python tools/peers.py results/peers --images datasets/Set5 datasets/BSD100 --page docs/PEERS.md \\
        --scores results/peers/scores.csv --plot docs/peers_patches.png --picture docs/peers.png

scores every row whose weights are there, judges the claims, and writes tables. What was scored is in
OUTPUT/records.jsonl, what was measured beside in OUTPUT/measured.json, and neither is done again. Rows whose weights
are not there have the scores that --scores has of them, and that file gets the new ones.

Solvers take minutes an image, and are run on three of the nine invariant kernels. --solver-images, --solver-sets,
--seeds and --budget make less of them; tables say which images and seeds there are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import manet_basicsr  # noqa: F401  (before basicsr, which it mends)

# isort: split
from peers_measure import draw_patches, measure_missing
from peers_page import SETS, fill, parts_of
from peers_picture import draw, panels_of
from peers_rows import BY_NAME, ENTRIES, MANET, REDUCED, SHORTENED, Choice, at_whole_budget, shown_name
from peers_scores import with_scores

from manet_basicsr.data.images import open_images
from manet_basicsr.evaluation import evaluate, plan_conditions
from manet_basicsr.evaluation.paired import group_by_method
from manet_basicsr.evaluation.records import Row
from manet_basicsr.evaluation.runner import machine
from manet_basicsr.utils.files import atomic_path, write_lines
from manet_basicsr.utils.progress import with_progress
from manet_basicsr.zero_shot import BUDGETS


def compare(images: Sequence[str], limit: int, choice: Choice) -> tuple[dict[str, list[Row]], list[str]]:
    """Score all rows that are there.

    Args:
        images: Folders or LMDBs of HR images.
        limit: Images of each.
        choice: Which rows, and how much of solvers.

    Returns:
        The rows of the evaluation by the name of the row of the comparison, and what failed.
    """
    conditions = plan_conditions(images, sets=SETS, more_fields={REDUCED: {'type': 'bicubic'}})
    known = {name for root in images for name in open_images(root).names}
    if unknown := set(choice.solver_images) - known:
        raise ValueError(f'--solver-images: found {min(unknown)}, expected some of {", ".join(sorted(known))}')
    methods = choice.methods()
    result = evaluate(
        conditions,
        [method for _, method in methods.values()],
        choice.output / 'records.jsonl',
        limit=limit,
        wanted=lambda method, condition, sample: choice.wants(methods[method.name][0], condition, sample),
        progress=with_progress,
    )
    grouped = group_by_method(result.rows, {name: entry.name for name, (entry, _) in methods.items()})
    about = {'machine': ', '.join(f'{key} {value}' for key, value in machine().items())}
    sums = {name: entry.checksum(choice.output, name) for name, (entry, _) in methods.items()}
    for rows in grouped.values():
        words = ({'method': shown_name(row['method']), 'weights': sums[row['method']]} for row in rows)
        rows[:] = [{**row, **about, **more} for row, more in zip(rows, words, strict=True)]
    for name in SHORTENED if choice.budget == 'full' else ():
        if name in grouped:
            grouped[at_whole_budget(name)] = grouped[name]
    return grouped, [str(failure) for failure in result.failures]


def generator_of(output: Path) -> str:
    """Sum up the generator of the trainings, as ``Entry.checksum``; '' where there is none."""
    entry = BY_NAME['mean']
    return entry.checksum(output, entry.name) if all(file.is_file() for file in entry.weights(output).values()) else ''


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        'output', type=Path, metavar='OUTPUT', help='folder of the trainings and of the results; made if missing'
    )
    parser.add_argument('--images', nargs='+', required=True, metavar='IMAGES')
    parser.add_argument('--limit', type=int, default=20, metavar='N', help='images of each set; default 20')
    parser.add_argument(
        '--rows', nargs='+', default=[], choices=[entry.name for entry in ENTRIES], metavar='ROW', help='default: all'
    )
    parser.add_argument('--budget', choices=BUDGETS, default='full', help='of solvers; default full')
    parser.add_argument('--seeds', type=int, default=3, metavar='N', help='of solvers; default 3')
    parser.add_argument('--solver-images', nargs='+', default=[], metavar='NAME', help='without suffix; default: all')
    parser.add_argument('--solver-sets', nargs='+', default=[], choices=SETS, metavar='SET', help='default: all')
    parser.add_argument('--scores', type=Path, metavar='FILE', help='table of the scores of every image, .csv')
    parser.add_argument('--page', type=Path, metavar='FILE', help='page whose marked parts are written anew')
    parser.add_argument('--plot', type=Path, metavar='FILE', help='LR PSNR over the size of patches')
    parser.add_argument('--picture', type=Path, metavar='FILE', help='one scene by every method')
    parser.add_argument('--scene', default='butterfly', metavar='NAME', help='of the picture, in the first IMAGES')
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code: 1 where images failed."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.page and args.rows:
        parser.error('--page: found with --rows, expected without it: rows that are not asked for would be gone')
    output = args.output.resolve()
    choice = Choice(
        output, tuple(args.rows), args.budget, args.seeds, tuple(args.solver_images), tuple(args.solver_sets)
    )
    if not BY_NAME[MANET].seeds(output) and not (args.scores and args.scores.is_file()):
        parser.error(f'OUTPUT: found no {MANET} in {output}, which all are compared with; peers_train.py makes it')
    try:
        if args.scores and args.scores.is_file():
            with_scores({}, args.scores, generator_of(output))  # before the hours of work
        results, failures = compare(args.images, args.limit, choice)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if args.scores:
        try:
            results = with_scores(results, args.scores, generator_of(output))
        except ValueError as error:
            parser.error(str(error))
    if not results.get(MANET):
        parser.error(
            f'--scores: found no {MANET} in {args.scores}, which all are compared with; peers_train.py makes it'
        )
    measured = measure_missing(output, args.images, args.limit)
    parts = parts_of(results, measured)
    for name, part in parts.items():
        print(f'## {name}\n\n{part}\n')
    if args.page:
        text = fill(args.page.read_text(encoding='utf-8'), parts)
        with atomic_path(args.page) as temporary:
            write_lines(temporary, text)
    if args.plot:
        draw_patches(measured['patch_scores'], args.plot)
    if args.picture:
        draw(args.picture, panels_of(args.images[0], args.scene, choice))
    for failure in failures:
        print(f'failed: {failure}', file=sys.stderr)
    return int(bool(failures))


if __name__ == '__main__':
    raise SystemExit(main())
