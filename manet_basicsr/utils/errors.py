"""Errors that end a command with one line instead of a traceback, wherever they are raised."""

from __future__ import annotations


class BadSampleError(ValueError):
    """An image that training or testing cannot use; the message names it."""


class MissingKeyError(BadSampleError, KeyError):
    """An image that is not in its LMDB."""

    __str__ = Exception.__str__  # KeyError quotes its message
