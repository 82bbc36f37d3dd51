"""Copies of networks to be run, with the weights of the originals."""

from __future__ import annotations

import torch
from torch import nn

from manet_basicsr.archs.copies import evaluation_copy
from tests.small_networks import blind_network

CPU = torch.device('cpu')


def test_a_copy_gives_the_same_and_shares_the_memory_of_the_weights() -> None:
    network, lq = blind_network(), torch.rand(1, 3, 9, 10)
    twin = evaluation_copy(network.train(), CPU)
    assert not any(module.training for module in twin.modules())
    assert network.training and all(value.requires_grad for value in network.generator.parameters())
    assert torch.equal(twin(lq), network(lq)) and not twin(lq).requires_grad
    assert list(twin.state_dict()) == list(network.state_dict())
    pairs = zip(twin.state_dict().values(), network.state_dict().values(), strict=True)
    assert all(mine.data_ptr() == given.data_ptr() for mine, given in pairs)


def test_a_copy_elsewhere_leaves_the_weights_where_they_are() -> None:
    network = blind_network()
    twin = evaluation_copy(network, torch.device('meta'))
    assert {value.device.type for value in twin.state_dict().values()} == {'meta'}
    assert {value.device.type for value in network.state_dict().values()} == {'cpu'}
    assert network(torch.rand(1, 3, 8, 8)).isfinite().all()


def test_modes_that_count_are_those_of_evaluation_and_statistics_stay() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    seen: list[tuple[int, ...]] = []
    network[0].register_forward_hook(lambda _module, _given, made: seen.append(tuple(made.shape)))
    twin = evaluation_copy(network, CPU)
    lq = torch.rand(2, 3, 4, 4)
    assert torch.equal(twin(lq), twin(lq))
    assert seen == [(2, 3, 4, 4)] * 2
    assert network[0].running_mean is not None and (network[0].running_mean == 0).all()
