"""The record of an evaluation: one line of JSON for each image, method and condition, appended as it is scored."""

from __future__ import annotations

import hashlib
import json
import math
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from manet_basicsr.utils.errors import WriteError
from manet_basicsr.utils.locks import try_lock

Row = dict[str, Any]
#: The columns of a row that are numbers, or None; all others but ``scale`` are words.
METRICS = ('psnr', 'ssim', 'lr_psnr', 'lr_ssim', 'kernel_psnr', 'seconds', 'cpu_seconds', 'peak_mib')


def row_key(*parts: object) -> str:
    """Hash what a row depends on; a row is found again under the same configuration only."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class RecordFile:
    """Rows by their key, on disk as JSON lines; to be used in a ``with`` block by one process at a time.

    A line that a killed run left half-written is removed. Rows of other configurations stay in the file.

    Args:
        path: The file; made, with its folder, if missing.

    Raises:
        ValueError: A line in the middle is no row, another process has the file open, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}

    def __enter__(self) -> RecordFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open('ab+')
        except OSError as error:
            raise ValueError(
                f'output: found {self.path.parent}, in which {self.path.name} cannot be written ({error.strerror}), '
                'expected a folder, or the name of one to make'
            ) from error
        if not try_lock(self._file, inherited=True):
            self._file.close()
            raise ValueError(f'{self.path} is in use by another run')
        try:
            self._read()
        except ValueError:
            self._file.close()
            raise
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a row that could not be written is tried again here
            self._file.close()

    def _read(self) -> None:
        self._file.seek(0)
        whole = 0
        for number, line in enumerate(self._file.read().splitlines(keepends=True), start=1):
            if not line.endswith(b'\n'):
                break
            try:
                row = json.loads(line)
                known = {name: _from_json(name, value) for name, value in row.items()}
                self.rows[row['key']] = dict.fromkeys(METRICS) | known
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f'{self.path}, line {number}: is no row of an evaluation; remove it') from error
            whole += len(line)
        self._file.truncate(whole)

    def append(self, row: Row) -> None:
        """Add a row; it is on the disk when this returns.

        Raises:
            WriteError: It cannot be written; the next reader removes what is there of it.
        """
        line = json.dumps({name: _to_json(value) for name, value in row.items()}, allow_nan=False)
        try:
            self._file.write(line.encode() + b'\n')
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise WriteError(self.path, error.strerror or str(error)) from error
        self.rows[row['key']] = row


def _to_json(value: Any) -> Any:
    """JSON has no infinity: an exact match is the text ``inf``, and what is no number ``nan``."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(name: str, value: Any) -> Any:
    """Read what is no number in JSON where a number stands; an image may be called ``inf``."""
    return float(value) if name in METRICS and value in ('inf', '-inf', 'nan') else value
