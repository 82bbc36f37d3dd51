"""Option files, read without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manet_basicsr.options.errors import OptionError, problems_of
from manet_basicsr.utils.yaml_reading import read_yaml

Options = dict[str, Any]


def load_options(path: str | Path) -> Options:
    """Read an option file.

    Raises:
        OptionError: There is no such file, or it is no YAML mapping.
    """
    try:
        text = Path(path).read_text(encoding='utf-8-sig')  # Windows' editors begin a file with a mark
    except OSError as error:
        hint = '; basicsr options lists those that ship' if isinstance(error, FileNotFoundError) else ''
        raise OptionError([f'{path}: cannot read the option file ({error.strerror}){hint}']) from error
    except ValueError as error:
        raise OptionError([f'{path}: is no text in UTF-8 ({error})']) from error
    with problems_of(str(path)):
        options = read_yaml(text)
    if not isinstance(options, dict):
        raise OptionError([f'{path}: found {type(options).__name__}, expected sections such as name, datasets, train'])
    return options
