"""Install basicsr 1.4.2 into the running Python's environment, without build isolation.

Before: torch, numpy, cython, setuptools and wheel must be there; with build isolation pip would fetch a second torch
for the build. Needs nothing else, not even this package.

Python 3.13 and newer cannot run basicsr's setup.py as it is: ``get_version`` reads a variable that ``exec`` made out of
``locals()``, which no longer sees it (PEP 667). There this script lets pip fetch the source, replaces those two lines
and installs the result. Can go when a basicsr that sets up on Python 3.13 is released.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENT = 'basicsr==1.4.2'
BROKEN_LINES = "        exec(compile(f.read(), version_file, 'exec'))\n    return locals()['__version__']\n"
WORKING_LINES = "        exec(compile(f.read(), version_file, 'exec'), found := {})\n    return found['__version__']\n"


def repair_setup(text: str) -> str:
    """Make ``get_version`` of basicsr's setup.py keep the executed variables in a dict of its own.

    Raises:
        ValueError: If the text does not have the lines to replace exactly once.
    """
    if text.count(BROKEN_LINES) != 1:
        raise ValueError(f"basicsr's setup.py does not have these lines once:\n{BROKEN_LINES}")
    return text.replace(BROKEN_LINES, WORKING_LINES)


def fetch_source(folder: Path) -> Path:
    """Let pip download and unpack the source of basicsr below ``folder``, and return where it is.

    pip runs the unpacked setup.py at once to learn what it requires, which is what fails here, so a failure of pip is
    expected; ``--no-clean`` makes it leave the unpacked source.

    Raises:
        RuntimeError: If no source is there afterwards, with what pip said.
    """
    command = ['download', '--no-clean', '--no-deps', '--no-build-isolation', '--no-binary=basicsr', REQUIREMENT]
    result = subprocess.run(
        [sys.executable, '-m', 'pip', *command, '--dest', str(folder)],
        env={**os.environ, 'TMPDIR': str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    sources = [file.parent for file in folder.glob('*/*/setup.py') if (file.parent / 'basicsr').is_dir()]
    if len(sources) != 1:
        raise RuntimeError(f'pip left {len(sources)} sources of basicsr instead of 1; it said:\n{result.stdout}')
    return sources[0]


def install(requirement: str, constraints: str | None) -> int:
    """Install ``requirement`` (a requirement or a source folder) and return pip's exit code."""
    options = ['--no-build-isolation', *(['--constraint', constraints] if constraints else [])]
    return subprocess.run([sys.executable, '-m', 'pip', 'install', *options, requirement]).returncode


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description='Install basicsr 1.4.2 into the running Python, 3.13 and newer too.',
        epilog='Example: python tools/install_basicsr.py --constraint constraints.txt',
    )
    parser.add_argument('--constraint', metavar='FILE', help="pip's constraints file")
    options = parser.parse_args(arguments)
    if sys.version_info >= (3, 13):
        with tempfile.TemporaryDirectory() as folder:
            source = fetch_source(Path(folder))
            setup = source / 'setup.py'
            setup.write_text(repair_setup(setup.read_text(encoding='utf-8')), encoding='utf-8')
            print("basicsr's setup.py repaired for Python 3.13 and newer: get_version executes into a dict of its own")
            return install(str(source), options.constraint)
    return install(REQUIREMENT, options.constraint)


if __name__ == '__main__':
    sys.exit(main())
