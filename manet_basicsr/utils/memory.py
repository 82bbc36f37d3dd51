"""Memory: sizes of it, what this process holds, and giving back what its allocator keeps, where that is supported."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

import psutil

_M_MMAP_THRESHOLD = -3  # of glibc's mallopt
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


def memory_size(size: str | int) -> int:
    """Read a size of memory such as ``800M`` or ``4G``, or a number of bytes, in bytes.

    Raises:
        ValueError: It is no such size, or nothing.
    """
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?', str(size).strip(), re.IGNORECASE)
    if isinstance(size, bool) or match is None or float(match[1]) == 0:
        raise ValueError(f"found '{size}', expected a size such as 800M or 4G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def resident_memory() -> int:
    """Return the bytes of memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def reset_peak() -> bool:
    """Let the kernel forget the peak of this process's memory so far; returns whether it can (Linux does)."""
    try:
        Path('/proc/self/clear_refs').write_text('5', encoding='ascii')
    except OSError:
        return False
    return True


def peak_memory() -> int | None:
    """Return the most bytes that this process has held since :func:`reset_peak`; None where the system does not tell.

    psutil has no such number on Linux.
    """
    try:
        lines = Path('/proc/self/status').read_text(encoding='ascii').splitlines()
    except OSError:
        return None
    peaks = (line.split() for line in lines if line.startswith('VmHWM:'))
    return next((int(words[1]) * 1024 for words in peaks), None)


def glibc() -> ctypes.CDLL | None:
    """Return the C library of this process, if it is glibc."""
    library = ctypes.CDLL(None) if os.name == 'posix' else None
    return library if hasattr(library, 'gnu_get_libc_version') else None


def return_freed_memory(from_now_on: bool = False) -> None:
    """Let glibc give the memory of freed tensors back to the system.

    Args:
        from_now_on: Also set it to return blocks of 1 MiB and more at once, for good. Left alone it keeps blocks of up
            to 32 MiB for later.
    """
    if (library := glibc()) is None:
        return
    if from_now_on:
        library.mallopt(_M_MMAP_THRESHOLD, 2**20)
    library.malloc_trim(0)
