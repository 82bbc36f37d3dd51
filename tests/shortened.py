"""The shipped option files in shortened form: small networks, few iterations, the tests' own images."""

from __future__ import annotations

import atexit
import functools
import runpy
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.archs import build_network

from manet_basicsr.options.checks import check
from manet_basicsr.options.errors import named
from manet_basicsr.options.forcing import force
from manet_basicsr.options.reading import load_options
from manet_basicsr.options.resolving import resolve
from manet_basicsr.training.processes import Processes, draw_seed, seed_generators
from manet_basicsr.training.resuming import forget_beginning_of_resumed

ROOT = Path(__file__).resolve().parents[1]
JOBS = ('MANet_stage1', 'SFTRRDB_stage2', 'BlindSR_stage3')
SCALES = (1, 2, 3, 4)

_ESTIMATOR = {'num_feat': 16}
_GENERATOR = {'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}
_SRMD = {'num_feat': 8, 'num_conv': 3}
_FEW = {'num_feat': 8, 'num_block': 1}
_RCAN = {'num_feat': 16, 'num_group': 2, 'num_block': 1}
_NETWORKS: dict[str, dict[str, dict[str, int]]] = {
    'MANet_stage1': {'network_g': _ESTIMATOR},
    'SFTRRDB_stage2': {'network_g': _GENERATOR},
    'BlindSR_stage3': {'network_g:estimator': _ESTIMATOR, 'network_g:generator': _GENERATOR},
    'RRDBNet': {'network_g': _GENERATOR},
    'MAEDSR': {'network_g': {'num_feat': 8, 'num_block': 1}},
    'SRMD_stage2': {'network_g': _SRMD},
    'BlindSR_SRMD_stage3': {'network_g:estimator': _ESTIMATOR, 'network_g:generator': _SRMD},
    'RCAN_blur': {'network_g': _RCAN},
    'RCAN_bicubic': {'network_g': _RCAN},
    'HAN_bicubic': {'network_g': _RCAN},
    'SFTMD_stage2': {'network_g': _FEW},
    'IKC': {'network_g': {'num_feat': 8}, 'network_g:generator': _GENERATOR},
    'SRSVD': {'network_g': _FEW, 'network_g:generator': _GENERATOR},
    'DAN': {'network_g': _FEW},
    'CFSNet_stage2': {'network_g': _FEW},
    'CResMD_stage2': {'network_g': _FEW},
    'BlindSR_CFSNet': {'network_g:estimator': _ESTIMATOR, 'network_g:generator': _FEW},
    'BlindSR_CResMD': {'network_g:estimator': _ESTIMATOR, 'network_g:generator': _FEW},
}
#: Jobs of options/mixing, at x4.
MIXED_JOBS = ('RRDBNet', 'MAEDSR', 'SRMD_stage2', 'BlindSR_SRMD_stage3')
#: Jobs of options/peers, at x2, x3 and x4, and those that put together what others train.
PEER_JOBS = (
    'RCAN_blur',
    'RCAN_bicubic',
    'HAN_bicubic',
    'SFTMD_stage2',
    'IKC',
    'SRSVD',
    'DAN',
    'CFSNet_stage2',
    'CResMD_stage2',
)
ASSEMBLED_JOBS = ('BlindSR_CFSNet', 'BlindSR_CResMD')


def script(name: str) -> Callable[[list[str]], int]:
    """Give the main function of a script."""
    return runpy.run_path(str(ROOT / f'scripts/{name}.py'))['main']


def started(name: str) -> Callable[..., int]:
    """Give the main function of a script, given its arguments one by one."""
    main = script(name)
    return lambda *arguments: main([str(argument) for argument in arguments])


def of_every_scale(cases: list[Any]) -> list[Any]:
    """Mark cases ``(job, scale)`` or ``(job, file)`` of x1 to x3 as slow: their files differ from x4 in numbers."""
    marked = []
    for job, which in cases:
        name, is_x4 = (which.stem, '_x4' in which.stem) if isinstance(which, Path) else (f'{job}-{which}', which == 4)
        marked.append(pytest.param(job, which, id=name, marks=() if is_x4 else pytest.mark.slow))
    return marked


def option_file(phase: str, job: str, scale: int) -> Path:
    """Give a shipped option file."""
    folder = 'mixing' if job in MIXED_JOBS else 'peers' if job in PEER_JOBS + ASSEMBLED_JOBS else phase
    return ROOT / 'options' / folder / f'{phase}_{job}_x{scale}.yml'


def files_of_weights(job: str) -> list[Path]:
    """Give the option files with which weights that ship were trained."""
    return sorted((ROOT / 'options/train').glob(f'train_{job}_x[1234]_[cg]pu*.yml'))


def small_network(job: str) -> list[str]:
    """Give the --force_yml entries that make a job's network small."""
    sections = _NETWORKS[job].items()
    return [f'{section}:{key}={value}' for section, keys in sections for key, value in keys.items()]


def train_entries(
    job: str, images: Path, *, scale: int = 4, total_iter: int = 2, workers: int = 0, every: int = 2
) -> list[str]:
    """Give the --force_yml entries that shorten a training file and point it at images."""
    entries = [
        f'datasets:train:dataroot_gt={images}',
        f'datasets:val:dataroot_gt={images}',
        'datasets:train:gt_size=48',
        'datasets:train:batch_size_per_gpu=2',
        f'datasets:train:num_worker_per_gpu={workers}',
        'path:pretrain_network_g=~',
        *([] if job == 'RRDBNet' else ['train:compile=false']),  # it takes longer than these trainings
        f'train:total_iter={total_iter}',
        f'val:val_freq={every}',
        f'logger:print_freq={every}',
        f'logger:save_checkpoint_freq={every}',
        'logger:use_tb_logger=false',
        *small_network(job),
    ]
    if job.startswith('BlindSR'):
        frozen = _weights_of(type='MANet', **_ESTIMATOR)
        entries += [f'network_g:estimator:pretrained={frozen}', 'network_g:generator:pretrained=~']
    if job in ('IKC', 'SRSVD'):
        entries.append(f'network_g:generator:pretrained={_weights_of(type="SFTRRDBNet", scale=scale, **_GENERATOR)}')
    return entries


@functools.cache
def _weights_of(**network: Any) -> Path:
    """Save random weights of a part that is not trained, which a training would refuse to begin without."""
    folder = Path(tempfile.mkdtemp(prefix='manet_tests_'))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    torch.manual_seed(0)
    torch.save({'params': build_network(network).state_dict()}, folder / 'part.pth')
    return folder / 'part.pth'


def random_blind_parts() -> list[str]:
    """Give the --force_yml entries by which a small blind network is tested with random weights."""
    parts = {
        'estimator': {'type': 'MANet', **_ESTIMATOR},
        'generator': {'type': 'SFTRRDBNet', 'scale': 4, **_GENERATOR},
    }
    return [
        'path:pretrain_network_g=~',
        *(f'network_g:{n}:pretrained={_weights_of(**part)}' for n, part in parts.items()),
    ]


def test_entries(job: str, images: Path, network: Path | str) -> list[str]:
    """Give the --force_yml entries that point a test file at images and weights."""
    sets = [f'datasets:test_{number}:dataroot_gt={images}' for number in range(6)]
    return [*sets, *small_network(job), f'path:pretrain_network_g={network}']


test_entries.__test__ = False  # type: ignore[attr-defined]


def resolved(file: Path, entries: list[str], root: Path, *, auto_resume: bool = False) -> dict[str, Any]:
    """Resolve an option file as the command does, below a folder."""
    options, is_train = forced(file, entries), file.name.startswith('train')
    goes_on = is_train and forget_beginning_of_resumed(options, str(root), auto_resume=auto_resume)
    with named(f'{file}: '):
        check(options, is_train=is_train, goes_on=goes_on)
    if options.get('manual_seed') is None:
        options['manual_seed'] = draw_seed(Processes())
    seed_generators(options['manual_seed'], Processes())
    return resolve(options, root_path=str(root), is_train=is_train, auto_resume=auto_resume)


def forced(file: Path, entries: list[str]) -> dict[str, Any]:
    """Read an option file and change it, without resolving it."""
    options = load_options(file)
    force(options, entries)
    return options
