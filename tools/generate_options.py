"""Generate the option files from two templates and a table of what differs.

    python tools/generate_options.py          # writes options/, saying what changed
    python tools/generate_options.py --check  # exit code 1 where a file is not what would be generated

``option_templates/train.yml`` and ``test.yml`` are whole option files in which $name, $scale and what follows from the
scale are filled in. ``option_templates/table.yml`` has an entry a file: which template or other entry it is like, the
comment at its head, and the sections and keys that are other than there, each as the value or the lines to write in its
place; and, for single scales, ``values`` that placeholders have instead. What several of them share is in the table's
``parts``. So a wording stands once, and a test says so.
"""

from __future__ import annotations

import argparse
import re
import string
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from manet_basicsr.degradation import training_variance_range
from manet_basicsr.utils.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / 'tools/option_templates'
OPTIONS = ROOT / 'options'


class _TextLoader(yaml.SafeLoader):
    """YAML whose values are all text, as they stand there: ``5e-5`` and ``~`` too; it knows merges (``<<``)."""

    yaml_implicit_resolvers = {'<': yaml.SafeLoader.yaml_implicit_resolvers['<']}


def block_of(lines: Sequence[str], path: str) -> tuple[int, int, int]:
    """Find a key by its path of keys, such as ``datasets.train.gt_size``.

    Returns:
        First line, line after the last, and indentation of its lines; what is deeper than the key belongs to it.

    Raises:
        KeyError: There is no such key.
    """
    start, end, indent = 0, len(lines), 0
    for depth, key in enumerate(path.split('.')):
        indent = 2 * depth
        begin = f'{" " * indent}{key}:'
        found = [number for number in range(start, end) if lines[number].startswith(begin)]
        if not found:
            raise KeyError(f'{path}: there is no {key}')
        start = found[0]
        inside = range(start + 1, end)
        deeper = indent + 1
        stop = next((n for n in inside if lines[n].strip() and len(lines[n]) - len(lines[n].lstrip()) < deeper), end)
        while not lines[stop - 1].strip():
            stop -= 1  # the empty line after a section stays
        end = stop
    return start, end, indent


def include(text: str, parts: dict[str, str]) -> str:
    """Write parts, which may name others, in the place of the lines that name them, with the indentation of these."""

    def part_of(line: re.Match[str]) -> str:
        if line['name'] not in parts:
            return line[0]
        return textwrap.indent(include(parts[line['name']].rstrip('\n'), parts), line['indent'])

    return re.sub(r'(?m)^(?P<indent> *)\$(?P<name>\w+)$', part_of, text)


def commented(value: str, line: str) -> str:
    """Give a value the comment that ``line`` has, unless it brings one; a comment that was aligned keeps its column."""
    found = re.match(r'(?P<key> *\w+: )(?P<value>.*?)(?P<gap> +)(?P<comment># .*)', line)
    if not found:
        return value
    own, _, comment = value.partition('  # ')
    width = len(found['value'] + found['gap']) - 2 if len(found['gap']) > 2 else 0
    return f'{own.rstrip():{width}}  {f"# {comment}" if comment else found["comment"]}'


def replace(text: str, changes: dict[str, str], parts: dict[str, str]) -> str:
    """Write something else in the place of keys.

    Args:
        text: An option file.
        changes: By the path of a key its new value, with a comment where it has another, or all the lines to write
            instead (a text of several lines, or of one that ends); an empty text takes the key away.
        parts: The lines that a line such as ``$MANet`` stands for.
    """
    lines = text.split('\n')
    for path, content in changes.items():
        start, end, indent = block_of(lines, path)
        whole = content if '\n' in content else f'{path.split(".")[-1]}: {commented(content, lines[start])}'
        whole = include(whole.rstrip('\n'), parts)
        lines[start:end] = textwrap.indent(whole, ' ' * indent).split('\n') if content else []
    return '\n'.join(lines)


def values_of(name: str, scale: int) -> dict[str, Any]:
    """Return what the templates' placeholders stand for."""
    low, high = (f'{value:g}' for value in training_variance_range(scale))
    return {'name': name, 'scale': scale, 'low': low, 'high': high, 'long': 1 + scale}


def text_of(name: str, table: dict[str, Any]) -> str:
    """Return an option file's text before its placeholders are filled in."""
    entry, parts = table[name], table['parts']
    like = entry['like']
    text = text_of(like, table) if like in table else (TEMPLATES / f'{like}.yml').read_text(encoding='utf-8')
    if 'head' in entry:
        text = entry['head'] + text[text.index('# basicsr ') :]
    return replace(include(text, parts), entry.get('lines', {}), parts)


def generate() -> dict[Path, str]:
    """Generate every option file: its path below ``options/`` and its text."""
    table = yaml.load((TEMPLATES / 'table.yml').read_text(encoding='utf-8'), Loader=_TextLoader)
    files = {}
    for key, entry in table.items():
        if 'folder' not in entry:
            continue
        for scale in map(int, entry.get('scales') or [entry.get('scale', 4)]):
            name = key.replace('{scale}', str(scale))
            text = text_of(key, table)
            text = replace(text, entry.get('at', {}).get(str(scale), {}), table['parts'])
            path = Path(entry['folder']) / f'{name}.yml'
            values = values_of(name, scale) | entry.get('values', {}).get(str(scale), {})
            files[path] = string.Template(text).substitute(values, folder=entry['folder'])
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('--check', action='store_true', help='write nothing')
    check = parser.parse_args(arguments).check
    files = generate()
    written = {file.relative_to(OPTIONS) for file in OPTIONS.glob('*/*.yml')}
    changed = [
        path for path, text in files.items() if path not in written or (OPTIONS / path).read_text('utf-8') != text
    ]
    for path in sorted(written - files.keys()):
        print(f'options/{path} is in no entry of {TEMPLATES.name}/table.yml', file=sys.stderr)
    for path in changed:
        print(f'options/{path} {"is not what is generated" if check else "written"}')
        if not check:
            with atomic_path(OPTIONS / path) as temporary:
                temporary.write_text(files[path], encoding='utf-8')
    return int(bool(written - files.keys()) or (check and bool(changed)))


if __name__ == '__main__':
    sys.exit(main())
