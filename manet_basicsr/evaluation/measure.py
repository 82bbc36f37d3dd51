"""Time and peak memory of a piece of work."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

_MIB = 2**20


@dataclass
class Cost:
    """What a piece of work took.

    Attributes:
        seconds: Wall time, the device's work included.
        peak_mib: What memory grew by at its highest, in MiB: on CUDA the memory of tensors, on the CPU the resident
            memory of the process; None where neither can be measured.
    """

    seconds: float = 0.0
    peak_mib: float | None = None


@contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Measure the work of a ``with`` block; the cost is known after it.

    Args:
        device: Where the work is done.
    """
    cost = Cost()
    before: float | None
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        _give_back_freed_memory()
        before = _reset_peak()
    start = time.perf_counter()
    yield cost
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    cost.seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) if device.type == 'cuda' else _resident('VmHWM')
    if before is not None and peak is not None:
        cost.peak_mib = max(0.0, peak - before) / _MIB


def _give_back_freed_memory() -> None:
    """Return what the allocator keeps for later; otherwise only the first image would seem to need memory."""
    try:
        ctypes.CDLL('libc.so.6').malloc_trim(0)
    except (OSError, AttributeError):  # another C library
        return


def _reset_peak() -> float | None:
    """Let the kernel forget the peak of this process, and give its resident memory in bytes."""
    try:
        with open('/proc/self/clear_refs', 'w', encoding='ascii') as file:
            file.write('5')
    except OSError:
        return None
    return _resident('VmRSS')


def _resident(name: str) -> float | None:
    try:
        with open('/proc/self/status', encoding='ascii') as file:
            lines = dict(line.split(':', 1) for line in file)
        return float(lines[name].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
