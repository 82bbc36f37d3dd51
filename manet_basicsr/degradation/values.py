"""What a blur's option keys may hold: checks of numbers, each of which names the key."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_number(setting: str, value: object) -> float:
    """Give a finite number as float, or refuse what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f'{setting} must be a finite number, found {value!r}')
    return float(value)


def check_pair(setting: str, value: object) -> tuple[float, float]:
    """Give a list of two numbers as tuple, or refuse what is none."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f'{setting} must be a list of two numbers, found {value!r}')
    return check_number(setting, value[0]), check_number(setting, value[1])


def check_period(period: float) -> None:
    if not 1 <= period < math.inf:
        raise ValueError(f'period must be at least 1 (HR px), found {period:g}')


def check_radius_range(value: object, least: float = 0) -> tuple[float, float]:
    low, high = check_pair('radius', value)
    if not (least <= low <= high and low > 0):
        expected = f'{least:g} <= min' if least else '0 < min'
        raise ValueError(f'radius must be [min, max] with {expected} <= max (HR px), found [{low}, {high}]')
    return low, high


def check_radius(radius: float, largest: float, kernel_size: int, scale: int) -> None:
    if radius > largest:
        raise ValueError(
            f'radius must be at most {largest:.2f} HR px (kernel_size {kernel_size}, scale {scale}), found {radius:g}'
        )


def uniform(limits: tuple[float, float], size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    low, high = limits
    return low + (high - low) * torch.rand(size, generator=generator)


def check_numbers(setting: str, value: object, length: int) -> list[float]:
    """Return a list of finite numbers as floats, or refuse what is none."""
    numbers = list(value) if isinstance(value, list | tuple) else []
    is_number = [isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers]
    if len(numbers) != length or not all(is_number):
        raise ValueError(f'{setting} must be a list of {length} finite numbers, found {value!r}')
    return [float(number) for number in numbers]
