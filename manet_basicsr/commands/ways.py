"""How ``manet-restore`` restores: by a blind network, or by a solver."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from typing import Any

import torch

from manet_basicsr.archs import BlindSRNet
from manet_basicsr.archs.loading import alignment_of
from manet_basicsr.restoration.arrays import result_size
from manet_basicsr.restoration.restoring import TILE, Restored, load_blind_network, network_for, restore
from manet_basicsr.restoration.solving import restore_by_solver
from manet_basicsr.utils.device import pick_device
from manet_basicsr.weights import find_address
from manet_basicsr.zero_shot import Solver, build_solver


@dataclass(frozen=True)
class Way:
    """How photographs are restored.

    Attributes:
        scale: Of the kernels that are found: that of the network.
        result_scale: How many times as large the results are.
        network: The blind network, or None where a solver restores.
        solver: The solver, or None where a network restores.
    """

    scale: int
    result_scale: float
    network: BlindSRNet | None
    solver: Solver | None = None

    @property
    def alignment(self) -> str:
        """The alignment of the kernels that are found."""
        return 'centered' if self.network is None else alignment_of(self.network)

    def size(self, pixels: Any) -> tuple[int, int]:
        """Return height and width of the result."""
        return result_size(pixels.shape[:2], self.result_scale)

    def restore(
        self, pixels: Any, options: argparse.Namespace, field_dtype: torch.dtype | None, bar: str | None
    ) -> Restored:
        """Restore what was read of a photograph, as the command's options say; ``bar`` labels the progress bar."""
        if self.solver is not None:
            return restore_by_solver(
                pixels, self.solver, self.scale, device=options.device, field_dtype=field_dtype, progress=bar
            )
        assert self.network is not None
        half = 'float16' if pick_device(options.device).type == 'cuda' else 'bf16'
        return restore(
            pixels,
            self.network,
            self.result_scale,
            device=options.device,
            precision=half if options.precision == 'half' else options.precision,
            alpha=options.alpha,
            tile=options.tile,
            max_memory=options.max_memory,
            field_dtype=field_dtype,
            progress=bar,
        )


def find_way(options: argparse.Namespace) -> Way:
    """Make ready what restores.

    Args:
        options: The command's options.

    Raises:
        FileNotFoundError: There is no such file of weights.
        ValueError: The options contradict each other, or the file.
    """
    if options.method is None:
        if options.budget != 'full':
            raise ValueError(f'--budget {options.budget}: found without --method, to which it belongs')
        network = network_for(_file_of_weights(options.weights), options.scale)
        return Way(network.scale, options.scale or network.scale, network.to(pick_device(options.device)))
    return _way_of_solver(options)


def _way_of_solver(options: argparse.Namespace) -> Way:
    """Make ready a solver, and refuse what it does not heed: it works in one piece, in float32."""
    of_networks = {
        '--weights': options.weights is not None,
        '--alpha restore': options.alpha == 'restore',
        '--precision': options.precision not in ('auto', 'float32'),
        '--max-memory': options.max_memory is not None,
        '--tile': options.tile != TILE,
    }
    for flag, is_given in of_networks.items():
        if is_given:
            raise ValueError(f'{flag}: found together with --method, which has no use for it; leave one out')
    solver = build_solver(options.method, options.budget)
    given = 4.0 if options.scale is None else options.scale
    if not (given >= 1 and given.is_integer()):
        raise ValueError(f'--scale: found {given:g}, expected a whole number of at least 1 with --method')
    scale = int(given)
    solver.check(scale)
    if solver.is_told:
        raise ValueError(f'{solver.name}: needs the true kernels, which only an evaluation knows')
    if not solver.RESTORES:
        load_blind_network(None, scale)  # the generator that restores with its kernels; none may ship
    return Way(scale, scale, None, solver)


def _file_of_weights(given: str | None) -> str | None:
    """Return the file or address of weights, so that a name such as ``~w.pth`` is not taken for a user's."""
    if given is None or not given.startswith('~'):
        return given and find_address(given)
    expanded = os.path.expanduser(given)
    return os.path.abspath(expanded) if expanded.startswith('~') else expanded
