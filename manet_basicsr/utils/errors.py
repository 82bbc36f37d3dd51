"""Errors that end a command with one line instead of a traceback, wherever they are raised."""

from __future__ import annotations

import os

import torch


class BadSampleError(ValueError):
    """An image that training or testing cannot use; the message names it."""


class MissingKeyError(BadSampleError, KeyError):
    """An image that is not in its LMDB."""

    __str__ = Exception.__str__  # KeyError quotes its message


class ValidationError(BadSampleError):
    """A validation that failed; the message names the set and, where they are known, the image and the metric."""


class WriteError(OSError):
    """A file or folder that cannot be written; the message names it and says why.

    Attributes:
        reason: Why, in the words of the system.
    """

    def __init__(self, target: str | os.PathLike[str], reason: str) -> None:
        super().__init__(f'cannot write {os.fspath(target)}: {reason}')
        self.reason = reason


class NonFiniteError(RuntimeError):
    """A loss, gradients, or what is to be saved are NaN or infinite; the message says which, and where."""


class RunStoppedError(RuntimeError):
    """A training that ended before its last iteration; the message says why, and which state is the newest.

    Attributes:
        can_go_on: Whether there is a state to go on from.
    """

    def __init__(self, message: str, *, can_go_on: bool) -> None:
        super().__init__(message)
        self.can_go_on = can_go_on


def ran_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is no memory left, of the GPU or of the machine."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, or its type where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def last_line(error: BaseException) -> str:
    """Return the message of an error; one from a loader's worker carries a traceback in front of it."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1].removeprefix(f'{type(error).__module__}.{type(error).__name__}: ')
