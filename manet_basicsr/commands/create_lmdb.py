"""Pack a folder of images into an LMDB that BasicSR's datasets and SVDegradationDataset read.

    basicsr create-lmdb INPUT_FOLDER OUTPUT.lmdb

The LMDB appears under its name when it is whole: after an interruption start again. Exit codes: 0 done; 1 an image is
damaged (with --on-error skip the LMDB has all the others); 2 nothing was done, the message says why.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.commands.failures import say_failure
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.data.preparation import ConflictError, available_cpus
from manet_basicsr.utils.console import say
from manet_basicsr.utils.errors import BadSampleError
from manet_basicsr.utils.progress import with_progress


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('input_folder', type=Path, metavar='INPUT_FOLDER')
    parser.add_argument('output', type=Path, metavar='OUTPUT.lmdb')
    parser.add_argument(
        '--raw',
        action='store_true',
        help='store pixels (as PPM files) instead of PNG files: larger, but nothing needs decoding; '
        'images with alpha or 16 bits stay PNG',
    )
    parser.add_argument(
        '--compression-level', type=int, choices=range(10), default=1, metavar='0-9', help='of PNG, default 1'
    )
    parser.add_argument('--recursive', action='store_true', help='subfolders, too; keys are then SUBFOLDER/NAME')
    parser.add_argument('--force', action='store_true', help='replace an existing OUTPUT.lmdb')
    parser.add_argument(
        '--on-error',
        choices=['fail', 'skip'],
        default='fail',
        help='a damaged image ends the run without output (default), or is named and left out',
    )
    parser.add_argument('--workers', type=int, default=available_cpus(), metavar='N', help='default: one a CPU')
    return parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser(prog).parse_args(arguments)
    try:
        summary = write_lmdb(
            options.input_folder,
            options.output,
            raw=options.raw,
            compression_level=options.compression_level,
            recursive=options.recursive,
            skip_damaged=options.on_error == 'skip',
            overwrite=options.force,
            workers=max(options.workers, 1),
            progress=with_progress,
        )
    except (ConflictError, BadSampleError, OSError) as error:
        return say_failure(error)
    except KeyboardInterrupt:
        say(f'interrupted; {options.output} was not changed', error=True)
        return 130
    for message in summary.skipped:
        say(f'skipped: {message}', error=True)
    kept = f', {summary.written - summary.raw} of them as PNG' if options.raw and summary.raw < summary.written else ''
    say(f'{options.output}: {summary.written} images{kept}, {len(summary.skipped)} damaged images left out')
    return 1 if summary.skipped else 0
