"""Chromium without a window, for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
    '--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1200,900'
).split()


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Start a browser whose profile is in a folder; skip the test where it or selenium is not installed.

    Its log (``browser``) and its requests (``performance``) are kept.
    """
    binary, server = shutil.which('chromium'), shutil.which('chromedriver')
    if binary is None or server is None:
        pytest.skip('chromium and chromium-driver are not installed')
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium, of the extra test, is not installed')
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f'--user-data-dir={profile}'):
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    driver = webdriver.Chrome(options=options, service=Service(server))
    try:
        yield driver
    finally:
        driver.quit()
