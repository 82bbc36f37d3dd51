"""The explorer in a real browser: what is shown as the pointer moves, keys are pressed and places are pinned."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from manet_basicsr.degradation import protocol_field, protocol_parameters
from manet_basicsr.explorer import CodedField, Layer, make_page
from tests.chromium import chromium

pytest.importorskip('selenium', reason='selenium, of the extra test, is not installed')

from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

WIDTH, HEIGHT, SCALE = 100, 60, 4


@pytest.fixture(scope='module')
def fields() -> dict[str, torch.Tensor]:
    """A true field, and an estimate that is wrong on the right half: there the kernels lie as in type 6."""
    true, wrong = (protocol_field(kind, HEIGHT * SCALE, WIDTH * SCALE, SCALE) for kind in (3, 6))
    return {'estimated': torch.cat([true[..., : WIDTH // 2], wrong[..., WIDTH // 2 :]], dim=3), 'true': true}


@pytest.fixture(scope='module')
def made(
    photos: Path, fields: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, CodedField]]:
    photo = cv2.imread(str(photos / 'chelsea.png'))[..., ::-1]
    lr, sr = (cv2.resize(photo, (WIDTH * size, HEIGHT * size), interpolation=cv2.INTER_AREA) for size in (1, SCALE))
    page, coded = make_page('A <cat>', [Layer('LR image', lr), Layer('restored', sr)], fields, SCALE)
    path = tmp_path_factory.mktemp('explorer') / 'cat.html'
    path.write_text(page, encoding='utf-8')
    return path, coded


@pytest.fixture(scope='module')
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp('chromium')) as driver:
        yield driver


class Explorer:
    """A loaded page, as its user has it."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def run(self, script: str) -> Any:
        return self.browser.execute_script(script)

    def point(self, x: float, y: float) -> ActionChains:
        box = self.run("const {x, y, width} = document.getElementById('picture').getBoundingClientRect();"
                       'return [x, y, width]')  # fmt: skip
        unit = box[2] / WIDTH
        actions = ActionChains(self.browser, duration=0)
        actions.w3c_actions.pointer_action.move_to_location(
            round(box[0] + (x + 0.5) * unit), round(box[1] + (y + 0.5) * unit)
        )
        return actions

    def move(self, x: float, y: float) -> None:
        self.point(x, y).perform()

    def click(self, x: float, y: float) -> None:
        self.point(x, y).click().perform()

    def press(self, *keys: str) -> None:
        ActionChains(self.browser, duration=0).send_keys(*keys).perform()

    def text(self, selector: str) -> str:
        return str(self.browser.find_element(By.CSS_SELECTOR, selector).text)

    def shown(self, selector: str = '#here') -> dict[str, str]:
        figures = self.browser.find_elements(By.CSS_SELECTOR, f'{selector} figure.kernel')
        return {figure.get_attribute('data-field'): figure.text for figure in figures}

    def kernel(self, name: str, selector: str = '#here') -> np.ndarray:
        """The brightness of the kernel whose trail is drawn, (k, k)."""
        pixels = self.run(
            f"""const canvas = document.querySelector('{selector} figure[data-field="{name}"] canvas');
            return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];"""
        )
        return np.array(pixels).reshape(21, 21, 4)[::-1, ::-1, :3].sum(2)

    def overlay(self) -> np.ndarray:
        """The overlay's pixels, RGBA."""
        address = self.run("return document.getElementById('overlay').toDataURL('image/png')")
        content = np.frombuffer(base64.b64decode(address.partition(',')[2]), np.uint8)
        return np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]])


@pytest.fixture
def explorer(browser: Any, made: tuple[Path, dict[str, CodedField]]) -> Explorer:
    return opened(browser, made[0])


def opened(browser: Any, path: Path) -> Explorer:
    """The page, once it has drawn itself."""
    browser.get(path.as_uri())
    page = Explorer(browser)
    browser.set_script_timeout(20)
    browser.execute_async_script(
        """const done = arguments[0];
        const look = () => document.body.dataset.ready ? done() : setTimeout(look, 20);
        look();"""
    )
    return page


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r'\d+(?:\.\d+)?', text)]


