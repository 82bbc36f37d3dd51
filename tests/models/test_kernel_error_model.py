"""Training what tells by how much a wrong kernel changes an image."""

from __future__ import annotations

from typing import Any

import torch

from manet_basicsr.archs import SRSVDNet
from manet_basicsr.degradation.gaussian import fixed_field
from manet_basicsr.models import KernelErrorModel
from tests.small_networks import GENERATOR


def model_of(**val: Any) -> KernelErrorModel:
    """A model of which only what it does with a batch is asked."""
    model = KernelErrorModel.__new__(KernelErrorModel)
    model.opt = {'val': val, 'train': {}}
    model.losses = {'pixel': torch.nn.L1Loss()}
    return model


def network(**generator: Any) -> SRSVDNet:
    torch.manual_seed(0)
    return SRSVDNet({**GENERATOR, **generator}, num_feat=8, num_block=1).eval()


@torch.no_grad()
def test_the_kernel_that_it_is_tested_with_lies_on_the_grid_of_the_basis() -> None:
    net = network()
    net.generator.pca_matrix.copy_(net.generator.pca_matrix.flip(1))
    assert net.generator.alignment == 'published'
    lq = torch.rand(1, 3, 8, 8)
    sr, error = net(lq, fixed_field(4, 21, 'published'))
    assert torch.equal(model_of().evaluate(net, {'lq': lq})['sr'], sr - error)
