"""Training what tells by how much a wrong kernel changes an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.archs import SRSVDNet
from manet_basicsr.degradation.gaussian import fixed_field
from manet_basicsr.models import KernelErrorModel
from manet_basicsr.options.errors import OptionError
from tests import shortened
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


@torch.no_grad()
def test_it_is_tested_in_tiles_where_asked_for() -> None:
    net = network()
    lq = torch.rand(1, 3, 20, 31)
    whole = model_of().evaluate(net, {'lq': lq})['sr']
    seen: list[int] = []
    net.register_forward_pre_hook(lambda _net, given: seen.append(given[0].shape[-1]))
    tiled = model_of(tile=16).evaluate(net, {'lq': lq})['sr']
    assert len(seen) == 4
    assert tiled.shape == whole.shape
    torch.testing.assert_close(tiled, whole, atol=1e-3, rtol=0)


@torch.no_grad()
def test_the_error_of_a_wrong_kernel_is_not_rounded_under_autocast() -> None:
    net, kernel = network(), torch.rand(2, 441, 1, 1).softmax(1)
    # White: bfloat16's steps are 0.004 there.
    batch = {'lq': torch.ones(2, 3, 8, 8), 'kernel': kernel, 'lq_path': ['a', 'b']}
    (right, other), _ = model_of().predict(net, batch)
    with torch.autocast('cpu', torch.bfloat16):
        (right_half, other_half), (_, error) = model_of().predict(net, batch)
    assert error.dtype is torch.bfloat16
    torch.testing.assert_close(other_half - right_half, other - right, rtol=1e-4, atol=1e-7)


def test_a_single_image_has_no_wrong_kernel() -> None:
    batch = {'lq': torch.rand(2, 3, 8, 8), 'kernel': torch.rand(2, 441, 1, 1).softmax(1), 'lq_path': ['a', 'b']}
    model, net = model_of(), network()
    losses = model.compute_losses(model.predict(net, batch), batch)
    assert losses.keys() == {'l_wrong', 'l_true'}
    with pytest.raises(ValueError, match='found one image in a batch, or part of it, expected 2'):
        model.predict(net, {key: value[:1] for key, value in batch.items()})


def test_options_with_one_image_a_part_are_refused(tmp_path: Path, photos: Path) -> None:
    file = shortened.option_file('train', 'SRSVD', 4)
    entries = shortened.train_entries('SRSVD', photos)
    for batch, accumulate, is_refused in ((4, 2, False), (4, 4, True), (1, 1, True)):
        more = [f'datasets:train:batch_size_per_gpu={batch}', f'train:accumulate={accumulate}']
        if not is_refused:
            shortened.resolved(file, [*entries, *more], tmp_path)
            continue
        with pytest.raises(
            OptionError, match=rf'batch_size_per_gpu: found {batch}, expected at least {2 * accumulate}'
        ):
            shortened.resolved(file, [*entries, *more], tmp_path)
