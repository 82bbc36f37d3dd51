"""Building a network from a file of weights alone: its sizes are read off the shapes in the state dict."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from manet_basicsr.archs import BlindSRNet, MANet, SFTRRDBNet
from manet_basicsr.archs.kernel_code import KernelCodeNet
from manet_basicsr.archs.sft_rrdb_arch import image_of
from manet_basicsr.weights import convert_state_dict, detect_stage, estimator_of, load_any_state_dict, shipped_scale

StateDict = dict[str, Tensor]


def load_network(address: str | os.PathLike[str]) -> nn.Module:
    """Build the network that a file of weights belongs to, and load it.

    Args:
        address: A file of stage 1, 2 or 3, from BasicSR (averaged weights, where it has them), released, or
            ``.safetensors``; or ``weights://NAME`` for weights that ship with the package.

    Returns:
        A :class:`MANet`, :class:`SFTRRDBNet` or :class:`BlindSRNet` on the CPU, in evaluation mode. A MANet knows its
        scale if its weights ship, by their name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or is of another network.
    """
    state_dict = load_any_state_dict(address)
    try:
        network = network_of(state_dict)
        network.load_state_dict(state_dict)
        if isinstance(network, MANet):
            network.scale = shipped_scale(address)
    except KeyError as error:
        raise ValueError(f'{address}: a network without the weights {error} is not one of this package') from error
    except (ValueError, RuntimeError) as error:
        reason = ' '.join(str(error).split())[:400]
        raise ValueError(f'{address}: {reason}') from error
    return network.eval()


def estimator_options(state_dict: StateDict) -> dict[str, Any]:
    """Read the options of a :class:`MANet`, in BasicSR's form, off its state dict.

    Raises:
        KeyError: It is not that of a MANet.
    """
    width, channels = state_dict['m_head.weight'].shape[:2]
    options = {
        'type': 'MANet',
        'num_in_ch': channels,
        'kernel_size': math.isqrt(len(state_dict['m_tail.weight'])),
        'num_feat': width,
        'num_block': _count(state_dict, lambda index: f'm_down1.{index}.res.0.'),
    }
    split = _count(state_dict, lambda index: f'm_down1.0.res.0.conv{index}.weight')
    if split:
        return {**options, 'split': split}
    groups = width // state_dict['m_down1.0.res.0.weight'].shape[1]
    return {**options, 'conv': 'conv'} if groups == 1 else {**options, 'conv': 'groupconv', 'split': groups}


def generator_options(state_dict: StateDict) -> dict[str, Any]:
    """Read the options of a :class:`SFTRRDBNet`, in BasicSR's form, off its state dict.

    Raises:
        KeyError: It is not that of an SFTRRDBNet.
    """
    width, channels = state_dict['conv_first.weight'].shape[:2]
    _, taps, code_length = state_dict['pca_matrix'].shape[:3]
    num_out, scale = image_of(state_dict['upsampler.0.weight'])
    return {
        'type': 'SFTRRDBNet',
        'num_in_ch': channels,
        'num_out_ch': num_out,
        'scale': scale,
        'num_feat': width,
        'num_block': _count(state_dict, lambda index: f'RRDB_trunk.{index}.'),
        'num_grow_ch': len(state_dict['RRDB_trunk.0.RDB1.conv1.weight']),
        'kernel_size': math.isqrt(taps),
        'code_length': code_length,
    }


def alignment_of(network: nn.Module) -> str:
    """Tell the alignment of a network's kernels by its PCA basis, ``unknown`` for a network without one."""
    generator = network.generator if isinstance(network, BlindSRNet) else network
    return generator.alignment if isinstance(generator, KernelCodeNet) else 'unknown'


def network_of(state_dict: StateDict) -> nn.Module:
    """Build the network that a state dict belongs to, without loading it.

    Args:
        state_dict: Of stage 1, 2 or 3, as BasicSR or the authors' release has it; not changed.

    Returns:
        A :class:`MANet`, :class:`SFTRRDBNet` or :class:`BlindSRNet` with random weights.

    Raises:
        KeyError: It is of another network.
        ValueError: Likewise, or its sizes do not fit together.
    """
    stage = detect_stage(state_dict)
    if stage == 1:
        return _from_options(MANet, estimator_options(convert_state_dict(state_dict, 'basicsr')))
    # Other sizes than the shipped ones have no basis to start from; the state dict's own serves.
    basis = state_dict['pca_matrix']
    generator = {**generator_options(state_dict), 'pca_matrix': basis.reshape(basis.shape[1:3])}
    if stage == 2:
        return _from_options(SFTRRDBNet, generator)
    return BlindSRNet(estimator_options(estimator_of(state_dict)), generator)


def _from_options(architecture: type[nn.Module], options: dict[str, Any]) -> nn.Module:
    return architecture(**{key: value for key, value in options.items() if key != 'type'})


def _count(state_dict: StateDict, prefix: Callable[[int], str]) -> int:
    """Count 0, 1, 2 ... as long as there is a key that begins with the prefix of the number."""
    return next(index for index in itertools.count() if not any(key.startswith(prefix(index)) for key in state_dict))
