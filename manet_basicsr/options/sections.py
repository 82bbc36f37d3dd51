"""Checks of single values and sections, which the checks of an option file's parts are made of.

Each gives a line for every problem: the key, what was found and what was expected.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from manet_basicsr.options.shipped import option_files
from manet_basicsr.utils.messages import nearest
from manet_basicsr.weights import is_address, resolve_weights

#: What a switch may be.
SWITCH = (True, False)


def is_count(value: object, least: int = 0) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def choice_problems(section: Mapping[str, Any], choices: Mapping[str, Collection[Any]], where: str) -> Iterator[str]:
    """Check keys that, where they are given, take one of a few values."""
    for key, allowed in choices.items():
        # 1 == True in Python, not in an option file.
        if key in section and not any(type(section[key]) is type(value) and section[key] == value for value in allowed):
            words = ', '.join('~' if value is None else str(value).lower() for value in allowed)
            yield f'{where}{key}: found {section[key]!r}, expected one of {words}'


def unregistered_name(name: object, known: Mapping[str, Any], where: str) -> Iterator[str]:
    # BasicSR's registries also try the name with the suffix that it gives to duplicates.
    if not isinstance(name, str) or (name not in known and f'{name}_basicsr' not in known):
        yield f"{where}: '{name}' is not registered{nearest(name, known)}"


def unknown_keys(section: Mapping[str, Any], known: Collection[str], where: str) -> Iterator[str]:
    yield from (f'{where}{key}: unknown key{nearest(key, known)}' for key in section if key not in known)


def call_problems(
    function: Callable[..., Any], arguments: Mapping[str, Any], where: str, given: Collection[str] = ()
) -> Iterator[str]:
    """Compare a section with the function or class that it is passed to; ``given`` are filled in by the caller."""
    parameters = inspect.signature(function).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        yield from unknown_keys(arguments, [p.name for p in parameters if p.name not in given], where)
    for parameter in parameters:
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and parameter.name not in arguments and parameter.name not in given:
            yield f'{where}{parameter.name}: missing'


def registered_problems(
    section: object, registry: Any, where: str, given: Collection[str] = (), extra: Collection[str] = ()
) -> Iterator[str]:
    """Check a section of the form ``{type: NAME, argument: ...}``."""
    if not isinstance(section, dict) or 'type' not in section:
        yield f'{where}: found {section!r}, expected a section with a type'
        return
    known = dict(iter(registry)) if not isinstance(registry, dict) else registry
    yield from unregistered_name(section['type'], known, f'{where}.type')
    registered = known.get(section['type']) if isinstance(section['type'], str) else None
    if registered is not None:
        arguments = {key: value for key, value in section.items() if key != 'type' and key not in extra}
        yield from call_problems(registered, arguments, f'{where}.', given)


def missing_file(path: object, where: str) -> Iterator[str]:
    if path is not None and not isinstance(path, str):
        yield f'{where}: found {path!r}, expected a path'
    elif path is not None and not os.path.exists(os.path.expanduser(path)):
        yield f'{where}: {path} does not exist'


def missing_weights(path: object, where: str) -> Iterator[str]:
    """Check that there is a file of weights, or that weights of that name ship; say which training makes a file."""
    if not isinstance(path, str) or not is_address(path):
        training = Path(path).parent.parent.name if isinstance(path, str) else ''
        hint = f'; basicsr train -opt {training} makes it' if training in option_files() else ''
        yield from (f'{problem}{hint}' for problem in missing_file(path, where))
        return
    try:
        resolve_weights(path)
    except FileNotFoundError as error:
        yield f'{where}: {error}'
