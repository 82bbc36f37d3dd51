"""Blind super-resolution: an estimator of kernel fields and a generator that takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn

from manet_basicsr.utils.messages import nearest
from manet_basicsr.weights import ESTIMATOR_PREFIX, load_pretrained

_GENERATOR_PREFIX = 'generator.'


@ARCH_REGISTRY.register()
class BlindSRNet(nn.Module):
    """Estimate the kernel field of an LR image and super-resolve it with that field (MANet, stage 3).

    Any registered estimator ``lq -> field`` and generator ``(lq, field) -> sr`` serve; to restore images in tiles they
    need the attributes of :class:`FieldEstimator` and :class:`FieldGenerator`. State dicts have the released files'
    keys: the estimator's under ``kernel_estimation.``, the generator's at the top level.

    Args:
        estimator: Options of the estimator in BasicSR's form, ``type`` and arguments (not changed), and, if wanted,
            ``pretrained``, a file of weights read now, and ``param_key``, the key in that file (default ``params``;
            None for a bare state dict, as the released files are).
        generator: Likewise, of the generator.
        freeze_estimator: Keep the estimator as it is: no gradients, always in evaluation mode.

    Raises:
        ValueError: If a ``type`` is missing or unknown, weights do not fit, or the two disagree on ``kernel_size`` or
            ``scale`` (where both tell).
        FileNotFoundError: If a file of weights is missing.
    """

    def __init__(
        self, estimator: Mapping[str, Any], generator: Mapping[str, Any], freeze_estimator: bool = True
    ) -> None:
        super().__init__()
        self.freeze_estimator = freeze_estimator
        self.kernel_estimation: Any = build_part('estimator', estimator)
        self.generator: Any = build_part('generator', generator)
        _check_agreement(self.kernel_estimation, self.generator)
        if freeze_estimator:
            self.kernel_estimation.requires_grad_(False).eval()
        self.register_state_dict_post_hook(_lift_generator_keys)
        self.register_load_state_dict_pre_hook(_lower_generator_keys)

    @property
    def scale(self) -> int:
        """Upsampling factor, that of the generator; a generator that does not tell it leaves none."""
        return int(self.generator.scale)

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolve ``lq`` (B, C, h, w), values in [0, 1], to (B, C, scale * h, scale * w)."""
        return self.restore(lq, self.estimate(lq))

    def estimate(self, lq: Tensor) -> Tensor:
        """Estimate the kernel field (B, k*k, h, w) of ``lq`` (B, C, h, w); without gradients where it is frozen."""
        if not self.freeze_estimator:
            return self.kernel_estimation(lq)
        with torch.no_grad():
            return self.kernel_estimation(lq)

    def restore(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve ``lq`` (B, C, h, w) with a given kernel field (B, k*k, h, w) or (B, k*k, 1, 1)."""
        return self.generator(lq, field)

    def train(self, mode: bool = True) -> BlindSRNet:
        """Set training mode; a frozen estimator stays in evaluation mode."""
        super().train(mode)
        if self.freeze_estimator:
            self.kernel_estimation.eval()
        return self


def build_part(section: str, options: Mapping[str, Any]) -> nn.Module:
    """Build a part of a network from its options in BasicSR's form, and load ``pretrained`` where that is given.

    Args:
        section: Name of the part, for messages.
        options: ``type``, arguments, ``pretrained`` and ``param_key``; they are not changed.

    Raises:
        ValueError: If the ``type`` is missing or unknown, or the weights do not fit.
        FileNotFoundError: If the file of weights is missing.
    """
    arguments = dict(options)
    pretrained = arguments.pop('pretrained', None)
    param_key = arguments.pop('param_key', 'params')
    name = arguments.get('type')
    # Registry.get accepts the second form too, for BasicSR's own classes.
    if name not in ARCH_REGISTRY and f'{name}_basicsr' not in ARCH_REGISTRY:
        hint = nearest(name, ARCH_REGISTRY.keys())
        raise ValueError(f'{section}.type {name!r} is not a registered architecture{hint}')
    network = build_network(arguments)
    if pretrained is not None:
        load_pretrained(network, pretrained, param_key)
    return network


def _check_agreement(estimator: nn.Module, generator: nn.Module) -> None:
    """Compare what both tell; a network of someone else need not tell anything."""
    for name in ('kernel_size', 'scale'):
        found = getattr(estimator, name, None), getattr(generator, name, None)
        if None not in found and found[0] != found[1]:
            raise ValueError(f'estimator has {name} {found[0]}, generator has {name} {found[1]}, expected the same')


# Hooks are functions of the module, and respect the prefix, so that copies, pickles and wrapped networks keep the keys.
def _lift_generator_keys(_module: nn.Module, state_dict: dict[str, Any], prefix: str, *_arguments: Any) -> None:
    inner = prefix + _GENERATOR_PREFIX
    lifted = {
        prefix + key.removeprefix(inner): state_dict.pop(key) for key in list(state_dict) if key.startswith(inner)
    }
    state_dict.update(lifted)


def _lower_generator_keys(_module: nn.Module, state_dict: dict[str, Any], prefix: str, *_arguments: Any) -> None:
    inner = prefix + _GENERATOR_PREFIX
    lowered = {
        inner + key.removeprefix(prefix): state_dict.pop(key)
        for key in list(state_dict)
        if key.startswith(prefix) and not key.startswith(prefix + ESTIMATOR_PREFIX)
    }
    state_dict.update(lowered)
