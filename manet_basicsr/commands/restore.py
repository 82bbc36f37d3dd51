"""The ``manet-restore`` command: restore photographs, and keep the kernels that were found."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from manet_basicsr.commands.failures import reason_of
from manet_basicsr.commands.inputs import STREAM, list_inputs, read_input, stem_of
from manet_basicsr.commands.restore_arguments import FORMATS, build_parser
from manet_basicsr.commands.ways import Way, find_way
from manet_basicsr.data.field_files import save_field
from manet_basicsr.data.image_files import decode_image_file
from manet_basicsr.data.images import IMAGE_SUFFIXES
from manet_basicsr.data.pictures import Picture, Pictures
from manet_basicsr.restoration.enlargement import enlargement_period, factors_of
from manet_basicsr.restoration.photographs import check_size, write_photograph
from manet_basicsr.restoration.pictures import ANIMATED, PAGED, write_pictures
from manet_basicsr.restoration.restoring import SMALLEST_TILE
from manet_basicsr.utils.console import give_up, is_open, printable, say
from manet_basicsr.utils.device import pick_device
from manet_basicsr.utils.files import remove_leftovers
from manet_basicsr.visualization.figures import FIGURE_SUFFIXES, write_comparison

_LESS_MEMORY = 'less with --max-memory or --tile, try --precision float16, and leave out --kernels'
#: What several pictures are put into, by the format.
_MANY = {'png': 'animated PNG', 'webp': 'animated WebP', 'tif': 'TIFF'}


@dataclass(frozen=True)
class _Outputs:
    """The files that one input becomes; the image is written first, so that no side product can cost it."""

    image: Path
    kernels: Path | None
    figures: tuple[Path, ...]

    @property
    def all(self) -> list[Path]:
        return [self.image, *([] if self.kernels is None else [self.kernels]), *self.figures]


def _outputs(file: Path, options: argparse.Namespace) -> _Outputs:
    stem = f'{stem_of(file)}{options.suffix}'
    return _Outputs(
        options.output / f'{stem}.{options.format}',
        options.output / f'{stem}_kernels.npz' if options.kernels else None,
        tuple(options.output / f'{stem}_figure{suffix}' for suffix in FIGURE_SUFFIXES) if options.figure else (),
    )


def _restore_file(
    file: Path, outputs: _Outputs, way: Way, options: argparse.Namespace, label: str
) -> tuple[str, list[str]]:
    """Restore a file and write what is wanted of it, the image first.

    Returns:
        What it became, and what of the rest could not be written.
    """
    begun = time.monotonic()
    content = read_input(file)
    photograph = decode_image_file(content, str(file))
    height, width = way.size(photograph.pixels)
    check_size(outputs.image, width, height)
    if photograph.pictures > 1 and options.frames == 'all':
        remarks = _restore_pictures(Pictures(content, str(file), photograph), outputs.image, way, options, label)
        for remark in [*remarks, *_remarks_on_size(photograph.pixels)]:
            say(f'note: {file}: {remark}')
        what = f'{_MANY[options.format]}, {photograph.pictures} pictures of {width}x{height}'
        return _describe(file, outputs, outputs.all, options, what, begun), []
    pixels = photograph.pixels
    wants_field = options.kernels or options.figure
    restored = way.restore(pixels, options, torch.float16 if wants_field else None, _bar(label))
    # What an interrupted run, or one that asked for less, has left is not written again.
    wanted = [path for path in outputs.all if options.overwrite or not path.exists()]
    remarks = list(photograph.remarks)
    if photograph.pictures > 1:
        left_out = photograph.pictures - 1
        remarks.append(f'of its {photograph.pictures} pictures {left_out} are left out (--frames all restores all)')
    if outputs.image in wanted:
        remarks += write_photograph(outputs.image, replace(photograph, pixels=restored.image), options.quality)
    for remark in [*remarks, *_remarks_on_size(pixels)]:
        say(f'note: {file}: {remark}')
    problems = []
    for path in wanted:
        try:
            if path == outputs.kernels and restored.field is not None:
                save_field(path, restored.field, scale=way.scale, alignment=way.alignment)
            elif path in outputs.figures and restored.field is not None:
                write_comparison(path, pixels, restored.image, restored.field)
        except Exception as error:  # matplotlib's are of any kind; the image is there
            problems.append(f'{path} is missing, though {outputs.image} is there: {reason_of(error)}')
    return _describe(file, outputs, wanted, options, f'{width}x{height}', begun), problems


def _remarks_on_size(pixels: np.ndarray) -> list[str]:
    """Say that an image was enlarged before, if it was: there is no more in it than in what it was made of."""
    period = enlargement_period(pixels)
    if period is None:
        return []
    factors = ' or '.join(f'{factor:.3g}' for factor in factors_of(period))
    return [
        f'it seems to have been enlarged before, perhaps {factors} times; reduced to its first size, it restores better'
    ]


def _bar(label: str) -> str | None:
    """Return the label of a progress bar, or None where nobody sees it."""
    return printable(label, sys.stderr) if is_open(sys.stderr) else None


def _describe(
    file: Path, outputs: _Outputs, written: Sequence[Path], options: argparse.Namespace, what: str, begun: float
) -> str:
    """Say what a file became: the image, or what was written beside one that is there."""
    beside = ', '.join(map(str, written))
    made = STREAM if options.is_stream else outputs.image if outputs.image in written else beside
    return f'{file} -> {made} ({what}, {time.monotonic() - begun:.1f} s)'


def _restore_pictures(pictures: Pictures, output: Path, way: Way, options: argparse.Namespace, label: str) -> list[str]:
    """Restore all pictures of a file, one after the other, and return remarks."""
    kinds, what = (PAGED, 'pages') if pictures.are_pages else (ANIMATED, 'frames')
    if output.suffix not in kinds:
        expected = ' or '.join(sorted({kind[1:4] for kind in kinds} & set(FORMATS)))
        raise ValueError(f'has {pictures.first.pictures} {what}: found --format {options.format}, expected {expected}')
    remarks: dict[str, None] = dict.fromkeys(pictures.first.remarks)

    def restored() -> Iterator[Picture]:
        for number, picture in enumerate(pictures, start=1):
            photograph = picture.photograph
            remarks.update(dict.fromkeys(photograph.remarks))
            check_size(output, *reversed(way.size(photograph.pixels)))
            bar = f'{label} {number}/{pictures.first.pictures}'
            image = way.restore(photograph.pixels, options, None, _bar(bar)).image
            yield replace(picture, photograph=replace(photograph, pixels=image))

    words = write_pictures(output, restored(), pictures.loops, options.quality, pictures.first.pictures)
    return [*remarks, *words]


def _say_why(file: Path, error: Exception, options: argparse.Namespace) -> str:
    words = reason_of(error, _LESS_MEMORY if options.method is None else 'a smaller image: a method takes all of it')
    return words if words.startswith(str(file)) else f'{file}: {words}'


def _restore_all(files: list[Path], left_out: list[Path], way: Way, options: argparse.Namespace) -> list[str]:
    """Restore files one after the other; return a message for each that failed."""
    failures = []
    made_of: dict[Path, Path] = {}
    inputs = {os.path.realpath(file) for file in (*files, *left_out)}
    for number, file in enumerate(files, start=1):
        outputs = _outputs(file, options)
        try:
            if outputs.image in made_of:
                first = made_of[outputs.image]
                raise ValueError(f'would be {outputs.image}, as {first} is; rename it or give another -o')
            there = [path for path in outputs.all if path.exists()]  # an OSError where a name is too long
            places = {os.path.realpath(path) for path in outputs.all}
            # Results of an earlier run may be among the inputs; the image itself is none.
            if there == outputs.all and not options.overwrite and os.path.realpath(file) not in places:
                made_of[outputs.image] = file
                say(f'{file}: {outputs.image} already exists; --overwrite replaces it')
                continue
            written = {os.path.realpath(path) for path in outputs.all if options.overwrite or path not in there}
            if overwritten := inputs & (written | {os.path.realpath(file)} & places):
                raise ValueError(f'would be written over {overwritten.pop()}, which is an input; give another -o')
            label = f'[{number}/{len(files)}] {file.name}'
            line, problems = _restore_file(file, outputs, way, options, label)
        except Exception as error:  # decoders and encoders have kinds of their own; one file costs no other
            problems, line = [_say_why(file, error, options)], ''
        else:
            made_of[outputs.image] = file
        if line:
            say(line)
        for problem in problems if number < len(files) else []:  # after the last file the list of all follows at once
            say(f'failed: {problem}', error=True)
        failures += problems
    return failures


def _check(options: argparse.Namespace) -> None:
    """Refuse options that cannot work, before anything is loaded or made."""
    if not 1 <= options.quality <= 100:
        raise ValueError(f'--quality: found {options.quality}, expected 1 to 100')
    if options.suffix is not None and options.suffix != Path(f'x{options.suffix}').name[1:]:
        raise ValueError(f'--suffix: found {options.suffix!r}, expected text without a folder')
    if options.tile < SMALLEST_TILE:
        raise ValueError(f'--tile: found {options.tile}, expected at least {SMALLEST_TILE}')
    if options.figure and importlib.util.find_spec('matplotlib') is None:
        raise ValueError('--figure: figures need the package matplotlib: pip install matplotlib')
    for flag, is_given in (('--kernels', options.kernels), ('--figure', options.figure)):
        if is_given and options.frames == 'all':
            raise ValueError(f'{flag}: found together with --frames all, expected one picture: --frames first')
    if options.inputs.count(STREAM) > 1:
        raise ValueError('-: found twice among the inputs, expected the standard input once')
    if STREAM in options.inputs and (sys.stdin is None or sys.stdin.isatty()):
        raise ValueError('-: found no image on the standard input; lead one into it: manet-restore - < photo.jpg')
    if options.output.suffix.lower() in IMAGE_SUFFIXES and not options.output.is_dir():
        raise ValueError(f'-o {options.output}: found the name of an image, expected a folder (or - for one image)')
    if options.is_stream:
        _check_stream(options)
    elif options.output.exists() and not options.output.is_dir():
        raise ValueError(f'-o {options.output}: is a file, expected a folder')
    for given in map(os.path.expanduser, options.inputs):
        if os.path.isdir(given) and os.path.realpath(given) == os.path.realpath(options.output):
            raise ValueError(f'-o {options.output} is also an input; give another folder')
    pick_device(options.device)


def _check_stream(options: argparse.Namespace) -> None:
    """Refuse what the standard output cannot take."""
    for flag, is_given in (('--kernels', options.kernels), ('--figure', options.figure)):
        if is_given:
            raise ValueError(f'-o -: found together with {flag}, and the standard output takes the image alone')
    if options.stream is None or options.stream.isatty():
        raise ValueError('-o -: the standard output is a terminal; lead it into a file (> restored.png) or a program')


def _check_writable(folder: Path) -> None:
    """Make the folder of the results, and write into it, which tells more than its permissions do."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b'x')
    except OSError as error:
        raise ValueError(f'-o {folder}: cannot write there: {error.strerror}') from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser().parse_args(argv)
    options.is_stream, options.stream = str(options.output) == STREAM, sys.stdout
    try:
        if not options.is_stream:
            return _run(options)
        # What is said goes to standard error, and the image here first: it is passed on whole or not at all.
        with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
            except OSError as error:
                say(f'manet-restore: error: -o -: found no folder for a moment: {error}', error=True)
                return 2
            return _run(options, Path(folder))
    except KeyboardInterrupt:
        say('interrupted; the same command goes on where it stopped', error=True)
        return 130


