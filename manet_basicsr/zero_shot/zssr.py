"""ZSSR: a small network that learns to enlarge an image from its own reduction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.degradation import blur_downsample, build_field_sampler
from manet_basicsr.zero_shot.kernelgan import estimate_half, kernel_field
from manet_basicsr.zero_shot.patch_sampling import gradients, grey
from manet_basicsr.zero_shot.solver import Problem, Solution, Solver, register_solver

_CROP = 128
_FIRST_RATE, _LAST_RATE = 1e-3, 9e-6
#: How often, in steps, the error is noted and looked at, and how long a slope is.
_NOTE_EVERY, _LOOK_EVERY, _SLOPE = 50, 60, 256


class ZSSRNet(nn.Module):
    """Correct an enlarged image (1, 3, H, W) by eight convolutions without bias, and add it."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [3, *[width] * 7, 3]
        self.layers = nn.ModuleList(
            nn.Conv2d(inner, outer, 3, 1, 1, bias=False) for inner, outer in zip(widths, widths[1:], strict=False)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            nn.init.normal_(layer.weight, 0, (0.1 / (9 * layer.in_channels)) ** 0.5)

    def forward(self, enlarged: Tensor) -> Tensor:
        """Correct the image."""
        feature = enlarged
        for layer in self.layers[:-1]:
            feature = torch.relu(layer(feature))
        return enlarged + self.layers[-1](feature)


def enlarge(image: Tensor, scale: int) -> Tensor:
    """Enlarge an image (1, 3, h, w) by Keys' cubic, as MATLAB does, on the ``centered`` grid."""
    size = [side * scale for side in image.shape[-2:]]
    return F.interpolate(image, size, mode='bicubic', antialias=True)  # without, torch takes OpenCV's cubic


def loss_weight(image: Tensor) -> Tensor:
    """Say how much each pixel of an image (1, 3, h, w) counts, by the gradients about it; the mean is 1."""
    down, across = gradients(grey(image))
    weight = F.avg_pool2d(torch.hypot(down, across), 5, 1, 2)
    inner = torch.zeros_like(weight)
    inner[..., 3:-3, 3:-3] = weight[..., 3:-3, 3:-3]
    mean = inner.mean()
    return inner / mean if mean > 0 else torch.ones_like(weight)


class RateSchedule:
    """Divide the rate by 10 wherever the error falls no longer, by the slope of its last notes.

    Args:
        optimizer: Whose rate it is.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.notes: list[float] = []
        self.changed = 0

    @property
    def rate(self) -> float:
        """The rate now."""
        return float(self.optimizer.param_groups[0]['lr'])

    @property
    def is_over(self) -> bool:
        """Whether the rate is so small that nothing moves."""
        return self.rate < _LAST_RATE

    def look(self, step: int) -> None:
        """Look at the notes, if it is time to."""
        number = _SLOPE // _NOTE_EVERY
        if step % _LOOK_EVERY or step - self.changed <= _SLOPE or len(self.notes) < number:
            return
        steps = np.arange(number) * float(_NOTE_EVERY)
        errors = np.array(self.notes[-number:])
        slope, level = np.polyfit(steps, errors, 1)
        spread = np.sqrt(np.sum((errors - slope * steps - level) ** 2) / (number - 2))  # a line has two parameters
        if 1.5 * -slope < spread / np.sqrt(np.sum((steps - steps.mean()) ** 2)):
            self.changed = step
            for group in self.optimizer.param_groups:
                group['lr'] /= 10


@dataclass(frozen=True)
class _Learner(Solver):
    """Learn to undo a reduction of the LR image by a kernel, and enlarge the LR image with what was learned."""

    SHORT: ClassVar[Mapping[str, Any]] = {'max_steps': 1000, 'stages': 1}
    LEAST: ClassVar[Mapping[str, int]] = {'max_steps': 1}
    CHOICES: ClassVar[Mapping[str, tuple[Any, ...]]] = {'stages': (1, 2)}

    max_steps: int = 3000
    stages: int = 2

    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), 'cubic': 'Keys'}  # records without it are of images enlarged by OpenCV's

    def scales(self, scale: int) -> list[int]:
        """Give the scale of each stage."""
        return [2, 4] if scale == 4 and self.stages > 1 else [scale]

    def solve_with(self, fields: Mapping[int, Tensor], problem: Problem) -> Solution:
        """Solve a problem whose kernel is given, as field (1, k*k, 1, 1) for the scale of each stage."""
        height, width = problem.lq.shape[-2:]
        if (least := max(fields)) > min(height, width):
            raise ValueError(f'an image of {height} x {width} px is too small to be reduced by {least}')
        with problem.seeded():
            network = ZSSRNet().to(problem.lq.device)
        weight = loss_weight(problem.lq)
        for number, (scale, field) in enumerate(fields.items()):
            _learn(network, problem, scale, field, weight, self.max_steps, (number, len(fields)))
        scale, field = problem.scale, fields[problem.scale]
        with torch.no_grad():
            sr = network(enlarge(problem.lq, scale))
            for _ in range(2):
                sr = sr + enlarge(problem.lq - blur_downsample(sr, field, scale), scale)
        return Solution(sr, field)


def _learn(
    network: ZSSRNet, problem: Problem, scale: int, field: Tensor, weight: Tensor, steps: int, stage: tuple[int, int]
) -> None:
    """Learn to undo the reduction of crops of the LR image by a scale, which is stage ``stage[0]`` of ``stage[1]``."""
    lq = problem.lq
    optimizer = torch.optim.Adam(network.parameters(), _FIRST_RATE)
    schedule = RateSchedule(optimizer)
    sides = [min(_CROP, side) // scale * scale for side in lq.shape[-2:]]
    whole = lq[..., : lq.shape[-2] // scale * scale, : lq.shape[-1] // scale * scale]
    done, total = stage[0] * steps, stage[1] * steps
    for step in range(1, steps + 1):
        room = [side - crop for side, crop in zip(lq.shape[-2:], sides, strict=True)]
        top, left = (int(torch.randint(free + 1, (), generator=problem.generator)) for free in room)
        part = (..., slice(top, top + sides[0]), slice(left, left + sides[1]))
        father = lq[part]
        optimizer.zero_grad(set_to_none=True)
        made = network(enlarge(blur_downsample(father, field, scale), scale))
        (weight[part] * (made - father).abs()).mean().backward()
        optimizer.step()
        problem.tick(done + step, total)
        if step % _NOTE_EVERY == 0:
            with torch.no_grad():
                again = network(enlarge(blur_downsample(whole, field, scale), scale))
                schedule.notes.append(float(F.mse_loss(again, whole)))
        schedule.look(step)
        if schedule.is_over:
            break


@register_solver
@dataclass(frozen=True)
class ZSSR(_Learner):
    """Learn to undo a reduction of the LR image, and enlarge the LR image with what was learned.

    The kernel of the reduction is taken for granted. At x4 the network learns a bicubic reduction by 2 first.

    Args:
        seed: Another seed gives another result.
        max_steps: Of each stage, if its rate has not fallen to nothing before.
        stages: At x4: 2 for x2 and then x4, 1 for x4 alone.
        kernel: ``bicubic``; ``true`` for the true kernel of an evaluation, one for the whole image, in one stage.

    Source: Shocher, Cohen and Irani, "Zero-shot super-resolution using deep internal learning", CVPR 2018; with a given
    kernel, as here, neither rotated nor scaled nor averaged over rotations.
    """

    word: ClassVar[str] = 'zssr'
    CHOICES: ClassVar[Mapping[str, tuple[Any, ...]]] = {**_Learner.CHOICES, 'kernel': ('bicubic', 'true')}

    kernel: str = 'bicubic'

    @property
    def is_told(self) -> bool:
        return self.kernel == 'true'

    needs_one_kernel = is_told

    def solve(self, problem: Problem) -> Solution:
        if problem.field is not None:
            height, width = problem.field.shape[-2:]
            if (height, width) != (1, 1):
                raise ValueError(
                    f'zssr: found a field of {height} x {width} kernels, expected one kernel, as on the set invariant'
                )
            return self.solve_with({problem.scale: problem.field}, problem)
        sampler = build_field_sampler({'type': 'bicubic'})
        fields = {
            scale: sampler.draw(scale, scale, scale=scale, kernel_size=problem.kernel_size).to(problem.lq.device)
            for scale in self.scales(problem.scale)
        }
        return self.solve_with(fields, problem)


@register_solver
@dataclass(frozen=True)
class KernelGANThenZSSR(_Learner):
    """ZSSR, told the kernel that KernelGAN finds.

    Args:
        seed: Another seed gives another result.
        max_steps: As for ZSSR.
        stages: As for ZSSR.
        iterations: As for KernelGAN.
    """

    word: ClassVar[str] = 'kernelgan+zssr'
    LEAST: ClassVar[Mapping[str, int]] = {**_Learner.LEAST, 'iterations': 1}
    SCALES: ClassVar[tuple[int, ...] | None] = (2, 4)

    iterations: int = 3000

    def solve(self, problem: Problem) -> Solution:
        scales = self.scales(problem.scale)
        total = self.iterations + len(scales) * self.max_steps

        def after(begun: int) -> Problem:
            return replace(problem, tick=lambda done, _: problem.tick(begun + done, total))

        kernel = estimate_half(after(0), self.iterations)
        fields = {scale: kernel_field(kernel, scale, problem.kernel_size) for scale in scales}
        return self.solve_with(fields, after(self.iterations))