@pytest.mark.parametrize('place', [(0, 0), (30, 25), (99, 59), (70, 12)])
def test_the_kernel_under_the_pointer_is_drawn_and_told(
    explorer: Explorer, fields: dict[str, torch.Tensor], place: tuple[int, int]
) -> None:
    explorer.move(*place)
    assert explorer.text('#here .where') == f'x {place[0]}, y {place[1]}'
    for name, field in fields.items():
        kernel = field[0, :, place[1], place[0]].view(21, 21).numpy()
        drawn = explorer.kernel(name)
        # Brightness rises with the weight: the places of the heaviest taps are the brightest ones.
        heaviest = np.argsort(kernel.ravel())[-20:]
        assert drawn.ravel()[heaviest].min() > 2 * np.median(drawn)
        assert np.corrcoef(drawn.ravel(), np.sqrt(kernel).ravel())[0, 1] > 0.9
    first, second, angle = protocol_parameters(3, HEIGHT * SCALE, WIDTH * SCALE, SCALE)[
        place[1] * SCALE // 40, place[0] * SCALE // 40
    ].tolist()
    told = numbers(explorer.shown()['true'])
    # 21 taps cut the tails of the longest axis.
    assert told[:2] == pytest.approx([math.sqrt(first), math.sqrt(second)], abs=0.08)
    assert told[2] == pytest.approx(math.degrees(angle), abs=2)


def test_the_difference_of_estimated_and_true_is_told(explorer: Explorer, fields: dict[str, torch.Tensor]) -> None:
    explorer.move(20, 20)
    assert numbers(explorer.text('#here .difference'))[0] < 1
    explorer.move(80, 20)
    apart = 50 * (fields['estimated'] - fields['true'])[0, :, 20, 80].abs().sum().item()
    assert numbers(explorer.text('#here .difference'))[0] == pytest.approx(apart, abs=1)
    assert apart > 20


def test_places_are_pinned_by_click_and_key_and_unpinned(explorer: Explorer) -> None:
    explorer.click(10, 10)
    explorer.move(80, 40)
    explorer.press(Keys.ENTER)
    explorer.move(0, 0)
    assert re.findall(r'x \d+, y \d+', explorer.text('#pins')) == ['x 10, y 10', 'x 80, y 40']
    assert explorer.shown('#pins li:nth-child(2)').keys() == {'estimated', 'true'}
    pinned = explorer.kernel('true', '#pins li:nth-child(2)')
    explorer.move(80, 40)
    assert np.array_equal(explorer.kernel('true'), pinned)
    explorer.browser.find_element(By.CSS_SELECTOR, '#pins li:first-child button').click()
    assert re.findall(r'x \d+, y \d+', explorer.text('#pins')) == ['x 80, y 40']
    explorer.press(Keys.BACKSPACE)
    assert explorer.text('#pins') == '' and 'Click into the image' in explorer.text('#no-pins')


def test_arrow_keys_move_and_stop_at_the_border(explorer: Explorer) -> None:
    assert explorer.text('#here .where') == 'x 50, y 30'
    explorer.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert explorer.text('#here .where') == 'x 51, y 32'
    ActionChains(explorer.browser).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT * 7).key_up(Keys.SHIFT).perform()
    assert explorer.text('#here .where') == 'x 0, y 32'


