"""What a degradation's option keys may hold: checks of numbers, each of which names the key; and uniform draws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def check_number(setting: str, value: object) -> float:
    """Give a finite number as float, or refuse what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'{setting} must be a finite number, found {value!r}')
    return float(value)


def check_numbers(setting: str, value: object, length: int) -> list[float]:
    """Give a list of so many finite numbers as floats, or refuse what is none."""
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    is_number = [isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers]
    if len(numbers) != length or not all(is_number):
        raise ValueError(f'{setting} must be a list of {length} finite numbers, found {value!r}')
    return [float(number) for number in numbers]


def check_pair(setting: str, value: object) -> tuple[float, float]:
    """Give a list of two finite numbers as tuple, or refuse what is none."""
    first, second = check_numbers(setting, value, 2)
    return first, second


def check_range(setting: str, value: object, low: float, high: float) -> tuple[float, float]:
    """Give ``[smallest, largest]`` within low and high as tuple, or refuse what is none."""
    try:
        smallest, largest = check_pair(setting, value)
    except ValueError:
        smallest, largest = math.nan, math.nan
    if not low <= smallest <= largest <= high:
        raise ValueError(f'{setting}: found {value!r}, expected [smallest, largest] within {low:g}..{high:g}')
    return smallest, largest


def check_variance_range(value: object) -> tuple[float, float]:
    """Give a range of variances as tuple, or refuse what is no two positive, finite numbers in ascending order.

    Args:
        value: Smallest and largest variance in HR px^2.

    Raises:
        ValueError: If the range is not ``0 < min <= max``.
    """
    low, high = check_pair('variance', value)
    if not 0 < low <= high:
        raise ValueError(f'variance must be [min, max] with 0 < min <= max (HR px^2), found [{low}, {high}]')
    return low, high


def check_period(period: float) -> None:
    """Refuse a distance of grid points, or a side of blocks, below 1 HR px."""
    if not 1 <= period < math.inf:
        raise ValueError(f'period must be at least 1 (HR px), found {period:g}')


def check_radius_range(value: object, least: float = 0) -> tuple[float, float]:
    """Give a range of positive radii in HR px, none below the least, as tuple, or refuse what is none."""
    low, high = check_pair('radius', value)
    if not (least <= low <= high and low > 0):
        expected = f'{least:g} <= min' if least else '0 < min'
        raise ValueError(f'radius must be [min, max] with {expected} <= max (HR px), found [{low}, {high}]')
    return low, high


def check_radius(radius: float, largest: float, kernel_size: int, scale: int) -> None:
    """Refuse a radius in HR px that does not fit into the taps."""
    if radius > largest:
        raise ValueError(
            f'radius must be at most {largest:.2f} HR px (kernel_size {kernel_size}, scale {scale}), found {radius:g}'
        )


def uniform(limits: tuple[float, float], size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Draw numbers of that shape uniformly within limits, float32 on the CPU."""
    low, high = limits
    return low + (high - low) * torch.rand(size, generator=generator)
