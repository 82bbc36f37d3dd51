"""What solvers need that is trained before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from manet_basicsr.archs import SRSVDNet
from tests.small_networks import GENERATOR


@pytest.fixture(scope='session')
def srsvd_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small networks of SRSVD, ``net_x2.pth`` and so on, untrained."""
    folder = tmp_path_factory.mktemp('srsvd')
    for scale in (2, 3, 4):
        torch.manual_seed(scale)
        network = SRSVDNet({**GENERATOR, 'scale': scale}, num_feat=8, num_block=2)
        torch.save({'params': network.state_dict()}, folder / f'net_x{scale}.pth')
    return folder
