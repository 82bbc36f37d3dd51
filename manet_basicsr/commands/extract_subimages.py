"""Cut a folder of large images into overlapping sub-images, which training reads faster.

    basicsr extract-subimages INPUT_FOLDER OUTPUT_FOLDER

NAME.png becomes NAME_s001.png, NAME_s002.png, ...; 0001x4.png becomes 0001_s001.png, so that pairs keep one name (cut
LR images with crop size and step divided by the scale). After an interruption start again: complete sub-images are
kept. Exit codes: 0 done; 1 an image is damaged; 2 the message says why it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.commands.failures import say_failure
from manet_basicsr.data.preparation import ConflictError, available_cpus
from manet_basicsr.data.subimages import ImageReport, SubimageGrid, extract_subimages
from manet_basicsr.utils.console import say
from manet_basicsr.utils.progress import with_progress


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('input_folder', type=Path, metavar='INPUT_FOLDER')
    parser.add_argument('output_folder', type=Path, metavar='OUTPUT_FOLDER')
    parser.add_argument('--crop-size', type=int, default=480, metavar='PX', help='side of a sub-image, default 480')
    parser.add_argument('--step', type=int, default=240, metavar='PX', help='from one to the next, default 240')
    parser.add_argument(
        '--threshold',
        type=int,
        default=0,
        metavar='PX',
        help='what may be left over at the right and bottom border without one more sub-image, default 0',
    )
    parser.add_argument(
        '--compression-level', type=int, choices=range(10), default=3, metavar='0-9', help='of PNG, default 3'
    )
    parser.add_argument(
        '--on-error',
        choices=['fail', 'skip'],
        default='skip',
        help='a damaged image is named and left out (default), or ends the run',
    )
    parser.add_argument('--workers', type=int, default=available_cpus(), metavar='N', help='default: one a CPU')
    return parser


def collect_reports(options: argparse.Namespace) -> list[ImageReport]:
    """Cut the images as the options say, naming each that is left out; stop at a damaged one if asked to."""
    grid = SubimageGrid(options.crop_size, options.step, options.threshold)
    reports = []
    for report in extract_subimages(
        options.input_folder,
        options.output_folder,
        grid,
        compression_level=options.compression_level,
        workers=max(options.workers, 1),
        progress=with_progress,
    ):
        reports.append(report)
        if report.too_small:
            say(f'too small: {report.too_small}', error=True)
        if report.damaged:
            say(f'damaged: {report.damaged}', error=True)
            if options.on_error == 'fail':
                break
    return reports


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser(prog).parse_args(arguments)
    try:
        reports = collect_reports(options)
    except (ConflictError, OSError) as error:
        return say_failure(error)
    except KeyboardInterrupt:
        say('interrupted; start again to go on', error=True)
        return 130
    damaged = [report.damaged for report in reports if report.damaged]
    say(
        f'{options.output_folder}: {sum(report.written for report in reports)} sub-images written, '
        f'{sum(report.kept for report in reports)} were there; left out: '
        f'{sum(report.too_small is not None for report in reports)} images too small, {len(damaged)} damaged'
    )
    for message in damaged:
        say(f'damaged: {message}', error=True)
    return 1 if damaged else 0
