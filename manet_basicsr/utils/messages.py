"""Words for what users got wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: object, choices: Iterable[object]) -> str:
    """Say what was probably meant: ``; did you mean 'invariant'?``, or nothing where no choice is near."""
    close = difflib.get_close_matches(str(word), [str(choice) for choice in choices], n=1)
    return f"; did you mean '{close[0]}'?" if close else ''


def unknown_name(setting: str, name: object, known: Iterable[str]) -> str:
    """Say in one line that a name is not one of the known ones, and which of them is nearest.

    Args:
        setting: What the name was given for, as the user writes it.
        name: The name found.
        known: The names that are valid, in the order to list them.

    Returns:
        The message of the error to raise.
    """
    names = list(known)
    return f'{setting} {name!r} is not one of {", ".join(names)}{nearest(name, names)}'
