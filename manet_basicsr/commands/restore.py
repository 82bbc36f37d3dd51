"""The ``manet-restore`` command: restore photographs, and keep the kernels that were found."""

from __future__ import annotations

import argparse
import glob
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from manet_basicsr.archs import BlindSRNet
from manet_basicsr.archs.loading import alignment_of
from manet_basicsr.data.field_files import save_field
from manet_basicsr.data.images import IMAGE_SUFFIXES, BadSampleError
from manet_basicsr.restoration.photographs import Photograph, read_photograph, write_photograph
from manet_basicsr.restoration.restoring import SMALLEST_TILE, TILE, load_blind_network, restore
from manet_basicsr.utils.device import pick_device
from manet_basicsr.utils.files import remove_leftovers
from manet_basicsr.visualization.figures import FIGURE_SUFFIXES, write_comparison

_EXAMPLES = """examples:
  manet-restore photo.jpg -o restored                    # with the x4 weights that ship, weights://blind_x4
  manet-restore holiday/ 'scans/**/*.tif' -o restored --weights blind_x2.pth --max-memory 4G --kernels

photo.jpg becomes restored/photo_x4.png; --kernels adds photo_x4_kernels.npz (manet_basicsr.load_field reads it),
--figure photo_x4_figure.png and .pdf. Images that are there already are left alone, so an interrupted run can be
started again. Exit codes: 0 done; 1 some images failed or were not found, listed at the end; 2 wrong options, nothing
was done; 130 interrupted."""
_FORMATS = ('png', 'tif', 'jpg', 'webp')
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


def memory_size(text: str) -> int:
    """Read a size of memory such as ``800M`` or ``4G`` in bytes.

    Raises:
        argparse.ArgumentTypeError: It is no such size.
    """
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?', text.strip(), re.IGNORECASE)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"found '{text}', expected a size such as 800M or 4G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


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
        help=f'files, folders (without those in them) or globs; {", ".join(IMAGE_SUFFIXES)}',
    )
    parser.add_argument('-o', '--output', required=True, type=Path, metavar='FOLDER', help='made if it is not there')
    parser.add_argument(
        '--weights', metavar='FILE',
        help='of a blind network (stage 3), .pth or .safetensors, or weights://NAME; default: what ships',
    )  # fmt: skip
    parser.add_argument('--scale', type=int, metavar='S', help='of the shipped weights (default 4); FILE knows its own')
    parser.add_argument('--kernels', action='store_true', help='also save the kernel behind each pixel')
    parser.add_argument('--figure', action='store_true', help='also draw image, restoration and kernels, PNG and PDF')
    parser.add_argument('--format', choices=_FORMATS, default='png', help='of the restored images, default png')
    parser.add_argument('--quality', type=int, default=95, metavar='1-100', help='of jpg and webp, default 95')
    parser.add_argument('--overwrite', action='store_true', help='replace files that are there already')
    parser.add_argument('--device', metavar='NAME', help='cpu, cuda, cuda:1 ...; default: cuda where there is one')
    parser.add_argument('--half', action='store_true', help='compute in half precision: faster on a GPU, less memory')
    parser.add_argument(
        '--max-memory', type=memory_size, metavar='SIZE', help='stay below, say, 4G by smaller tiles (GPU: its memory)'
    )
    parser.add_argument(
        '--tile', type=int, default=TILE, metavar='PX', help=f'largest side of a tile, default {TILE} px of the input'
    )
    return parser


def list_inputs(inputs: Sequence[str], output: Path, scale: int) -> tuple[list[Path], list[Path], list[str]]:
    """Find the image files that a command was given.

    Args:
        inputs: Files, folders and globs (``**`` for any folders).
        output: The folder of the results. What a folder or a glob finds there and is named as the result of another
            image is left out; a file that is named itself is not.
        scale: Of the results.

    Returns:
        The files in order, none twice; those left out; and a message for each input that gives none.
    """
    files: dict[Path, None] = {}
    named = {Path(given).expanduser() for given in inputs}
    problems = []
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if _is_image(file))
            complaint = f'{given}: no images in this folder ({", ".join(IMAGE_SUFFIXES)})'
        elif path.exists() or not glob.has_magic(given):
            found = [path]
            complaint = ''
        else:
            found = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if _is_image(file))
            complaint = f'{given}: no images match'
        if not found:
            problems.append(complaint)
        files.update(dict.fromkeys(found))
    beside = output.iterdir() if output.is_dir() else ()
    stems = {file.stem for file in (*files, *(file for file in beside if _is_image(file)))}
    results = {f'{stem}_x{scale}{kind}' for stem in stems for kind in ('', '_figure')}
    searched = [file for file in files if file not in named and file.stem in results]
    left_out = dict.fromkeys(file for file in searched if file.resolve().parent == output.resolve())
    return [file for file in files if file not in left_out], list(left_out), problems


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith('.') and file.is_file()


@dataclass(frozen=True)
class _Outputs:
    """The files that one input becomes; the image is written last."""

    image: Path
    kernels: Path | None
    figures: tuple[Path, ...]

    @property
    def all(self) -> list[Path]:
        return [*([] if self.kernels is None else [self.kernels]), *self.figures, self.image]


def _outputs(file: Path, scale: int, options: argparse.Namespace) -> _Outputs:
    stem = f'{file.stem}_x{scale}'
    return _Outputs(
        options.output / f'{stem}.{options.format}',
        options.output / f'{stem}_kernels.npz' if options.kernels else None,
        tuple(options.output / f'{stem}_figure{suffix}' for suffix in FIGURE_SUFFIXES) if options.figure else (),
    )