def test_overlays_are_drawn_with_their_legends(explorer: Explorer) -> None:
    assert not explorer.overlay().any()
    seen = {}
    for name, legend in (
        ('kernels', 'kernels at the places'),
        ('ellipses', 'axes of the Gaussians'),
        ('strength', 'blur (standard deviation)'),
        ('direction', 'direction of the longer axis'),
    ):
        explorer.press('o')
        chosen = explorer.browser.find_elements(By.CSS_SELECTOR, '#overlays [aria-pressed=true]')
        assert [button.text for button in chosen] == [name]
        assert legend in explorer.text('#legend')
        seen[name] = explorer.overlay()
        assert seen[name][..., 3].any()
    # The true kernels of type 3 have one direction a row of blocks; the estimate differs on the right.
    left, right = (seen['direction'][20, round(share * seen['direction'].shape[1])] for share in (0.25, 0.95))
    assert np.abs(left.astype(int) - right).max() > 40
    explorer.press('f')
    assert explorer.text('#legend').startswith('true:')
    true = explorer.overlay()
    assert np.abs(true[20, true.shape[1] // 4].astype(int) - true[20, -20]).max() <= 3
    explorer.press('o')
    assert not explorer.overlay().any()


def written(folder: Path, width: int, height: int, **fields: torch.Tensor) -> Path:
    """A page of a grey image of so many LR pixels, with the fields or with some field."""
    fields = fields or {'estimated': protocol_field(3, height * SCALE, width * SCALE, SCALE)}
    page, _ = make_page('grey', [Layer('LR image', np.full((height, width, 3), 0.5))], fields, SCALE)
    (folder / 'grey.html').write_text(page, encoding='utf-8')
    return folder / 'grey.html'


@pytest.fixture
def narrow(browser: Any) -> Iterator[Any]:
    """The browser with a window of 500 px width."""
    browser.set_window_size(500, 800)
    yield browser
    browser.set_window_size(1200, 900)


@pytest.mark.parametrize(('width', 'height'), [(107, 61), (30, 22), (23, 70), (5, 3), (1, 1)])
def test_the_grid_of_kernels_covers_the_image_to_its_edges(
    browser: Any, tmp_path: Path, width: int, height: int
) -> None:
    page = opened(browser, written(tmp_path, width, height))
    page.press('o')
    drawn = page.overlay()
    cells = drawn[..., 3] == 255  # opaque, on a background that is not
    assert cells.any()
    rows, columns = np.flatnonzero(cells.any(1)), np.flatnonzero(cells.any(0))
    for inside, length in ((rows, drawn.shape[0]), (columns, drawn.shape[1])):
        gaps = np.diff(inside, prepend=-1, append=length) - 1
        # A cell at the edge leaves half of what is between two.
        assert gaps[[0, -1]].max() <= gaps[1:-1].max(initial=0.15 * length) / 2 + 2
        assert abs(gaps[0] - gaps[-1]) <= 2


@pytest.mark.parametrize(('width', 'height'), [(30, 22), (107, 61), (24, 70)])
def test_a_narrow_window_is_filled_and_nothing_of_the_image_is_out_of_sight(
    narrow: Any, tmp_path: Path, width: int, height: int
) -> None:
    page = opened(narrow, written(tmp_path, width, height))
    look = """const [stage, view] = ['stage', 'view'].map((id) => document.getElementById(id));
    const style = getComputedStyle(stage);
    return [stage.clientWidth, stage.scrollWidth, stage.clientHeight, stage.scrollHeight,
            view.clientWidth - 28, parseFloat(style.maxHeight), document.documentElement.scrollWidth];"""
    shown, whole, shown_height, whole_height, room, highest, page_width = page.run(look)
    assert (whole, whole_height) == (shown, shown_height)
    assert shown >= room - 2 or shown_height >= highest - height  # as wide or as high as it can be
    assert room > 430 and page_width <= 500


def test_a_flat_kernel_beside_a_sharp_one_is_seen_and_the_scale_is_told(browser: Any, tmp_path: Path) -> None:
    sharp = torch.zeros(1, 441, 1, 1)
    sharp[0, 220] = 1
    page = opened(browser, written(tmp_path, 20, 10, estimated=torch.full((1, 441, 1, 1), 1 / 441), true=sharp))
    assert page.kernel('estimated').min() == page.kernel('true').max() > 600
    assert 'peak 0.227 % of the weight' in page.shown()['estimated']
    assert 'peak 100 % of the weight' in page.shown()['true']
    assert page.text('#here .scale') == 'Brightness: each brightest at its own peak.'
    page.press('o')
    assert 'each brightest at its own peak' in page.text('#legend')
    page.press('s')
    assert page.kernel('estimated').max() < 20
    assert page.text('#here .scale') == 'Brightness: all brightest at 100 % of the weight.'
    assert 'all brightest at 100 % of the weight' in page.text('#legend')


def test_the_image_zoom_scale_and_theme_can_be_changed(explorer: Explorer) -> None:
    picture = "return document.getElementById('picture').toDataURL()"
    first = explorer.run(picture)
    explorer.press('i')
    assert explorer.run(picture) != first
    assert explorer.text('#images [aria-pressed=true]') == 'restored'
    width = explorer.run("return document.getElementById('picture').clientWidth")
    explorer.press('+')
    assert explorer.run("return document.getElementById('picture').clientWidth") == pytest.approx(1.5 * width, abs=2)
    explorer.move(52, 31)
    assert explorer.text('#here .where') == 'x 52, y 31'
    explorer.press('0')
    explorer.move(40, 20)
    own = explorer.kernel('true')
    explorer.press('s')
    assert explorer.browser.find_element(By.ID, 'common').is_selected()
    assert explorer.kernel('true').max() <= own.max()
    back = 'return getComputedStyle(document.body).backgroundColor'
    light = explorer.run(back)
    explorer.press('t')
    dark = explorer.run(back)
    assert sum(numbers(light)) > 600 > 150 > sum(numbers(dark))
    explorer.press('?')
    assert 'move' in explorer.text('#keys')


def test_the_page_says_its_error_and_logs_none(explorer: Explorer, made: tuple[Path, dict[str, CodedField]]) -> None:
    assert explorer.text('#title') == 'A <cat>'
    for name, coded in made[1].items():
        assert f'{name} kernels as shown here: {len(coded.basis)} components' in explorer.text('#errors')
    assert [entry for entry in explorer.browser.get_log('browser') if entry['level'] == 'SEVERE'] == []
