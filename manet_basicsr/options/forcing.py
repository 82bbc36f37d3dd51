"""Changing single values of options in place, as BasicSR's forced values do, but without evaluating anything."""

from __future__ import annotations

from collections.abc import Iterable

from manet_basicsr.options.errors import OptionError, problems_of
from manet_basicsr.options.reading import Options
from manet_basicsr.utils.messages import nearest
from manet_basicsr.utils.yaml_reading import read_yaml


def force(options: Options, entries: Iterable[str]) -> None:
    """Change options in place, one entry after the other.

    Args:
        options: The options; the sections on the way to a key must exist.
        entries: ``section:key=value``, split at the first ``=``; the value is a YAML scalar or flow collection.

    Raises:
        OptionError: An entry has no ``=``, its value is no YAML, or a section on its way does not exist.
    """
    for entry in entries:
        path, separator, value = entry.partition('=')
        *sections, key = (part.strip() for part in path.split(':'))
        if not separator or not all((*sections, key)):
            raise OptionError([f"'{entry}': expected section:key=value"])
        place = options
        for section in sections:
            if not isinstance(place.get(section), dict):
                known = [name for name, content in place.items() if isinstance(content, dict)]
                raise OptionError([f"'{entry}': there is no section '{section}'{nearest(section, known)}"])
            place = place[section]
        with problems_of(f"'{entry}'"):
            place[key] = read_yaml(value)
