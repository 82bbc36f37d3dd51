"""The picture of docs/PEERS.md: one image under one blur, as every method restores it, and the kernels of each."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from basicsr.utils import tensor2img
from peers_rows import Choice
from torch import Tensor

from manet_basicsr.evaluation import plan_conditions
from manet_basicsr.evaluation.runner import score_sample
from manet_basicsr.visualization.figures import write_panels

#: The blur of the scene, in which every block of 40x40 HR px has another kernel.
BLUR = 'type4'
_COLUMNS = 5

Panel = tuple[str, np.ndarray | Tensor]


def panels_of(images: str, image: str, choice: Choice) -> list[tuple[Panel, Panel]]:
    """Restore the scene by all rows that can be run, but ``fixed`` and those of the design study.

    Args:
        images: Folder or LMDB of HR images.
        image: Name of the image, without suffix.
        choice: Which rows, and how much work solvers do.

    Returns:
        A pair of panels each: the image with PSNR_Y, and the kernels with LR PSNR_Y; the LR image first, then the
        truth.

    Raises:
        ValueError: There is no such image.
    """
    (condition,) = plan_conditions([images], sets=[BLUR])
    dataset = condition.open()
    names = [Path(name).stem for name in dataset.images.names]
    if image not in names:
        raise ValueError(f'picture: found no image {image} in {images}, expected one of {", ".join(names)}')
    sample = dataset[names.index(image)]
    height, width = sample['lq'].shape[1:]
    gt = tensor2img(sample['gt'], rgb2bgr=False)
    white = np.full_like(gt, 255)
    pairs: list[tuple[Panel, Panel]] = [
        ((f'LR image, {width}x{height}', tensor2img(sample['lq'], rgb2bgr=False)), ('', white)),
        (('truth', gt), ('true kernels', sample['kernel'].expand(-1, height, width))),
    ]
    for entry, method in choice.methods().values():
        if entry.study or entry.word == 'fixed' or 'seed=' in method.name:
            continue
        made = method.predict(sample, condition)
        if made.sr is None:
            continue
        scores = score_sample(sample, made, condition.scale)
        first = (f'{entry.name}: {scores["psnr"]:.2f} dB', tensor2img(made.sr, rgb2bgr=False))
        if made.field is None:
            pairs.append((first, ('no kernels', white)))
        else:
            field = made.field[0].cpu().expand(-1, height, width)
            known = 'exact' if math.isinf(scores['lr_psnr']) else f'{scores["lr_psnr"]:.2f} dB LR'
            pairs.append((first, (f'kernels: {known}', field)))
    return pairs


def draw(path: Path, pairs: list[tuple[Panel, Panel]]) -> None:
    """Draw the pairs, images above kernels, in bands of five."""
    blank: Panel = ('', np.full((8, 8), 255, np.uint8))
    pairs = pairs + [(blank, blank)] * (-len(pairs) % _COLUMNS)
    panels = []
    for start in range(0, len(pairs), _COLUMNS):
        band = pairs[start : start + _COLUMNS]
        panels += [pair[0] for pair in band] + [pair[1] for pair in band]
    write_panels(path, panels, columns=_COLUMNS, width=13, dpi=90)
