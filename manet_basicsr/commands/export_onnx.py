"""Export a network to ONNX, for images of any size, and check the result with onnxruntime.

    basicsr export-onnx blind_x4.pth blind_x4.onnx

The file of weights is of stage 1 (lq -> field), 2 (lq, field -> sr) or 3 (lq -> sr), from BasicSR, released, or
.safetensors; its sizes are read off it. Needs the packages of the extra onnx: pip install onnx onnxruntime onnxscript.
Exit codes: 0 done; 2 nothing was written, the message says why.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.archs.loading import load_network
from manet_basicsr.commands.failures import say_failure
from manet_basicsr.utils.console import say
from manet_basicsr.utils.files import check_writable, refuse_existing
from manet_basicsr.weights.export import export_onnx


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('weights', metavar='WEIGHTS')
    parser.add_argument('target', type=Path, metavar='TARGET.onnx')
    parser.add_argument('--half', action='store_true', help='float16: half as large, for GPUs')
    parser.add_argument('--force', action='store_true', help='replace an existing target')
    return parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser(prog).parse_args(arguments)
    try:
        refuse_existing(options.target, overwrite=options.force, switch='--force')
        check_writable(options.target)
        network = load_network(options.weights)
        channels = next(weight.shape[1] for weight in network.parameters() if weight.dim() == 4)  # of its first layer
        difference = export_onnx(network, options.target, channels=channels, half=options.half)
    except (OSError, ValueError) as error:
        return say_failure(error)
    say(f'{options.target}: {type(network).__name__}, any size; differs by {difference:.1g} of the largest value')
    return 0
