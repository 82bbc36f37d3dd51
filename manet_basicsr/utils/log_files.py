"""Log files of runs: each its own, also of several runs in one process, and on a disk that is full."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable


class _LogFile(logging.FileHandler):
    """A log file on a disk that may be full: that is said once, in a line, and does not end the run."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            print(f'basicsr: warning: cannot write {self.baseFilename}: {error.strerror}', file=sys.stderr)


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
        rank, _ = get_dist_info()
        if log_file is None or rank != 0:
            return logger
        logger.setLevel(log_level)
        if logger_name in files:
            logger.removeHandler(files[logger_name])
            files[logger_name].close()
        file_handler = files[logger_name] = _LogFile(log_file, 'w', encoding='utf-8')
        file_handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s: %(message)s'))
        logger.addHandler(file_handler)
        return logger

    return get_root_logger
