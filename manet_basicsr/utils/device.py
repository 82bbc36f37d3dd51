"""The device to compute on, and what suits it."""

from __future__ import annotations

import platform
from pathlib import Path

import torch
from torch import nn


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """Find the device to compute on: the one asked for, or CUDA where there is one.

    Raises:
        ValueError: The name is not that of a device that the networks run on, or there is no such device here.
    """
    if device is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device '{device}' is not one of cpu, cuda, cuda:0 ...") from error
    if chosen.type not in ('cpu', 'cuda') or (chosen.type == 'cpu' and chosen.index):
        raise ValueError(f"device '{device}' is not one of cpu, cuda, cuda:0 ...: the networks run on no other")
    if chosen.type == 'cuda' and not torch.cuda.is_available():
        raise ValueError(f"device '{device}': there is no CUDA device here; try cpu")
    if chosen.type == 'cuda' and (chosen.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(f"device '{device}': the last CUDA device here is cuda:{count - 1}")
    return chosen


def cpu_name() -> str:
    """Name the processor as its maker does, where the system tells; else its architecture."""
    try:
        lines = Path('/proc/cpuinfo').read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:  # not Linux
        lines = []
    named = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(named, '') or platform.processor() or platform.machine()


def fast_half_precision(device: torch.device) -> torch.dtype | None:
    """Tell in which half precision a device computes faster than in float32.

    Returns:
        float16 for CUDA, bfloat16 for processors with instructions for it (AMX, AVX-512 BF16), else None: elsewhere
        it is emulated, which is slower than float32.
    """
    if device.type == 'cuda':
        return torch.float16
    return torch.bfloat16 if cpu_has('amx_tile') or cpu_has('avx512_bf16') else None


def cpu_has(instructions: str) -> bool:
    """Tell whether torch uses ``amx_tile`` (bf16 matrices in tiles, Intel AMX) or ``avx512_bf16`` on this CPU."""
    supported = getattr(torch.cpu, f'_is_{instructions}_supported', None)  # private until torch says it otherwise
    return bool(supported and supported())


def to_channels_last(net: nn.Module) -> None:
    """Lay out the convolutions' weights with the channels last; ``net.to()`` would refuse the PCA basis' shape."""
    for weight in net.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
