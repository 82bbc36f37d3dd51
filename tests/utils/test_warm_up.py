"""Warm-up ends at the rate of the schedule."""

from __future__ import annotations

import pytest
import torch
from basicsr.models.base_model import BaseModel


@pytest.mark.parametrize(
    ('warmup', 'milestones', 'expected'),
    [
        (2, [100], [1, 2, 2, 2, 2]),
        (4, [100], [0.5, 1, 1.5, 2, 2]),
        (4, [2], [0.5, 1, 1.5, 1, 1]),  # a milestone within the warm-up counts from its end
        (-1, [2], [2, 2, 1, 1, 1]),
    ],
)
@pytest.mark.filterwarnings('ignore:Detected call of `lr_scheduler.step')
def test_a_warm_up_ends_at_the_rate_of_the_schedule(warmup: int, milestones: list[int], expected: list[float]) -> None:
    scheduler = {'type': 'MultiStepLR', 'milestones': milestones, 'gamma': 0.5}
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False, 'train': {'scheduler': scheduler}})
    model.optimizers = [torch.optim.Adam([torch.zeros((), requires_grad=True)], lr=2e-4)]
    model.setup_schedulers()
    rates = []
    for iteration in range(1, 6):
        model.update_learning_rate(iteration, warmup_iter=warmup)
        rates.append(model.get_current_learning_rate()[0] * 1e4)
    assert rates == pytest.approx(expected)
