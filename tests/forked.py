"""Processes of their own for what is to be killed, or to be measured alone; they start with everything imported."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkProcess
from typing import Any

_CONTEXT = multiprocessing.get_context('fork')


def result_of(work: Callable[[], Any]) -> Any:
    """Do work in a process of its own and give what it returns."""
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=lambda: sender.send(work()))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


@contextmanager
def killed_at_the_end(work: Callable[[Callable[[], None]], Any]) -> Iterator[ForkProcess]:
    """Let a process of its own work until it calls what it is given, enter the block, and kill it behind that."""
    ready = _CONTEXT.Event()
    process = _CONTEXT.Process(target=work, args=(ready.set,))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
