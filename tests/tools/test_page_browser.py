"""The page that restores, in a real browser: what it makes is what the package makes, and nothing leaves it."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import re
import runpy
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from manet_basicsr import restore
from manet_basicsr.data.alpha import flatten_on_white
from tests.chromium import chromium
from tests.shortened import ROOT
from tests.small_networks import blind_network, blind_weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SCALE = 2  # of the small network
TOOL = runpy.run_path(str(ROOT / 'tools/build_page.py'))


@pytest.fixture(scope='module')
def runtime() -> dict[str, bytes]:
    for name in ('onnx', 'onnxruntime', 'onnxscript'):
        pytest.importorskip(name, reason='the extra onnx is not installed')
    try:
        return dict(TOOL['fetch_runtime']())
    except ValueError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module')
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp('chromium')) as driver:
        driver.set_script_timeout(120)
        yield driver


@pytest.fixture(scope='module')
def site(runtime: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with a small network, which is quick."""
    folder = tmp_path_factory.mktemp('site')
    TOOL['build'](folder / 'try', runtime, str(blind_weights(folder, SCALE)))
    return folder / 'try'


@pytest.fixture(scope='module')
def photo(photos: Path) -> np.ndarray:
    """A small photograph, (44, 60, 3), RGB."""
    return np.ascontiguousarray(cv2.imread(str(photos / 'chelsea.png'))[40:84, 50:110, ::-1])


class Page:
    """A loaded page, as its user has it."""

    def __init__(self, browser: Any, address: str) -> None:
        self.browser = browser
        for log in ('browser', 'performance'):
            browser.get_log(log)  # what others left
        browser.get(address)
        self.wait("document.body.dataset.ready === 'true'")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(script, *arguments)

    def wait(self, condition: str, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not self.run(f'return Boolean({condition})'):
            assert time.monotonic() < end, f'{condition} does not become true: {self.text("work")} {self.trouble}'
            time.sleep(0.02)

    def text(self, name: str) -> str:
        return str(self.run('return document.getElementById(arguments[0]).innerText', name))

    @property
    def trouble(self) -> str:
        return self.text('trouble')

    @property
    def state(self) -> str:
        return str(self.run('return document.body.dataset.state'))

    def choose(self, path: Path) -> None:
        self.browser.find_element('id', 'file').send_keys(str(path))

    def restored(self, path: Path) -> np.ndarray:
        self.choose(path)
        taken = f'state.file?.name === {json.dumps(path.name)}'
        self.wait(f"{taken} && document.body.dataset.state === 'done' || !document.getElementById('trouble').hidden")
        return self.result()

    def result(self) -> np.ndarray:
        """The file that is offered, (H, W, 3), RGB."""
        assert self.trouble == ''
        text = self.browser.execute_async_script(
            """const done = arguments[0], canvas = document.createElement('canvas'), image = new Image();
            image.src = document.getElementById('download').href;
            image.decode().then(() => {
              canvas.width = image.naturalWidth;
              canvas.height = image.naturalHeight;
              canvas.getContext('2d').drawImage(image, 0, 0);
              done(canvas.toDataURL());
            });"""
        )
        content = np.frombuffer(base64.b64decode(text.partition(',')[2]), np.uint8)
        return np.ascontiguousarray(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1])

    def asked_for(self) -> set[str]:
        """The schemes and hosts of what was asked for since the page was loaded, but for what it has made itself."""
        messages = (json.loads(entry['message'])['message'] for entry in self.browser.get_log('performance'))
        sent = (message for message in messages if message['method'] == 'Network.requestWillBeSent')
        addresses = (str(message['params']['request']['url']) for message in sent)
        return {
            re.sub(r'^(\w+://[^/]*).*', r'\1', address)
            for address in addresses
            if not address.startswith(('blob:', 'data:'))
        }


@pytest.fixture
def opened(browser: Any, site: Path) -> Callable[..., Page]:
    """Open the page from the disk."""
    return lambda query='': Page(browser, f'{(site / "index.html").as_uri()}{query}')


def written(folder: Path, pixels: np.ndarray, name: str = 'photo.png') -> Path:
    stored = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    cv2.imwrite(str(folder / name), stored)
    return folder / name


def apart(found: np.ndarray, expected: Any) -> int:
    assert found.shape == expected.shape
    return int(np.abs(found.astype(int) - expected.astype(int)).max())


