"""The blind network: its keys, its frozen estimator, and BasicSR's saving, loading and EMA."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from manet_basicsr.archs import BlindSRNet, SFTRRDBNet
from manet_basicsr.training.processes import end_processes


class UpsampleByField(nn.Module):
    """A foreign generator, with a submodule named as BlindSRNet names it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.generator = nn.Conv2d(3, 3, 1)

    def forward(self, lq: Tensor, field: Tensor) -> Tensor:
        return self.gain * self.generator(lq) * field.amax(1, keepdim=True)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Options of a small blind network, in BasicSR's form."""
    basis = tmp_path / 'basis.npy'
    np.save(basis, np.random.default_rng(0).normal(size=(25, 3)).astype(np.float32))
    generator = {'num_feat': 6, 'num_block': 1, 'num_grow_ch': 4, 'kernel_size': 5, 'code_length': 3, 'scale': 2}
    return {
        'estimator': {'type': 'MANet', 'kernel_size': 5, 'num_feat': 8},
        'generator': {'type': 'SFTRRDBNet', 'pca_path': str(basis), **generator},
    }


@pytest.fixture
def lq() -> Tensor:
    return torch.rand(2, 3, 9, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(options: dict[str, Any], tmp_path: Path) -> SRModel:
    """BasicSR's own SRModel, in training, with EMA."""
    optimiser = {'type': 'Adam', 'lr': 1e-3}
    train = {'ema_decay': 0.9, 'optim_g': optimiser, 'scheduler': {'type': 'MultiStepLR', 'milestones': [9]}}
    return SRModel(
        {
            'num_gpu': 0,
            'dist': False,
            'is_train': True,
            'network_g': {'type': 'BlindSRNet', **options},
            'path': {'models': str(tmp_path)},
            'train': {**train, 'pixel_opt': {'type': 'L1Loss'}},
        }
    )


def test_released_weights_give_the_published_field_and_image(shared: Path) -> None:
    fixture = torch.load(shared / 'fixtures/published/stage3_x4.pth', weights_only=True)
    config = fixture['config']
    network = BlindSRNet(
        {'type': 'MANet', 'num_feat': config['manet_nf'], 'num_block': config['manet_nb'], 'split': config['split']},
        {'type': 'SFTRRDBNet', 'num_feat': config['nf'], 'num_block': config['nb'], 'num_grow_ch': config['gc']},
    )
    network.load_state_dict(fixture['state_dict'], strict=True)
    with torch.no_grad():
        field, sr = network.estimate(fixture['lq']), network(fixture['lq'])
    # float32 rounding in another order of summation; the image relative to its range
    torch.testing.assert_close(field, fixture['kernel_field'], rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(sr, fixture['sr'], rtol=0, atol=1e-5 * fixture['sr'].abs().max().item())
    assert set(network.state_dict()) == set(fixture['state_dict'])


def test_restores_with_the_estimated_or_a_given_field(options: dict[str, Any], lq: Tensor) -> None:
    network = BlindSRNet(**options)
    field = network.estimate(lq)
    assert field.shape == (2, 25, 9, 10)
    torch.testing.assert_close(network(lq), network.restore(lq, field), rtol=0, atol=0)
    assert network.restore(lq, field.mean((2, 3), keepdim=True)).shape == (2, 3, 18, 20)


def test_options_are_not_changed(options: dict[str, Any]) -> None:
    options['estimator']['param_key'] = 'params'
    before = copy.deepcopy(options)
    BlindSRNet(**options)
    assert options == before


def test_keys_are_those_of_the_two_networks(options: dict[str, Any]) -> None:
    network = BlindSRNet(**options)
    expected = {f'kernel_estimation.{key}' for key in network.kernel_estimation.state_dict()}
    assert set(network.state_dict()) == expected | set(network.generator.state_dict())


@pytest.mark.parametrize('wrap', [nn.Sequential, nn.DataParallel, lambda net: nn.ModuleDict({'a': nn.Sequential(net)})])
def test_keys_respect_the_prefix_of_a_wrapper(options: dict[str, Any], lq: Tensor, wrap: Any) -> None:
    network, other = BlindSRNet(**options), BlindSRNet(**options)
    wrapped, wrapped_other = wrap(network), wrap(other)
    state = wrapped.state_dict()
    prefix = next(key for key in state if key.endswith('conv_first.weight')).removesuffix('conv_first.weight')
    assert set(state) == {prefix + key for key in network.state_dict()}
    wrapped_other.load_state_dict(state, strict=True)
    torch.testing.assert_close(other(lq), network(lq), rtol=0, atol=0)


@pytest.mark.parametrize('clone', [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_keep_keys_hooks_and_output(options: dict[str, Any], lq: Tensor, clone: Any) -> None:
    network = BlindSRNet(**options)
    twin = clone(network)
    torch.testing.assert_close(twin(lq), network(lq), rtol=0, atol=0)
    assert list(twin.state_dict()) == list(network.state_dict())
    with torch.no_grad():
        network.generator.conv_first.weight.add_(1)
    twin.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(twin(lq), network(lq), rtol=0, atol=0)


def test_loading_without_strict_leaves_what_is_missing(options: dict[str, Any]) -> None:
    network = BlindSRNet(**options)
    kept = network.generator.trunk_conv.weight.clone()
    state = network.state_dict()
    del state['trunk_conv.weight']
    state['conv_first.weight'] = torch.ones_like(state['conv_first.weight'])
    state['foreign'] = torch.ones(1)
    result = network.load_state_dict(state, strict=False)
    assert len(result.missing_keys) == len(result.unexpected_keys) == 1
    torch.testing.assert_close(network.generator.trunk_conv.weight, kept)
    assert (network.generator.conv_first.weight == 1).all()
    with pytest.raises(RuntimeError, match='trunk_conv.weight'):
        network.load_state_dict(state, strict=True)


def test_a_frozen_estimator_has_no_gradients_and_stays_in_evaluation_mode(options: dict[str, Any], lq: Tensor) -> None:
    network = BlindSRNet(**options).train()
    before = copy.deepcopy(network.state_dict())
    assert network.generator.training
    assert not any(module.training for module in network.kernel_estimation.modules())
    assert not network.estimate(lq).requires_grad
    optimiser = torch.optim.Adam([parameter for parameter in network.parameters() if parameter.requires_grad], 1e-2)
    network(lq).square().mean().backward()
    optimiser.step()
    for key, value in network.state_dict().items():
        frozen = key.startswith('kernel_estimation.') or key == 'pca_matrix'
        assert value.isfinite().all()
        assert torch.equal(value, before[key]) == frozen, key


def test_an_estimator_that_is_not_frozen_learns(options: dict[str, Any], lq: Tensor) -> None:
    network = BlindSRNet(**options, freeze_estimator=False).train()
    assert network.kernel_estimation.training
    network(lq).square().mean().backward()
    assert network.kernel_estimation.m_head.weight.grad.abs().sum() > 0


def test_trains_under_distributed_data_parallel(options: dict[str, Any], lq: Tensor, tmp_path: Path) -> None:
    def train() -> None:
        network = nn.parallel.DistributedDataParallel(BlindSRNet(**options))
        for _ in range(2):  # a parameter without a gradient would stop the second step
            network(lq).mean().backward()
        assert {key.removeprefix('module.') for key in network.state_dict()} == set(network.module.state_dict())

    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        train()  # which leaves no network behind: one that still exchanges now and then blocks the end for ever
    finally:
        end_processes()


def test_basicsr_saves_and_strictly_reloads_network_and_ema(model: SRModel, lq: Tensor, tmp_path: Path) -> None:
    model.feed_data({'lq': lq, 'gt': torch.rand(2, 3, 18, 20)})
    for iteration in (1, 2):
        model.optimize_parameters(iteration)
    model.save_network([model.net_g, model.net_g_ema], 'net_g', 2, param_key=['params', 'params_ema'])
    path = tmp_path / 'net_g_2.pth'
    saved = torch.load(path, weights_only=True)
    assert 'conv_first.weight' in saved['params']
    assert 'kernel_estimation.m_head.weight' in saved['params_ema']
    for param_key, trained in (('params', model.net_g), ('params_ema', model.net_g_ema)):
        fresh = build_network(model.opt['network_g'])
        model.load_network(fresh, str(path), strict=True, param_key=param_key)
        torch.testing.assert_close(fresh(lq), trained(lq), rtol=0, atol=0)
    assert not torch.equal(saved['params']['conv_first.weight'], saved['params_ema']['conv_first.weight'])


def test_basicsr_ema_starts_equal_though_it_copies_no_buffers(model: SRModel, lq: Tensor) -> None:
    assert dict(model.net_g.named_parameters()).keys() == dict(model.net_g_ema.named_parameters()).keys()
    torch.testing.assert_close(model.net_g_ema(lq), model.net_g(lq), rtol=0, atol=0)


@pytest.fixture
def registered() -> Any:
    """The foreign generator under its name, for one test."""
    ARCH_REGISTRY.register(UpsampleByField)
    yield UpsampleByField
    del ARCH_REGISTRY._obj_map['UpsampleByField']


def test_any_registered_generator_serves(options: dict[str, Any], lq: Tensor, registered: type[nn.Module]) -> None:
    network = BlindSRNet(options['estimator'], {'type': 'UpsampleByField'})
    other = BlindSRNet(options['estimator'], {'type': 'UpsampleByField'})
    assert {'gain', 'generator.weight', 'generator.bias'} < set(network.state_dict())
    other.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(other(lq), network(lq), rtol=0, atol=0)


def test_starts_from_a_released_and_a_basicsr_file(options: dict[str, Any], lq: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(1)
    estimator = build_network(options['estimator'])
    generator = build_network(options['generator'])
    generator.pca_matrix.mul_(2)  # a basis that only the file has
    released = {f'kernel_estimation.{key}': value for key, value in estimator.state_dict().items()}
    torch.save(released, tmp_path / 'stage1.pth')
    torch.save({'params_ema': generator.state_dict()}, tmp_path / 'stage2.pth')
    options['estimator'] |= {'pretrained': str(tmp_path / 'stage1.pth'), 'param_key': None}
    options['generator'] |= {'pretrained': str(tmp_path / 'stage2.pth'), 'param_key': 'params_ema'}
    network = BlindSRNet(**options)
    torch.testing.assert_close(network(lq), generator(lq, estimator(lq)), rtol=0, atol=0)
    assert isinstance(network.generator, SFTRRDBNet)


def test_a_missing_or_foreign_file_is_named(options: dict[str, Any], tmp_path: Path) -> None:
    options['estimator']['pretrained'] = str(tmp_path / 'absent.pth')
    with pytest.raises(FileNotFoundError, match='absent.pth'):
        BlindSRNet(**options)
    torch.save({'params': build_network({**options['generator']}).state_dict()}, tmp_path / 'stage2.pth')
    options['estimator']['pretrained'] = str(tmp_path / 'stage2.pth')
    message = r'stage2.pth .* does not fit the network MANet: the file lacks m_head.weight and'
    with pytest.raises(ValueError, match=message) as caught:
        BlindSRNet(**options)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('section', 'change', 'message'),
    [
        ('estimator', {'type': 'MANnet'}, "estimator.type 'MANnet' is not a registered .*; did you mean 'MANet'"),
        ('generator', {'type': None}, 'generator.type None is not a registered'),
        ('estimator', {'kernel_size': 7}, 'estimator has kernel_size 7, generator has kernel_size 5'),
    ],
)
def test_wrong_options_say_what_was_expected(
    options: dict[str, Any], section: str, change: dict[str, Any], message: str
) -> None:
    options[section] |= change
    with pytest.raises(ValueError, match=message):
        BlindSRNet(**options)


def test_field_stays_in_float32_under_autocast(options: dict[str, Any], lq: Tensor) -> None:
    network = BlindSRNet(**options)
    with torch.autocast('cpu', torch.bfloat16):
        assert network.estimate(lq).dtype == torch.float32
        assert network(lq).isfinite().all()
