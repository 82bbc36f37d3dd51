"""Measure and draw what docs/MODEL_CARD.md says of the shipped x4 weights on photographs that scikit-image ships.

python tools/model_card.py                        # prints the scores of two photographs
python tools/model_card.py --figure failures.png  # draws where the weights fail
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manet_basicsr import restore  # before basicsr, which it mends

# isort: split
import numpy as np
import skimage.data
from basicsr.metrics.psnr_ssim import calculate_psnr
from basicsr.utils import imwrite, tensor2img
from torch import Tensor

from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset
from manet_basicsr.evaluation.methods import bicubic_upsample
from manet_basicsr.metrics import calculate_lr_psnr
from manet_basicsr.visualization.figures import write_panels

SCALE = 4
VARIANT: dict[str, Any] = {'type': 'protocol', 'kind': 4}
MOTION = {'type': 'motion', 'radius': [6, 6], 'trajectory': 'camera', 'variant': False, 'variance': 0.7}
# Each is a photograph, the upper left corner of a crop of 256x256, and how it is degraded.
CASES: dict[str, tuple[str, tuple[int, int], dict[str, Any]]] = {
    'none: Gaussian blur': ('astronaut', (0, 100), {'field': VARIANT}),
    'flat areas': ('coffee', (0, 0), {'field': VARIANT}),
    'noise, sigma 15': ('astronaut', (0, 100), {'field': VARIANT, 'noise': [15, 15]}),
    'camera shake': ('astronaut', (0, 100), {'field': MOTION}),
    'defocus, radius 6': ('astronaut', (0, 100), {'field': {'type': 'defocus', 'radius': [6, 6]}}),
    'sharper than any in training': ('astronaut', (0, 100), {'field': {'type': 'fixed', 'variances': [0.1, 0.1]}}),
}


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


def score(pixels: np.ndarray) -> tuple[float, float, float]:
    """Score the weights on a photograph blurred by a field of type 4.

    Returns:
        PSNR_Y of bicubic interpolation and of the restored image, and LR PSNR_Y, in decibels.
    """
    sample = degraded(pixels, {'field': VARIANT})
    restored = restore(sample['lq'], scale=SCALE)
    assert restored.field is not None
    known = {'field': restored.field, 'field_gt': sample['kernel'], 'gt': sample['gt']}
    bicubic = bicubic_upsample(sample['lq'], SCALE, 'centered')
    return (
        psnr(bicubic, sample['gt']),
        psnr(restored.image, sample['gt']),
        calculate_lr_psnr(**known, scale=SCALE),
    )


def draw(path: Path) -> None:
    """Draw each case: bicubic, restored and true image, true and estimated kernels."""
    panels: list[tuple[str, np.ndarray | Tensor]] = []
    for name, (photograph, (top, left), degradation) in CASES.items():
        pixels = getattr(skimage.data, photograph)()[top : top + 256, left : left + 256]
        sample = degraded(pixels, degradation)
        restored = restore(sample['lq'], scale=SCALE)
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


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--figure', type=Path, metavar='FILE', help='draw failure cases, .png or .pdf')
    args = parser.parse_args(argv)
    if args.figure:
        draw(args.figure)
        return 0
    print('| photograph | bicubic, PSNR_Y | restored, PSNR_Y | LR PSNR_Y |\n|---|---|---|---|')
    for photograph in ('chelsea', 'coffee'):
        scores = ' | '.join(f'{value:.2f}' for value in score(getattr(skimage.data, photograph)()))
        print(f'| {photograph} | {scores} |')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
