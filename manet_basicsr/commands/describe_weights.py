"""Write the entry of a file of weights for OpenModelDB, the catalogue of super-resolution networks.

    basicsr describe-weights blind_x4.pth entries --name 'MANet Photo' --author your-name --license CC0-1.0 \\
        --url https://example.org/blind_x4.pth --tag photo --tag restoration --description 'For blurred photographs.'

writes entries/4x-MANet-Photo.json. Scale, channels, sizes, bytes and checksum are read off the file. Exit codes:
0 done; 2 nothing was written, the message says why.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from manet_basicsr.commands.failures import say_failure
from manet_basicsr.utils.console import say
from manet_basicsr.utils.files import atomic_path, refuse_existing
from manet_basicsr.weights.catalogue import ARCHITECTURE, catalogue_entry

#: What the library calls its arguments, and the flags that they come from.
_FLAGS = {'licence': '--license', **{word: f'--{word}' for word in ('name', 'author', 'url', 'tag', 'description')}}


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('weights', metavar='WEIGHTS.pth', help='of a blind network (stage 3)')
    parser.add_argument('folder', type=Path, metavar='FOLDER', help='where the entry is written; it must exist')
    parser.add_argument('--name', required=True, help='what people call the weights')
    parser.add_argument('--author', required=True, action='append', help='user of the catalogue; again for more')
    parser.add_argument('--license', required=True, help="of the weights: SPDX's identifier, such as CC0-1.0")
    parser.add_argument('--url', required=True, action='append', help='where the file is; again for mirrors')
    parser.add_argument('--tag', required=True, action='append', help='word of the catalogue; again for more')
    parser.add_argument('--description', required=True, metavar='TEXT', help='what they are good for, in Markdown')
    parser.add_argument(
        '--date', type=datetime.date.fromisoformat, metavar='YYYY-MM-DD', help='of publishing, default today'
    )
    parser.add_argument('--force', action='store_true', help='replace an existing entry')
    return parser


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    options = build_parser(prog).parse_args(arguments)
    try:
        identifier, entry = catalogue_entry(
            options.weights,
            name=options.name,
            authors=options.author,
            licence=options.license,
            urls=options.url,
            tags=options.tag,
            description=options.description,
            date=options.date,
        )
        target = options.folder / f'{identifier}.json'
        refuse_existing(target, overwrite=options.force, switch='--force')
        with atomic_path(target) as partial:
            partial.write_text(json.dumps(entry, indent=4, ensure_ascii=False), encoding='utf-8')
    except (OSError, ValueError) as error:
        return say_failure(error, _FLAGS)
    say(f'{target}: written; the catalogue has to know the architecture {ARCHITECTURE!r}, and pictures are added there')
    return 0
