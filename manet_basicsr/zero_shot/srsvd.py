"""SRSVD: search the kernels of which a trained network predicts the least error, patch by patch."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.archs.loading import generator_options
from manet_basicsr.archs.srsvd_arch import SRSVDNet
from manet_basicsr.degradation import anisotropic_gaussian_kernels, training_variance_range
from manet_basicsr.weights import load_state_dict_file
from manet_basicsr.zero_shot.solver import Problem, Solution, Solver, register_solver

_WIDTHS, _ANGLES = 6, 8
_RATE = 0.01
# A push towards wider kernels, that is, sharper images.
_WIDER = 1e-4
_GENERATOR = 'generator.'


def load_srsvd(file: str | os.PathLike[str]) -> SRSVDNet:
    """Build the network that a file of weights belongs to, by the shapes in it, and load it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another network.
    """
    state = load_state_dict_file(file, 'params_ema')
    inner = {key.removeprefix(_GENERATOR): value for key, value in state.items() if key.startswith(_GENERATOR)}
    try:
        basis = inner['pca_matrix']
        options: dict[str, Any] = {**generator_options(inner), 'pca_matrix': basis.reshape(basis.shape[1:3])}
        width = len(state['error_net.head.weight'])
        blocks = len({key.split('.')[2] for key in state if key.startswith('error_net.body.')})
        network = SRSVDNet(options, options['num_in_ch'], width, blocks)
        network.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f'{file}: is not of a SRSVDNet ({" ".join(str(error).split())[:200]})') from error
    return network.eval().requires_grad_(False)


def candidates(scale: int) -> tuple[Tensor, Tensor]:
    """Give the kernels to begin with: standard deviations of six widths in pairs, at eight angles where they differ.

    Returns:
        Variances (N, 2) within the training range, and angles (N,).
    """
    low, high = (math.sqrt(variance) for variance in training_variance_range(scale))
    widths = torch.linspace(low, high, _WIDTHS).square().tolist()
    rows = []
    for first, second in itertools.combinations_with_replacement(reversed(range(_WIDTHS)), 2):
        angles = [math.pi * number / _ANGLES for number in range(_ANGLES)] if first != second else [0.0]
        rows += [(widths[first], widths[second], angle) for angle in angles]
    numbers = torch.tensor(rows)
    return numbers[:, :2], numbers[:, 2]


@register_solver
@dataclass(frozen=True)
class SRSVD(Solver):
    """Find the kernel of each patch by what a trained network predicts that it does wrong.

    First every candidate kernel is tried on the whole image, and each patch takes the one of the least mean error in a
    window of twice its side; then the kernels of all patches follow the slope together. How the paper divides images is
    not published, so the patches are this package's own; so is keeping kernels within the training range.

    Args:
        seed: Of no effect.
        weights: File of a trained ``SRSVDNet``; ``{scale}`` in it stands for the scale.
        patch: Side of the patches in LR px; 0 for one kernel an image.
        steps: Of Adam, after the candidates.

    Source: Cornillere et al., "Blind image super-resolution with spatially variant degradations", SIGGRAPH Asia 2019.
    """

    word: ClassVar[str] = 'srsvd'

    weights: str = 'experiments/train_SRSVD_x{scale}/models/net_g_latest.pth'
    patch: int = 16
    steps: int = 50

    def file(self, scale: int) -> Path:
        """Give the file of weights for a scale."""
        return Path(os.path.expanduser(self.weights.replace('{scale}', str(scale))))

    def check(self, scale: int) -> None:
        super().check(scale)
        if not self.file(scale).is_file():
            raise ValueError(
                f'srsvd: {self.file(scale)} does not exist; train it (options/peers/train_SRSVD_x{scale}.yml), or name '
                'another: srsvd[weights=FILE]'
            )

    def fingerprint(self) -> dict[str, Any]:
        files = [self.file(scale) for scale in range(1, 5)]
        sums = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}
        return {**super().fingerprint(), 'checksums': sums}

    def solve(self, problem: Problem) -> Solution:
        with problem.seeded():  # layers are drawn before they are read
            network = load_srsvd(self.file(problem.scale)).to(problem.lq.device)
        if (network.scale, network.kernel_size) != (problem.scale, problem.kernel_size):
            raise ValueError(
                f'srsvd: its weights are for x{network.scale} and kernels of {network.kernel_size} taps, found '
                f'x{problem.scale} and {problem.kernel_size}'
            )
        variances, angles = self._search(network, problem)
        variances, angles = self._refine(network, problem, variances, angles)
        with torch.no_grad():
            field = self._field(problem, variances, angles)
            return Solution(network(problem.lq, field)[0], field)

    def _grid(self, problem: Problem) -> tuple[int, int]:
        """Give how many patches there are in both directions."""
        height, width = problem.lq.shape[-2:]
        return (math.ceil(height / self.patch), math.ceil(width / self.patch)) if self.patch else (1, 1)

    def _field(self, problem: Problem, variances: Tensor, angles: Tensor) -> Tensor:
        """Make the field (1, k*k, h, w) of the patches' kernels, (N, 2) and (N,) row by row."""
        grid = self._grid(problem)
        kernels = anisotropic_gaussian_kernels(variances, angles, problem.kernel_size, problem.scale)
        field = kernels.T.reshape(1, -1, *grid)
        if grid == (1, 1):
            return field
        rows, columns = (torch.arange(side, device=field.device) // self.patch for side in problem.lq.shape[-2:])
        return field[:, :, rows][:, :, :, columns]

    def _search(self, network: SRSVDNet, problem: Problem) -> tuple[Tensor, Tensor]:
        """Let each patch take its best candidate."""
        variances, angles = (part.to(problem.lq.device) for part in candidates(problem.scale))
        kernels = anisotropic_gaussian_kernels(variances, angles, problem.kernel_size, problem.scale)
        errors = []
        with torch.no_grad():
            for number, kernel in enumerate(kernels):
                error = network(problem.lq, kernel.view(1, -1, 1, 1))[1].abs().mean(1, keepdim=True)
                errors.append(self._pooled(F.avg_pool2d(error, problem.scale), problem).flatten())
                problem.tick(number + 1, len(kernels) + self.steps)
        best = torch.stack(errors).argmin(0)
        return variances[best], angles[best]

    def _pooled(self, error: Tensor, problem: Problem) -> Tensor:
        """Average the error (1, 1, h, w) over a window about each patch."""
        if not self.patch:
            return error.mean((2, 3), keepdim=True)
        (rows, columns), patch = self._grid(problem), self.patch
        height, width = error.shape[-2:]
        margin = (patch // 2, columns * patch - width + patch // 2, patch // 2, rows * patch - height + patch // 2)
        ones = F.pad(torch.ones_like(error), margin)
        window = 2 * (patch // 2) + patch
        summed, counted = (F.avg_pool2d(part, window, patch) for part in (F.pad(error, margin), ones))
        return summed / counted

    def _refine(self, network: SRSVDNet, problem: Problem, variances: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Follow the slope of the predicted error, all patches together."""
        low, high = (math.sqrt(variance) for variance in training_variance_range(problem.scale))
        deviations = variances.sqrt().requires_grad_(True)
        turned = angles.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([deviations, turned], _RATE)
        tried = len(candidates(problem.scale)[1])
        for step in range(self.steps):
            optimizer.zero_grad(set_to_none=True)
            field = self._field(problem, deviations.square(), turned)
            loss = network(problem.lq, field)[1].abs().mean() - _WIDER * deviations.sum(1).mean()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                deviations.clamp_(low, high)
            problem.tick(tried + step + 1, tried + self.steps)
        return deviations.detach().square(), turned.detach()
