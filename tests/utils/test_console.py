from __future__ import annotations

import io
import logging
import sys

import pytest

from manet_basicsr.utils.console import is_open, printable, say
from manet_basicsr.utils.progress import percent_bar, progress_bar, with_progress


def test_a_line_is_printed_with_escapes_for_what_the_stream_cannot_encode(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(written, encoding='ascii'))
    say('größe \udce9')
    assert written.getvalue() == b'gr\\xf6\\xdfe \\udce9\n'
    assert printable('größe', None) == 'größe'


@pytest.mark.parametrize('error', [False, True])
def test_a_stream_that_is_gone_stops_nothing(error: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    name = 'stderr' if error else 'stdout'
    full = io.TextIOWrapper(io.FileIO('/dev/full', 'w'))
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, full):
        monkeypatch.setattr(sys, name, stream)
        say('lost', error=error)
        say('lost, too', error=error)
    full.flush()  # as the interpreter does at its end
    assert not is_open(None) and not is_open(closed) and is_open(full)


def test_progress_is_a_bar_on_a_terminal_and_silent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream in (Terminal(), io.StringIO(), None):
        monkeypatch.setattr(sys, 'stderr', stream)
        assert list(with_progress(iter('abc'), 3)) == ['a', 'b', 'c']
        with progress_bar(2) as step:
            step()
        with percent_bar('shares') as tick:
            for done in range(1, 8):
                tick(done, 7)
        with percent_bar(None) as tick:
            tick(1, 1)
        if stream is not None:
            assert ('image' in stream.getvalue()) == stream.isatty()
            assert ('shares' in stream.getvalue()) == stream.isatty()


def test_a_log_on_a_stream_that_is_closed_makes_no_tracebacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from basicsr.utils import get_root_logger

    logger = get_root_logger('of_a_test')
    (handler,) = [handler for handler in logger.handlers if isinstance(handler, logging.StreamHandler)]
    closed = io.StringIO()
    closed.close()
    handler.setStream(closed)
    logger.warning('nobody reads this')
    handler.setStream(sys.stderr)
    get_root_logger('of_a_test').warning('this is read')
    said = capsys.readouterr().err
    assert 'Traceback' not in said and said.count('this is read') == 1
