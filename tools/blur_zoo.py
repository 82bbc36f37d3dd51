"""Draw the pictures of docs/blur.md: what every kind of kernel field makes of points of light, at x4.

python tools/blur_zoo.py          # writes docs/blur/*.png
python tools/blur_zoo.py FOLDER   # writes them there

A field that has one kernel an image is drawn for six images, side by side; one that changes over the image is drawn at
places 40 HR px apart. Measured kernels are not at hand, so drawn ones stand in for them. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import manet_basicsr  # noqa: F401  (mends basicsr)
from manet_basicsr.degradation import build_field_sampler, invariant_protocol_parameters
from manet_basicsr.utils.replacements import write_image
from manet_basicsr.visualization.pictures import Picture, kernel_tile

TARGET = Path(__file__).resolve().parents[1] / 'docs/blur'
SCALE, HEIGHT, WIDTH, APART = 4, 160, 240, 40
TILE, GAP = 32, 2
_GAUSSIANS = {'type': 'invariant', 'variance': [0.7, 10]}
_NEAR = torch.arange(-10.0, 11.0)

#: Name of a picture: the field, as an option file describes it; FOLDER stands for that of the measured kernels.
FIELDS: dict[str, dict[str, Any]] = {
    'invariant': _GAUSSIANS,
    'fixed': {'type': 'fixed', 'variances': [6, 1], 'angle': 0.785},
    **{f'protocol_{kind}': {'type': 'protocol', 'kind': kind} for kind in range(7)},
    'smooth': {'type': 'smooth', 'variance': [0.7, 10], 'period': 96},
    'collage': {'type': 'collage', 'variance': [0.7, 10], 'block_size': [24, 96]},
    'mixture': {'type': 'mixture', 'of': [_GAUSSIANS, {'type': 'motion', 'radius': [1.5, 6]}], 'weights': [1, 1]},
    'generalized': {'type': 'generalized', 'variance': [0.7, 10], 'shape': [0.5, 4]},
    'plateau': {'type': 'plateau', 'variance': [0.7, 10], 'shape': [1, 2]},
    'motion': {'type': 'motion', 'radius': [1.5, 6]},
    'motion_variant': {'type': 'motion', 'radius': [1.5, 6], 'variant': True},
    'motion_object': {'type': 'motion', 'radius': [1.5, 6], 'trajectory': 'object', 'variant': True},
    'defocus': {'type': 'defocus', 'radius': [1.7, 6.3]},
    'defocus_period': {'type': 'defocus', 'radius': [1.7, 6.3], 'period': 96},
    'bicubic': {'type': 'bicubic'},
    'lanczos': {'type': 'lanczos'},
    'bank': {'type': 'bank', 'folder': 'FOLDER/kernels'},
    'bank_period': {'type': 'bank', 'folder': 'FOLDER/kernels', 'period': 40},
    'psf_grid': {'type': 'psf_grid', 'file': 'FOLDER/lens.npy'},
}


def _measured(folder: Path) -> None:
    """Write what stands in for measured kernels: rings and bars, and a lens whose corners are stretched."""
    (folder / 'kernels').mkdir()
    y, x = torch.meshgrid(_NEAR[3:-3], _NEAR[3:-3], indexing='ij')
    for number, radius in enumerate((2.0, 3.5, 5.0)):
        ring = (-(((x**2 + y**2).sqrt() - radius) ** 2)).exp()
        bar = (-(y**2) - (x / radius) ** 2).exp() + 0.5 * (-(x**2) - (y / radius) ** 2).exp()
        for name, kernel in (('ring', ring), ('bar', bar)):
            np.save(folder / 'kernels' / f'{name}{number}.npy', (kernel / kernel.sum()).numpy())
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 6), indexing='ij')
    angle, distance = torch.atan2(rows, columns)[..., None, None], (rows**2 + columns**2)[..., None, None]
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    lens = (-(across**2) / 2 - along**2 / (2 + 4 * distance)).exp()
    np.save(folder / 'lens.npy', (lens / lens.sum((2, 3), keepdim=True)).numpy())


def _with_folder(value: Any, folder: Path) -> Any:
    """Put the folder of the measured kernels where the options name it."""
    if isinstance(value, Mapping):
        return {key: _with_folder(inner, folder) for key, inner in value.items()}
    return value.replace('FOLDER', str(folder)) if isinstance(value, str) else value


def _rows_of_kernels(options: Mapping[str, Any]) -> list[list[torch.Tensor]]:
    """Draw the kernels (k*k,) of a picture, row by row."""
    if options == FIELDS['protocol_0']:
        rows = invariant_protocol_parameters(SCALE).tolist()
        fixed = [{'type': 'fixed', 'variances': [first, second], 'angle': angle} for first, second, angle in rows]
        return [[build_field_sampler(one).draw(HEIGHT, WIDTH, scale=SCALE)[0, :, 0, 0] for one in fixed]]
    sampler, generator = build_field_sampler(options), torch.Generator().manual_seed(0)
    field = sampler.draw(HEIGHT, WIDTH, scale=SCALE, generator=generator)
    if field.shape[2:] == (1, 1):
        more = [sampler.draw(HEIGHT, WIDTH, scale=SCALE, generator=generator) for _ in range(5)]
        return [[one[0, :, 0, 0] for one in (field, *more)]]
    step = APART // SCALE
    places = field[0, :, step // 2 :: step, step // 2 :: step]
    return [list(row.unbind(1)) for row in places.unbind(1)]


def draw(name: str) -> Picture:
    """Draw the picture of a field."""
    with tempfile.TemporaryDirectory() as folder:
        _measured(Path(folder))
        kernels = _rows_of_kernels(_with_folder(FIELDS[name], Path(folder)))
    size = TILE + GAP
    picture = np.full((len(kernels) * size + GAP, len(kernels[0]) * size + GAP, 3), 255, np.uint8)
    for row, line in enumerate(kernels):
        for column, kernel in enumerate(line):
            top, left = GAP + row * size, GAP + column * size
            picture[top : top + TILE, left : left + TILE] = kernel_tile(kernel, TILE)
    return picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, nargs='?', default=TARGET, metavar='FOLDER')
    folder: Path = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in FIELDS:
        write_image(draw(name), folder / f'{name}.png')
    return 0


if __name__ == '__main__':
    sys.exit(main())
