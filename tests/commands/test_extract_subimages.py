from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from manet_basicsr.data.subimages import SubimageGrid, subimage_name
from tests import shortened

SMALL = ['--crop-size', 40, '--step', 20]


@pytest.fixture(scope='module')
def extract() -> Callable[..., int]:
    return shortened.started('extract_subimages')


def write_image(path: Path, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Write an image of noise and return it."""
    path.parent.mkdir(exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cv2.imwrite(str(path), image)
    return image


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 10), st.integers(1, 300))
def test_grid_covers_each_side_but_for_the_threshold(crop_size: int, step: int, threshold: int, length: int) -> None:
    offsets = SubimageGrid(crop_size, step, threshold).offsets(length)

    if length < crop_size:
        assert offsets == []
        return
    assert offsets[0] == 0 and offsets == sorted(set(offsets))
    assert all(later - earlier <= step for earlier, later in zip(offsets, offsets[1:], strict=False))
    assert 0 <= length - (offsets[-1] + crop_size) <= threshold


def test_subimages_are_the_crops_row_by_row_under_the_published_names(
    extract: Callable[..., int], tmp_path: Path
) -> None:
    image = write_image(tmp_path / 'in/photo.png', 70, 60)

    assert extract(tmp_path / 'in', tmp_path / 'out', *SMALL) == 0

    crops = [image[top : top + 40, left : left + 40] for top in (0, 20, 30) for left in (0, 20)]
    assert [path.name for path in sorted((tmp_path / 'out').iterdir())] == [f'photo_s{i:03d}.png' for i in range(1, 7)]
    for index, crop in enumerate(crops, 1):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / f'out/photo_s{index:03d}.png')), crop)


@pytest.mark.parametrize(
    ('image_name', 'expected'),
    [('0001.png', '0001'), ('0001x4.png', '0001'), ('matrix4.png', 'matrix4'), ('a.b.jpg', 'a.b'), ('1x5.png', '1x5')],
)
def test_the_scale_of_an_lr_image_is_left_out_of_the_name(image_name: str, expected: str) -> None:
    assert subimage_name(image_name) == expected


def test_a_second_run_completes_what_is_missing_or_broken_and_touches_nothing_else(
    extract: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(3):
        write_image(tmp_path / f'in/{index}.png', 60, 60, index)
    assert extract(tmp_path / 'in', tmp_path / 'out', *SMALL) == 0
    whole = contents(tmp_path / 'out')
    untouched = (tmp_path / 'out/1_s001.png').stat().st_mtime_ns
    (tmp_path / 'out/0_s002.png').unlink()
    (tmp_path / 'out/2_s004.png').write_bytes(whole['2_s004.png'][:100])
    (tmp_path / 'out/2_s003.png').write_bytes(b'')

    assert extract(tmp_path / 'in', tmp_path / 'out', *SMALL) == 0

    assert contents(tmp_path / 'out') == whole and len(whole) == 12
    assert (tmp_path / 'out/1_s001.png').stat().st_mtime_ns == untouched
    assert '3 sub-images written, 9 were there' in capsys.readouterr().out


def test_a_second_folder_is_added_to_the_same_output(extract: Callable[..., int], tmp_path: Path) -> None:
    write_image(tmp_path / 'first/a.png', 40, 40)
    write_image(tmp_path / 'second/b.png', 40, 40)

    assert extract(tmp_path / 'first', tmp_path / 'out', *SMALL) == 0
    assert extract(tmp_path / 'second', tmp_path / 'out', *SMALL) == 0

    assert list(contents(tmp_path / 'out')) == ['a_s001.png', 'b_s001.png']


@pytest.mark.parametrize('settings', [['--crop-size', 40, '--step', 10], ['--crop-size', 30, '--step', 20]])
def test_other_settings_never_overwrite_or_mix(
    extract: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: list[str | int]
) -> None:
    write_image(tmp_path / 'in/a.png', 60, 60)
    assert extract(tmp_path / 'in', tmp_path / 'out', *SMALL) == 0
    before = contents(tmp_path / 'out')

    assert extract(tmp_path / 'in', tmp_path / 'out', *settings) == 2

    assert 'from other settings' in capsys.readouterr().err
    assert contents(tmp_path / 'out') == before


def test_subimages_left_over_from_a_larger_grid_are_noticed(extract: Callable[..., int], tmp_path: Path) -> None:
    write_image(tmp_path / 'in/a.png', 40, 60)
    assert extract(tmp_path / 'in', tmp_path / 'out', *SMALL) == 0

    assert extract(tmp_path / 'in', tmp_path / 'out', '--crop-size', 40, '--step', 40, '--threshold', 20) == 2


def test_another_image_of_the_same_name_never_overwrites(
    extract: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / 'first/a.png', 40, 40, 1)
    write_image(tmp_path / 'second/a.png', 40, 40, 2)
    assert extract(tmp_path / 'first', tmp_path / 'out', *SMALL) == 0
    before = contents(tmp_path / 'out')

    assert extract(tmp_path / 'second', tmp_path / 'out', *SMALL) == 2

    assert str(tmp_path / 'second/a.png') in capsys.readouterr().err
    assert contents(tmp_path / 'out') == before


def test_a_damaged_image_is_named_and_the_others_are_cut(
    extract: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in 'abc':
        write_image(tmp_path / f'in/{name}.png', 40, 40)
    (tmp_path / 'in/b.png').write_bytes((tmp_path / 'in/b.png').read_bytes()[:2000])

    assert extract(tmp_path / 'in', tmp_path / 'out', *SMALL) == 1

    assert 'b.png: damaged' in capsys.readouterr().err
    assert list(contents(tmp_path / 'out')) == ['a_s001.png', 'c_s001.png']


def test_a_damaged_image_ends_the_run_if_asked_to(extract: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/0.png').write_bytes(b'no image')
    for index in range(1, 30):
        write_image(tmp_path / f'in/{index:02d}.png', 40, 40)

    assert extract(tmp_path / 'in', tmp_path / 'out', *SMALL, '--workers', 1, '--on-error', 'fail') == 1

    assert len(contents(tmp_path / 'out')) < 29


def test_an_image_smaller_than_a_crop_is_reported_with_its_size(
    extract: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / 'in/small.png', 39, 100)
    write_image(tmp_path / 'in/large.png', 40, 40)

    assert extract(tmp_path / 'in', tmp_path / 'out', *SMALL) == 0

    output = capsys.readouterr()
    assert 'small.png: 100x39 px, smaller than crops of 40 px' in output.err
    assert '1 images too small' in output.out


def test_16_bit_grey_stays_as_it_is(extract: Callable[..., int], tmp_path: Path) -> None:
    (tmp_path / 'in').mkdir()
    ramp = np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40
    cv2.imwrite(str(tmp_path / 'in/deep.png'), ramp)

    assert extract(tmp_path / 'in', tmp_path / 'out', *SMALL) == 0

    np.testing.assert_array_equal(cv2.imread(str(tmp_path / 'out/deep_s001.png'), cv2.IMREAD_UNCHANGED), ramp)


@pytest.mark.parametrize(
    ('names', 'arguments', 'message'),
    [
        ([], ['missing', 'out'], 'does not exist'),
        (['in/a.png'], ['in', 'in'], 'is the input folder'),
        (['in/a.png', 'in/a.jpg'], ['in', 'out'], 'a.jpg'),
        (['in/1.png', 'in/1x4.png'], ['in', 'out'], '1x4.png'),
        (['in/a.png'], ['in', 'out', '--step', '0'], 'at least 1'),
    ],
)
def test_what_would_lose_data_is_refused_with_a_reason(
    extract: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    names: list[str],
    arguments: list[str],
    message: str,
) -> None:
    for name in names:
        write_image(tmp_path / name, 40, 40)
    folders, options = arguments[:2], arguments[2:]

    assert extract(*(tmp_path / folder for folder in folders), *SMALL, *options) == 2
    assert message in capsys.readouterr().err
