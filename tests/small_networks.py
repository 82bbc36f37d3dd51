"""Small networks with random weights, for tests of what is built around networks."""

from __future__ import annotations

from pathlib import Path

import torch

from manet_basicsr.archs import BlindSRNet

ESTIMATOR = {'type': 'MANet', 'num_feat': 8}
GENERATOR = {'type': 'SFTRRDBNet', 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}


def blind_network(scale: int = 2) -> BlindSRNet:
    """Make a blind network, the same every time."""
    torch.manual_seed(0)
    return BlindSRNet(ESTIMATOR, {**GENERATOR, 'scale': scale}).eval()


def blind_weights(folder: Path, scale: int = 2) -> Path:
    """Save the weights of one as BasicSR does."""
    path = folder / f'blind_x{scale}.pth'
    torch.save({'params': blind_network(scale).state_dict()}, path)
    return path
