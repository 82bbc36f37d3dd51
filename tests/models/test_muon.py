"""Muon: the step is that of a plain reference, states resume exactly, and any option file may name it."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manet_basicsr.archs import BlindSRNet, CFSNet, IKCNet
from manet_basicsr.archs.protocols import output_layers
from manet_basicsr.models.muon import Muon, hidden_weights, orthogonalize
from manet_basicsr.options.checks import find_problems
from manet_basicsr.options.reading import load_options
from manet_basicsr.train import train_pipeline
from tests import shortened
from tests.small_networks import FIELD_GENERATORS, GENERATOR

MUON = 'train:optim_g={type: Muon, lr: 0.02, adam_lr: 5e-4, adam_betas: [0.9, 0.99]}'


def network() -> nn.Sequential:
    """Convolutions of several shapes, two of them alike, a transposed one and a vector of its own kind."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 3),
        nn.PReLU(16),
        nn.Conv2d(16, 40, 1),
        nn.ConvTranspose2d(40, 8, 2, 2),
        nn.Conv2d(8, 3, 3),
    )


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.rand(2, 3, 12, 12, generator=generator)).square().mean().backward()
        optimizer.step()


def reference_orthogonal(matrix: Tensor, steps: int) -> Tensor:
    """The published algorithm on one matrix, written as it is printed there."""
    x = matrix / matrix.norm()
    if x.shape[0] > x.shape[1]:
        return reference_orthogonal(matrix.T, steps).T
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


@pytest.mark.parametrize('weight_decay', [0, 0.1])
def test_a_step_is_that_of_a_plain_reference_for_hidden_weights_and_of_adam_for_the_others(weight_decay: float) -> None:
    net, twin = network().double(), network().double()
    optimizer = Muon(net.parameters(), 0.02, 0.9, 4, weight_decay, 1e-3, (0.8, 0.95), 1e-7)
    names = [name for name, parameter in twin.named_parameters() if parameter.ndim >= 2][1:-1]
    others = [parameter for name, parameter in twin.named_parameters() if name not in names]
    adam = torch.optim.Adam(others, 1e-3, (0.8, 0.95), 1e-7)
    momentum = {name: torch.zeros_like(twin.get_parameter(name)) for name in names}
    generator = torch.Generator().manual_seed(5)
    for _ in range(3):
        for parameter, other in zip(net.parameters(), twin.parameters(), strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            other.grad = parameter.grad.clone()
        optimizer.step()
        adam.step()
        with torch.no_grad():
            for name in names:
                weight = twin.get_parameter(name)
                gradient = weight.grad
                assert gradient is not None
                momentum[name] = 0.9 * momentum[name] + 0.1 * gradient
                update = (0.1 * gradient + 0.9 * momentum[name]).reshape(len(weight), -1)
                size = math.sqrt(max(1, update.shape[0] / update.shape[1]))
                step = 0.02 * size * reference_orthogonal(update, 4).reshape(weight.shape)
                weight.copy_((1 - 0.02 * weight_decay) * weight - step)
    for parameter, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter, other)


@pytest.mark.parametrize('shape', [(4, 32, 288), (2, 64, 64), (3, 200, 16)])
def test_singular_values_come_near_1_whatever_the_scale(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrices, 5)
    assert result.shape == shape
    values = torch.linalg.svdvals(result)
    # A square random matrix also has singular values far below a hundredth of its norm, which do not get there.
    share = 0.95 if shape[1] == shape[2] else 1.0
    assert ((values > 0.65) & (values < 1.25)).float().mean() >= share
    # The singular vectors stay: U V' of the matrix itself is what the result is nearest to.
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    cosine = torch.nn.functional.cosine_similarity(result.flatten(1), (left @ right).flatten(1))
    assert cosine.min() > 0.95
    torch.testing.assert_close(orthogonalize(matrices * 1e-10, 5), result, atol=1e-4, rtol=1e-4)


def test_a_gradient_of_zeros_or_none_leaves_a_weight_as_it_is() -> None:
    net = network()
    before = copy.deepcopy(net.state_dict())
    optimizer = Muon(net.parameters())
    optimizer.step()
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert len(optimizer.state) == len(list(net.parameters()))


