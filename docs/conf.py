"""Sphinx's settings of this site; ``make docs`` builds it."""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

import manet_basicsr

ROOT = Path(__file__).resolve().parents[1]
#: Pages whose text stands at the root of the repository, where GitHub looks for it.
AT_ROOT = {'contributing': 'CONTRIBUTING.md', 'changelog': 'CHANGELOG.md'}

project = 'manet_basicsr'
author = 'The manet_basicsr developers'
project_copyright = author
version = release = manet_basicsr.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'{project} {release}'
myst_heading_anchors = 3
autodoc_member_order = 'bysource'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True


def _read_from_root(app: Sphinx, docname: str, source: list[str]) -> None:
    """Take the text of a page from the root, and let links that work on GitHub work on the site."""
    if docname in AT_ROOT:
        file = ROOT / AT_ROOT[docname]
        app.env.note_dependency(str(file))
        source[0] = file.read_text(encoding='utf-8')
        source[0] = source[0].replace('](tests/', '](../tests/').replace('](docs/', '](')
    for page, name in AT_ROOT.items():
        source[0] = source[0].replace(f'](../{name}', f']({page}.md').replace(f']({name}', f']({page}.md')


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect('source-read', _read_from_root)
