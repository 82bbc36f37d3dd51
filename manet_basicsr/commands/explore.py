"""The ``manet-explore`` command: an image and the kernels behind it as one HTML file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manet_basicsr.archs import BlindSRNet, MANet
from manet_basicsr.archs.loading import alignment_of, load_network
from manet_basicsr.commands.failures import reason_of
from manet_basicsr.data.alpha import flatten_on_white
from manet_basicsr.data.field_files import load_field
from manet_basicsr.degradation import blur_downsample, protocol_field, quantize
from manet_basicsr.explorer import Layer, make_page
from manet_basicsr.explorer.page import describe_error
from manet_basicsr.restoration.arrays import image_to_batch
from manet_basicsr.restoration.photographs import read_photograph
from manet_basicsr.restoration.restoring import estimate_field, load_blind_network, restore
from manet_basicsr.utils.console import say
from manet_basicsr.utils.device import pick_device
from manet_basicsr.utils.files import atomic_path, check_writable, refuse_existing, write_lines
from manet_basicsr.weights import RESTORING, SHIPPED, find_address, shipped_for

_EXAMPLES = """examples:
  manet-explore photo.jpg                                           # estimates, restores, makes photo_kernels.html
  manet-explore photo.png --field photo_x4_kernels.npz              # kernels that manet-restore --kernels saved
  manet-explore lr.png --weights blind_x4.pth --true true.npz       # beside the true kernels
  manet-explore sharp.png --degrade 4 --weights weights://blind_x4  # blurs the photograph itself, so the truth is known

The file needs no server and no network: open it in a browser, copy it, mail it. Exit codes: 0 done; 1 the image or a
field is damaged or does not fit the rest; 2 nothing was done, the message says why; 130 interrupted."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog='manet-explore',
        description='Make one HTML file in which to look at an image and at the blur kernel behind each of its pixels.',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('image', type=Path, metavar='IMAGE', help='a photograph; with --degrade a sharp one')
    parser.add_argument('-o', '--output', type=Path, metavar='FILE.html', help='default: IMAGE_kernels.html, here')
    parser.add_argument(
        '--weights', metavar='FILE',
        help='of stage 3 or, without a restored image, of stage 1, or weights://NAME; default: what ships, but none '
        'with --true or --degrade, which then show the true kernels alone',
    )  # fmt: skip
    parser.add_argument('--field', type=Path, metavar='FILE.npz', help='estimated kernels, saved; instead of --weights')
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument('--true', type=Path, metavar='FILE.npz', help='the true kernels, saved likewise')
    truth.add_argument(
        '--degrade', type=int, choices=range(1, 7), metavar='1-6', help="blur IMAGE, by this type of the paper's tests"
    )
    parser.add_argument('--scale', type=int, metavar='S', help='where neither weights nor a field tell it, default 4')
    parser.add_argument('--title', help="of the page; default: the image's name")
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    parser.add_argument('--device', metavar='NAME', help='cpu, cuda, cuda:1 ...; default: cuda where there is one')
    return parser


@dataclass
class _Contents:
    """What goes into a page."""

    scale: int
    layers: list[Layer]
    fields: dict[str, Tensor] = field(default_factory=dict)


def _load_estimator(options: argparse.Namespace) -> BlindSRNet | MANet | None:
    """Load the network that estimates, if one is to."""
    if options.field is not None:
        if options.weights is not None:
            raise ValueError('--field and --weights both give the estimated kernels; leave one out')
        return None
    if options.weights is None and (options.true is not None or options.degrade is not None):
        return None
    if options.weights:
        network = load_network(find_address(options.weights))
    else:
        scale = options.scale or 4
        name = shipped_for(scale, (*RESTORING, 'manet'))
        network = load_blind_network(None, scale) if name is None else load_network(f'{SHIPPED}{name}')
    if not isinstance(network, (BlindSRNet, MANet)):
        raise ValueError(f'{options.weights}: a {type(network).__name__} estimates no kernels; expected stage 1 or 3')
    if None not in (options.scale, network.scale) and options.scale != network.scale:
        raise ValueError(f'--scale: found {options.scale}, but {options.weights} is for x{network.scale}')
    return network