def test_hidden_weights_are_all_convolutions_but_the_first_and_the_last_that_are_trained() -> None:
    net = network()
    net[0].requires_grad_(False)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    expected = [net[2].weight, net[4].weight, net[5].weight]
    assert [id(weight) for weight in hidden_weights(trained)] == [id(weight) for weight in expected]
    before = net[0].weight.clone()
    train(net, Muon(trained), 2)
    torch.testing.assert_close(net[0].weight, before, rtol=0, atol=0)


@pytest.mark.parametrize('kind', FIELD_GENERATORS)
def test_a_network_names_its_last_layer_where_it_is_not_defined_last(kind: str) -> None:
    network = BlindSRNet({'type': 'MANet', 'num_feat': 8}, {'type': kind, **FIELD_GENERATORS[kind]})
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    hidden, others = ([names[id(weight)] for weight in group['params']] for group in Muon(network).param_groups)
    assert not any(name.startswith('kernel_estimation.') for name in hidden + others)  # frozen
    weights = {name.removeprefix('generator.') for name in others if network.get_parameter(name).ndim >= 2}
    first = next(name for name, layer in network.generator.named_modules() if isinstance(layer, nn.Conv2d))
    assert weights == {f'{name}.weight' for name in (first, *output_layers(network.generator))}
    assert len(hidden) > 0


def test_an_estimator_that_is_trained_with_its_generator_has_its_last_layer_left_to_adam() -> None:
    network = BlindSRNet({'type': 'MANet', 'num_feat': 8}, GENERATOR, freeze_estimator=False)
    hidden = {id(weight) for weight in Muon(network).param_groups[0]['params']}
    assert id(network.kernel_estimation.m_tail.weight) not in hidden
    assert any(id(weight) in hidden for weight in network.kernel_estimation.parameters())
    assert id(network.generator.upsampler[0].weight) not in hidden


def test_of_ikc_neither_what_makes_a_code_nor_the_generator_is_hidden() -> None:
    generator = {'type': 'SFTRRDBNet', 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4, 'scale': 4}
    network = IKCNet(generator, num_feat=8)
    names = {id(weight): name for name, weight in network.named_parameters()}
    hidden, others = ({names[id(weight)] for weight in group['params']} for group in Muon(network).param_groups)
    assert {'predictor.body.10.weight', 'corrector.last.weight', 'predictor.body.0.weight'} <= others
    assert {'predictor.body.8.weight', 'corrector.image.12.weight', 'corrector.body.2.weight'} <= hidden
    assert not any(name.startswith('generator.') for name in hidden | others)


def test_of_cfsnet_what_makes_the_image_is_not_hidden_and_what_controls_it_is() -> None:
    network = CFSNet(num_feat=8, num_block=1)
    hidden = {id(weight) for weight in Muon(network).param_groups[0]['params']}
    assert id(network.last.weight) not in hidden
    assert id(network.head.weight) not in hidden
    assert {id(weight) for weight in network.coefficients.parameters()} <= hidden


def test_a_resumed_state_goes_on_bit_for_bit_in_either_memory_format() -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        net = network().to(memory_format=memory_format)
        optimizer = Muon(net.parameters())
        train(net, optimizer, 3)
        saved = copy.deepcopy((net.state_dict(), optimizer.state_dict()))
        train(net, optimizer, 3, seed=2)
        resumed = network().to(memory_format=memory_format)
        again = Muon(resumed.parameters())
        resumed.load_state_dict(saved[0])
        again.load_state_dict(saved[1])
        train(resumed, again, 3, seed=2)
        assert all(torch.equal(value, net.state_dict()[key]) for key, value in resumed.state_dict().items())


