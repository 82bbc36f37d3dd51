"""The progress bar of all commands: on a terminal, on standard error; elsewhere there is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from manet_basicsr.utils.console import is_open, is_terminal, printable

Item = TypeVar('Item')


@contextmanager
def progress_bar(
    total: int, *, label: str = '', unit: str = 'it', scaled: bool = False, shown: bool | None = None
) -> Iterator[Callable[..., object]]:
    """Draw a bar while the body runs; yields what to call at each step, or with a number of steps.

    Args:
        total: Number of steps.
        label: What the bar is about.
        unit: What a step is.
        scaled: Whether to write thousands and millions of it as k and M.
        shown: Whether there is one, wherever standard error goes; None: on a terminal.
    """
    # Not left to tqdm's disable: its lock is one of all processes, and stays locked where one that has it is killed.
    if not (is_terminal(sys.stderr) if shown is None else shown and is_open(sys.stderr)):
        yield lambda steps=1: None
        return
    from tqdm import tqdm

    words = printable(label, sys.stderr)
    with tqdm(total=total, desc=words, unit=unit, unit_scale=scaled, leave=False) as bar:
        yield bar.update


@contextmanager
def percent_bar(label: str | None) -> Iterator[Callable[[int, int], object]]:
    """Draw a bar of per cent while the body runs; yields what to call with the steps done and those of all.

    Args:
        label: What the bar is about; None for no bar.
    """
    if label is None:
        yield lambda done, total: None
        return
    drawn = 0
    with progress_bar(100, label=label, unit='%') as step:

        def tick(done: int, total: int) -> None:
            nonlocal drawn
            share = 100 * done // total
            if share > drawn:
                step(share - drawn)
                drawn = share

        yield tick


def with_progress(items: Iterable[Item], total: int, *, label: str = '', shown: bool | None = None) -> Iterator[Item]:
    """Yield items, drawing how many of them are done, as :func:`progress_bar` does."""
    with progress_bar(total, label=label, unit='image', shown=shown) as step:
        for item in items:
            yield item
            step()
