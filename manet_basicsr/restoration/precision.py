"""What restoring computes in: float32, or a half precision that ends in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from manet_basicsr.archs.protocols import output_layers
from manet_basicsr.utils.device import fast_half_precision, to_channels_last
from manet_basicsr.utils.messages import unknown_name

PRECISIONS = ('auto', 'float32', 'bf16', 'float16')
"""What may be asked to compute in."""


class HalfPrecisionError(ValueError):
    """Numbers are not finite in half precision, which float32 may cure."""


def half_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """Find the half precision that a word means.

    Args:
        precision: One of :data:`PRECISIONS`; ``auto`` is the half precision that the device is fast in, or float32.
        device: Where to compute.

    Returns:
        None for float32.

    Raises:
        ValueError: It is another word.
    """
    if precision not in PRECISIONS:
        raise ValueError(unknown_name('precision', precision, PRECISIONS))
    if precision == 'auto':
        return fast_half_precision(device)
    return {'float32': None, 'bf16': torch.bfloat16, 'float16': torch.float16}[precision]


def prepare_for_half_precision(estimator: nn.Module, generator: nn.Module) -> None:
    """Change networks so that they restore fast under autocast, and without steps in what they make."""
    for network in (estimator, generator):
        to_channels_last(network)  # whatever is fast in half precision wants it
    convolutions = [name for name, layer in generator.named_modules() if isinstance(layer, nn.Conv2d) and name]
    for name in output_layers(generator) or convolutions[-1:]:
        generator.set_submodule(name, _InFloat32(generator.get_submodule(name)))


class _InFloat32(nn.Module):
    """A layer that computes in float32 under autocast.

    Half precision has 8 (bfloat16) or 11 (float16) bits: an image of 16 bit, or with soft gradients, would come out in
    steps if the layer that makes it computed in half precision, too.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, feature: Tensor) -> Tensor:
        """Run the layer."""
        with torch.autocast(feature.device.type, enabled=False):
            return self.layer(feature.float())
