"""DIP-FKP: deep image prior whose kernel is found along the way, by a flow over kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from manet_basicsr.degradation import blur_downsample
from manet_basicsr.zero_shot.image_prior import HourglassPrior
from manet_basicsr.zero_shot.image_terms import ssim
from manet_basicsr.zero_shot.kernel_flow import trained_flow
from manet_basicsr.zero_shot.solver import Problem, Solution, Solver, Tick, register_solver

_IMAGE_RATE, _LATENT_RATE = 5e-3, 0.5
#: Steps in which the loss is structural similarity, and in which the kernel stays as it is.
_SIMILAR, _FROZEN = 80, 75


@register_solver
@dataclass(frozen=True)
class DIPFKP(Solver):
    """Fit an hourglass network and the latent of a kernel to the LR image.

    The latent stays on a sphere, where the flow's kernels are likely. The image is that of the network; the paper's
    figures are of another network that is given the kernel. The flow is trained before, once a process, on the kernels
    that this package trains on.

    Args:
        seed: Another seed gives another result.
        steps: Of Adam.
        width: Channels of the network.
        flow_steps: Of the training of the flow, on 100 kernels each.

    Source: Liang et al., "Flow-based kernel prior with application to blind super-resolution", CVPR 2021.
    """

    word: ClassVar[str] = 'dip_fkp'
    SHORT: ClassVar[Mapping[str, Any]] = {'width': 64}
    LEAST: ClassVar[Mapping[str, int]] = {'steps': 1, 'width': 2, 'flow_steps': 1}

    steps: int = 1000
    width: int = 128
    flow_steps: int = 50_000

    def prepare(self, scale: int, kernel_size: int, tick: Tick) -> None:
        trained_flow(scale, kernel_size, self.flow_steps, tick)

    def solve(self, problem: Problem) -> Solution:
        lq, scale, size = problem.lq, problem.scale, problem.kernel_size
        trained = 0

        def tick(done: int, _: int) -> None:
            nonlocal trained
            trained = done
            problem.tick(done, self.flow_steps + self.steps)

        flow = trained_flow(scale, size, self.flow_steps, tick).to(lq.device)
        with problem.seeded():
            network = HourglassPrior(3, self.width, skip=16, non_local=(2, 3, 4)).to(lq.device)
        noise = 0.1 * problem.uniform(1, 3, *problem.size)
        latent = torch.nn.Parameter(_on_sphere(problem.normal(1, size**2), size))
        groups: list[dict[str, Any]] = [
            {'params': list(network.parameters()), 'lr': _IMAGE_RATE},
            {'params': [latent], 'lr': _LATENT_RATE},
        ]
        optimizer = torch.optim.Adam(groups)
        sr, field = lq, lq
        for step in range(self.steps):
            latent.requires_grad_(step >= _FROZEN)
            optimizer.zero_grad(set_to_none=True)
            sr, field = network(noise), flow.kernels(latent).view(1, -1, 1, 1)
            made = blur_downsample(sr, field, scale)
            loss = 1 - ssim(made, lq) if step < _SIMILAR else F.mse_loss(made, lq)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                latent.copy_(_on_sphere(latent, size))
            problem.tick(trained + step + 1, trained + self.steps)
        return Solution(sr, field)


def _on_sphere(latent: torch.Tensor, size: int) -> torch.Tensor:
    """Scale a latent vector to the norm k - 1, about that of a normal vector of k*k numbers."""
    return latent * (size - 1) / latent.norm().clamp(min=1e-12)
