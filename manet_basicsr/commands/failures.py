"""What commands say where they fail, in the words of their flags."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from manet_basicsr.data.preparation import ExistsError
from manet_basicsr.utils.console import say
from manet_basicsr.utils.errors import BadSampleError, ran_out_of_memory


def reason_of(error: Exception, remedy: str = 'a smaller image') -> str:
    """Put an error of any kind in one line.

    Args:
        error: What was raised.
        remedy: What to give where memory ran out.
    """
    words = ' '.join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    if ran_out_of_memory(error):
        is_gpus = isinstance(error, torch.OutOfMemoryError)
        return f'{"the GPU ran out of memory" if is_gpus else "memory ran out"}; give {remedy}'
    return words


def say_failure(error: Exception, flags: Mapping[str, str] | None = None) -> int:
    """Say in a line for each problem what went wrong.

    Args:
        error: What the library raised.
        flags: What the library calls its arguments at the beginning of a line, and the flags that they come from.

    Returns:
        The exit code: 1 for a damaged or unfit image, 2 for what was asked for.
    """
    for line in str(error).splitlines():
        where, separator, words = line.partition(': ')
        hint = '; --force replaces it' if isinstance(error, ExistsError) else ''
        say(f'error: {(flags or {}).get(where, where)}{separator}{words}{hint}', error=True)
    return 1 if isinstance(error, BadSampleError) else 2
