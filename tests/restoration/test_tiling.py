"""Tiles: the estimator's are exact, the generator's near; what a validation in tiles says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.models import build_model
from torch import Tensor, nn

from manet_basicsr.archs import BlindSRNet, MANet, SFTRRDBNet
from manet_basicsr.restoration.tiling import estimate_field_tiled, restore_tiled
from tests import shortened

# float32 sums of another order; the fields below reach 1.
EXACT = 1e-5
SIZES = [(56, 96), (57, 91), (33, 20), (5, 7)]


def estimator(num_block: int = 1, num_feat: int = 8) -> MANet:
    """Make an estimator whose kernels differ from pixel to pixel: the first weights give much the same everywhere."""
    torch.manual_seed(0)
    net = MANet(num_feat=num_feat, num_block=num_block).eval()
    with torch.no_grad():
        net.m_tail.weight.mul_(40)
    return net


def generator(num_block: int = 1) -> SFTRRDBNet:
    torch.manual_seed(0)
    return SFTRRDBNet(num_feat=8, num_block=num_block, num_grow_ch=4).eval()


@pytest.mark.parametrize('num_block', [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('tile', [11, 32, 500])
def test_tiled_field_is_the_untiled_one(num_block: int, size: tuple[int, int], tile: int) -> None:
    net, lq = estimator(num_block), torch.rand(2, 3, *size)
    with torch.no_grad():
        whole = net(lq)
    tiled = estimate_field_tiled(net, lq, tile)
    assert tiled.shape == whole.shape
    torch.testing.assert_close(tiled, whole, atol=EXACT, rtol=0)


@pytest.mark.parametrize('num_block', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_halo_is_as_small_as_it_can_be(num_block: int) -> None:
    # A tile starts at a multiple of 8, so only a row of such a distance from one shows the last pixel of the halo.
    net = estimator(num_block).double()
    lq = torch.rand(1, 3, 64, 16, dtype=torch.float64)
    with torch.no_grad():
        whole = net(lq)
    from manet_basicsr.restoration.tiling import _PaddedView

    def error(halo: int) -> float:
        net.halo = halo
        view = _PaddedView(net, lq)
        parts = [view.estimate(slice(row, row + 1), slice(0, 16)) for row in range(64)]
        return (torch.cat(parts, 2) - whole).abs().max().item()

    # Steps of two: the field is estimated at half resolution, and a halo of 8 n + 3 or 8 n + 2 pixels serves alike.
    said = net.halo
    assert error(said) < 1e-12 < error(said - 2)


def test_an_estimator_that_does_not_say_its_halo_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 49, 3, 1, 1), nn.Softmax(1))
    with pytest.raises(ValueError, match='Sequential has no attribute halo'):
        estimate_field_tiled(net, torch.rand(1, 3, 20, 21), 8)  # type: ignore[arg-type]


class Foreign(nn.Module):
    """An estimator of someone else that says what tiles need."""

    halo, size_multiple, kernel_size, floats_per_pixel = 2, 2, 5, 100
    scale: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 25, 5, 1, 2)

    def forward(self, lq: Tensor) -> Tensor:
        """Estimate a field."""
        height, width = lq.shape[-2:]
        padded = nn.functional.pad(lq, (0, width % 2, 0, height % 2), mode='replicate')
        return self.body(padded).softmax(1)[..., :height, :width]


def test_any_estimator_that_says_what_tiles_need_is_tiled() -> None:
    net, lq = Foreign(), torch.rand(1, 3, 21, 19)
    with torch.no_grad():
        torch.testing.assert_close(estimate_field_tiled(net, lq, 8), net(lq), atol=EXACT, rtol=0)


def test_fields_may_be_estimated_on_the_way_to_any_generator() -> None:
    net, generate, lq = estimator(), generator(), torch.rand(1, 3, 45, 50)
    with torch.no_grad():
        whole = generate(lq, net(lq))
    tiled = restore_tiled(generate, lq, tile=20, overlap=24, estimator=net)
    torch.testing.assert_close(tiled, whole, atol=EXACT, rtol=0)


def test_a_tile_or_an_overlap_that_makes_no_sense_is_refused() -> None:
    lq = torch.rand(1, 3, 8, 8)
    with pytest.raises(ValueError, match='tile must be at least 1'):
        estimate_field_tiled(estimator(), lq, 0)
    with pytest.raises(ValueError, match='overlap must be at least 0'):
        restore_tiled(nn.Identity(), lq, overlap=-1)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('invariant', [True, False])
def test_the_generator_is_exact_where_the_overlap_covers_its_reach(size: tuple[int, int], invariant: bool) -> None:
    # One block: SFT 2, three times five, two more and the upsampler: 21 pixels at each side.
    net, lq = generator(), torch.rand(2, 3, *size)
    field = torch.rand(2, 441, *((1, 1) if invariant else size)).softmax(1)
    with torch.no_grad():
        whole = net(lq, field)
    torch.testing.assert_close(restore_tiled(net, lq, field, tile=24, overlap=24), whole, atol=EXACT, rtol=0)


def test_the_blind_network_estimates_the_fields_of_tiles_exactly_on_the_way() -> None:
    net = BlindSRNet({'type': 'MANet', 'num_feat': 8}, {'type': 'SFTRRDBNet', 'num_feat': 8, 'num_block': 1}).eval()
    lq = torch.rand(1, 3, 45, 50)
    with torch.no_grad():
        whole = net(lq)
    torch.testing.assert_close(restore_tiled(net, lq, tile=20, overlap=24), whole, atol=EXACT, rtol=0)


def test_a_network_without_a_field_is_tiled_too() -> None:
    net = nn.Upsample(scale_factor=3)
    lq = torch.rand(1, 3, 20, 31)
    assert torch.equal(restore_tiled(net, lq, tile=7, overlap=0), net(lq))


@pytest.mark.parametrize('job', shortened.JOBS)
def test_validation_in_tiles_gives_what_whole_images_give(job: str, photos: Path, tmp_path: Path) -> None:
    def tested(*more: str) -> dict[str, Tensor]:
        torch.manual_seed(0)
        file = shortened.option_file('train', job, 4)
        model: Any = build_model(shortened.resolved(file, [*shortened.train_entries(job, photos), *more], tmp_path))
        kernel = torch.full((1, 441, 1, 1), 1 / 441)
        torch.manual_seed(1)
        model.feed_data({'lq': torch.rand(1, 3, 41, 38), 'kernel': kernel, 'lq_path': ['noise']})
        model.test()
        return model.result

    whole, tiled = tested(), tested('val:tile=16')
    assert whole.keys() == tiled.keys()
    for key in whole:
        torch.testing.assert_close(tiled[key], whole[key], atol=EXACT, rtol=0)
