"""Copies of networks that are run while their originals stay as they are."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

AnyNetwork = TypeVar('AnyNetwork', bound=nn.Module)


def evaluation_copy(network: AnyNetwork, device: torch.device) -> AnyNetwork:
    """Copy a network to be run in evaluation mode on a device; the given one is not touched.

    So nothing has to be put back, whatever its modules' modes were, and another thread may train or run it meanwhile.

    Args:
        network: Any network.
        device: Where the copy is.

    Returns:
        New modules with the weights of the given ones: the same memory where they are on the device already. None of
        them has gradients. Hooks are kept; a compiled form is not.
    """
    twin = copy.copy(network)  # what is no module and no tensor is shared
    twin.training = False
    twin._parameters = {
        name: None if value is None else nn.Parameter(value.detach().to(device), requires_grad=False)
        for name, value in network._parameters.items()
    }
    twin._buffers = {
        name: None if value is None else value.detach().to(device) for name, value in network._buffers.items()
    }
    twin._modules = {
        name: None if child is None else evaluation_copy(child, device) for name, child in network._modules.items()
    }
    return twin
