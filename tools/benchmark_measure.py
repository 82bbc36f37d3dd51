"""How tools/benchmark.py measures: time and peak memory, each side of a row in processes of its own.

What one piece of work leaves behind in the allocator changes the time of the next, and so does the machine's load from
one minute to another. Each side is therefore timed in fresh processes, ours and plain in turn, and the spread of their
medians is part of the result.
"""

from __future__ import annotations

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
from torch import nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from manet_basicsr.archs import MANet
from manet_basicsr.utils.memory import peak_memory, reset_peak, resident_memory, return_freed_memory

#: Each side of a row is timed in so many processes, in turn: ours, plain, ours, plain ...
ROUNDS = 2


def seconds(work: Work, setting: Setting) -> float:
    """Time work: the median, in seconds."""
    clock: dict[str, Any] = {'timer': time.process_time} if setting.clock == 'cpu' else {}
    timer = Timer('work()', globals={'work': work}, num_threads=torch.get_num_threads(), **clock)
    return timer.blocked_autorange(min_run_time=setting.choose(1.0, 0.05)).median


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


def measure_side(case: Case, side: str, setting: Setting, with_memory: bool) -> dict[str, float]:
    """Measure one side of a case in this process: ``seconds`` and, where asked for, ``bytes``."""
    result: dict[str, float] = {}
    if with_memory and case.has_memory:
        # The small form first: what libraries load on their first call is no part of the work.
        small = next(other for other in make_cases(Setting(setting.device, quick=True)) if other.key == case.key)
        peak_growth(getattr(small, side), setting.device)
        result['bytes'] = peak_growth(getattr(case, side), setting.device)
    work = getattr(case, side)()
    work()  # warm
    return {**result, 'seconds': seconds(work, setting)}


def measure_in_child(case: Case, side: str, setting: Setting, with_memory: bool) -> dict[str, float]:
    """Do :func:`measure_side` in a process of its own."""
    flags = ['--quick'] * setting.quick + ['--no-memory'] * (not with_memory)
    script = Path(__file__).with_name('benchmark.py')
    command = [sys.executable, str(script), '--child', case.key, '--side', side, '--device', setting.device]
    result = subprocess.run([*command, '--clock', setting.clock, *flags], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f'{case.key}, {side}: the child process failed\n{result.stderr[-2000:]}')
    measured: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return measured


def measure(case: Case, setting: Setting, with_memory: bool = True, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure one case, both sides in turn; with ``rounds`` 0 once and in this process, to see that it runs."""
    row: dict[str, Any] = {'key': case.key, 'title': case.title, **case.notes}
    sides = ['ours', 'plain'] if case.plain else ['ours']
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(max(1, rounds)):
        for side in sides:
            memory_too = with_memory and number == 0
            measured = (measure_in_child if rounds else measure_side)(case, side, setting, memory_too)
            times[side].append(measured['seconds'])
            if 'bytes' in measured:
                row[f'{side}_bytes'] = int(measured['bytes'])
    for side, values in times.items():
        row[f'{side}_seconds'] = statistics.median(values)
        row[f'{side}_spread'] = (max(values) - min(values)) / statistics.median(values)
    if case.samples:
        row |= {f'{side}_samples_per_second': case.samples / row[f'{side}_seconds'] for side in sides}
    if case.plain:
        row['speedup'] = row['plain_seconds'] / row['ours_seconds']
        if 'plain_bytes' in row:
            row['memory_share'] = row['ours_bytes'] / row['plain_bytes']
    row['targets'] = {name: getattr(case, name) for name in ('speedup', 'memory_share', 'memory_bound')}
    return row


def matrix_ceiling(setting: Setting) -> dict[str, float]:
    """Measure the rate in FLOP/s of a large matrix product and a large convolution, bf16 and float32."""
    side, images, channels, pixels = setting.choose(
        (2048, 16, 256, 48) if setting.device == 'cpu' else (8192, 64, 512, 64), (64, 1, 8, 8)
    )
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.rand(side, side, device=setting.device, dtype=dtype)
        features = torch.rand(images, channels, pixels, pixels, device=setting.device, dtype=dtype)
        convolution = nn.Conv2d(channels, channels, 3, 1, 1, bias=False).to(features)
        if setting.device != 'cpu':
            features = features.to(memory_format=torch.channels_last)
        name = str(dtype).removeprefix('torch.')
        works: dict[str, tuple[Work, float]] = {
            'matrix product': (partial(torch.mm, matrix, matrix), 2 * side**3),
            'convolution': (partial(convolution, features), 18 * images * channels**2 * pixels**2),
        }
        with torch.no_grad():
            rates.update({f'{kind}, {name}': flops / seconds(work, setting) for kind, (work, flops) in works.items()})
    return rates


def step_flops(setting: Setting) -> int:
    """Count the FLOPs of the matrix products and convolutions in a training step of stage 1."""
    batch, side = setting.choose((16, 192), (2, 48))
    net = MANet(num_feat=setting.choose(128, 16))
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, side // SCALE, side // SCALE)).sum().backward()
    return batch * counter.get_total_flops()


def shares_of_ceiling(rows: Sequence[dict[str, Any]], rates: dict[str, float], flops: int) -> dict[str, float]:
    """Relate the rate of each stage-1 step to the highest of the rates of its type."""
    shares = {}
    for row in rows:
        if row['key'] in ('d-float32', 'd-bfloat16', 'd-fast'):
            dtype = 'float32' if row['key'] == 'd-float32' else 'bfloat16'
            ceiling = max(rate for name, rate in rates.items() if name.endswith(dtype))
            shares[row['key']] = flops / row['ours_seconds'] / ceiling
    return shares
