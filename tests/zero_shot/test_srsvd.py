"""The search for kernels: its candidates, its patches, and that it ends where the error is least."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from manet_basicsr.archs.blur_width import blur_widths
from manet_basicsr.zero_shot import Problem, build_solver, solve
from manet_basicsr.zero_shot import srsvd as module
from manet_basicsr.zero_shot.srsvd import SRSVD, candidates, load_srsvd


class Oracle(nn.Module):
    """In the place of a trained network: its error is how far each kernel's width is from a wanted one."""

    scale, kernel_size = 2, 21

    def __init__(self, wanted: Tensor) -> None:
        super().__init__()
        self.wanted = wanted

    def forward(self, lq: Tensor, field: Tensor) -> tuple[Tensor, Tensor]:
        enlarged = lq.repeat_interleave(2, 2).repeat_interleave(2, 3)
        axis = torch.arange(21.0) - 10.5
        variance = (field * (axis[:, None] ** 2 + axis**2).view(1, -1, 1, 1)).sum(1, keepdim=True) / 2
        error = (variance.sqrt() - self.wanted).expand(-1, 3, *lq.shape[-2:])
        return enlarged, error.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_candidates_are_126_kernels_of_the_training_range() -> None:
    variances, angles = candidates(4)
    assert variances.shape == (6 * 5 // 2 * 8 + 6, 2)
    assert (variances.min().item(), variances.max().item()) == pytest.approx((0.7, 10))
    assert (variances[:, 0] >= variances[:, 1]).all()
    assert angles.min() == 0 and angles.max() < math.pi


def test_each_patch_finds_the_width_of_its_own(monkeypatch: pytest.MonkeyPatch, srsvd_weights: Path) -> None:
    wanted = torch.full((1, 1, 32, 48), 0.9)
    wanted[..., 24:] = 1.9
    monkeypatch.setattr(module, 'load_srsvd', lambda file: Oracle(wanted))
    lq = torch.rand(1, 3, 32, 48)
    weights = f'weights={srsvd_weights}/net_x2.pth'
    errors = {}
    for name, settings in {'searched': 'patch=8,steps=0', 'refined': 'patch=8,steps=40', 'one': 'patch=0'}.items():
        field = solve(build_solver(f'srsvd[{weights},{settings}]'), lq, 2).field
        assert field is not None
        assert tuple(field.shape[-2:]) == ((1, 1) if name == 'one' else (32, 48))
        errors[name] = (blur_widths(field) - wanted).abs()[..., 4:20].mean().item()
    assert errors['searched'] < 0.15
    assert errors['refined'] < errors['searched']
    assert errors['one'] > 0.3


def test_patches_at_the_border_count_their_own_pixels_alone(srsvd_weights: Path) -> None:
    solver = build_solver(f'srsvd[weights={srsvd_weights}/net_x2.pth]')
    assert isinstance(solver, SRSVD)
    problem = Problem(torch.rand(1, 3, 35, 50), 2, 21, torch.Generator())
    pooled = solver._pooled(torch.full((1, 1, 35, 50), 3.0), problem)
    torch.testing.assert_close(pooled, torch.full((1, 1, 3, 4), 3.0))


def test_a_file_tells_its_own_sizes_and_another_is_refused(srsvd_weights: Path, tmp_path: Path) -> None:
    network = load_srsvd(srsvd_weights / 'net_x3.pth')
    assert (network.scale, len(network.error_net.body)) == (3, 2)
    torch.save({'params': {'weight': torch.zeros(1)}}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='is not of a SRSVDNet'):
        load_srsvd(tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='its weights are for x3 and kernels of 21 taps, found x2'):
        solve(build_solver(f'srsvd[weights={srsvd_weights}/net_x3.pth]'), torch.rand(1, 3, 20, 20), 2)
    with pytest.raises(ValueError, match=r'srsvd: experiments/train_SRSVD_x4/models/net_g_latest.pth does not exist'):
        solve(build_solver('srsvd'), torch.rand(1, 3, 20, 20), 4)
