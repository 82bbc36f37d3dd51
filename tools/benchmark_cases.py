"""The rows of tools/benchmark.py: which work, at which sizes, and what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import benchmark_plain as plain
from benchmark_work import (
    Case,
    Setting,
    block_case,
    convolution_block,
    draw_ours,
    draw_plain,
    evaluate_ours,
    evaluate_plain,
    invariant_ours,
    invariant_plain,
    loaded,
    restore_ours,
    restore_plain,
    step_ours,
    step_plain,
    variant_ours,
    variant_plain,
)

from manet_basicsr.archs import MABlock

ITEMS = {
    'a': 'drawing kernels',
    'b': 'invariant degradation',
    'c': 'variant degradation',
    'd': 'training step',
    'e': 'stage-3 inference',
    'f': 'LR-PSNR evaluation',
    'g': 'training samples from LMDB',
    'h': 'MAConv block',
}
GIB = 2**30


def make_cases(setting: Setting) -> Iterator[Case]:
    """List everything that is measured."""
    number = setting.choose(1000, 20)
    batch, side = setting.choose((16, 192), (2, 48))
    small, large = setting.choose(((320, 480), (1080, 1920)), ((48, 64), (80, 96)))
    at = {size: f'{size[1]}x{size[0]}' for size in (small, large)}
    prepare = partial(partial, setting=setting)
    drawn = {'number': number}
    yield Case('a-kernels', f'{number} kernels', prepare(draw_ours, **drawn), prepare(draw_plain, **drawn), 40)
    shape = {'batch': batch, 'side': side}
    images = f'{batch} x {side}x{side}'
    yield Case(
        'b-unfold', images, prepare(invariant_ours, **shape),
        prepare(invariant_plain, **shape, how=plain.blur_downsample), 8,
    )  # fmt: skip
    yield Case(
        'b-convolution', f'{images}, plain: convolution at stride 1', prepare(invariant_ours, **shape),
        prepare(invariant_plain, **shape, how=plain.convolve_downsample),
    )  # fmt: skip
    yield Case('c-small', at[small], prepare(variant_ours, size=small), prepare(variant_plain, size=small), 150, 1 / 20)
    yield Case('c-large', at[large], prepare(variant_ours, size=large), memory_bound=GIB)
    step = prepare(step_plain, **shape)
    yield Case('d-float32', f'stage 1, {images}, float32', prepare(step_ours, **shape), step, 3, 0.3)
    yield Case('d-bfloat16', f'stage 1, {images}, bf16', prepare(step_ours, **shape, amp='bf16'), step, 6, 0.3)
    if setting.device != 'cpu':
        fast = {**shape, 'amp': 'bf16', 'channels_last': True, 'compile': 'reduce-overhead'}
        yield Case('d-fast', f'stage 1, {images}, bf16, channels_last, CUDA graphs', prepare(step_ours, **fast))
        fast['job'] = 'SFTRRDB_stage2'
        yield Case('d-stage2', f'stage 2, {images}, bf16, channels_last, CUDA graphs', prepare(step_ours, **fast))
    yield Case('e-small', at[small], prepare(restore_ours, size=small), prepare(restore_plain, size=small), 1)
    yield Case('e-large', f'{at[large]}, tiles', prepare(restore_ours, size=large), memory_bound=3 * GIB)
    yield Case('f-small', at[small], prepare(evaluate_ours, size=small), prepare(evaluate_plain, size=small))
    yield Case('f-large', at[large], prepare(evaluate_ours, size=large), memory_bound=GIB)
    samples = setting.choose(16, 4)
    paired = prepare(loaded, batch=samples, kind='paired')
    for kind, where, target in (('raw', 'loader', 3), ('raw', 'device', 3), ('png', 'loader', None)):
        title = f'{kind} LMDB, degrade_on: {where}, one worker; plain: PairedImageDataset on PNG LMDBs'
        loader = prepare(loaded, batch=samples, kind=kind, degrade_on=where)
        yield Case(f'g-{kind}-{where}', title, loader, paired, target, samples=samples, has_memory=False)
    title = 'PNG LMDB, cache: 1G, which holds all images, one worker; plain: PairedImageDataset on PNG LMDBs'
    loader = prepare(loaded, batch=samples, kind='png', cache='1G')
    yield Case('g-png-cache', title, loader, paired, 2, samples=samples, has_memory=False)
    channels, side = setting.choose((128, 48), (16, 8))
    blocks = {
        'MAConv': MABlock(channels, channels),
        'convolution': convolution_block(channels, 1),
        'group convolution': convolution_block(channels, 2),
    }
    for name, block in blocks.items():
        yield block_case(name, block, setting, (batch, channels, side))
