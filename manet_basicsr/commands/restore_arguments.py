"""The flags of ``manet-restore``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manet_basicsr.data.images import IMAGE_SUFFIXES
from manet_basicsr.restoration.precision import PRECISIONS
from manet_basicsr.restoration.restoring import ALPHA, TILE
from manet_basicsr.utils.console import say
from manet_basicsr.utils.memory import memory_size
from manet_basicsr.weights import SHIPPED, describe_shipped
from manet_basicsr.zero_shot import BUDGETS, SOLVERS

_EXAMPLES = """examples:
  manet-restore photo.jpg -o restored                    # with the x4 weights that ship, weights://real_x4
  manet-restore holiday/ 'scans/**/*.tif' -o restored --weights mine.pth --max-memory 4G --kernels
  manet-restore clean.png -o restored --weights blind_x4 # no noise, no JPEG: those for clean images do more
  manet-restore - -o - --format jpg < photo.jpg > restored.jpg
  manet-restore --weights help                           # lists the weights that ship

photo.jpg becomes restored/photo_x4.png; --kernels adds photo_x4_kernels.npz (manet_basicsr.load_field reads it),
--figure photo_x4_figure.png and .pdf. Images that are there already are left alone, so an interrupted run can be
started again. Exit codes: 0 done; 1 some images failed or were not found, listed at the end; 2 wrong options, nothing
was done; 130 interrupted."""
FORMATS = ('png', 'tif', 'jpg', 'webp')
"""Of restored images."""


def _memory_size(text: str) -> int:
    try:
        return memory_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _Weights(argparse.Action):
    """Takes a file or an address; the word ``help`` lists the weights that ship, and ends the command."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if values == 'help' and not os.path.exists('help'):
            for line in _lines_of_shipped():
                say(line)
            parser.exit()
        setattr(namespace, self.dest, values)


def _lines_of_shipped() -> list[str]:
    """Describe the weights that ship, a line each."""
    lines = [
        f'{SHIPPED}{known.name}  x{known.scale}, {known.use}; trained on {known.trained_on}; {known.file}'
        for known in describe_shipped()
    ]
    return lines or ['no weights ship with this version']


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog='manet-restore',
        description='Estimate the blur kernel behind each pixel of photographs, and restore them with it.',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        'inputs',
        nargs='+',
        metavar='INPUT',
        help=f'files, folders (without those in them) or globs; {", ".join(IMAGE_SUFFIXES)}; - is the standard input',
    )
    parser.add_argument(
        '-o', '--output', required=True, type=Path, metavar='FOLDER', help='made if it is not there; - is the standard '
        'output, for one image',
    )  # fmt: skip
    parser.add_argument(
        '--weights', metavar='FILE', action=_Weights,
        help='of a blind network (stage 3), .pth or .safetensors, or a name of weights that ship, which help lists; '
        'default: real_x4, or up to --scale 2 real_x2',
    )  # fmt: skip
    parser.add_argument(
        '--scale', type=float, metavar='S', help='times as large as the input, 1 (sharpen alone) to the scale of the '
        'weights, which is the default (4 without --weights)',
    )  # fmt: skip
    parser.add_argument(
        '--method', metavar='NAME',
        help=f'learn from the photograph alone, without weights: {", ".join(sorted(SOLVERS))}; minutes for a small one',
    )  # fmt: skip
    parser.add_argument('--budget', choices=BUDGETS, default='full', help='of --method; short: less work; default full')
    parser.add_argument('--kernels', action='store_true', help='also save the kernel behind each pixel')
    parser.add_argument('--figure', action='store_true', help='also draw image, restoration and kernels, PNG and PDF')
    parser.add_argument('--format', choices=FORMATS, default='png', help='of the restored images, default png')
    parser.add_argument(
        '--frames', choices=('first', 'all'), default='first', help='of animations and pages: first, the default, or '
        'all, into an animation (png, which becomes an animated PNG, or webp; no GIF, also of a GIF) or pages (tif)',
    )  # fmt: skip
    parser.add_argument('--quality', type=int, default=95, metavar='1-100', help='of jpg and webp, default 95')
    parser.add_argument(
        '--alpha', choices=ALPHA, default='resample', help='of images that have it: resampled, the default, or restored'
    )
    parser.add_argument(
        '--suffix', metavar='TEXT', help='that the names of results get, default _x4 (or the scale that it is)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace files that are there already')
    _add_computing(parser)
    return parser


def _add_computing(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and how to compute."""
    parser.add_argument('--device', metavar='NAME', help='cpu, cuda, cuda:1 ...; default: cuda where there is one')
    parser.add_argument(
        '--precision', choices=PRECISIONS, default='auto', help='to compute in; auto, the default: a half precision '
        'where the device is fast in it (GPU: float16; CPU with AMX or AVX-512 BF16: bf16), else float32',
    )  # fmt: skip
    parser.add_argument(
        '--half', dest='precision', action='store_const', const='half', help='the older word for half precision'
    )
    parser.add_argument(
        '--max-memory', type=_memory_size, metavar='SIZE', help='stay below, say, 4G by smaller tiles (GPU: its memory)'
    )
    parser.add_argument(
        '--tile', type=int, default=TILE, metavar='PX', help=f'largest side of a tile, default {TILE} px of the input'
    )
