from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'tools/install_basicsr.py'

# The function of basicsr 1.4.2's setup.py that Python 3.13 broke, between neighbours that must stay as they are.
SETUP = """version_file = {version_file!r}


def get_version():
    with open(version_file, 'r') as f:
        exec(compile(f.read(), version_file, 'exec'))
    return locals()['__version__']


version = get_version()
"""


def test_repaired_get_version_reads_the_version_on_this_python(tmp_path: Path) -> None:
    version_file = tmp_path / 'version.py'
    version_file.write_text("__version__ = '1.4.2'\n")
    (tmp_path / 'setup.py').write_text(
        runpy.run_path(str(SCRIPT))['repair_setup'](SETUP.format(version_file=str(version_file)))
    )

    assert runpy.run_path(str(tmp_path / 'setup.py'))['version'] == '1.4.2'


def test_another_setup_than_that_of_1_4_2_is_refused() -> None:
    with pytest.raises(ValueError, match='does not have these lines once'):
        runpy.run_path(str(SCRIPT))['repair_setup']('setup()\n')
