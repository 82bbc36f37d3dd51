"""Imports point one way, so that every room can be read without those above it; and what is read is short."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import manet_basicsr

PACKAGE = Path(manet_basicsr.__file__).parent
MODULES = {
    '.'.join(file.relative_to(PACKAGE.parent).with_suffix('').parts).removesuffix('.__init__'): file
    for file in sorted(PACKAGE.rglob('*.py'))
}
#: Rooms and what they may not import.
UPPER = ('models', 'options', 'training', 'evaluation', 'commands', 'restoration', 'explorer', 'integrations')
LOWER = ('utils', 'degradation', 'archs', 'weights', 'losses', 'metrics', 'data', 'visualization', 'zero_shot')


def imported_modules(file: Path) -> set[str]:
    """List the modules of the package that a file imports, also within functions."""
    found: set[str] = set()
    tree = ast.parse(file.read_text(encoding='utf-8'))
    # What a file does when it is started, and not imported, makes no circle.
    tree.body = [node for node in tree.body if not (isinstance(node, ast.If) and '__main__' in ast.unparse(node.test))]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # A name that is a module is that module, not its package.
            submodules = {f'{node.module}.{alias.name}' for alias in node.names} & MODULES.keys()
            found |= submodules
            if len(submodules) < len(node.names):
                found.add(node.module)
    return found & MODULES.keys()


def test_no_circle_of_imports() -> None:
    graph = {name: imported_modules(file) - {name} for name, file in MODULES.items()}
    # Repairs come before everything and borrow from rooms that only import basicsr's parts which need none.
    graph['manet_basicsr.compat'] = set()
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise AssertionError(f'circle of imports: {" <- ".join(error.args[1])}') from None


def test_lower_rooms_know_nothing_of_upper_ones() -> None:
    def room(module: str) -> str:
        return f'{module}..'.split('.')[1]

    edges = [(name, other) for name, file in MODULES.items() for other in imported_modules(file)]
    wrong = [f'{name} imports {other}' for name, other in edges if room(name) in LOWER and room(other) in UPPER]
    assert not wrong


def test_modules_and_functions_stay_short() -> None:
    folders = ('manet_basicsr', 'scripts', 'tools', 'examples', 'integrations')
    long = []
    for path in (path for folder in folders for path in (PACKAGE.parent / folder).rglob('*.py')):
        text = path.read_text(encoding='utf-8')
        if text.count('\n') > 400:
            long.append(f'{path}: {text.count(chr(10))} lines')
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60:
                long.append(f'{path}: {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines')
    assert long == []
