"""Deep image prior: fit an untrained network to the LR image, under a kernel that is taken for granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from manet_basicsr.degradation import blur_downsample, build_field_sampler
from manet_basicsr.zero_shot.image_prior import HourglassPrior
from manet_basicsr.zero_shot.solver import Problem, Solution, Solver, register_solver


@register_solver
@dataclass(frozen=True)
class DeepImagePrior(Solver):
    """Minimise ``|blur_downsample(f(z), k) - lq|^2`` over the weights of an hourglass network f, with noise z fixed.

    The kernel k is that of an antialiased reduction. So for blurred images the model is wrong, which is what the method
    is compared for; told the true kernel field instead, it shows what the wrong one costs.

    Args:
        seed: Another seed gives another result.
        steps: Of Adam. There is no early stopping: noise in the LR image is fitted, too.
        width: Channels of the network.
        rate: Of Adam.
        jitter: Standard deviation of the noise that z gets anew in each step.
        kernel: ``lanczos`` or ``bicubic``; ``true`` for the true field of an evaluation.

    Source: Ulyanov, Vedaldi and Lempitsky, CVPR 2018; their even downsampler is the Lanczos kernel on the same grid.
    """

    word: ClassVar[str] = 'dip'
    SHORT: ClassVar[Mapping[str, Any]] = {'width': 64, 'steps': 1000}
    LEAST: ClassVar[Mapping[str, int]] = {'steps': 1, 'width': 1}
    CHOICES: ClassVar[Mapping[str, tuple[Any, ...]]] = {'kernel': ('lanczos', 'bicubic', 'true')}

    steps: int = 2000
    width: int = 128
    rate: float = 0.01
    jitter: float = 0.03
    kernel: str = 'lanczos'

    @property
    def is_told(self) -> bool:
        return self.kernel == 'true'

    def solve(self, problem: Problem) -> Solution:
        lq, scale, field = problem.lq, problem.scale, problem.field
        if field is None:
            sampler = build_field_sampler({'type': self.kernel})
            field = sampler.draw(*problem.size, scale=scale, kernel_size=problem.kernel_size).to(lq.device)
        with problem.seeded():
            network = HourglassPrior(width=self.width).to(lq.device)
        noise = 0.1 * problem.uniform(1, 32, *problem.size)
        optimizer = torch.optim.Adam(network.parameters(), self.rate)
        sr = lq
        for step in range(self.steps):
            optimizer.zero_grad(set_to_none=True)
            sr = network(noise + self.jitter * problem.normal(*noise.shape))
            loss = F.mse_loss(blur_downsample(sr, field, scale), lq)
            loss.backward()
            optimizer.step()
            problem.tick(step + 1, self.steps)
        return Solution(sr, field)
