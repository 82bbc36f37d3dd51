"""Train stage 1 briefly on a few photographs, test it on another one, and show the kernels that it finds.

    make demo-train

Everything is made by the commands that are printed: a small network and few iterations, for it to take under three
minutes on two cores. Interrupted, it goes on where it was; to begin anew, delete the folder.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import cv2
import skimage.data

from manet_basicsr import load_field
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset
from manet_basicsr.utils.replacements import write_image
from manet_basicsr.visualization.pictures import kernels_beside_image

ROOT = Path(__file__).resolve().parents[1]
TRAIN_FILE = ROOT / 'options/train/train_MANet_stage1_x4.yml'
TEST_FILE = ROOT / 'options/test/test_MANet_stage1_x4.yml'
SMALL = ['network_g:num_feat=32']


def save_photographs(folder: Path) -> None:
    """Write the colour photographs that scikit-image ships to ``train`` and ``test`` in a folder."""
    photographs = {name: getattr(skimage.data, name)() for name in ('astronaut', 'chelsea', 'rocket', 'coffee')}
    photographs['motorcycle'] = skimage.data.stereo_motorcycle()[0]
    for name, image in photographs.items():
        target = folder / ('test' if name == 'coffee' else 'train')
        target.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target / f'{name}.png'), image[..., ::-1])


def make_lmdbs(folder: Path) -> None:
    """Pack the photographs into ``train.lmdb`` and ``test.lmdb``."""
    for name in ('train', 'test'):
        write_lmdb(folder / name, folder / f'{name}.lmdb', overwrite=True)


def basicsr(folder: Path, *arguments: str) -> None:
    """Run the command in a folder, showing it and what it prints."""
    print(f'\n$ basicsr {shlex.join(arguments)}\n', flush=True)
    # A network this small gains nothing from a second thread, and loses much where other work needs the core.
    environment = {'OMP_NUM_THREADS': '1', **os.environ}
    code = subprocess.run([sys.executable, '-m', 'manet_basicsr', *arguments], cwd=folder, env=environment).returncode
    if code:
        sys.exit(code)


def train(folder: Path, iterations: int) -> Path:
    """Train the small estimator and give its weights."""
    entries = [
        f'datasets:train:dataroot_gt={folder / "photographs/train.lmdb"}',
        f'datasets:val:dataroot_gt={folder / "photographs/test.lmdb"}',
        'datasets:train:gt_size=96',
        'datasets:train:num_worker_per_gpu=1',
        *SMALL,
        'train:optim_g:lr=2e-3',
        'train:compile=false',  # it takes as long as this training
        f'train:total_iter={iterations}',
        f'train:scheduler:milestones=[{iterations * 2 // 3}, {iterations * 5 // 6}]',
        f'val:val_freq={iterations}',
        f'logger:save_checkpoint_freq={max(1, iterations // 6)}',
        f'logger:print_freq={max(1, iterations // 30)}',
        'logger:use_tb_logger=false',
        'datasets:train:name=photographs',
        'datasets:val:name=photograph',
    ]
    basicsr(folder, 'train', '-opt', str(TRAIN_FILE), '--auto_resume', '--force_yml', *entries)
    return folder / 'experiments/train_MANet_stage1_x4/models/net_g_latest.pth'


def test(folder: Path, weights: Path) -> Path:
    """Test it on a photograph blurred differently in every part, and give the field's file."""
    dataset = (
        f'{{name: photograph, type: SVDegradationDataset, dataroot_gt: {folder / "photographs/test.lmdb"}, '
        'degradation: {field: {type: protocol, kind: 4}}}'
    )
    entries = [f'datasets={{test: {dataset}}}', *SMALL, f'path:pretrain_network_g={weights}']
    basicsr(folder, 'test', '-opt', str(TEST_FILE), '--force_yml', *entries)
    return folder / 'results/test_MANet_stage1_x4/visualization/photograph/coffee_test_MANet_stage1_x4.npz'


def draw(folder: Path, field_file: Path, iterations: int) -> Path:
    """Draw the LR image with true and estimated kernels at a few places."""
    options = {'field': {'type': 'protocol', 'kind': 4}}
    images = str(folder / 'photographs/test.lmdb')
    sample = SVDegradationDataset({'phase': 'test', 'scale': 4, 'dataroot_gt': images, 'degradation': options})[0]
    image = sample['lq'].mul(255).round().byte().permute(1, 2, 0).numpy()[..., ::-1]
    height, width = image.shape[:2]
    points = [(row * height // 8, column * width // 8) for row, column in ((1, 6), (3, 2), (4, 5), (5, 1), (7, 6))]
    caption = f'kernels of a small MANet after {iterations} iterations (the paper trains 300,000)'
    picture = kernels_beside_image(image.copy(), load_field(field_file).field[0], sample['kernel'], points, caption)
    target = folder / 'kernels.png'
    write_image(picture, target)
    return target


def main(argv: list[str] | None = None) -> int:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', type=Path, default=Path('demo-train'), help='default: %(default)s')
    parser.add_argument('--iterations', type=int, default=600, help='of training (default: 600)')
    args = parser.parse_args(argv)
    start = time.monotonic()
    folder = args.folder.resolve()
    save_photographs(folder / 'photographs')
    make_lmdbs(folder / 'photographs')
    weights = train(folder, args.iterations)
    field_file = test(folder, weights)
    picture = draw(folder, field_file, args.iterations)
    print('\nSo short a training finds the mean kernel, nearly the same everywhere.')
    print(f'Done in {time.monotonic() - start:.0f} s. In {folder}:')
    for path, words in (
        (picture, 'LR image, true and estimated kernels: look at this'),
        (field_file.with_suffix('.png'), 'the whole field over the LR image'),
        (field_file, 'the field itself; read it with manet_basicsr.load_field'),
        (weights, f'weights after {args.iterations} iterations'),
        (folder / 'photographs/train.lmdb', 'LMDB that it was trained on'),
    ):
        print(f'  {path.relative_to(folder)}: {words}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