def _degraded(
    pixels: np.ndarray, options: argparse.Namespace, scale: int, alignment: str, kernel_size: int
) -> _Contents:
    """Blur a sharp photograph, so that its true kernels are known."""
    hr = image_to_batch(flatten_on_white(pixels))[0]
    height, width = (side // scale * scale for side in hr.shape[-2:])
    if min(height, width) == 0:
        raise ValueError(f'{options.image}: smaller than the scale {scale}')
    hr = hr[..., :height, :width]
    true = protocol_field(
        options.degrade,
        height,
        width,
        scale,
        kernel_size=kernel_size,
        alignment=alignment,
        generator=torch.Generator().manual_seed(0),
    )
    lr, original = (_pixels(image) for image in (quantize(blur_downsample(hr, true, scale)), hr))
    return _Contents(scale, [Layer('LR image', lr), Layer('original', original)], {'true': true})


def _pixels(image: Tensor) -> np.ndarray:
    return np.asarray((image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).contiguous().numpy())


def _agreed(what: str, found: dict[str, Any]) -> Any:
    """Give the one value that is known of all places, by what they are called, or None.

    Raises:
        ValueError: There are two.
    """
    known = {place: value for place, value in found.items() if value not in (None, 'unknown')}
    if len(set(known.values())) > 1:
        words = ', '.join(f'{value} of {place}' for place, value in known.items())
        raise ValueError(f'{what}: found {words}, expected the same')
    return next(iter(known.values()), None)


def _collect(options: argparse.Namespace, network: BlindSRNet | MANet | None) -> _Contents:
    """Read, blur, estimate and restore what the options ask for."""
    pixels = read_photograph(options.image).pixels
    given = {'--field': options.field, '--true': options.true}
    saved = {f'{flag} {path}': load_field(path) for flag, path in given.items() if path is not None}
    scales: dict[str, Any] = {place: field.scale for place, field in saved.items()}
    scales |= {'--scale': options.scale, 'the weights': None if network is None else network.scale}
    scale = _agreed('scale', scales) or 4
    alignment = 'centered'
    if scale > 1:  # where all are the same
        alignments = {place: field.alignment for place, field in saved.items()}
        alignments['the weights'] = 'unknown' if network is None else alignment_of(network)
        alignment = _agreed('alignment', alignments) or alignment
    if options.degrade is not None:
        estimator: Any = network.kernel_estimation if isinstance(network, BlindSRNet) else network
        sizes = [each.kernel_size for each in (*saved.values(), estimator) if each is not None]
        contents = _degraded(pixels, options, scale, alignment, next(iter(sizes), 21))
    else:
        contents = _Contents(scale, [Layer('LR image', pixels)])
    if options.true is not None:
        contents.fields['true'] = saved[f'--true {options.true}'].field
    if options.field is not None:
        contents.fields['estimated'] = saved[f'--field {options.field}'].field
    elif isinstance(network, BlindSRNet):
        lr = contents.layers[0].pixels
        restored = restore(lr, network, device=options.device, field_dtype=torch.float16, progress='restoring')
        assert restored.field is not None
        contents.fields['estimated'] = restored.field
        contents.layers.insert(1, Layer('restored', restored.image))
    elif network is not None:
        lr = contents.layers[0].pixels
        contents.fields['estimated'] = estimate_field(lr, network, device=options.device, progress='estimating')
    contents.fields = dict(sorted(contents.fields.items()))  # estimated, true
    return contents


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser().parse_args(argv)
    target = options.output or Path(f'{options.image.stem}_kernels.html')
    try:
        if target.suffix.lower() not in ('.html', '.htm'):
            raise ValueError(f'-o {target}: expected the name of a file that ends in .html')
        if not target.parent.is_dir() or target.is_dir():
            raise ValueError(f'-o {target}: expected a file in a folder that exists')
        refuse_existing(target, overwrite=options.overwrite, switch='--overwrite')
        if options.scale is not None and options.scale < 1:
            raise ValueError(f'--scale: found {options.scale}, expected at least 1')
        if not options.image.is_file():
            raise FileNotFoundError(f'{options.image}: no such file')
        pick_device(options.device)
        check_writable(target)
        network = _load_estimator(options)
    except (OSError, ValueError) as error:
        say(f'manet-explore: error: {error}', error=True)
        return 2
    try:
        contents = _collect(options, network)
        page, coded = make_page(options.title or options.image.name, contents.layers, contents.fields, contents.scale)
        with atomic_path(target) as partial:
            write_lines(partial, page)
    except Exception as error:  # of a decoder, or of memory that ran out: each has its own kind
        words = reason_of(error, 'a smaller image, such as the part that is looked at')
        say(f'manet-explore: error: {words}', error=True)
        return 1
    except KeyboardInterrupt:
        say('interrupted; nothing was written', error=True)
        return 130
    say(f'{target}: {target.stat().st_size / 1e6:.1f} MB; open it in a browser')
    for name, part in coded.items():
        say(f'{name}: {describe_error(part)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
