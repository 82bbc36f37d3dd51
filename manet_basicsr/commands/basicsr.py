"""The ``basicsr`` command: train and test with BasicSR's flags, and the tools around that."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import torch

from manet_basicsr.commands.arguments import add_arguments, read_arguments, resolve_arguments
from manet_basicsr.commands.failures import reason_of
from manet_basicsr.options.checks import check
from manet_basicsr.options.errors import OptionError, named
from manet_basicsr.options.plugins import import_plugins
from manet_basicsr.training.interruption import Interrupted, ignore_signals
from manet_basicsr.training.processes import end_processes
from manet_basicsr.training.resuming import forget_beginning_of_resumed
from manet_basicsr.utils.console import say
from manet_basicsr.utils.errors import BadSampleError, NonFiniteError, RunStoppedError, last_line, ran_out_of_memory
from manet_basicsr_commands import interruption_ends_the_process

_TRAIN, _TEST = 'options/train/train_MANet_stage1_x4.yml', 'options/test/test_MANet_stage1_x4.yml'
# Of each command: what it does, and examples.
_COMMANDS = {
    'train': (
        'train a network',
        f"""  basicsr train -opt {_TRAIN} --auto_resume
  basicsr train -opt {_TRAIN} --force_yml train:total_iter=300 logger:print_freq=10""",
    ),
    'test': ('test a network', f'  basicsr test -opt {_TEST}'),
    'check': ('only check an option file: every problem in it, a line each', f'  basicsr check -opt {_TRAIN}'),
}

#: The tools, each a module of this folder with a ``main(arguments, prog)``; their parsers know their own flags.
TOOLS = {
    'options': 'list the option files that come with the package, or copy some',
    'create-lmdb': 'pack a folder of images into an LMDB',
    'extract-subimages': 'cut large images into overlapping ones, which training reads faster',
    'make-testset': 'write LR images and their kernels to disk',
    'evaluate': 'score any number of methods on any number of degradations',
    'compute-pca': 'compute the PCA basis of kernels of other sizes',
    'convert-weights': "convert weights from and to the authors' form, or for another basis or scale",
    'describe-weights': 'write the entry of a file of weights for OpenModelDB',
    'export-onnx': 'export an estimator, a generator or a blind network to ONNX',
    'plot-curves': 'draw training curves and results',
}


def _parser() -> argparse.ArgumentParser:
    def epilog(*examples: str) -> str:
        return '\n'.join(['examples:', *examples, '\nExperiments and results land below the current folder.'])

    style = argparse.RawDescriptionHelpFormatter
    every = epilog(*(examples for _, examples in _COMMANDS.values()))
    parser = argparse.ArgumentParser(
        prog='basicsr',
        epilog=every,
        formatter_class=style,
        description='Train and test with BasicSR option files, and the tools around that.',
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for name, (words, examples) in _COMMANDS.items():
        add_arguments(
            commands.add_parser(name, help=words, description=words, epilog=epilog(examples), formatter_class=style)
        )
    for name, words in TOOLS.items():
        commands.add_parser(name, help=words, add_help=False)
    return parser


def _check(args: argparse.Namespace) -> None:
    options = read_arguments(args)
    with named(f'{args.opt}: '):
        resumed = {'auto_resume': args.auto_resume, 'debug': args.debug}
        goes_on = 'train' in options and forget_beginning_of_resumed(options, os.getcwd(), **resumed)
        check(options, is_train='train' in options, goes_on=goes_on)
    say(f'{args.opt}: no problems found')


def _run(args: argparse.Namespace) -> None:
    if args.command == 'check':
        return _check(args)
    is_train = args.command == 'train'
    opt = resolve_arguments(args, os.getcwd(), is_train=is_train)
    with named(f'{args.opt}: '):
        if is_train:
            from manet_basicsr.train import train_pipeline

            train_pipeline(opt, args.opt)
        else:
            from manet_basicsr.test import test_pipeline

            test_pipeline(opt)


def _failure(error: Exception) -> str | None:
    """Say in a line what failed on the way, or None for an error of the program, whose traceback is wanted."""
    if isinstance(error, RunStoppedError):
        return f'{error}, go on with --auto_resume' if error.can_go_on else str(error)
    if isinstance(error, (BadSampleError, NonFiniteError, OSError)):
        return last_line(error)
    if ran_out_of_memory(error):
        return reason_of(error, 'a smaller batch_size_per_gpu, train.accumulate or val.tile')
    # torch raises these two as a RuntimeError of many lines.
    if isinstance(error, RuntimeError) and str(error).startswith('DataLoader worker'):
        return f'{str(error).splitlines()[0]} (out of memory? num_worker_per_gpu: 0 shows errors where they occur)'
    if isinstance(error, RuntimeError) and ('gloo' in str(error) or isinstance(error, torch.distributed.DistError)):
        return f'another process of this run is gone: {" ".join(str(error).splitlines()[:1])}'
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        The exit code: 0, 1 for what fails on the way (data, disk, numbers, processes), 2 for options that are wrong,
        130 for Ctrl-C before the first iteration. Each tool says its own in its help.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in TOOLS:
        with interruption_ends_the_process():
            tool = importlib.import_module(f'manet_basicsr.commands.{arguments[0].replace("-", "_")}')
        return int(tool.main(arguments[1:], f'basicsr {arguments[0]}'))
    args = _parser().parse_args(arguments)
    try:
        import_plugins()
        _run(args)
    except OptionError as error:
        if args.debug:
            raise
        for problem in error.problems:
            say(f'basicsr: error: {problem}', error=True)
        return 2
    except Interrupted as interruption:  # repeated signals may not kill the interpreter on its way out
        ignore_signals()
        if os.environ.get('RANK', '0') == '0':
            say('basicsr: interrupted; the same command with --auto_resume goes on', error=True)
        code = int(str(interruption.code))
    except KeyboardInterrupt:
        say('basicsr: interrupted', error=True)
        return 130
    except Exception as error:
        line = _failure(error)
        if args.debug or line is None:
            raise
        say(f'basicsr: error: {line}', error=True)
        return 1
    else:
        code = 0
    end_processes()  # only here has the training let go of what it exchanged gradients with
    return code