def test_channels_last_weights_keep_their_format_and_get_the_contiguous_step() -> None:
    plain, last = network(), network().to(memory_format=torch.channels_last)
    first, second = Muon(plain.parameters()), Muon(last.parameters())
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        for parameter, other in zip(plain.parameters(), last.parameters(), strict=True):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            other.grad = torch.empty_like(other).copy_(parameter.grad)
        first.step()
        second.step()
    assert last[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert not last[1].weight.is_contiguous()
    for parameter, other in zip(plain.parameters(), last.parameters(), strict=True):
        # The same numbers in the same logical order: rounding alone may differ.
        torch.testing.assert_close(other, parameter, atol=1e-6, rtol=1e-5)


def test_a_scheduler_scales_the_rates_of_both_groups() -> None:
    optimizer = Muon(network().parameters(), lr=0.02, adam_lr=5e-4)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    optimizer.step()
    scheduler.step()
    assert [group['lr'] for group in optimizer.param_groups] == pytest.approx([0.01, 2.5e-4])


def test_a_loss_scaler_s_step_is_the_unscaled_one() -> None:
    net, twin = network(), network()
    scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)
    optimizer, expected = Muon(net.parameters()), Muon(twin.parameters())
    image = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    scaler.scale(net(image).square().mean()).backward()
    scaler.step(optimizer)
    twin(image).square().mean().backward()
    expected.step()
    for parameter, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'lr': -1}, 'lr: found -1, expected a number of at least 0'),
        ({'momentum': 1}, 'momentum: found 1, expected a number of at least 0 and below 1'),
        ({'ns_steps': 0}, 'ns_steps: found 0, expected a whole number of at least 1'),
        ({'ns_steps': 2.5}, 'ns_steps: found 2.5'),
        ({'adam_betas': [0.9]}, r'adam_betas: found \[0.9\], expected two numbers'),
        ({'adam_betas': [0.9, 1.0]}, 'adam_betas: found 1.0'),
        ({'adam_eps': '1'}, "adam_eps: found '1'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([torch.zeros(2, 2)], **arguments)


def test_parameters_must_be_tensors_and_some() -> None:
    with pytest.raises(ValueError, match='found none'):
        Muon([])
    with pytest.raises(TypeError, match='without groups'):
        Muon([{'params': [torch.zeros(2)]}])  # type: ignore[list-item]


@pytest.mark.parametrize(
    'job',
    ['MANet_stage1', *(pytest.param(job, marks=pytest.mark.slow) for job in shortened.JOBS if job != 'MANet_stage1')],
)
def test_an_option_file_trains_with_it_and_resumes_exactly(job: str, photos_lmdb: Path, tmp_path: Path) -> None:
    file = shortened.option_file('train', job, 4)

    def run(root: Path, total_iter: int, *, auto_resume: bool = False) -> dict[str, Tensor]:
        entries = [*shortened.train_entries(job, photos_lmdb, total_iter=total_iter), MUON, 'train:warmup_iter=3']
        opt = shortened.resolved(file, entries, root, auto_resume=auto_resume)
        train_pipeline(opt, str(file))
        path = root / 'experiments' / opt['name'] / 'models/net_g_latest.pth'
        weights: dict[str, Tensor] = torch.load(path, weights_only=True)['params']
        return weights

    whole = run(tmp_path / 'whole', 4)
    half = run(tmp_path / 'parts', 2)
    parts = run(tmp_path / 'parts', 4, auto_resume=True)
    assert all(value.isfinite().all() and torch.equal(value, parts[key]) for key, value in whole.items())
    assert not all(torch.equal(value, parts[key]) for key, value in half.items())


def test_unknown_keys_and_wrong_values_are_named_before_anything_loads() -> None:
    options = load_options(shortened.option_file('train', 'MANet_stage1', 4))

    def problems(section: dict[str, Any]) -> list[str]:
        found = find_problems({**options, 'train': {**options['train'], 'optim_g': section}}, is_train=True)
        return [problem for problem in found if 'optim_g' in problem]

    assert problems({'type': 'Muon', 'lr': 0.02, 'adam_lr': 5e-4, 'adam_betas': [0.9, 0.99]}) == []
    assert problems({'type': 'Muon', 'lr': 0.02, 'nomentum': 0.9}) == [
        "train.optim_g.nomentum: unknown key; did you mean 'momentum'?"
    ]
    assert problems({'type': 'Muon', 'momentum': 2}) == [
        'train.optim_g.momentum: found 2, expected a number from 0 to below 1'
    ]
    assert problems({'type': 'Muno', 'lr': 0.02}) == [
        "train.optim_g.type: 'Muno' is not registered; did you mean 'Muon'?"
    ]


def test_a_stock_model_which_does_not_know_it_is_refused() -> None:
    options = load_options(shortened.option_file('train', 'BlindSR_stage3', 4))
    changed = {**options, 'model_type': 'SRModel', 'train': {**options['train'], 'optim_g': {'type': 'Muon', 'lr': 1}}}
    assert "train.optim_g.type: 'Muon' is not registered" in '\n'.join(find_problems(changed, is_train=True))
