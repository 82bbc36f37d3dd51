"""Finding what is not finite."""

from __future__ import annotations

import math

import pytest
import torch

from manet_basicsr.utils.tensors import not_finite


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_the_first_tensor_that_is_not_finite_is_named(value: float) -> None:
    content = {'params': {'a': torch.ones(2), 'b': [torch.tensor([1.0, value])]}, 'iter': 3, 'count': torch.tensor(1)}
    assert not_finite(content) == 'params.b.0'


def test_whole_numbers_and_masks_are_finite() -> None:
    mask = torch.zeros(3, 3).masked_fill(torch.ones(3, 3).triu(1).bool(), -math.inf)
    assert not_finite({'mask': mask, 'half': torch.ones(2).half(), 'step': torch.tensor(2**60), 'none': None}) is None
