"""Convert released MANet weights to BasicSR's form, or back; or a generator's weights to another PCA basis.

Example: basicsr convert-weights manet_stage1_x4.pth MANet_stage1_x4.pth --to basicsr
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from manet_basicsr.archs.sft_rrdb_arch import change_basis
from manet_basicsr.commands.failures import say_failure
from manet_basicsr.data.preparation import ExistsError
from manet_basicsr.utils.console import say
from manet_basicsr.weights import convert_file

STAGES = {1: 'estimator (MANet)', 2: 'generator (SFTRRDBNet)', 3: 'blind network (BlindSRNet)'}


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 where the files do not allow it."""
    introduction, example = (__doc__ or '').strip().split('\n\n')
    parser = argparse.ArgumentParser(prog=prog, description=introduction, epilog=example)
    parser.add_argument('source', help='file to read')
    parser.add_argument('target', help='file to write')
    change = parser.add_mutually_exclusive_group(required=True)
    change.add_argument('--to', choices=('basicsr', 'released'), help='form to write')
    change.add_argument(
        '--basis', metavar='FILE', help='PCA basis that the generator of a BasicSR file takes kernels in from now on'
    )
    parser.add_argument(
        '--param-key', default='params_ema', help='state dict to take from a BasicSR file (%(default)s, else params)'
    )
    parser.add_argument('--force', action='store_true', help='replace an existing target')
    options = parser.parse_args(arguments)
    try:
        if options.basis:
            change_basis(options.source, options.target, options.basis, options.param_key, options.force)
            say(f'{options.target}: written for the basis {options.basis}')
            return 0
        stage = convert_file(options.source, options.target, options.to, options.param_key, options.force)
    except FileExistsError:
        return say_failure(ExistsError(f'{options.target} already exists'))
    except (OSError, ValueError) as error:
        return say_failure(error)
    say(f'{options.source}: stage {stage}, {STAGES[stage]}')
    say(f'{options.target}: written in the {options.to} form')
    return 0
