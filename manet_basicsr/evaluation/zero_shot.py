"""Solvers as methods: what is fitted to each image by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from manet_basicsr.archs.protocols import BlindNetwork
from manet_basicsr.evaluation.conditions import Condition
from manet_basicsr.evaluation.measure import measured
from manet_basicsr.evaluation.methods import Method, OptionFile, Prediction
from manet_basicsr.utils.progress import percent_bar
from manet_basicsr.zero_shot import Solver, solve


class ZeroShot(Method):
    """A solver; where it finds kernels alone, a generator restores with them, if there is one.

    Args:
        solver: The solver.
        file: Option file of a generator, or of a blind network that has one.
    """

    def __init__(self, solver: Solver, file: OptionFile | None = None) -> None:
        self.name = solver.name
        self.solver = solver
        self.file = None if solver.RESTORES else file
        self._model: Any = None

    def fingerprint(self) -> Mapping[str, Any]:
        generator = None if self.file is None else self.file.fingerprint()
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        return {'method': 'zero-shot', **self.solver.fingerprint(), 'generator': generator, 'device': device}

    def fits(self, condition: Condition) -> bool:
        solvable = self.solver.SCALES is None or condition.scale in self.solver.SCALES
        return solvable and (self.file is None or self.file.fits(condition))

    def load(self, condition: Condition) -> None:
        self.solver.check(condition.scale)
        if self._model is None and self.file is not None:
            self._model = self.file.build(condition)

    def predict(self, sample: Mapping[str, Any], condition: Condition) -> Prediction:
        self.load(condition)
        device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        device = device if self._model is None else self._model.device
        lq = sample['lq'][None].to(device)
        with percent_bar(self.name) as tick, measured(device) as cost:
            solution = solve(self.solver, lq, condition.scale, condition.kernel_size, condition.alignment, tick)
            sr = solution.sr
            if self._model is not None and solution.field is not None:
                network = self._model.get_bare_model(self._model.net_g).eval()
                restore: Any = network.restore if isinstance(network, BlindNetwork) else network
                with torch.inference_mode():
                    sr = restore(lq, solution.field)
        return Prediction(sr, solution.field, cost)
