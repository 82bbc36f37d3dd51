"""Convert released MANet weights to BasicSR's form, or back; or a generator's weights to another PCA basis or scale.

Example: basicsr convert-weights manet_stage1_x4.pth MANet_stage1_x4.pth --to basicsr
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manet_basicsr.archs.loading import load_network
from manet_basicsr.archs.sft_rrdb_arch import change_kernel_basis, change_scale
from manet_basicsr.commands.failures import say_failure
from manet_basicsr.degradation.pca import load_pca_basis, read_pca_basis
from manet_basicsr.utils.console import say
from manet_basicsr.utils.files import atomic_path, refuse_existing
from manet_basicsr.weights import convert_file, load_any_state_dict, load_state_dict_file
from manet_basicsr.weights.files import is_safetensors

STAGES = {1: 'estimator (MANet)', 2: 'generator (SFTRRDBNet)', 3: 'blind network (BlindSRNet)'}


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 where the files do not allow it."""
    introduction, example = (__doc__ or '').strip().split('\n\n')
    parser = argparse.ArgumentParser(prog=prog, description=introduction, epilog=example)
    parser.add_argument('source', help='file to read')
    parser.add_argument('target', type=os.path.expanduser, help='file to write')
    parser.add_argument('--to', choices=('basicsr', 'released'), help='form to write')
    parser.add_argument(
        '--basis',
        metavar='LENGTH|FILE',
        help='PCA basis in which the generator of a BasicSR file takes kernels from now on: the code length of one '
        'that ships, or a file of compute-pca',
    )
    parser.add_argument(
        '--scale',
        type=int,
        metavar='N',
        help='scale at which the generator of a BasicSR file restores from now on, to be trained on; an estimator is '
        'left out (basis: --basis, else the one of that scale that ships)',
    )
    parser.add_argument(
        '--param-key', default='params_ema', help='state dict to take from a BasicSR file (%(default)s, else params)'
    )
    parser.add_argument('--force', action='store_true', help='replace an existing target')
    options = parser.parse_args(arguments)
    is_for_generator = options.basis is not None or options.scale is not None
    if is_for_generator == (options.to is not None):
        parser.error('expected --to alone, or --basis, or --scale, or both of these')
    try:
        refuse_existing(options.target, overwrite=options.force, switch='--force')
        if is_for_generator:
            _change_generator(options)
            scale = '' if options.scale is None else f'the generator alone, x{options.scale}, to be trained on, '
            say(f'{options.target}: {scale}written for the basis {options.basis or "that ships"}')
            return 0
        stage = convert_file(options.source, options.target, options.to, options.param_key, options.force)
    except (OSError, ValueError) as error:
        return say_failure(error)
    say(f'{options.source}: stage {stage}, {STAGES[stage]}')
    say(f'{options.target}: written in the {options.to} form')
    return 0


def _change_generator(options: argparse.Namespace) -> None:
    """Write the target: the weights of the source, whose generator is for another basis, or scale, or both."""
    if is_safetensors(options.target):
        raise ValueError(f'{options.target}: a .safetensors file is a bare state dict, expected a .pth file')
    if options.param_key == 'params_ema':  # as it is unless told otherwise: a bare state dict serves, too
        content = load_any_state_dict(options.source)
    else:
        content = load_state_dict_file(options.source, options.param_key)
    basis = _basis_of(options)
    changed = (
        change_kernel_basis(content, basis) if options.scale is None else change_scale(content, options.scale, basis)
    )
    with atomic_path(options.target) as partial:
        torch.save({'params': changed}, partial)


def _basis_of(options: argparse.Namespace) -> Tensor:
    if options.basis is not None and not options.basis.isdecimal():
        return read_pca_basis(options.basis)
    network: Any = load_network(options.source)
    generator = getattr(network, 'generator', network)
    if not hasattr(generator, 'pca_matrix'):
        found = type(network).__name__
        raise ValueError(f'{options.source}: found a {found}, which has no PCA basis; expected weights of stage 2 or 3')
    length = generator.pca_matrix.shape[2] if options.basis is None else int(options.basis)
    return load_pca_basis(generator.scale if options.scale is None else options.scale, generator.kernel_size, length)
