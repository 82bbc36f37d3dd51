"""BasicSR's flags, and the way from them to resolved options: read, forced, checked, seeded and filled in.

:func:`parse_options` has the shape of BasicSR's own, so that it can stand in for it.
"""

from __future__ import annotations

import argparse

from manet_basicsr.options.checks import check
from manet_basicsr.options.errors import named
from manet_basicsr.options.forcing import force
from manet_basicsr.options.reading import Options, load_options
from manet_basicsr.options.resolving import resolve
from manet_basicsr.options.shipped import find_option_file
from manet_basicsr.training.processes import draw_seed, seed_generators, start_processes
from manet_basicsr.training.resuming import forget_beginning_of_resumed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add BasicSR's flags to a parser."""
    parser.add_argument(
        '-opt',
        required=True,
        type=find_option_file,
        metavar='FILE',
        help='option file (YAML), or the name of one that ships',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='job launcher')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest whole state, if there is one')
    parser.add_argument('--debug', action='store_true', help="a short run under the name 'debug_NAME', with tracebacks")
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument(
        '--force_yml', nargs='+', action='extend', metavar='KEY=VALUE', help='change options: train:total_iter=300 ...'
    )


def read_arguments(args: argparse.Namespace) -> Options:
    """Read the option file that a command names, with the values that it forces.

    Raises:
        OptionError: The file cannot be read, or a value not be forced.
    """
    options = load_options(args.opt)
    with named('--force_yml '):
        force(options, args.force_yml or [])
    return options


def resolve_arguments(args: argparse.Namespace, root_path: str, *, is_train: bool) -> Options:
    """Do everything between the command line and a pipeline: the options are resolved, the processes meet, seeded.

    Args:
        args: What :func:`add_arguments` parsed.
        root_path: Folder below which ``experiments`` and ``results`` lie.
        is_train: Whether to train or to test.

    Raises:
        OptionError: With every problem found.
    """
    options = read_arguments(args)
    goes_on = is_train and forget_beginning_of_resumed(
        options, root_path, auto_resume=args.auto_resume, debug=args.debug
    )
    with named(f'{args.opt}: '):
        check(options, is_train=is_train, goes_on=goes_on)
    with named(f'--launcher {args.launcher}: '):
        processes = start_processes(args.launcher, options.get('dist_params'))
    if options.get('manual_seed') is None:
        options['manual_seed'] = draw_seed(processes)
    seed_generators(options['manual_seed'], processes)
    with named(f'{args.opt}: '):
        return resolve(
            options,
            root_path=root_path,
            is_train=is_train,
            auto_resume=args.auto_resume,
            debug=args.debug,
            distributed=processes.distributed,
            rank=processes.rank,
            world_size=processes.world_size,
        )


def parse_options(root_path: str, is_train: bool = True) -> tuple[Options, argparse.Namespace]:
    """Parse the command line as BasicSR's function of this name does, without its ``exec`` and ``eval``."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args()
    return resolve_arguments(args, root_path, is_train=is_train), args
