"""Blur a photograph differently in every part, and restore it with the weights that ship for clean images.

    make demo

The commands that are printed do the work; the scores and the picture come after them.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

from manet_basicsr import load_field  # before basicsr, which it mends

# isort: split
import numpy as np
import skimage.data
import torch
from basicsr.metrics.psnr_ssim import calculate_psnr, calculate_ssim
from basicsr.utils import imwrite, tensor2img
from torch import Tensor

from manet_basicsr.data.field_files import save_field
from manet_basicsr.degradation import blur_downsample, protocol_field, quantize
from manet_basicsr.evaluation.methods import bicubic_upsample
from manet_basicsr.metrics import calculate_kernel_psnr, calculate_lr_psnr
from manet_basicsr.restoration.arrays import image_to_batch
from manet_basicsr.restoration.photographs import read_photograph
from manet_basicsr.visualization.figures import write_panels

PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee', 'rocket')
SCALE = 4
METRICS = (calculate_psnr, calculate_ssim)


def degrade(folder: Path, photograph: str, kind: int) -> dict[str, Tensor]:
    """Blur and shrink the photograph by a field of the paper's tests, and write what comes of it to a folder.

    Returns:
        The sample: ``gt`` and ``lq`` (3, H, W), ``kernel`` (k*k, h, w).
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixels = getattr(skimage.data, photograph)()
    height, width = (side // SCALE * SCALE for side in pixels.shape[:2])
    hr = image_to_batch(pixels[:height, :width])[0]
    field = protocol_field(kind, height, width, SCALE, generator=torch.Generator().manual_seed(0))
    lq = quantize(blur_downsample(hr, field, SCALE))
    imwrite(tensor2img(lq), folder / 'lr.png')
    save_field(folder / 'true_kernels.npz', field, scale=SCALE, alignment='centered')
    return {'gt': hr[0], 'lq': lq[0], 'kernel': field[0]}


def run(command: str, *arguments: str, folder: Path) -> None:
    """Run a command of the package in a folder, showing it and what it prints."""
    print(f'\n$ manet-{command} {shlex.join(arguments)}', flush=True)
    module = [sys.executable, '-m', f'manet_basicsr.commands.{command}']
    if code := subprocess.run([*module, *arguments], cwd=folder).returncode:
        sys.exit(code)


def quality(image: np.ndarray, truth: np.ndarray) -> str:
    """Score a restored image as the paper does; both RGB."""
    pair = image[..., ::-1], truth[..., ::-1]  # BasicSR takes BGR
    psnr, ssim = (metric(*pair, crop_border=SCALE, test_y_channel=True) for metric in METRICS)
    return f'PSNR_Y {psnr:.2f} dB, SSIM_Y {ssim:.3f}'


def report(folder: Path, sample: dict[str, Tensor]) -> Path:
    """Print the scores and draw the picture."""
    truth, lr = tensor2img(sample['gt'], rgb2bgr=False), tensor2img(sample['lq'], rgb2bgr=False)
    bicubic = tensor2img(bicubic_upsample(sample['lq'], SCALE, 'centered'), rgb2bgr=False)
    restored = read_photograph(folder / f'lr_x{SCALE}.png').pixels
    field = load_field(folder / f'lr_x{SCALE}_kernels.npz').field
    scored = {'bicubic': quality(bicubic, truth), 'restored': quality(restored, truth)}
    known = {'field': field, 'field_gt': sample['kernel'], 'gt': sample['gt']}
    lr_psnr, kernel_psnr = calculate_lr_psnr(**known, scale=SCALE), calculate_kernel_psnr(**known)
    kernels = f'LR PSNR_Y {lr_psnr:.2f} dB, kernel PSNR {kernel_psnr:.2f} dB'
    print('\nagainst the true image and the true kernels:')
    for name, words in {**scored, 'kernels': kernels}.items():
        print(f'  {name:8}  {words}')
    picture = folder / 'comparison.png'
    panels = [
        (f'LR, {lr.shape[1]}x{lr.shape[0]}', lr),
        (f'bicubic, {scored["bicubic"]}', bicubic),
        (f'restored, {scored["restored"]}', restored),
        ('truth', truth),
        ('true kernels', sample['kernel']),
        (f'estimated kernels, {kernels}', field[0]),
    ]
    write_panels(picture, panels, columns=2, width=9)
    return picture


def main(argv: list[str] | None = None) -> int:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', type=Path, default=Path('demo'), help='where everything goes (default: demo)')
    parser.add_argument('--photograph', choices=PHOTOGRAPHS, default='coffee', help='default: %(default)s')
    parser.add_argument('--kind', type=int, choices=range(1, 7), default=4, help="of the paper's fields, default 4")
    args = parser.parse_args(argv)
    start = time.monotonic()
    folder = args.folder.resolve()
    sample = degrade(folder, args.photograph, args.kind)
    restoring = ('restore', 'lr.png', '-o', '.', '--kernels', '--weights', 'blind_x4', '--overwrite')
    run(*restoring, folder=folder)
    picture = report(folder, sample)
    field = f'lr_x{SCALE}_kernels.npz'
    run('explore', 'lr.png', '--field', field, '--true', 'true_kernels.npz', '--overwrite', folder=folder)
    print(f'\nDone in {time.monotonic() - start:.0f} s. In {folder}:')
    for path, words in (
        (picture, 'the LR image, bicubic, restored and true; true and estimated kernels: look at this'),
        (folder / 'lr_kernels.html', 'true and estimated kernels under the pointer, in a browser'),
        (folder / f'lr_x{SCALE}.png', 'the restored image'),
        (folder / field, 'the estimated field; read it with manet_basicsr.load_field'),
    ):
        print(f'  {path.relative_to(folder)}: {words}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
