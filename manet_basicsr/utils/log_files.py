"""Log files of runs: each its own, also of several runs in one process, and on a disk that is full."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any

from manet_basicsr.utils.console import say


class _Lines(logging.StreamHandler[Any]):
    """The log on standard error; a line that cannot be printed is none of the run's errors, and no traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        if not isinstance(sys.exc_info()[1], (OSError, ValueError)):  # ValueError: closed
            super().handleError(record)


class _LogFile(logging.FileHandler):
    """A log file on a disk that may be full: that is said once, in a line, and does not end the run."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            say(f'basicsr: warning: cannot write {self.baseFilename}: {error.strerror}', error=True)


def give_each_run_its_file(original: Callable[..., logging.Logger]) -> Callable[..., logging.Logger]:
    """Return BasicSR's ``get_root_logger``, with a ``log_file`` that counts in every call and not in the first alone.

    Args:
        original: BasicSR's own, which sets up the logger when it is asked for it first.
    """
    from basicsr.utils.dist_util import get_dist_info

    files: dict[str, logging.FileHandler] = {}

    @functools.wraps(original)
    def get_root_logger(
        logger_name: str = 'basicsr', log_level: int = logging.INFO, log_file: str | None = None
    ) -> logging.Logger:
        logger = original(logger_name, log_level)
        for handler in list(logger.handlers):
            if type(handler) is logging.StreamHandler:
                lines = _Lines(handler.stream)
                lines.setFormatter(handler.formatter)
                logger.removeHandler(handler)
                logger.addHandler(lines)
        rank, _ = get_dist_info()
        if log_file is None or rank != 0:
            return logger
        logger.setLevel(log_level)
        if logger_name in files:
            logger.removeHandler(files[logger_name])
            files[logger_name].close()
        file_handler = files[logger_name] = _LogFile(log_file, 'w', encoding='utf-8', errors='backslashreplace')
        file_handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s: %(message)s'))
        logger.addHandler(file_handler)
        return logger

    return get_root_logger
