"""The memory of this process."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manet_basicsr.utils import memory
from manet_basicsr.utils.memory import memory_size, peak_memory, reset_peak, resident_memory, return_freed_memory

SIZE = 100_000_000
SLACK = 10_000_000  # what Python itself takes or frees meanwhile


def test_memory_that_is_held_and_its_peak_are_measured() -> None:
    return_freed_memory()
    before = resident_memory()
    can_reset = reset_peak()
    block = np.ones(SIZE, np.uint8)
    assert abs(resident_memory() - before - SIZE) < SLACK
    del block
    return_freed_memory()
    assert abs(resident_memory() - before) < SLACK
    peak = peak_memory()
    if can_reset and peak is not None:
        assert abs(peak - before - SIZE) < SLACK
        reset_peak()
        assert (peak_memory() or 0) < before + SLACK


def test_systems_that_are_not_linux_have_no_peak_and_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_arguments: object, **_named: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, 'read_text', absent)
    monkeypatch.setattr(Path, 'write_text', absent)
    assert not reset_peak() and peak_memory() is None
    assert resident_memory() > 0
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: object())  # another C library
    return_freed_memory()
    monkeypatch.setattr(memory.os, 'name', 'nt')
    monkeypatch.setattr(ctypes, 'CDLL', lambda name: pytest.fail('Windows has no such library'))
    return_freed_memory(from_now_on=True)


@pytest.mark.parametrize(
    ('text', 'size'),
    [('800M', 800 * 2**20), ('4G', 2**32), ('1.5GiB', 3 * 2**29), ('512kb', 2**19), ('9', 9), (10, 10)],
)
def test_sizes_of_memory_are_read(text: str | int, size: int) -> None:
    assert memory_size(text) == size


@pytest.mark.parametrize('size', ['much', '-1G', '0', True, 0, '4 Gbit'])
def test_what_is_no_size_of_memory_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match='expected a size such as 800M or 4G'):
        memory_size(size)
