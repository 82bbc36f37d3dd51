"""The rows of tools/benchmark.py: which work, at which sizes, and what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from benchmark_work import (
    Case,
    Setting,
    block_case,
    convolution_block,
    draw_ours,
    draw_published,
    evaluate_ours,
    evaluate_published,
    invariant_ours,
    invariant_published,
    loaded,
    restore_ours,
    restore_photo,
    restore_published,
    step_ours,
    step_published,
    step_without,
    variant_ours,
    variant_published,
)

from manet_basicsr.archs import MABlock
from manet_basicsr.utils.device import cpu_has, fast_half_precision

ITEMS = {
    'a': 'drawing kernels',
    'b': 'invariant degradation',
    'c': 'variant degradation',
    'd': 'training step',
    'e': 'restoring',
    'f': 'LR-PSNR evaluation',
    'g': 'training samples from LMDB',
    'h': 'MAConv block',
}
MIB, GIB = 2**20, 2**30
#: Of the stage-1 step before losses from logits, 16 x 192x192; asked for are 0.6 of it.
STEP_BYTES = {None: 864 * MIB, 'bf16': 611 * MIB}


def make_cases(setting: Setting) -> Iterator[Case]:
    """List everything that is measured."""
    number = setting.choose(1000, 20)
    batch, side = setting.choose((16, 192), (2, 48))
    small, large = setting.choose(((320, 480), (1080, 1920)), ((48, 64), (80, 96)))
    at = {size: f'{size[1]}x{size[0]}' for size in (small, large)}
    prepare = partial(partial, setting=setting)
    drawn = {'number': number}
    yield Case(
        'a-kernels', f'{number} kernels', prepare(draw_ours, **drawn), prepare(draw_published, **drawn), speedup=40
    )
    shape = {'batch': batch, 'side': side}
    yield Case(
        'b-invariant', f'{batch} x {side}x{side}', prepare(invariant_ours, **shape),
        prepare(invariant_published, **shape), 'a grouped convolution at stride 1, as the authors have it', 6,
    )  # fmt: skip
    yield Case(
        'c-small', at[small], prepare(variant_ours, size=small), prepare(variant_published, size=small),
        speedup=150, memory_share=1 / 20,
    )  # fmt: skip
    yield Case('c-large', at[large], prepare(variant_ours, size=large), memory_bound=GIB)
    yield from _steps(setting, batch, side)
    yield Case('e-small', f'{at[small]}, 10 blocks', prepare(restore_ours, size=small),
               prepare(restore_published, size=small), speedup=1)  # fmt: skip
    yield Case('e-large', f'{at[large]}, 10 blocks, tiles', prepare(restore_ours, size=large), memory_bound=3 * GIB)
    lr = setting.choose((500, 741), (20, 24))
    yield Case(
        'e-photo', f'LR image of {lr[1]}x{lr[0]}, shipped weights, precision auto', prepare(restore_photo, size=lr),
        prepare(restore_photo, size=lr, precision='float32'), 'float32', 3 if cpu_has('amx_tile') else None,
    )  # fmt: skip
    yield Case('f-small', at[small], prepare(evaluate_ours, size=small), prepare(evaluate_published, size=small))
    yield Case('f-large', at[large], prepare(evaluate_ours, size=large), memory_bound=GIB)
    yield from _loaders(setting)
    channels, side = setting.choose((128, 48), (16, 8))
    blocks = {
        'MAConv': MABlock(channels, channels),
        'convolution': convolution_block(channels, 1),
        'group convolution': convolution_block(channels, 2),
    }
    for name, block in blocks.items():
        yield block_case(name, block, setting, (batch, channels, side))


def _steps(setting: Setting, batch: int, side: int) -> Iterator[Case]:
    """Training steps, each precision against the same precision; bf16 only where the processor has it."""
    prepare = partial(partial, setting=setting)
    half = setting.quick or fast_half_precision(torch.device(setting.device)) is not None
    few = setting.choose(4, 1)
    for amp in (None, 'bf16') if half else (None,):
        name = amp or 'float32'
        asked = 1 / 0.55 if amp and cpu_has('amx_tile') else 1
        title = f'stage 1, {batch} x {side}x{side}, {name}'
        ours = prepare(step_ours, batch=batch, side=side, amp=amp)
        without = 'ours without layout, compiling, losses from logits and memory that is kept'
        yield Case(f'd-{name}', title, ours, prepare(step_published, batch=batch, side=side, amp=amp))
        off = prepare(step_without, batch=batch, side=side, amp=amp)
        yield Case(f'd-{name}-off', title, ours, off, without, asked, memory_bound=0.6 * STEP_BYTES[amp])
        second = {'batch': few, 'side': side, 'job': 'SFTRRDB_stage2', 'amp': amp}
        title = f'stage 2, {few} x {side}x{side}, {name}'
        yield Case(
            f'd-stage2-{name}', title, prepare(step_ours, **second), prepare(step_without, **second), without, asked
        )
    if setting.device != 'cpu':
        graphs: dict[str, Any] = {'batch': batch, 'side': side, 'amp': 'bf16', 'compile': 'reduce-overhead'}
        yield Case('d-graphs', 'stage 1, bf16, CUDA graphs', prepare(step_ours, **graphs))
        graphs['job'] = 'SFTRRDB_stage2'
        yield Case('d-stage2-graphs', 'stage 2, bf16, CUDA graphs', prepare(step_ours, **graphs))


def _loaders(setting: Setting) -> Iterator[Case]:
    """Batches of a loader with one worker, against BasicSR's dataset of pairs on PNG LMDBs."""
    prepare, samples = partial(partial, setting=setting), setting.choose(16, 4)
    paired = prepare(loaded, batch=samples, kind='paired')
    kinds: dict[str, tuple[str, dict[str, Any], float | None]] = {
        'raw-loader': ('raw LMDB', {'kind': 'raw', 'degrade_on': 'loader'}, 3),
        'raw-device': ('raw LMDB, blur left to the device', {'kind': 'raw', 'degrade_on': 'device'}, 3),
        'png-loader': ('PNG LMDB', {'kind': 'png', 'degrade_on': 'loader'}, None),
        'png-cache': ('PNG LMDB, cache: 1G, which holds all images', {'kind': 'png', 'cache': '1G'}, 2),
    }
    for name, (title, options, target) in kinds.items():
        yield Case(
            f'g-{name}', f'{title}, one worker', prepare(loaded, batch=samples, **options), paired,
            'PairedImageDataset, PNG LMDBs', target, samples=samples, has_memory=False,
        )  # fmt: skip
