"""Write docs/OPTIONS.md, the reference of option files, which is made of the code.

python tools/generate_reference.py          # writes it
python tools/generate_reference.py --check  # exit code 1 where it is not what would be written
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import manet_basicsr  # noqa: F401  (registers everything)
from manet_basicsr.options.schema import options_reference
from manet_basicsr.utils.files import atomic_path

TARGET = Path(__file__).resolve().parents[1] / 'docs/OPTIONS.md'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('--check', action='store_true', help='write nothing')
    check = parser.parse_args(arguments).check
    text = options_reference()
    if TARGET.is_file() and TARGET.read_text(encoding='utf-8') == text:
        return 0
    print(f'docs/OPTIONS.md {"is not what is generated" if check else "written"}')
    if not check:
        with atomic_path(TARGET) as partial:
            partial.write_text(text, encoding='utf-8')
    return int(check)


if __name__ == '__main__':
    sys.exit(main())
