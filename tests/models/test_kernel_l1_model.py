"""Stage 1 learns: a small estimator tells apart the kernels that it is over-fitted on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.models import build_model
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from manet_basicsr.archs import SFTRRDBNet
from manet_basicsr.degradation import anisotropic_gaussian_kernels, blur_downsample, quantize
from manet_basicsr.options.errors import OptionError
from tests import shortened

FILE = shortened.option_file('train', 'MANet_stage1', 4)
VARIANCES = torch.tensor([[1.0, 1], [4, 1], [4, 1], [9, 1], [9, 1], [9, 9], [5, 5], [9, 4]])
ANGLES = torch.tensor([0, 0, torch.pi / 2, torch.pi / 4, 3 * torch.pi / 4, 0, 0, 0])


def build(tmp_path: Path, photos: Path, *more: str) -> Any:
    """Build the model of the shortened stage-1 file."""
    entries = [*shortened.train_entries('MANet_stage1', photos), *more]
    return build_model(shortened.resolved(FILE, entries, tmp_path))


@pytest.fixture(scope='module')
def batch() -> dict[str, Any]:
    """Eight crops of photographs, each blurred by another kernel."""
    import skimage.data

    photos = [getattr(skimage.data, name)() for name in ('astronaut', 'chelsea', 'coffee', 'rocket')]
    crops = [photo[top : top + 64, 100:164] for photo in photos for top in (50, 150)]
    gt = torch.stack([torch.from_numpy(crop.copy()).permute(2, 0, 1).float() / 255 for crop in crops])
    kernels = anisotropic_gaussian_kernels(VARIANCES, ANGLES)[..., None, None]
    return {'lq': quantize(blur_downsample(gt, kernels, 4)), 'kernel': kernels, 'gt': gt, 'lq_path': ['crop'] * 8}


@pytest.mark.slow
def test_overfitted_on_eight_crops_it_tells_their_kernels_apart(
    batch: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = build(tmp_path, photos, 'network_g:num_feat=32', 'train:optim_g:lr=2e-3')
    losses = []
    for iteration in range(1, 401):
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        losses.append(model.get_current_log()['l_kernel'])
    assert sum(losses[-20:]) / 20 < losses[0] / 5
    model.test()
    estimated: Tensor = model.result['field'].mean((2, 3))
    distances = torch.cdist(estimated, batch['kernel'][..., 0, 0], p=1)
    assert distances.argmin(1).tolist() == list(range(8))


def test_lr_image_loss_is_zero_for_the_true_kernels_and_positive_for_others(
    batch: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    model = build(tmp_path, photos, 'train:lr_image_opt={type: L1Loss, loss_weight: 2.0}')
    model.logit_network = None  # of fields
    field = batch['kernel'].expand(-1, -1, 16, 16)
    exact = model.compute_losses(field, batch)
    # The two paths of the blur, one kernel an image and one a pixel, add up the taps in another order.
    assert exact['l_lr_image'] == pytest.approx(0, abs=1e-6)
    assert exact['l_kernel'] == 0
    assert model.compute_losses(field.roll(1, 0), batch)['l_lr_image'] > 1e-2


def test_both_losses_are_added_and_logged(batch: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    model = build(tmp_path, photos, 'train:lr_image_opt={type: L1Loss}')
    model.feed_data(batch)
    model.optimize_parameters(1)
    assert set(model.get_current_log()) == {'l_kernel', 'l_lr_image'}


def test_the_indirect_loss_compares_images_of_a_frozen_generator_and_moves_the_estimator_alone(
    batch: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}
    weights = tmp_path / 'generator.pth'
    torch.save({'params': SFTRRDBNet(**sizes).state_dict()}, weights)
    small = json.dumps({'type': 'SFTRRDBNet', **sizes, 'pretrained': str(weights)})
    indirect = f'train:indirect_opt={{type: IndirectLoss, loss_weight: 2.0, generator: {small}}}'
    model = build(tmp_path, photos, indirect, 'train:kernel_opt=~')
    generator = model.losses['indirect'].generator
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    field = batch['kernel'].expand(-1, -1, 16, 16)
    # One kernel an image and one a pixel are projected in another order.
    assert model.compute_losses(field, batch)['l_indirect'] == pytest.approx(0, abs=1e-5)
    other = field.roll(1, 0)
    expected = 2 * (generator(batch['lq'], other) - generator(batch['lq'], batch['kernel'])).abs().mean()
    assert expected > 1e-5
    torch.testing.assert_close(model.compute_losses(other, batch)['l_indirect'], expected)
    model.feed_data(batch)
    model.optimize_parameters(1)
    assert set(model.get_current_log()) == {'l_indirect'}
    assert all(parameter.grad is not None for parameter in model.net_g.parameters())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in generator.parameters())
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())
    assert not any('generator' in key for key in model.net_g.state_dict())


def test_another_loss_in_its_place_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='indirect_opt.type: found L1Loss, expected IndirectLoss'):
        build(tmp_path, photos, 'train:indirect_opt={type: L1Loss}')


def test_without_any_loss_it_says_which_keys_are_expected(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match='expected at least one of kernel_opt, lr_image_opt'):
        build(tmp_path, photos, 'train:kernel_opt=~')


@pytest.mark.parametrize(
    'entry', ['train:amp=~', 'train:amp=bf16', pytest.param('train:compile=true', marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('loss', ['KernelL1Loss', 'KernelKLLoss'])
def test_losses_of_logits_train_as_those_of_fields(
    loss: str, entry: str, batch: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    entries = [f'train:kernel_opt={{type: {loss}}}', 'train:lr_image_opt={type: L1Loss}', entry]
    gradients = []
    for plain in (False, True):
        torch.manual_seed(0)
        model = build(tmp_path, photos, *entries)
        assert model.logit_network is not None
        if plain:
            model.logit_network = None
        model.feed_data(batch)
        model.optimize_parameters(1)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.net_g.parameters()]))
    # float32: sums in another order; bfloat16: the gradient of the logits is rounded to 8 bits at another place
    tolerance = 2e-2 if 'bf16' in entry else 1e-4
    assert (gradients[0] - gradients[1]).norm() < tolerance * gradients[1].norm()


@ARCH_REGISTRY.register()
class OneConvolutionEstimator(nn.Module):
    """An estimator that gives fields only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 441, 1)

    def forward(self, lq: Tensor) -> Tensor:
        return self.conv(lq).softmax(1)


def test_an_estimator_without_logits_is_trained_by_its_fields(
    batch: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    opt = shortened.resolved(FILE, shortened.train_entries('MANet_stage1', photos), tmp_path)
    model = build_model({**opt, 'network_g': {'type': 'OneConvolutionEstimator'}})
    model.feed_data(batch)
    model.optimize_parameters(1)
    assert model.logit_network is None
    assert model.get_current_log()['l_kernel'] > 0
