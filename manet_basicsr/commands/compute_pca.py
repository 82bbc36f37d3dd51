"""Compute the PCA basis that turns kernel fields into kernel codes, as a .npy file for ``network_g.pca_path``.

The bases that the package ships are those of ``--scale 1``, ``2``, ``3`` and ``4`` with the defaults:

    basicsr compute-pca manet_basicsr/degradation/pca/x4_k21_c15_centered.npy --scale 4

With --opt the kernels are those that an option file trains on. So those for photographs were made, of x1, x2 and x4:

    basicsr compute-pca manet_basicsr/degradation/pca/x4_k21_c40_centered.npy --code-length 40 --num-kernels 30000 \\
        --opt options/train/train_MANet_stage1_x4_gpu_real.yml
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from manet_basicsr.commands.failures import say_failure
from manet_basicsr.degradation import ALIGNMENTS
from manet_basicsr.degradation.pca import kernel_covariance, principal_components
from manet_basicsr.degradation.pipeline import Degradation
from manet_basicsr.degradation.sampler import FieldSampler
from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.reading import load_options
from manet_basicsr.options.shipped import find_option_file
from manet_basicsr.utils.console import say
from manet_basicsr.utils.files import atomic_path, check_writable, refuse_existing
from manet_basicsr.utils.progress import progress_bar

#: Options that are about Gaussians, or said by an option file, with their defaults.
_OF_GAUSSIANS = {'kernel_size': 21, 'alignment': 'centered', 'variance': None}


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command line without the program's name; that of the process when None.
        prog: The program's name in its help; that of the process when None.

    Returns:
        The exit code: 0, or 2 where nothing was written.
    """
    options = _parser(prog).parse_args(arguments)
    if options.output.suffix != '.npy':
        return say_failure(ValueError(f'the output must be a .npy file, found {options.output}'))
    try:
        refuse_existing(options.output, overwrite=options.force, switch='--force')
        sampler = _take_from_file(options) if options.opt else None
        if not 1 <= options.code_length <= options.kernel_size**2:
            expected = f'1 to {options.kernel_size**2}, the taps of a kernel'
            raise ValueError(f'--code-length: found {options.code_length}, expected {expected}')
        options.output.parent.mkdir(parents=True, exist_ok=True)
        check_writable(options.output)  # before the work
        with progress_bar(options.num_kernels, unit='kernel', scaled=True) as step:
            covariance = kernel_covariance(
                options.scale,
                options.kernel_size,
                options.alignment,
                options.variance,
                options.num_kernels,
                options.seed,
                progress=step,
                sampler=sampler,
            )
        basis, explained = principal_components(covariance, options.code_length)
        with atomic_path(options.output) as partial:
            np.save(partial, basis.numpy())
    except (OSError, ValueError, OptionError) as error:
        return say_failure(error)
    share = explained.sum().item()
    say(f'{options.output}: {basis.shape[0]} x {basis.shape[1]}, explains {share:.4%} of the variance')
    return 0


def _take_from_file(options: argparse.Namespace) -> FieldSampler:
    """Set scale, kernel size and alignment as an option file has them, and give the blur that it trains on.

    Raises:
        ValueError: The file has no training set that is degraded, or is wrong.
    """
    given = [f'--{name.replace("_", "-")}' for name, value in _OF_GAUSSIANS.items() if getattr(options, name) != value]
    if given:
        raise ValueError(f'{given[0]}: found beside --opt, whose file says it; leave it out')
    content = load_options(find_option_file(options.opt))
    datasets = content.get('datasets')
    training = [
        dataset.get('degradation')
        for name, dataset in (datasets.items() if isinstance(datasets, dict) else ())
        if str(name).startswith('train') and isinstance(dataset, dict)
    ]
    section = next((section for section in training if isinstance(section, dict)), None)
    if section is None:
        raise ValueError(f'{options.opt}: found no section degradation in datasets.train, whose kernels would be drawn')
    if not isinstance(content.get('scale'), int):
        raise ValueError(f'{options.opt}: scale: found {content.get("scale")!r}, expected a whole number')
    degradation = Degradation.from_options(section)
    options.scale, options.kernel_size = content['scale'], degradation.kernel_size
    options.alignment = degradation.alignment
    return degradation.sampler


def _parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('output', type=Path, help='the .npy file to write')
    kernels = parser.add_mutually_exclusive_group(required=True)
    kernels.add_argument('--scale', type=int, help='downsampling factor, of Gaussians')
    kernels.add_argument('--opt', metavar='FILE', help='an option file, for all kinds of kernels that it trains on')
    parser.add_argument('--kernel-size', type=int, default=21, help='side of the kernels in taps (default: 21)')
    parser.add_argument('--code-length', type=int, default=15, help='length of the kernel code (default: 15)')
    parser.add_argument('--alignment', choices=ALIGNMENTS, default='centered', help='(default: centered)')
    parser.add_argument(
        '--variance',
        type=float,
        nargs=2,
        metavar=('MIN', 'MAX'),
        help="range of the variances in HR px^2 (default: the paper's, 0.175 and 2.5 times the scale)",
    )
    parser.add_argument('--num-kernels', type=int, default=150_000, help='random kernels to draw (default: 150000)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the draws (default: 0)')
    parser.add_argument('--force', action='store_true', help='replace the output file')
    return parser
