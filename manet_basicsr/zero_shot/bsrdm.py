"""BSRDM: an image prior, a Gaussian kernel and the noise of each place, fitted in turns; and the same with atoms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.zero_shot.gaussian_model import GaussianAtoms, GaussianKernel, GaussianKernels
from manet_basicsr.zero_shot.image_prior import HourglassPrior
from manet_basicsr.zero_shot.image_terms import local_mean, sparse_gradients, ssim
from manet_basicsr.zero_shot.solver import Problem, Solution, Solver, register_solver

_NOISE_WINDOW = 15
# The variance of rounding to 8 bit; a smaller one of the noise would be none.
_LEAST_NOISE = (1 / 255) ** 2 / 12
_LARGEST_GRADIENT = 10.0


@register_solver
@dataclass(frozen=True)
class BSRDM(Solver):
    """Minimise an energy over the weights of an hourglass network and a Gaussian, and walk in the network's input.

    ``E = sum (lq - D(sr))^2 / (2 noise) + sparsity sum |gradients of sr|^exponent``. In each round the weights and the
    kernel take steps of Adam, then the input takes Langevin steps. Its kernel is still moving at the end, so fewer
    rounds are another method.

    Args:
        seed: Another seed gives another result.
        rounds: Of both.
        steps: Of Adam in each round.
        walk: Langevin steps in each round, the first two with noise.
        warmup: Steps before, towards an image that looks like the enlarged LR image.
        noise_steps: Steps after which the variance of the noise stays; until then it is that of the residual at the end
            of the round, as its mean over 15x15 LR px.
        width: Channels of the network.
        rate: Of Adam, for the weights.
        kernel_rate: Of Adam, for the kernel.
        sparsity: Weight of the gradients; 0.3 is advised for small images.
        exponent: Of the gradients.

    Source: Yue et al., "Blind image super-resolution with elaborate degradation modeling on noise and kernel", CVPR
    2022.
    """

    word: ClassVar[str] = 'bsrdm'
    LEAST: ClassVar[Mapping[str, int]] = {'rounds': 1, 'steps': 1, 'width': 2}

    rounds: int = 8
    steps: int = 50
    walk: int = 5
    warmup: int = 50
    noise_steps: int = 300
    width: int = 96
    rate: float = 2e-3
    kernel_rate: float = 5e-3
    sparsity: float = 0.2
    exponent: float = 0.67

    def build_kernels(self, problem: Problem) -> tuple[GaussianKernels, list[dict[str, Any]]]:
        """Build the model of the kernels, and the groups of its parameters with their rates."""
        kernel = GaussianKernel(problem.scale, problem.kernel_size)
        return kernel, [{'params': [kernel.factors], 'lr': self.kernel_rate}]

    def solve(self, problem: Problem) -> Solution:
        fit = _Fit(self, problem)
        fit.warm_up()
        for _ in range(self.rounds):
            fit.maximize()
            fit.walk()
        with torch.no_grad():
            return Solution(fit.network(fit.input), fit.kernels())


@register_solver
@dataclass(frozen=True)
class Atoms(BSRDM):
    """Fit as BSRDM does, with a mixture of a few Gaussians at each place instead of one Gaussian for the image.

    Our own design, to see what a solver can do about blur that varies.

    Args:
        atoms: How many Gaussians.
        cell: Distance in LR px, at most, of the points between which the weights of the mixture are linear.
        smoothness: Weight of the squared differences between neighbouring points.
        weight_rate: Of Adam, for the weights of the mixture.

    Source: the idea is that of SVDSR (ECCV 2024), of which what is published does not tell enough to build it.
    """

    word: ClassVar[str] = 'atoms'
    LEAST: ClassVar[Mapping[str, int]] = {**BSRDM.LEAST, 'atoms': 1, 'cell': 1}

    atoms: int = 6
    cell: int = 16
    smoothness: float = 1.0
    weight_rate: float = 5e-2

    def build_kernels(self, problem: Problem) -> tuple[GaussianKernels, list[dict[str, Any]]]:
        size = problem.lq.shape[-2:]
        kernels = GaussianAtoms(problem.scale, problem.kernel_size, size, self.atoms, self.cell, self.smoothness)
        return kernels, [
            {'params': [kernels.factors], 'lr': self.kernel_rate},
            {'params': [kernels.weights], 'lr': self.weight_rate},
        ]


class _Fit:
    """The state of a fit: network, its input, kernels and noise.

    Args:
        settings: Of the solver.
        problem: The problem.
    """

    def __init__(self, settings: BSRDM, problem: Problem) -> None:
        self.settings, self.problem, self.lq = settings, problem, problem.lq
        device = problem.lq.device
        with problem.seeded():
            self.network = HourglassPrior(8, settings.width, 16, levels=3, non_local=[2]).to(device)
        self.kernels, groups = settings.build_kernels(problem)
        self.kernels.to(device)
        self.input = problem.normal(1, 8, *problem.size)
        self.noise = torch.full_like(self.lq, 1e-4)
        self.optimizer = torch.optim.Adam([{'params': list(self.network.parameters()), 'lr': settings.rate}, *groups])
        self.done = 0

    def _tick(self) -> None:
        self.done += 1
        settings = self.settings
        total = settings.warmup + settings.rounds * (settings.steps + settings.walk)
        self.problem.tick(self.done, total)

    def warm_up(self) -> None:
        """Begin at an image that looks like the enlarged LR image."""
        optimizer = torch.optim.Adam(self.network.parameters(), self.settings.rate)
        enlarged = F.interpolate(self.lq, self.problem.size, mode='bilinear', align_corners=False)
        for _ in range(self.settings.warmup):
            optimizer.zero_grad(set_to_none=True)
            (1 - ssim(self.network(self.input), enlarged)).backward()
            optimizer.step()
            self._tick()

    def energy(self) -> tuple[Tensor, Tensor]:
        """Give the energy, without what is on input and kernels, and the residual on the LR grid."""
        sr = self.network(self.input)
        residual = self.lq - self.kernels.blur(sr)
        prior = self.settings.sparsity * sparse_gradients(sr, self.settings.exponent)
        return (residual.square() / self.noise).sum() / 2 + prior, residual

    def maximize(self) -> None:
        """Take steps in weights and kernels; then, for some rounds, the noise follows.

        A noise that followed each step would be large while the image is still wrong, and then let it stay so.
        """
        weights = list(self.network.parameters())
        for _ in range(self.settings.steps):
            self.optimizer.zero_grad(set_to_none=True)
            energy, residual = self.energy()
            loss = (energy + self.kernels.penalty()) / self.lq.numel()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, _LARGEST_GRADIENT)
            self.optimizer.step()
            self._tick()
        if self.done - self.settings.warmup < self.settings.noise_steps:
            self.noise = local_mean(residual.detach().square(), _NOISE_WINDOW).clamp(min=_LEAST_NOISE)

    def walk(self) -> None:
        """Take Langevin steps in the input, whose own distribution is normal."""
        for step in range(self.settings.walk):
            self.input.requires_grad_(True)
            energy, _ = self.energy()
            (gradient,) = torch.autograd.grad(energy + self.input.square().sum() / 2, self.input)
            size = gradient.norm().clamp(min=1e-12)
            moved = self.input.detach() - gradient / (2 * size)
            self.input = moved + self.problem.normal(*moved.shape) / size if step < 2 else moved
            self._tick()
