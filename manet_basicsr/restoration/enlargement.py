"""Whether an image was enlarged before: then its blur is wider than any that the networks have learned."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.restoration.arrays import image_to_batch

#: Sides in px of the middle of an image that is looked at; a smaller image tells too little.
_LARGEST, _SMALLEST = 1024, 96
#: Length of the Fourier transform of a profile, and the longest period that is looked for, in px.
_LENGTH, _LONGEST_PERIOD = 2048, 5.0
#: Neighbours with whose mean each px of a profile is compared.
_NEARBY = 9
#: JPEG repeats itself every 8 px and WebP every 4: how far from their frequencies a peak must be.
_BLOCK, _WIDTH = 8, 0.012
#: Amplitude of what rounding leaves of a profile that is constant.
_ROUNDING = 0.01
#: From where on an image counts as enlarged: the height of a peak above the middle of all frequencies; and by how many
#: powers of ten short waves are weaker than long ones (a reduction leaves a peak, too). Chosen on held-out photographs.
PERIODIC, SOFT = 5.0, 1.5
_LONG, _SHORT = (0.1, 0.15), (0.4, 0.45)


def enlargement_period(pixels: np.ndarray) -> float | None:
    """Find out whether an image was enlarged by interpolation, by how far its detail repeats itself.

    Interpolated pixels are blurred by how far they are from the pixels of the first image, so how much neighbours
    differ repeats itself along lines and columns. By a factor of exactly 2 all pixels are equally far, and nothing is
    found; nor is a factor of 4, whose period is that of blocks of WebP and JPEG. Noise or JPEG may hide others.

    Args:
        pixels: ``(h, w)``, ``(h, w, 3)`` or ``(h, w, 4)``, of the types that :func:`manet_basicsr.restore` takes.

    Returns:
        The period p in px, or None where nothing is found. Factors of p and of p / (p - 1) have it, and multiples of p.

    Source: A. Gallagher, "Detection of linear and cubic interpolation in JPEG compressed images", 2005; along both axes
    at once, with blocks and reductions told apart, by us.
    """
    top, left = (max(0, (side - _LARGEST) // 2) for side in pixels.shape[:2])
    luma = image_to_batch(pixels[top : top + _LARGEST, left : left + _LARGEST])[0][0].double().mean(0)
    if min(luma.shape) < _SMALLEST:
        return None
    height, period = _strongest_period(luma)
    return period if height > PERIODIC and _steepness(luma) > SOFT else None


def factors_of(period: float) -> tuple[float, float]:
    """Give the two factors by which an image may have been enlarged, the smaller one first."""
    smaller, larger = sorted((period, period / (period - 1)))
    return smaller, larger


def _strongest_period(luma: Tensor) -> tuple[float, float]:
    """Find the strongest repetition, along both axes, of how much neighbours differ.

    Returns:
        Its height above the middle of all, along the axis where it is lower, and its period in px.
    """
    frequencies = torch.fft.rfftfreq(_LENGTH)
    of_blocks = (frequencies * _BLOCK - (frequencies * _BLOCK).round()).abs() / _BLOCK <= _WIDTH
    looked_at = (frequencies > 1 / _LONGEST_PERIOD) & ~of_blocks
    heights = []
    for lines in (luma, luma.T):
        amplitudes = _spectrum_of_detail(lines)[looked_at] + _ROUNDING
        heights.append(amplitudes / amplitudes.median())
    lower = torch.minimum(*heights)
    highest = int(lower.argmax())
    return float(lower[highest]), 1 / float(frequencies[looked_at][highest])


def _spectrum_of_detail(lines: Tensor) -> Tensor:
    """Transform the profile of detail along lines: the amplitudes of its waves."""
    curvature = (lines[:, :-2] - 2 * lines[:, 1:-1] + lines[:, 2:]).abs()
    some = curvature.flatten()[:: max(1, curvature.numel() // 100_000)]
    profile = (curvature.clamp(max=float(some.quantile(0.9))).mean(0) + 0.05 / 255).log()  # edges count little
    nearby = F.avg_pool1d(F.pad(profile[None], [_NEARBY // 2] * 2, mode='reflect'), _NEARBY, 1)[0]
    window = torch.hann_window(len(profile), dtype=profile.dtype)
    return torch.fft.rfft((profile - nearby) * window, _LENGTH).abs()


def _steepness(luma: Tensor) -> float:
    """Measure by how many powers of ten short waves are weaker than long ones, along both axes."""
    falls = []
    for lines in (luma, luma.T):
        window = torch.hann_window(lines.shape[1], dtype=lines.dtype)
        power = torch.fft.rfft((lines - lines.mean(1, keepdim=True)) * window).abs().square().mean(0)
        frequencies = torch.fft.rfftfreq(lines.shape[1])
        long, short = (power[(frequencies >= low) & (frequencies < high)].mean() for low, high in (_LONG, _SHORT))
        falls.append(math.log10(max(float(long), 1e-30) / max(float(short), 1e-30)))
    return sum(falls) / len(falls)