def _restore_file(file: Path, outputs: _Outputs, network: BlindSRNet, options: argparse.Namespace, label: str) -> str:
    """Restore a file and write what is wanted of it; say what it became."""
    begun = time.monotonic()
    photograph = read_photograph(file)
    wants_field = options.kernels or options.figure
    half = 'float16' if pick_device(options.device).type == 'cuda' else 'bf16'
    restored = restore(
        photograph.pixels,
        network,
        device=options.device,
        precision=half if options.half else 'float32',
        tile=options.tile,
        max_memory=options.max_memory,
        field_dtype=torch.float16 if wants_field else None,
        progress=label,
    )
    # What an interrupted run, or one that asked for less, has left is not written again.
    wanted = [path for path in outputs.all if options.overwrite or not path.exists()]
    if outputs.kernels in wanted and outputs.kernels is not None and restored.field is not None:
        scale = restored.image.shape[0] // photograph.pixels.shape[0]
        save_field(outputs.kernels, restored.field, scale=scale, alignment=alignment_of(network))
    for path in [path for path in outputs.figures if path in wanted]:
        assert restored.field is not None
        write_comparison(path, photograph.pixels, restored.image, restored.field)
    if outputs.image in wanted:
        write_photograph(outputs.image, Photograph(restored.image, photograph.profile), options.quality)
    height, width = restored.image.shape[:2]
    return f'{file} -> {outputs.image} ({width}x{height}, {time.monotonic() - begun:.1f} s)'


def _say_why(file: Path, error: Exception) -> str:
    words = ' '.join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        words = f'{error.filename or file}: {error.strerror}'
    if isinstance(error, torch.OutOfMemoryError):
        words = 'the GPU ran out of memory; give less with --max-memory or --tile, or try --half'
    elif isinstance(error, MemoryError) or "can't allocate memory" in words:
        words = 'memory ran out; give less with --max-memory or --tile, and leave out --kernels'
    return words if words.startswith(str(file)) else f'{file}: {words}'


def _restore_all(
    files: list[Path], left_out: list[Path], network: BlindSRNet, scale: int, options: argparse.Namespace
) -> list[str]:
    """Restore files one after the other; give a message for each that failed."""
    failures = []
    made_of: dict[Path, Path] = {}
    inputs = {file.resolve() for file in (*files, *left_out)}
    for number, file in enumerate(files, start=1):
        outputs = _outputs(file, scale, options)
        first = made_of.setdefault(outputs.image, file)
        there = [path for path in outputs.all if path.exists()]
        if first != file:
            failures.append(f'{file}: would be {outputs.image}, as {first} is; rename it or give another -o')
        elif there == outputs.all and not options.overwrite:
            print(f'{file}: {outputs.image} is there already (--overwrite replaces it)', flush=True)
        elif overwritten := inputs & {path.resolve() for path in outputs.all}:
            failures.append(f'{file}: would be written over {overwritten.pop()}, which is an input; give another -o')
        else:
            label = f'[{number}/{len(files)}] {file.name}'
            try:
                print(_restore_file(file, outputs, network, options, label), flush=True)
            except (OSError, BadSampleError, ValueError, MemoryError, RuntimeError) as error:
                failures.append(_say_why(file, error))
                print(f'failed: {failures[-1]}', file=sys.stderr, flush=True)
    return failures


def _check(options: argparse.Namespace) -> None:
    """Refuse options that cannot work, before anything is loaded or made."""
    if not 1 <= options.quality <= 100:
        raise ValueError(f'--quality: found {options.quality}, expected 1 to 100')
    if options.tile < SMALLEST_TILE:
        raise ValueError(f'--tile: found {options.tile}, expected at least {SMALLEST_TILE}')
    if options.output.exists() and not options.output.is_dir():
        raise ValueError(f'-o {options.output}: is a file, expected a folder')
    for given in options.inputs:
        if Path(given).is_dir() and options.output.exists() and os.path.samefile(given, options.output):
            raise ValueError(f'-o {options.output} is also an input; give another folder')
    pick_device(options.device)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser().parse_args(argv)
    try:
        _check(options)
        network = load_blind_network(options.weights, options.scale or 4).to(pick_device(options.device))
        scale = network.scale
        if options.scale not in (None, scale):
            raise ValueError(f'--scale: found {options.scale}, but {options.weights} is for x{scale}')
        files, left_out, failures = list_inputs(options.inputs, options.output, scale)
        options.output.mkdir(parents=True, exist_ok=True)
        if not os.access(options.output, os.W_OK):
            raise ValueError(f'-o {options.output}: no permission to write there')
        remove_leftovers(options.output)
    except (OSError, ValueError) as error:
        print(f'manet-restore: error: {error}', file=sys.stderr)
        return 2
    if alignment_of(network) == 'published':
        print('these weights are of the published alignment: the images come out displaced by s - 1 px (README)')
    if left_out:
        found = f'{left_out[0]}' + (f' and {len(left_out) - 1} more' if left_out[1:] else '')
        print(f'left out as results of other images: {found}; name them to restore them, too')
    try:
        failures += _restore_all(files, left_out, network, scale, options)
    except KeyboardInterrupt:
        print('interrupted; the same command goes on where it stopped', file=sys.stderr)
        return 130
    if failures:
        print(f'{len(failures)} failed:', *failures, sep='\n  ', file=sys.stderr)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