def _run(options: argparse.Namespace, folder_of_stream: Path | None = None) -> int:
    try:
        _check(options)
        options.output = folder_of_stream or options.output
        way = find_way(options)
        options.suffix = f'_x{way.result_scale:g}' if options.suffix is None else options.suffix
        files, left_out, failures = list_inputs(options.inputs, options.output, options.suffix)
        if options.is_stream and len(files) > 1:
            raise ValueError(f'-o -: found {len(files)} images, expected one')
        _check_writable(options.output)
        remove_leftovers(options.output)
    except (OSError, ValueError) as error:
        say(f'manet-restore: error: {error}', error=True)
        return 2
    if way.alignment == 'published':
        say('these weights are of the published alignment: the images come out displaced by s - 1 px (docs/weights.md)')
    if way.result_scale != way.scale:
        say(f'restored at x{way.scale}, the scale of the weights, and reduced to x{way.result_scale:g}')
    if left_out:
        found = f'{left_out[0]}' + (f' and {len(left_out) - 1} more' if left_out[1:] else '')
        say(f'left out as results of other images: {found}; name them to restore them, too')
    failures += _restore_all(files, left_out, way, options)
    if options.is_stream and not failures:
        failures += _pass_on(options)
    if failures:
        say('\n  '.join([f'{len(failures)} failed:', *failures]), error=True)
    return 1 if failures else 0


def _pass_on(options: argparse.Namespace) -> list[str]:
    """Write the one result to the standard output; return a message if that fails."""
    (result,) = options.output.iterdir()
    try:
        with result.open('rb') as file:
            shutil.copyfileobj(file, options.stream.buffer)
        options.stream.flush()
    except OSError as error:
        give_up(options.stream)
        return [f'-o -: {error.strerror}']
    return []


if __name__ == '__main__':
    sys.exit(main())