def test_with_the_shipped_weights_it_makes_what_the_package_makes(
    browser: Any, runtime: dict[str, bytes], photos: Path, tmp_path: Path
) -> None:
    TOOL['build'](tmp_path / 'try', runtime)
    small = cv2.resize(cv2.imread(str(photos / 'astronaut.png')), (64, 64), interpolation=cv2.INTER_AREA)[..., ::-1]
    page = Page(browser, (tmp_path / 'try/index.html').as_uri())
    found = page.restored(written(tmp_path, small))
    # Sums in another order, where a value is close to a half.
    assert apart(found, restore(np.ascontiguousarray(small), precision='float32').image) <= 1
    assert page.run("return document.getElementById('download').download") == 'photo_x4.png'
    assert page.asked_for() == {'file://'}


@pytest.mark.parametrize('tile', [0, 24])
def test_tiles_are_those_of_the_package_and_leave_no_seams(
    opened: Callable[..., Page], photo: np.ndarray, tmp_path: Path, tile: int
) -> None:
    page = opened(f'?tile={tile}')
    found = page.restored(written(tmp_path, photo))
    # This network does not reach farther than tiles overlap: the image is that of one pass.
    expected = restore(photo, blind_network(SCALE), precision='float32')
    assert apart(found, expected.image) <= 1
    kernels = np.array(page.run('return [...state.field.kernels]')).reshape(44, 60, 441)
    assert np.abs(kernels - expected.field[0].permute(1, 2, 0).numpy()).max() < 1e-5
    assert 'restored in' in page.text('status').lower() and '120 × 88 px' in page.text('status')


def test_grey_stays_grey_and_what_is_transparent_is_laid_on_white(
    opened: Callable[..., Page], photo: np.ndarray, tmp_path: Path
) -> None:
    page = opened()
    found = page.restored(written(tmp_path, photo[..., 0], 'grey.png'))
    assert (found == found[..., :1]).all()
    assert apart(found[..., 0], restore(photo[..., 0], blind_network(SCALE), precision='float32').image) <= 1
    assert 'stays grey' in page.text('notes')
    alpha = np.full(photo.shape[:2], 255, np.uint8)
    alpha[10:30, 20:40], alpha[35:] = 0, 128
    seen = np.dstack([photo, alpha])
    found = page.restored(written(tmp_path, seen, 'seen.png'))
    # The browser may round a mixture with white the other way, and the network makes more of it.
    expected = restore(flatten_on_white(seen), blind_network(SCALE), precision='float32').image
    assert apart(found, expected) <= 2
    assert 'laid on white' in page.text('notes')


def test_it_is_cancelled_at_once_and_can_be_begun_again(
    opened: Callable[..., Page], photo: np.ndarray, tmp_path: Path
) -> None:
    page = opened('?tile=4')
    page.choose(written(tmp_path, photo))
    page.wait('state.share > 0')
    page.run("document.getElementById('cancel').click()")
    assert page.state == 'waiting' and page.text('status') == 'Cancelled.'
    page.wait('worker === null', 1)
    page.run("document.getElementById('go').click()")
    page.wait('state.share > 0')
    page.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
    assert page.state == 'waiting' and page.trouble == ''
    found = opened().restored(tmp_path / 'photo.png')
    assert apart(found, restore(photo, blind_network(SCALE), precision='float32').image) <= 1


def test_what_is_no_image_is_said_in_a_line(opened: Callable[..., Page], photo: np.ndarray, tmp_path: Path) -> None:
    page = opened()
    (tmp_path / 'notes.txt').write_text('no image')
    (tmp_path / 'cut.png').write_bytes(written(tmp_path, photo).read_bytes()[:40])
    for name in ('notes.txt', 'cut.png'):
        page.choose(tmp_path / name)
        page.wait("!document.getElementById('trouble').hidden")
        assert page.trouble.startswith(f'{name} is no image that this browser reads') and '\n' not in page.trouble
        assert page.state == 'empty'
    page.restored(tmp_path / 'photo.png')
    assert page.trouble == ''


def test_without_a_graphics_card_the_processor_takes_over(
    opened: Callable[..., Page], photo: np.ndarray, tmp_path: Path
) -> None:
    page = opened('?device=webgpu')
    assert page.restored(written(tmp_path, photo)).shape == (88, 120, 3)
    assert page.text('engine') == 'Computes on the processor, 1 thread.'


