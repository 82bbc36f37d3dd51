"""Signals that ask a training to stop: collected, agreed between its processes, and kept from its loader's workers."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

_WATCHED = (signal.SIGTERM, signal.SIGINT)
# Ctrl-C under torchrun arrives twice, from the terminal and from torchrun, and Slurm repeats itself as well.
_SAME_REQUEST = 2.0


class Interrupted(SystemExit):
    """Ends a training that was asked to stop, after it has saved; the code is 128 and the signal's number."""


@contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list instead of dying of them; one that comes seconds later kills as ever."""
    received: list[int] = []
    last_ignored = 0.0

    def remember(number: int, _frame: FrameType | None) -> None:
        nonlocal last_ignored
        if not received:
            last_ignored = time.monotonic() + _SAME_REQUEST
            received.append(number)
        elif time.monotonic() > last_ignored:
            for watched, handler in before.items():
                signal.signal(watched, handler)
            signal.raise_signal(number)

    before = {number: signal.signal(number, remember) for number in _WATCHED}
    try:
        yield received
    finally:
        if not received:  # else the repetition of a signal may still come, and must not spoil the way out
            for watched, handler in before.items():
                signal.signal(watched, handler)


class StopAgreement:
    """Tells every process of a run alike, at the end of an iteration or of an image of a validation, whether to stop.

    A signal reaches processes in different iterations, or only one of them; a process that left alone would leave the
    others waiting for its gradients. Each iteration they exchange what they received, while the next one runs: nobody
    waits for it, and the answer comes one iteration (or image) late.

    Args:
        received: Where this process's signals are collected.
        distributed: Whether there are several processes; then all must construct it, and ask equally often.
    """

    def __init__(self, received: list[int], distributed: bool) -> None:
        self._received = received
        # A group of its own, on the CPU: its messages neither wait for a GPU nor mix with gradients.
        self._group = torch.distributed.new_group(backend='gloo') if distributed else None
        self._exchange: tuple[torch.Tensor, Any] | None = None

    def ask(self) -> int:
        """Give the number of the signal to stop for, or 0."""
        mine = self.asked_here()
        if self._group is None:
            return mine
        answer = self.finish()
        number = torch.tensor(mine)
        work = torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX, self._group, async_op=True)
        self._exchange = number, work
        return answer

    def asked_here(self) -> int:
        """Give the number of the signal that this process received, or 0, whatever the others did."""
        return self._received[0] if self._received else 0

    def finish(self) -> int:
        """Wait for the last exchange and give its answer, for 0 if there is none."""
        if self._exchange is None:
            return 0
        number, work = self._exchange
        work.wait()
        self._exchange = None
        return int(number)


@contextmanager
def leaving_between_images(model: Any, agreement: StopAgreement) -> Iterator[None]:
    """Leave a model's validation in the ``with`` block before its next image, where a signal asks for it.

    For models that do not look themselves: all of BasicSR's kind get their images by ``feed_data``. Each process leaves
    by itself, since of such models one may validate while the others wait for it; they end when it has.

    Raises:
        Interrupted: A signal came.
    """
    feed_data = model.feed_data

    def feed_or_leave(data: Any) -> None:
        if number := agreement.asked_here():
            raise Interrupted(128 + number)
        feed_data(data)

    model.feed_data = feed_or_leave
    try:
        yield
    finally:
        model.feed_data = feed_data


def ignore_signals(_worker: int = 0) -> None:
    """Ignore SIGTERM and SIGINT from now on.

    A loader's worker has to outlive a signal to the whole process group, which Ctrl-C and Slurm send: its parent still
    needs batches to reach the end of the iteration, and ends it with :func:`end_workers`.
    """
    for number in _WATCHED:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def workers_killed_on_failure() -> Iterator[None]:
    """Kill the processes that a ``with`` block started, if it fails.

    Where one of a loader's workers cannot be started (too many open files, no memory), nobody holds those before it,
    and the interpreter would wait at its end for processes that ignore its request to end.
    """
    before = multiprocessing.active_children()
    try:
        yield
    except BaseException:
        for process in multiprocessing.active_children():
            if process not in before:
                process.kill()
                process.join()
        raise


def end_workers(prefetcher: Any) -> None:
    """End the workers behind one of BasicSR's prefetchers now, whatever they are doing."""
    iterator = prefetcher.loader
    iterator = getattr(iterator, 'generator', iterator)  # prefetch_mode cpu reads it in a thread
    if hasattr(iterator, '_shutdown_workers'):
        iterator._shutdown_workers()
        for worker in iterator._workers:
            if worker.is_alive():  # torch terminates it, which it ignores
                worker.kill()
