"""Measure and draw what docs/MODEL_CARD.md says of the weights that ship, beside what `basicsr evaluate` does.

python tools/model_card.py                                 # scores of two photographs that scikit-image ships
python tools/model_card.py --gaussian8 Set5                # the published benchmark of eight round Gaussians
python tools/model_card.py --usrnet BSD100 kernels_12.mat  # the table of USRNet, on 68 of its images
python tools/model_card.py --sharpening Set5                # how x1 changes images that are blurred little or much
python tools/model_card.py --enlarged BSD100                # how often an image that was enlarged before is noticed
python tools/model_card.py --figure failures.png           # draws where the weights fail
python tools/model_card.py --photographs real sheet.png    # restores photographs of your own, and draws a part of each
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manet_basicsr import restore  # before basicsr, which it mends

# isort: split
import numpy as np
import skimage.data
import torch
from basicsr.metrics.niqe import calculate_niqe
from basicsr.metrics.psnr_ssim import calculate_psnr
from basicsr.utils import imwrite, tensor2img
from basicsr.utils.matlab_functions import imresize
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from manet_basicsr.data.images import image_to_tensor, open_images
from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset
from manet_basicsr.degradation import FixedSampler, add_gaussian_noise, blur_downsample, jpeg_compress, quantize
from manet_basicsr.degradation.bank import lay_kernel, read_bank
from manet_basicsr.evaluation.methods import bicubic_upsample
from manet_basicsr.metrics import calculate_lr_psnr
from manet_basicsr.restoration.enlargement import enlargement_period
from manet_basicsr.restoration.restoring import load_blind_network
from manet_basicsr.visualization.figures import write_panels

SCALE = 4
CLEAN, REAL, SHARPENING = 'weights://blind_x4', 'weights://real_x4', 'weights://real_x1'
VARIANT: dict[str, Any] = {'type': 'protocol', 'kind': 4}
MOTION = {'type': 'motion', 'radius': [6, 6], 'trajectory': 'camera', 'variant': False, 'variance': 0.7}
NOISY: dict[str, Any] = {'field': VARIANT, 'noise': [15, 15], 'jpeg': [70, 70]}
# Each is a photograph, the upper left corner of a crop of 256x256, how it is degraded, and the weights.
CASES: dict[str, tuple[str, tuple[int, int], dict[str, Any], str]] = {
    'none: Gaussian blur': ('astronaut', (0, 100), {'field': VARIANT}, CLEAN),
    'none: noise and JPEG': ('astronaut', (0, 100), NOISY, REAL),
    'flat areas': ('coffee', (0, 0), {'field': VARIANT}, CLEAN),
    'noise, for clean images': ('astronaut', (0, 100), {'field': VARIANT, 'noise': [15, 15]}, CLEAN),
    'camera shake': ('astronaut', (0, 100), {'field': MOTION}, REAL),
    'defocus, radius 6': ('astronaut', (0, 100), {'field': {'type': 'defocus', 'radius': [6, 6]}}, REAL),
    'sharper than any in training': (
        'astronaut',
        (0, 100),
        {'field': {'type': 'fixed', 'variances': [0.1, 0.1]}},
        CLEAN,
    ),
}
#: Standard deviations of the benchmark Gaussian8 at x4.
GAUSSIAN8 = tuple(round(1.8 + 0.2 * step, 1) for step in range(8))
#: Kernels of kernels_12.mat in USRNet's first table of which we know others' scores, counted from 1.
USRNET_KERNELS = (1, 3, 5, 8)
#: BSD68 is the first 69 images of BSD100 by name, but for this one.
_NOT_IN_BSD68, _BSD68 = '156065', 69
#: Variances in px^2 of the blur that is to be undone at x1.
LITTLE_TO_MUCH = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_PART = 512  # px of a restored photograph that are scored, of which the middle third is drawn


def degraded(pixels: np.ndarray, degradation: Mapping[str, Any]) -> dict[str, Tensor]:
    """Degrade a photograph (H, W, 3) uint8 RGB as a test set does; give ``gt``, ``lq`` and ``kernel``."""
    height, width = (side // SCALE * SCALE for side in pixels.shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        imwrite(np.ascontiguousarray(pixels[:height, :width, ::-1]), Path(folder) / 'photograph.png')
        options = {'phase': 'test', 'scale': SCALE, 'dataroot_gt': folder, 'degradation': dict(degradation)}
        return dict(SVDegradationDataset(options)[0])


def psnr(image: Tensor, truth: Tensor) -> float:
    """Score a restored image (3, H, W) on Y."""
    return float(calculate_psnr(tensor2img(image), tensor2img(truth), crop_border=SCALE, test_y_channel=True))


def score(pixels: np.ndarray) -> tuple[float, ...]:
    """Score the weights on a photograph blurred by a field of type 4, without and with noise and JPEG.

    Returns:
        In decibels PSNR_Y of bicubic interpolation and of what the clean weights restore, and LR PSNR_Y of their
        kernels; of the noisy image PSNR_Y of bicubic interpolation, and of what those for photographs restore.
    """
    clean, noisy = degraded(pixels, {'field': VARIANT}), degraded(pixels, NOISY)
    restored = restore(clean['lq'], CLEAN)
    assert restored.field is not None
    known = {'field': restored.field, 'field_gt': clean['kernel'], 'gt': clean['gt']}
    return (
        psnr(bicubic_upsample(clean['lq'], SCALE, 'centered'), clean['gt']),
        psnr(restored.image, clean['gt']),
        calculate_lr_psnr(**known, scale=SCALE),
        psnr(bicubic_upsample(noisy['lq'], SCALE, 'centered'), noisy['gt']),
        psnr(restore(noisy['lq'], REAL).image, noisy['gt']),
    )


def whole_lr_pixels(pixels: np.ndarray) -> Tensor:
    """Make a tensor (3, H, W) of an image, cut at the right and the bottom to whole LR pixels."""
    height, width = (side // SCALE * SCALE for side in pixels.shape[:2])
    return image_to_tensor(pixels[:height, :width])


def gaussian8(folder: Path, weights: str) -> dict[float, float]:
    """Score weights on Gaussian8: a round Gaussian of 21 taps, bicubic reduction, 8 bit; PSNR_Y, border of 4 px.

    Blurred with the image reflected at its border, as the benchmark is.

    Returns:
        The mean over the images of a folder, by standard deviation in HR px.
    """
    images = open_images(folder)
    scores: dict[float, float] = {}
    for deviation in tqdm(GAUSSIAN8, desc=weights, disable=None):
        kernel = FixedSampler((deviation**2, deviation**2)).draw(SCALE, SCALE, scale=1)
        found = []
        for name in images.names:
            hr = whole_lr_pixels(images.read(name))
            reach = 10  # of 21 taps
            blurred = blur_downsample(F.pad(hr[None], [reach] * 4, mode='reflect'), kernel, 1)[0]
            blurred = blurred[:, reach:-reach, reach:-reach]
            lq = quantize(imresize(blurred, 1 / SCALE).to(hr))
            found.append(psnr(restore(lq, weights).image, hr))
        scores[deviation] = sum(found) / len(found)
    return scores


def bsd68(folder: Path) -> dict[str, Tensor]:
    """Read the images of BSD68 from a folder of BSD100, cut to whole LR pixels: ``(3, H, W)`` by name.

    Raises:
        ValueError: The folder is not of BSD100.
    """
    images = open_images(folder)
    names = sorted(images.names)[:_BSD68]
    if len(names) < _BSD68 or _NOT_IN_BSD68 not in names:
        raise ValueError(f'{folder}: found {len(images.names)} images, expected the 100 of BSD100')
    return {name: whole_lr_pixels(images.read(name)) for name in names if name != _NOT_IN_BSD68}


def usrnet(folder: Path, kernels: Path, weights: str) -> dict[int, float]:
    """Score weights on kernels of USRNet's first table: circular blur, 8 bit; PSNR of RGB, border of 16 px.

    There the LR image is every fourth pixel of what is blurred; the kernels are moved by 1.5 px here, so that LR pixels
    are at the centre of what they stand for, as in this package.

    Returns:
        The mean over the 68 images, by kernel.
    """
    images = bsd68(folder)
    bank = list(read_bank(str(kernels)).items())
    scores: dict[int, float] = {}
    for number in USRNET_KERNELS:
        name, taps = bank[number - 1]
        kernel = lay_kernel(taps, name, 31, SCALE, 'centered')[..., None, None]
        found = []
        for hr in tqdm(images.values(), desc=f'{weights}, kernel {number}', disable=None):
            reach = 4 * SCALE  # of 31 taps, in whole LR px
            blurred = blur_downsample(F.pad(hr[None], [reach] * 4, mode='circular'), kernel, SCALE)[0]
            lq = quantize(blurred[:, SCALE:-SCALE, SCALE:-SCALE])
            restored = tensor2img(restore(lq, weights).image)
            found.append(float(calculate_psnr(restored, tensor2img(hr), crop_border=16)))
        scores[number] = sum(found) / len(found)
    return scores


def sharpening(
    folder: Path,
    weights: str,
    side: int = 128,
    noise: float = 0,
    quality: int | None = None,
    limit: int | None = None,
) -> dict[float, tuple[float, float]]:
    """Score weights at x1 on the middle of each image of a folder or LMDB, blurred by round Gaussians; PSNR_Y.

    Args:
        folder: HR images.
        weights: The weights.
        side: Of the middle, in px.
        noise: Standard deviation on the scale of 255, drawn with one seed for each image.
        quality: Of JPEG; None leaves it out.
        limit: At most so many images, evenly from all of them by name; None for all.

    Returns:
        Means over the images, of the blurred image as it is and of what is restored, by variance in px^2.
    """
    images = open_images(folder)
    numbered = list(enumerate(images.names))
    numbered = numbered[:: -(-len(numbered) // limit)] if limit else numbered
    scores: dict[float, tuple[float, float]] = {}
    for variance in tqdm(LITTLE_TO_MUCH, desc=weights, disable=None):
        kernel = FixedSampler((variance, variance)).draw(side, side, scale=1)
        pairs = []
        for number, name in numbered:
            hr = image_to_tensor(images.read(name))
            top, left = (max(0, (length - side) // 2) for length in hr.shape[1:])
            hr = hr[:, top : top + side, left : left + side]
            lq = blur_downsample(hr[None], kernel, 1)
            generator = torch.Generator().manual_seed(number)
            lq = quantize(add_gaussian_noise(lq, noise, generator))[0]
            lq = lq if quality is None else jpeg_compress(lq, quality)
            pairs.append((psnr(lq, hr), psnr(restore(lq, weights, scale=1).image, hr)))
        before, after = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        scores[variance] = before, after
    return scores


def enlarged(folder: Path) -> dict[str, dict[str, int]]:
    """Count in how many images of a folder an enlargement is noticed: as they are, changed, and enlarged.

    Returns:
        The number by what was done to them, and by what was done afterwards.
    """
    images = open_images(folder)
    counts: dict[str, dict[str, int]] = {}
    for name in tqdm(images.names, disable=None):
        whole = Image.fromarray(images.read(name))
        small = whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.LANCZOS)
        blur = FixedSampler((2.5, 2.5)).draw(whole.height, whole.width, scale=1)
        blurred = blur_downsample(image_to_tensor(np.asarray(whole))[None], blur, 1)[0]
        cases = {'as they are': whole, 'reduced': small, 'blurred': Image.fromarray(tensor2img(blurred, rgb2bgr=False))}
        for factor in (1.25, 1.5, 2, 2.5, 3, 4):
            size = (round(small.width * factor), round(small.height * factor))
            cases[f'enlarged {factor:g} times, bicubic'] = small.resize(size, Image.Resampling.BICUBIC)
        for case, image in cases.items():
            pixels = np.asarray(image)
            noise = np.random.default_rng(0).normal(0, 3, pixels.shape)
            jpeg, webp = io.BytesIO(), io.BytesIO()
            image.save(jpeg, 'JPEG', quality=90)
            image.save(webp, 'WEBP', quality=90)
            for after, changed in {
                'nothing': pixels,
                'noise 3': np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8),
                'JPEG 90': np.asarray(Image.open(jpeg)),
                'WebP 90': np.asarray(Image.open(webp).convert('RGB')),
            }.items():
                found = counts.setdefault(case, {})
                found[after] = found.get(after, 0) + (enlargement_period(changed) is not None)
    return counts


def draw(path: Path) -> None:
    """Draw each case: bicubic, restored and true image, true and estimated kernels."""
    panels: list[tuple[str, np.ndarray | Tensor]] = []
    for name, (photograph, (top, left), degradation, weights) in CASES.items():
        pixels = getattr(skimage.data, photograph)()[top : top + 256, left : left + 256]
        sample = degraded(pixels, degradation)
        restored = restore(sample['lq'], weights)
        assert restored.field is not None
        bicubic = bicubic_upsample(sample['lq'], SCALE, 'centered')
        true = sample['kernel'].expand(-1, *restored.field.shape[-2:])
        panels += [
            (f'{name}: bicubic, {psnr(bicubic, sample["gt"]):.2f} dB', tensor2img(bicubic, rgb2bgr=False)),
            (f'restored, {psnr(restored.image, sample["gt"]):.2f} dB', tensor2img(restored.image, rgb2bgr=False)),
            ('truth', tensor2img(sample['gt'], rgb2bgr=False)),
            ('true kernels', true),
            ('estimated kernels', restored.field[0]),
        ]
    write_panels(path, panels, columns=5, width=13, dpi=100)


def niqe(image: Tensor) -> float:
    """Score an image (3, H, W) without a reference (NIQE); lower is more natural."""
    with torch.inference_mode():
        return float(calculate_niqe(tensor2img(image), crop_border=SCALE))


def restore_photographs(folder: Path, path: Path, weights: str) -> None:
    """Restore the photographs of a folder, print a line for each, and draw the middle of each before and after.

    A line has NIQE of the photograph enlarged bicubically and of what is restored, and the faithfulness: the PSNR of
    the restored image, blurred again by the estimated kernels and reduced, against the photograph.
    """
    images, scale = open_images(folder), load_blind_network(weights).scale
    panels: list[tuple[str, np.ndarray | Tensor]] = []
    print('| photograph | NIQE, bicubic | NIQE, restored | faithful, dB |\n|---|---:|---:|---:|')
    for name in tqdm(images.names, disable=None):
        lq = image_to_tensor(images.read(name))
        side = _PART // scale
        top, left = (max(0, (length - side) // 2) for length in lq.shape[1:])
        lq = lq[:, top : top + side, left : left + side]
        restored = restore(lq, weights)
        assert restored.field is not None
        bicubic = bicubic_upsample(lq, scale, 'centered')
        again = blur_downsample(restored.image[None], restored.field, scale)[0]
        faithful = -10 * float((again - lq).square().mean().log10())
        print(f'| {name} | {niqe(bicubic):.2f} | {niqe(restored.image):.2f} | {faithful:.1f} |')
        height, width = bicubic.shape[1:]
        for title, image in ((f'{name}: bicubic', bicubic), ('restored', restored.image)):
            middle = image[:, height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]
            panels.append((title, tensor2img(middle, rgb2bgr=False)))
    write_panels(path, panels, columns=6, width=15, dpi=100)


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--figure', type=Path, metavar='FILE', help='draw failure cases, .png or .pdf')
    parser.add_argument('--gaussian8', type=Path, metavar='FOLDER', help='score on HR images, such as Set5')
    parser.add_argument('--usrnet', type=Path, nargs=2, metavar=('FOLDER', 'FILE'), help='BSD100 and kernels_12.mat')
    parser.add_argument('--sharpening', type=Path, metavar='FOLDER', help='score x1 on HR images, such as Set5')
    parser.add_argument('--side', type=int, default=128, metavar='PX', help='of what --sharpening scores')
    parser.add_argument('--noise', type=float, default=0, metavar='S', help='with --sharpening')
    parser.add_argument('--jpeg', type=int, metavar='Q', help='with --sharpening')
    parser.add_argument('--limit', type=int, metavar='N', help='with --sharpening: at most so many of the images')
    parser.add_argument('--enlarged', type=Path, metavar='FOLDER', help='count where an enlargement is noticed')
    parser.add_argument('--photographs', type=Path, nargs=2, metavar=('FOLDER', 'FILE'), help='restore and draw')
    parser.add_argument('--weights', nargs='+', help=f'default: {CLEAN} for --gaussian8, {SHARPENING} for --sharpening')
    args = parser.parse_args(argv)
    if args.figure:
        draw(args.figure)
    elif args.gaussian8:
        for weights in args.weights or [CLEAN]:
            found = gaussian8(args.gaussian8, weights)
            each = ', '.join(f'{deviation:g}: {value:.2f}' for deviation, value in found.items())
            print(f'{weights}: {sum(found.values()) / len(found):.2f} dB; by standard deviation: {each}')
    elif args.usrnet:
        images, kernels = args.usrnet
        for weights in args.weights or [CLEAN]:
            by_kernel = usrnet(images, kernels, weights)
            print(f'{weights}: ' + ', '.join(f'k{number}: {value:.2f}' for number, value in by_kernel.items()))
    elif args.sharpening:
        for weights in args.weights or [SHARPENING]:
            print(f'| variance, px^2 | as it is | {weights} |\n|---:|---:|---:|')
            for variance, (before, after) in sharpening(
                args.sharpening, weights, args.side, args.noise, args.jpeg, args.limit
            ).items():
                print(f'| {variance:g} | {before:.2f} | {after:.2f} |')
    elif args.enlarged:
        for case, counts in enlarged(args.enlarged).items():
            print(f'{case}: ' + ', '.join(f'{count} ({after})' for after, count in counts.items()))
    elif args.photographs:
        folder, path = args.photographs
        restore_photographs(folder, path, (args.weights or [REAL])[0])
    else:
        columns = ('photograph', 'bicubic', 'restored', 'LR PSNR_Y', 'noisy, bicubic', 'noisy, restored')
        print(f'| {" | ".join(columns)} |\n|{"---|" * len(columns)}')
        for photograph in ('chelsea', 'coffee'):
            scores = ' | '.join(f'{value:.2f}' for value in score(getattr(skimage.data, photograph)()))
            print(f'| {photograph} | {scores} |')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