@pytest.mark.parametrize('event', ['paste', 'drop'])
def test_photographs_are_pasted_and_dropped(
    opened: Callable[..., Page], photo: np.ndarray, tmp_path: Path, event: str
) -> None:
    page = opened()
    content = base64.b64encode(written(tmp_path, photo).read_bytes()).decode()
    page.run(
        """const [event, content] = arguments, carried = new DataTransfer();
        const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
        carried.items.add(new File([bytes], 'one.png', {type: 'image/png'}));
        document.body.dispatchEvent(event === 'drop'
          ? new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true})
          : new ClipboardEvent('paste', {clipboardData: carried, bubbles: true, cancelable: true}));""",
        event,
        content,
    )
    page.wait("document.body.dataset.state === 'done'")
    assert page.text('name') == 'one.png: 60 × 44 px'
    assert page.result().shape == (88, 120, 3)


def test_a_long_one_is_begun_only_when_asked_and_a_part_of_it_offered(
    opened: Callable[..., Page], photo: np.ndarray, tmp_path: Path
) -> None:
    page = opened()
    large = cv2.resize(photo, (6000, 4400))
    page.choose(written(tmp_path, large))
    page.wait("document.body.dataset.state === 'waiting'")
    assert re.match(
        r'Takes about .* on this machine; the result has 12000 × 8800 px, 106 megapixels', page.text('status')
    )
    assert page.run('return document.activeElement.id') == 'frame'
    assert page.trouble == '' and not page.run("return document.getElementById('tiles').getContext('2d')"
                                               ".getImageData(0, 0, 9, 9).data.some(Boolean)")  # fmt: skip
    left, top, width, height = page.run('return state.frame')
    assert abs(2 * left + width - 6000) <= 1 and abs(2 * top + height - 4400) <= 1 and width < 3000
    told = page.text('size-told')
    page.browser.find_element('id', 'size').send_keys('\ue013' * 3)  # arrow up
    assert page.run('return state.frame[2]') > width and page.text('size-told') != told
    page.run('state.frame = [0, 0, 40, 30]; moveFrame(2000, 9000)')
    page.browser.find_element('id', 'frame').send_keys('\ue014')  # arrow to the right
    page.run("document.getElementById('part').click()")
    page.wait("state.file.name === 'photo_part.png' && document.body.dataset.state === 'done'")
    expected = restore(np.ascontiguousarray(large[4370:, 2005:2045]), blind_network(SCALE), precision='float32')
    assert apart(page.result(), expected.image) <= 1


def test_before_and_after_and_kernels_are_looked_at(
    opened: Callable[..., Page], photo: np.ndarray, tmp_path: Path
) -> None:
    page = opened()
    page.restored(written(tmp_path, photo))
    clip = "return getComputedStyle(document.getElementById('after')).clipPath"
    first = page.run(clip)
    page.browser.find_element('id', 'split').send_keys('\ue014' * 8)  # arrow to the right
    assert page.run(clip) != first
    for name, legend in (('kernels', 'point of light'), ('ellipses', 'axes of the Gaussians'), ('strength', 'px')):
        button = next(b for b in page.browser.find_elements('css selector', '#overlays button') if b.text == name)
        button.click()
        assert button.get_attribute('aria-pressed') == 'true' and legend in page.text('legend')
        drawn = """const overlay = document.getElementById('overlay'), context = overlay.getContext('2d');
            return context.getImageData(0, 0, overlay.width, overlay.height).data.some(Boolean);"""
        assert page.run(drawn)
        assert re.match(r'at x 30, y 22: blur \d', page.text('here'))
    logged = [entry for entry in page.browser.get_log('browser') if entry['level'] == 'SEVERE']
    assert logged == []


def test_a_server_is_asked_for_the_pages_files_alone_and_threads_are_had_without_its_help(
    browser: Any, site: Path, photo: np.ndarray, tmp_path: Path
) -> None:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        host = f'http://127.0.0.1:{server.server_address[1]}'
        page = Page(browser, f'{host}/index.html')
        page.wait("self.crossOriginIsolated && document.body.dataset.ready === 'true'")
        found = page.restored(written(tmp_path, photo))
        assert apart(found, restore(photo, blind_network(SCALE), precision='float32').image) <= 1
        cores = min(8, page.run('return navigator.hardwareConcurrency'))
        assert f'the processor, {cores} thread' in page.text('engine')
        assert page.asked_for() == {host}
        # Not even if the page wanted: its policy lets nothing out.
        attempt = "const done = arguments[1]; fetch(arguments[0]).then(() => done('sent'), () => done('refused'))"
        assert page.browser.execute_async_script(attempt, f'{host}/index.html') == 'refused'
    finally:
        server.shutdown()
