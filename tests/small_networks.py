"""Small networks with random weights, for tests of what is built around networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from manet_basicsr.archs import BlindSRNet

ESTIMATOR = {'type': 'MANet', 'num_feat': 8}
GENERATOR = {'type': 'SFTRRDBNet', 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}

#: Options of every generator ``(lq, field) -> sr``, by its name.
FIELD_GENERATORS: dict[str, dict[str, Any]] = {
    'SFTRRDBNet': {'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4},
    'SRMDNet': {'num_feat': 8, 'num_conv': 3},
    'SFTMD': {'num_feat': 8, 'num_block': 1},
    'CFSNet': {'num_feat': 8, 'num_block': 2},
    'CResMD': {'num_feat': 8, 'num_block': 2},
}


def blind_network(scale: int = 2) -> BlindSRNet:
    """Make a blind network, the same every time."""
    torch.manual_seed(0)
    return BlindSRNet(ESTIMATOR, {**GENERATOR, 'scale': scale}).eval()


def blind_weights(folder: Path, scale: int = 2) -> Path:
    """Save the weights of one as BasicSR does."""
    path = folder / f'blind_x{scale}.pth'
    torch.save({'params': blind_network(scale).state_dict()}, path)
    return path
