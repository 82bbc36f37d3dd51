"""Solvers as methods: what is fitted to each image by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from manet_basicsr.evaluation.conditions import Condition
from manet_basicsr.evaluation.measure import measured
from manet_basicsr.evaluation.methods import MethodOfFile, OptionFile, Prediction
from manet_basicsr.utils.device import pick_device
from manet_basicsr.utils.progress import percent_bar
from manet_basicsr.zero_shot import Solver, solve


class ZeroShot(MethodOfFile):
    """A solver; where it finds kernels alone, a generator restores with them, if there is one.

    Args:
        solver: The solver.
        file: Option file of a generator, or of a blind network that has one.
    """

    def __init__(self, solver: Solver, file: OptionFile | None = None) -> None:
        super().__init__(solver.name, None if solver.RESTORES else file)
        self.solver = solver

    def fingerprint(self) -> Mapping[str, Any]:
        device = str(pick_device())
        return {**super().fingerprint(), 'method': 'zero-shot', **self.solver.fingerprint(), 'device': device}

    def fits(self, condition: Condition) -> bool:
        solvable = self.solver.SCALES is None or condition.scale in self.solver.SCALES
        on_grid = condition.alignment == 'centered' or not self.solver.is_told
        if self.solver.needs_one_kernel and condition.varies:
            return False
        return solvable and on_grid and super().fits(condition)

    def load(self, condition: Condition) -> None:
        self.solver.check(condition.scale)
        with percent_bar(self.name) as tick:  # not within what is measured of an image
            self.solver.prepare(condition.scale, condition.kernel_size, tick)
        super().load(condition)
        self._check_generator()

    def predict(self, sample: Mapping[str, Any], condition: Condition) -> Prediction:
        self.load(condition)
        device = pick_device() if self._model is None else self._model.device
        lq = sample['lq'][None].to(device)
        with percent_bar(self.name) as tick, measured(device) as cost:
            grid = condition.scale, condition.kernel_size, condition.alignment
            solution = solve(self.solver, lq, *grid, tick, sample['kernel'][None] if self.solver.is_told else None)
            sr = solution.sr
            if self._model is not None and solution.field is not None:
                with torch.inference_mode():
                    sr = self._generator()(lq, solution.field)
        return Prediction(sr, solution.field, cost)
