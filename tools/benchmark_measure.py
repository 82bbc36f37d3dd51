"""How tools/benchmark.py measures: time and peak memory, each side of a row in processes of its own.

What one piece of work leaves behind in the allocator changes the time of the next, and so does the machine's load from
one minute to another. Each side is therefore timed in fresh processes, the two in turn, and the spread of their medians
is part of the result.
"""

from __future__ import annotations

import copy
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmark_cases import Case, make_cases
from benchmark_work import SCALE, Setting, Work
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from manet_basicsr.archs import MANet
from manet_basicsr.models.speed import choose_channels_last, keep_freed_memory
from manet_basicsr.utils.device import to_channels_last
from manet_basicsr.utils.memory import peak_memory, reset_peak, resident_memory, return_freed_memory

#: Each side of a row is timed in so many processes, in turn: ours, other, ours, other ...
ROUNDS = 2


def seconds(work: Work, setting: Setting) -> float:
    """Time work: the median, in seconds."""
    clock: dict[str, Any] = {'timer': time.process_time} if setting.clock == 'cpu' else {}
    timer = Timer('work()', globals={'work': work}, num_threads=torch.get_num_threads(), **clock)
    return timer.blocked_autorange(min_run_time=setting.choose(1.0, 0.01)).median


def peak_growth(prepare: Callable[[], Work], device: str) -> int:
    """Do work once and tell by how many bytes the memory grew at most, what it works on included."""
    gc.collect()
    if device != 'cpu':
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        prepare()()
        return torch.cuda.max_memory_allocated() - before
    return_freed_memory()  # what is freed but kept would not grow again
    if not reset_peak():
        raise RuntimeError('this system does not tell the peak of a process; measure on Linux, or on CUDA')
    before = resident_memory()
    prepare()()
    return (peak_memory() or before) - before


def measure_work(
    prepare: Callable[[], Work], prepare_small: Callable[[], Work], setting: Setting, with_memory: bool = True
) -> dict[str, float]:
    """Measure work in this process: ``seconds`` and, where asked for, ``bytes``.

    A small form comes first: what libraries load on their first call is no part of the work.
    """
    result: dict[str, float] = {}
    if with_memory:
        peak_growth(prepare_small, setting.device)
        result['bytes'] = peak_growth(prepare, setting.device)
    work = prepare()
    work()  # warm
    return {**result, 'seconds': seconds(work, setting)}


def measure_side(case: Case, side: str, setting: Setting, with_memory: bool) -> dict[str, float]:
    """Measure one side of a case in this process."""
    tiny = Setting(setting.device, quick=True, compiling=setting.compiling)
    small = next(other for other in make_cases(tiny) if other.key == case.key)
    return measure_work(getattr(case, side), getattr(small, side), setting, with_memory and case.has_memory)


def in_child(key: str, setting: Setting, *flags: str) -> dict[str, float]:
    """Let a process of its own measure what has this key."""
    script = Path(__file__).with_name('benchmark.py')
    command = [sys.executable, str(script), '--child', key, '--device', setting.device, '--clock', setting.clock]
    command += ['--quick'] * setting.quick + list(flags)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f'{key}: the child process failed\n{result.stderr[-2000:]}')
    measured: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return measured


def measure(case: Case, setting: Setting, with_memory: bool = True, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure one case, both sides in turn; with ``rounds`` 0 once and in this process, to see that it runs."""
    row: dict[str, Any] = {'key': case.key, 'title': case.title, **case.notes}
    if case.other:
        row['against'] = case.against
    sides = ['ours', 'other'] if case.other else ['ours']
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(max(1, rounds)):
        for side in sides:
            memory_too = with_memory and number == 0
            if rounds:
                measured = in_child(case.key, setting, '--side', side, *['--no-memory'] * (not memory_too))
            else:
                measured = measure_side(case, side, setting, memory_too)
            times[side].append(measured['seconds'])
            if 'bytes' in measured:
                row[f'{side}_bytes'] = int(measured['bytes'])
    for side, values in times.items():
        row[f'{side}_seconds'] = statistics.median(values)
        row[f'{side}_spread'] = (max(values) - min(values)) / statistics.median(values)
    if case.samples:
        row |= {f'{side}_samples_per_second': case.samples / row[f'{side}_seconds'] for side in sides}
    if case.other:
        row['speedup'] = row['other_seconds'] / row['ours_seconds']
        if 'other_bytes' in row:
            row['memory_share'] = row['ours_bytes'] / row['other_bytes']
    row['targets'] = {name: getattr(case, name) for name in ('speedup', 'memory_share', 'memory_bound')}
    return row


def convolutions_alone(setting: Setting, dtype: torch.dtype) -> float:
    """Time the convolutions of MANet's training step, each shape alone, forward and backward; their sum in seconds.

    This is what the step would take if everything else in it were free.
    """
    batch, side = setting.choose((16, 192), (2, 48))
    net = MANet(num_feat=setting.choose(128, 16))
    calls: dict[tuple[Any, ...], list[nn.Module]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        calls.setdefault((str(layer), *inputs[0].shape[1:]), []).append(layer)

    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    with torch.no_grad():
        net(torch.zeros(1, 3, side // SCALE, side // SCALE))
    for handle in handles:
        handle.remove()
    device = torch.device(setting.device)
    layout = torch.channels_last if choose_channels_last('auto', device).value else torch.contiguous_format
    keep_freed_memory()  # as training does
    total = 0.0
    for (_, *shape), same in calls.items():
        layer = copy.deepcopy(same[0]).to(device, dtype)
        if layout is torch.channels_last:
            to_channels_last(layer)
        features = torch.rand(batch, *shape, device=device).to(dtype, memory_format=layout).requires_grad_()
        out = layer(features)
        gradient = torch.rand_like(out)
        leaves = [features, *layer.parameters()]
        work = partial(_forward_and_backward, layer, features, gradient, leaves)
        work()
        total += len(same) * seconds(work, setting)
    return total


def _forward_and_backward(layer: nn.Module, features: Tensor, gradient: Tensor, leaves: list[Tensor]) -> Any:
    return torch.autograd.grad(layer(features), leaves, gradient)


def shares_of_convolutions(rows: Sequence[dict[str, Any]], setting: Setting) -> dict[str, float]:
    """Relate the time of a stage-1 step's convolutions alone to that of the whole step, for each precision."""
    shares = {}
    for row in rows:
        if row['key'] in ('d-float32', 'd-bf16'):
            dtype = torch.float32 if row['key'] == 'd-float32' else torch.bfloat16
            shares[row['key']] = convolutions_alone(setting, dtype) / row['ours_seconds']
    return shares
