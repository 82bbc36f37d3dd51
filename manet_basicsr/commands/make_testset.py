"""Make test sets on disk: LR images, and a manifest of the true kernel behind each of their pixels.

    basicsr make-testset HR_IMAGES OUTPUT --scale 2 3 4 --sets invariant type1 type5

HR_IMAGES is a folder or an LMDB. The sets are those of basicsr evaluate: invariant (nine kernels an image), type1 ..
type6, and beyond Gaussians motion, object_motion, defocus, each also as *_variant; --field adds others:
--field 'measured={type: bank, folder: datasets/kernels}', alone with an empty --sets.
They are OUTPUT/x4/invariant/NAME_k0.png .. NAME_k8.png, OUTPUT/x4/type1/NAME.png and so on, each with its kernels.json;
what differs from the plain set is in their names (type1_noise15_jpeg70). They are what SVDegradationDataset makes on
the fly; a set of a bank has a copy of it.
To test on a set, in an option file:

    datasets:
      test:
        name: Set5_x4
        type: SVDegradationDataset
        dataroot_gt: HR_IMAGES
        dataroot_lq: OUTPUT/x4/invariant
        kernels: OUTPUT/x4/invariant/kernels.json

All sets appear when they are whole, or none does. Exit codes: 0 done; 1 an image is damaged or too small; 2 nothing was
done, the message says why.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.commands.failures import say_failure
from manet_basicsr.data.images import BadSampleError
from manet_basicsr.data.testset import Corruption, write_testsets
from manet_basicsr.degradation import ALIGNMENTS
from manet_basicsr.degradation.sets import PAPER_SETS, SETS, parse_corruption
from manet_basicsr.evaluation.conditions import parse_fields
from manet_basicsr.utils.console import say
from manet_basicsr.utils.progress import with_progress


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('images', type=Path, metavar='HR_IMAGES', help='folder, or LMDB if its name ends in .lmdb')
    parser.add_argument('output', type=Path, metavar='OUTPUT')
    parser.add_argument('--scale', type=int, nargs='+', default=[4], metavar='S', help='default 4')
    parser.add_argument(
        '--sets', nargs='*', choices=SETS, default=list(PAPER_SETS), metavar='SET',
        help=f'some of {", ".join(SETS)}; default: {" ".join(PAPER_SETS)}',
    )  # fmt: skip
    parser.add_argument('--field', nargs='+', default=[], metavar='NAME={...}', help='further sets, as in option files')
    parser.add_argument(
        '--alignment', choices=ALIGNMENTS, default='centered', help='published: the grid of the released weights'
    )
    parser.add_argument('--kernel-size', type=int, default=21, metavar='TAPS', help='default 21')
    parser.add_argument(
        '--corruption', default='clean', metavar='C',
        help="clean, noise15, jpeg70, noise15+jpeg70 (the paper's; jpeg50 too), or ranges such as noise0-15",
    )  # fmt: skip
    parser.add_argument(
        '--seed', type=int, metavar='N', help='of all that is random; default: what a test draws on the fly'
    )
    parser.add_argument('--force', action='store_true', help='replace existing sets')
    return parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser(prog).parse_args(arguments)
    try:
        noise, jpeg = parse_corruption(options.corruption)
        corruption = Corruption(
            alignment=options.alignment,
            kernel_size=options.kernel_size,
            noise=(noise[0], noise[1]),
            jpeg=None if jpeg is None else (jpeg[0], jpeg[1]),
            seed=options.seed,
        )
        folders = write_testsets(
            options.images,
            options.output,
            scales=options.scale,
            sets=options.sets,
            more_fields=parse_fields(options.field),
            corruption=corruption,
            overwrite=options.force,
            progress=with_progress,
        )
    except (BadSampleError, ValueError, OSError) as error:
        return say_failure(error, {'sets': '--sets', 'name of a set': '--field'})
    except KeyboardInterrupt:
        say(f'interrupted; {options.output} was not changed', error=True)
        return 130
    for folder in folders:
        say(f'{folder}: {len(list(folder.glob("*.png")))} images and their kernels.json')
    return 0
