"""All YAML of users, read without running code."""

from __future__ import annotations

import re
from typing import Any

import yaml


class OptionLoader(yaml.SafeLoader):
    """YAML without code, that refuses a key given twice and reads ``1e-4`` as a number."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        # Here and not where the mapping is constructed: a merge changes the nodes, and may repeat keys.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen and key.tag != 'tag:yaml.org,2002:merge':
                problem = f"key '{key.value}' is given twice in one section"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        # The last of a key counts. PyYAML keeps all, which merges of merges multiply.
        last = {(key.tag, key.value): (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}
        node.value = [pair for pair in node.value if not isinstance(pair[0], yaml.ScalarNode)] + list(last.values())


# YAML 1.1 wants a point and a sign in a number with an exponent; nobody who writes lr: 2e-4 means a string.
OptionLoader.add_implicit_resolver(
    'tag:yaml.org,2002:float',
    re.compile(r'^[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)[eE][-+]?[0-9]+$'),
    list('-+.0123456789'),
)

_LARGEST = 100_000  # values in an option file; the shipped ones have about a hundred
_DEEPEST = 50  # sections in sections


def _without_aliases(value: Any) -> Any:
    """Copy what YAML gave, with a copy of its own for each alias: sections are changed in place later.

    Raises:
        ValueError: Aliases of aliases, or one of its own section, make it too large.
    """
    left = _LARGEST

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > _DEEPEST:
            raise ValueError(f'more than {_LARGEST:,d} values, or {_DEEPEST} sections in sections, with all aliases')
        if isinstance(value, dict):
            return {key: copy(content, depth + 1) for key, content in value.items()}
        if isinstance(value, list):
            return [copy(content, depth + 1) for content in value]
        return value

    return copy(value, 0)


def read_yaml(text: str) -> Any:
    """Parse YAML as option files have it: safe tags only, no key twice, ``1e-4`` a number, each alias a copy.

    Raises:
        ValueError: It is not such YAML; one line with the place.
    """
    try:
        return _without_aliases(yaml.load(text, Loader=OptionLoader))
    except RecursionError as error:
        raise ValueError('nested too deeply') from error
    except Exception as error:  # a tag that does not fit its value, such as !!bool maybe, ends in any type of error
        mark = getattr(error, 'problem_mark', None)
        place = f'line {mark.line + 1}: ' if mark is not None else ''
        words = getattr(error, 'problem', None) or str(error) or type(error).__name__
        raise ValueError(f'{place}{" ".join(words.split())}') from error
