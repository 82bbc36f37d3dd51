"""What is wrong with options: one exception for every problem found, and where to change it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class OptionError(Exception):
    """What is wrong with a command's options, a line for each problem; the command line shows them and exits with 2."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__('\n'.join(self.problems))


@contextmanager
def problems_of(*where: str) -> Iterator[None]:
    """Turn a complaint about user input into an :class:`OptionError` that says where to change it."""
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, KeyError, TypeError) as error:
        words = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise OptionError([': '.join([*where, str(words)])]) from error


@contextmanager
def named(where: str) -> Iterator[None]:
    """Put the name of an option file, or of a flag, in front of every problem found in the ``with`` block."""
    try:
        yield
    except OptionError as error:
        raise OptionError([f'{where}{problem}' for problem in error.problems]) from error
