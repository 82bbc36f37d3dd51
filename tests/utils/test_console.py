from __future__ import annotations

import io
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable

import pytest
from tqdm import tqdm

from manet_basicsr.utils.console import is_open, is_terminal, printable, say
from manet_basicsr.utils.progress import percent_bar, progress_bar, with_progress
from tests.forked import killed_at_the_end


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


def test_a_bar_that_nobody_sees_waits_for_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = multiprocessing.get_context('fork').RLock()
    monkeypatch.setattr(tqdm, '_lock', lock, raising=False)

    def lock_and_die(ready: Callable[[], None]) -> None:
        lock.acquire()
        ready()
        time.sleep(60)

    with killed_at_the_end(lock_and_die):
        pass
    assert list(with_progress(iter('abc'), 3)) == ['a', 'b', 'c']
    assert list(with_progress(iter('abc'), 3, shown=False)) == ['a', 'b', 'c']


def test_a_bar_is_drawn_where_it_is_asked_for_on_any_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', stream)
    assert list(with_progress(iter('abc'), 3, label='Test Set5', shown=True)) == ['a', 'b', 'c']
    assert 'Test Set5' in stream.getvalue()
    monkeypatch.setattr(sys, 'stderr', None)
    assert list(with_progress(iter('abc'), 3, shown=True)) == ['a', 'b', 'c']


def test_a_stream_that_says_nothing_of_terminals_is_none() -> None:
    class Stream:
        closed = False

    assert not is_terminal(Stream())  # type: ignore[arg-type]
    assert not is_terminal(None)


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
