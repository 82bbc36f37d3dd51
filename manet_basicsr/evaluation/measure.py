"""Time and peak memory of a piece of work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from manet_basicsr.utils.memory import peak_memory, reset_peak, resident_memory, return_freed_memory

_MIB = 2**20


@dataclass
class Cost:
    """What a piece of work took.

    Attributes:
        seconds: Wall time, the device's work included.
        cpu_seconds: Processor time, the sum over this process's threads, which other processes do not add to; None on
            CUDA.
        peak_mib: What memory grew by at its highest, in MiB: on CUDA the memory of tensors, on the CPU the resident
            memory of the process; None where neither can be measured.
    """

    seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_mib: float | None = None


@contextmanager
def measured(device: torch.device) -> Iterator[Cost]:
    """Measure the work of a ``with`` block; the cost is known after it.

    Args:
        device: Where the work is done.
    """
    cost = Cost()
    before: int | None
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        return_freed_memory()  # otherwise only the first image would seem to need memory
        before = resident_memory() if reset_peak() else None
    start, start_on_cpu = time.perf_counter(), time.process_time()
    yield cost
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    else:
        cost.cpu_seconds = time.process_time() - start_on_cpu
    cost.seconds = time.perf_counter() - start
    peak = torch.cuda.max_memory_allocated(device) if device.type == 'cuda' else peak_memory()
    if before is not None and peak is not None:
        cost.peak_mib = max(0.0, peak - before) / _MIB
