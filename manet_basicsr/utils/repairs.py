"""How repairs of another package look before they change anything, and what is said where they do not fit."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

_INSTALL = 'pip install --no-build-isolation basicsr==1.4.2 (Python 3.13 and newer: python tools/install_basicsr.py)'
_PROGRAMS = ('basicsr', 'manet-explore', 'manet-restore')


class UnfitError(Exception):
    """What a repair is written for is not there; the message says what was found and what was expected."""


class UnsupportedBasicSRError(ImportError):
    """The basicsr that is installed cannot be repaired; the message says why and what to install, in one line."""


class Change(NamedTuple):
    """A function or attribute to replace.

    Attributes:
        owner: The module or class that defines it.
        name: Its name there.
        value: What comes in its place.
    """

    owner: ModuleType | type
    name: str
    value: Any


def look(owner: ModuleType | type, name: str, parameters: str, uses: str = '') -> Any:
    """Return the function that a repair replaces, once it is seen that the repair fits.

    Comments, formatting and everything that the code does beside what it has to use may differ.

    Args:
        owner: The module or class that has it.
        name: Its name there.
        parameters: Its parameters, in order: callers give what it takes, and the replacement takes the same.
        uses: Names that its code has to use, which are what the repair is about.

    Raises:
        UnfitError: It is missing, takes other parameters or does not use these names.
    """
    where = f'{owner.__module__}.{owner.__qualname__}' if isinstance(owner, type) else owner.__name__
    original = getattr(owner, name, None)
    if original is None:
        raise UnfitError(f'{where} has no {name}')
    taken = ' '.join(inspect.signature(original).parameters)
    if taken != parameters:
        raise UnfitError(f'{where}.{name} takes ({", ".join(taken.split())}), not ({", ".join(parameters.split())})')
    missing = [word for word in uses.split() if word not in names_in(original)]
    if missing:
        raise UnfitError(f'{where}.{name} does not use {", ".join(missing)}')
    return original


def names_in(function: Any) -> set[str]:
    """Return the names of globals and attributes that a function's code uses, under its decorators."""
    found: set[str] = set()
    codes: list[CodeType] = [inspect.unwrap(function).__code__]
    while codes:
        code = codes.pop()
        found.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return found


def make_changes(changes: Iterable[Change]) -> None:
    """Replace what the changes name, also in modules of BasicSR and of this package that imported it by name."""
    for owner, name, value in changes:
        original = getattr(owner, name)
        setattr(owner, name, value)
        if isinstance(owner, type):
            continue
        for loaded_name, loaded in list(sys.modules.items()):
            package = loaded_name.partition('.')[0]
            if package in ('basicsr', 'manet_basicsr') and getattr(loaded, name, None) is original:
                setattr(loaded, name, value)


def refusal(problems: Iterable[str]) -> UnsupportedBasicSRError | SystemExit:
    """Return what to raise where basicsr cannot be repaired: the end of a command, else an error to import.

    Args:
        problems: What was found; those that repeat are named once.
    """
    others = [name for name in _distributions() if name != 'basicsr']
    uninstall = f'pip uninstall {" ".join(others)} && ' if others else ''
    reason = '; '.join(dict.fromkeys(problems))
    found = f'found {_found()}, which cannot be repaired: {reason}' if _folder() else 'basicsr is not installed'
    message = f'{found}. Install: {uninstall}{_INSTALL}'
    program = _program()
    # Commands import the package before they could catch anything.
    return SystemExit(f'{program}: error: {message}') if program else UnsupportedBasicSRError(message)


def _found() -> str:
    version = getattr(sys.modules.get('basicsr'), '__version__', None)
    names = f' (package {", ".join(_distributions())})' if _distributions() else ''
    return f'basicsr{f" {version}" if version else ""}{names} in {_folder()}'


def _folder() -> Path | None:
    """Return where the basicsr lies that is imported here."""
    spec = importlib.util.find_spec('basicsr')
    locations = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(locations))).resolve() if locations else None


def _distributions() -> list[str]:
    """Return the installed distributions that this basicsr is of: none for a clone that is not installed."""
    names = dict.fromkeys(metadata.packages_distributions().get('basicsr', []))
    places = {name: Path(str(metadata.distribution(name).locate_file('basicsr'))) for name in names}
    return [name for name, place in places.items() if place.resolve() == _folder()]


def _program() -> str | None:
    """Return which of this package's commands runs in this process, if one does."""
    if sys.argv[:1] == ['-m']:  # what Python says until it has found the module
        return 'basicsr' if 'manet_basicsr' in sys.orig_argv else None
    program = Path(sys.argv[0]).stem if sys.argv else ''
    return program if program in _PROGRAMS else None
