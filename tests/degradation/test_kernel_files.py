"""Kernels as others store them: every layout is recognised, or refused in one line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from scipy.io import savemat

from manet_basicsr.degradation.kernel_files import kernel_files, read_kernel_file, read_kernel_grid


def kernels(number: int, rows: int, columns: int) -> np.ndarray:
    """Kernels of no symmetry, each summing to 1."""
    taps = np.random.default_rng(rows).random((number, rows, columns))
    return np.asarray(taps / taps.sum((1, 2), keepdims=True))


def read(path: Path) -> list[np.ndarray]:
    return list(read_kernel_file(path)[0].values())


def assert_same(found: list[np.ndarray], expected: Any) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def cells(arrays: Any, shape: tuple[int, ...] = (-1,)) -> np.ndarray:
    """An array of objects, which MATLAB calls a cell array."""
    array = np.empty(len(arrays), dtype=object)
    for place, one in enumerate(arrays):
        array[place] = one
    return array.reshape(shape)


SQUARE, WIDE = kernels(4, 15, 15), kernels(5, 7, 9)
COLOURED = kernels(3, 9, 9)
LENS = kernels(2 * 4 * 3, 9, 9).reshape(2, 4, 3, 9, 9).transpose(0, 1, 3, 4, 2)
LAYOUTS = {
    'one': (WIDE[0], WIDE[:1]),
    'kernels first': (SQUARE, SQUARE),
    'kernels last': (SQUARE.transpose(1, 2, 0), SQUARE),
    'as many kernels as taps': (kernels(15, 15, 15), kernels(15, 15, 15)),
    'as many kernels as taps, last': (kernels(15, 15, 15).transpose(1, 2, 0), kernels(15, 15, 15)),
    'not square': (WIDE, WIDE),
    'not square, last': (WIDE.transpose(1, 2, 0), WIDE),
    'not normalised': (SQUARE * [[[2]], [[3]], [[1]], [[5]]], SQUARE),
    'a batch of one channel': (SQUARE[:, None], SQUARE),
    'a grid with colours': (LENS, LENS.transpose(0, 1, 4, 2, 3).reshape(-1, 9, 9)),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_which_axes_are_taps_follows_from_the_numbers(layout: str, tmp_path: Path) -> None:
    array, expected = LAYOUTS[layout]
    np.save(tmp_path / 'kernels.npy', array)
    assert_same(read(tmp_path / 'kernels.npy'), expected)
    savemat(tmp_path / 'kernels.mat', {'kernels': array, 'sigma': 2.0, 'name': 'lens', 'sizes': [[15, 15, 15]]})
    assert_same(read(tmp_path / 'kernels.mat'), expected)


def test_a_layout_that_cannot_be_told_is_one_line(tmp_path: Path) -> None:
    np.save(tmp_path / 'kernels.npy', np.random.default_rng(0).random((5, 7, 9)))
    with pytest.raises(ValueError, match=r'kernels\.npy: found shape \(5, 7, 9\), and cannot tell which axes are taps'):
        read(tmp_path / 'kernels.npy')


def test_npz_files_and_matlab_structs_hold_kernels_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / 'kernels.npz', first=SQUARE[0], gain=3.0, second=WIDE)
    found, _ = read_kernel_file(tmp_path / 'kernels.npz')
    assert [Path(name).name for name in found][:2] == ['kernels.npz first', 'kernels.npz second[0]']
    assert_same(list(found.values()), [SQUARE[0], *WIDE])
    savemat(tmp_path / 'lens.mat', {'lens': {'psf': SQUARE[1], 'focal': 50.0}})
    assert_same(read(tmp_path / 'lens.mat'), SQUARE[1:2])


def test_a_line_of_taps_is_a_kernel_where_it_sums_to_one(tmp_path: Path) -> None:
    savemat(tmp_path / 'motion.mat', {'motion': np.full((1, 9), 1 / 9), 'sigmas': np.arange(4.0)})
    assert_same(read(tmp_path / 'motion.mat'), [np.full((1, 9), 1 / 9)])


def test_a_line_of_pixels_is_a_kernel(tmp_path: Path) -> None:
    for size in ((1, 15), (15, 1)):
        cv2.imwrite(str(tmp_path / 'motion.png'), np.full(size, 200, np.uint8))
        assert_same(read(tmp_path / 'motion.png'), [np.full(size, 1 / 15)])


def test_arrays_of_objects_are_read_without_running_what_a_pickle_says(tmp_path: Path) -> None:
    parts = [SQUARE[0], WIDE[1], WIDE[2].astype(np.float32)]
    np.save(tmp_path / 'levin.npy', cells(parts, (1, 3)), allow_pickle=True)
    assert_same(read(tmp_path / 'levin.npy'), parts)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / 'made'),)

    np.save(tmp_path / 'evil.npy', cells([Evil(), SQUARE[0]]), allow_pickle=True)
    with pytest.raises(ValueError, match=r'evil\.npy cannot be read: it holds objects of (posix|nt)\.mkdir'):
        read(tmp_path / 'evil.npy')
    assert not (tmp_path / 'made').exists()


def write_mat73(path: Path) -> None:
    """What MATLAB's ``save('-v7.3')`` writes of a cell array, a matrix, a struct and a scalar."""
    h5py = pytest.importorskip('h5py')
    with h5py.File(path, 'w', userblock_size=512) as file:
        parts = [file.create_dataset(f'#refs#/{name}', data=part.T) for name, part in zip('ab', WIDE, strict=False)]
        file.create_dataset('kernels', data=[[part.ref] for part in parts], dtype=h5py.ref_dtype)
        file.create_dataset('single', data=SQUARE[0].T)
        file.create_dataset('lens/psf', data=SQUARE[1].T)
        file.create_dataset('sigma', data=[[2.0]])
    with path.open('r+b') as file:
        file.write(b'MATLAB 7.3 MAT-file, Platform: GLNXA64'.ljust(124) + b'\x00\x02IM')


def test_matlab_73_files_are_read_with_h5py_and_refused_with_a_hint_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mat73(tmp_path / 'new.mat')
    found, _ = read_kernel_file(tmp_path / 'new.mat')
    assert [name.removeprefix(f'{tmp_path}/new.mat ') for name in found] == [
        'kernels[0]',
        'kernels[1]',
        'lens.psf',
        'single',
    ]
    assert_same(list(found.values()), [WIDE[0], WIDE[1], SQUARE[1], SQUARE[0]])
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(ValueError, match=r'new\.mat cannot be read: MATLAB v7\.3 needs the package h5py'):
        read(tmp_path / 'new.mat')


@pytest.mark.parametrize('suffix', ['png', 'bmp', 'tif'])
def test_images_are_kernels_grey_or_one_a_colour(suffix: str, tmp_path: Path) -> None:
    levels = (COLOURED / COLOURED.max() * 255).round().astype(np.uint8)
    cv2.imwrite(str(tmp_path / f'grey.{suffix}'), cv2.cvtColor(levels[0], cv2.COLOR_GRAY2BGR))
    cv2.imwrite(str(tmp_path / f'colour.{suffix}'), levels[::-1].transpose(1, 2, 0))  # OpenCV writes blue first
    assert_same(read(tmp_path / f'grey.{suffix}'), levels[:1] / levels[0].sum())
    assert_same(read(tmp_path / f'colour.{suffix}'), levels / levels.sum((1, 2), keepdims=True))


def test_coloured_images_need_not_be_square(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(1, 255, (3, 9, 15)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'wide.png'), levels[::-1].transpose(1, 2, 0))
    assert_same(read(tmp_path / 'wide.png'), levels / levels.sum((1, 2), keepdims=True))


def test_tif_files_have_any_depth_and_any_number_of_pages(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / 'pages.tif', WIDE.astype(np.float32), photometric='minisblack')
    assert_same(read(tmp_path / 'pages.tif'), WIDE)


def test_slightly_negative_taps_are_cut_with_a_word_and_rounding_without(tmp_path: Path) -> None:
    for lowest, words in ((-0.0005, 0), (-0.015, 1)):
        taps = np.outer([0, 1, 0], [0.5, 1, 0.5])
        taps[0, 0] = lowest
        np.save(tmp_path / 'k.npy', taps)
        (found,), remarks = read_kernel_file(tmp_path / 'k.npy')[0].values(), read_kernel_file(tmp_path / 'k.npy')[1]
        assert found.min() == 0 and found.sum() == pytest.approx(1)
        assert len(remarks) == words
    assert 'k.npy: negative taps down to -1.5% of the largest one are set to 0' in remarks[0]
    taps[0, 0] = -0.03
    np.save(tmp_path / 'k.npy', taps)
    with pytest.raises(ValueError, match=r'k\.npy: found taps down to -3\.0% of the largest one'):
        read(tmp_path / 'k.npy')


def test_subfolders_count_and_what_is_hidden_does_not(tmp_path: Path) -> None:
    for name in ('b.npy', 'a/k.npy', '.hidden/k.npy', 'a/.k.npy', 'a/readme.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, SQUARE[0]) if name.endswith('npy') else (tmp_path / name).write_text('x')
    assert [str(file.relative_to(tmp_path)) for file in kernel_files(str(tmp_path))] == ['a/k.npy', 'b.npy']


def test_linked_folders_count_and_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    for folder in ('bank/own', 'elsewhere'):
        (tmp_path / folder).mkdir(parents=True)
        np.save(tmp_path / folder / 'k.npy', SQUARE[0])
    (tmp_path / 'bank/linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere/back').symlink_to(tmp_path / 'bank')
    (tmp_path / 'bank/lost').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'bank/again').symlink_to('own')  # what lies below anyway is listed once
    (tmp_path / 'bank/self').symlink_to('self')
    found = [str(file.relative_to(tmp_path / 'bank')) for file in kernel_files(str(tmp_path / 'bank'))]
    assert found == ['linked/k.npy', 'own/k.npy']


def test_a_grid_has_its_places_in_front_and_the_mean_of_colours(tmp_path: Path) -> None:
    np.save(tmp_path / 'lens.npy', LENS)
    np.testing.assert_allclose(read_kernel_grid(tmp_path / 'lens.npy'), LENS.mean(-1))
    np.savez(tmp_path / 'two.npz', a=SQUARE, b=SQUARE)
    with pytest.raises(ValueError, match=r'two\.npz: found 2 arrays \(.* a, .* b\), expected one'):
        read_kernel_grid(tmp_path / 'two.npz')


def test_what_others_measured_is_read(shared: Path) -> None:
    pytest.importorskip('h5py')
    folder = shared / 'data/kernels'
    assert_same(
        read(folder / 'kair/Levin09.mat'), [np.load(file) for file in sorted((folder / 'levin09_npy').iterdir())]
    )
    for name, number in {'kair/kernels_12.mat': 12, 'fkp/102061.mat': 1, 'krishnan/kernels.mat': 2}.items():
        assert len(read(folder / name)) == number
    assert read_kernel_grid(folder / 'lens_oil/63762BB_rgb_9x12x25x25x3_f16.npy').shape == (9, 12, 25, 25)


# A wide kernel of another sum is left out here: nothing would tell the axes of taps.
@pytest.mark.parametrize(
    ('form', 'bad'),
    [(form, bad) for form in ('stack', 'variables', 'last axis', 'wide') for bad in (np.nan, np.inf, -1.0)][:-1],
)
def test_a_bad_kernel_costs_itself_and_not_its_file(tmp_path: Path, bad: float, form: str) -> None:
    stack = np.random.default_rng(0).random((6, 9, 11 if form == 'wide' else 9))
    stack /= stack.sum((1, 2), keepdims=True)
    good = stack.copy()
    stack[2, 4, 4] = bad
    if form == 'variables':
        np.savez(tmp_path / 'k.npz', *stack)
    else:
        np.save(tmp_path / 'k.npy', stack if form in ('stack', 'wide') else np.moveaxis(stack, 0, -1))
    found, (remark,) = read_kernel_file(next(tmp_path.iterdir()))
    np.testing.assert_allclose(list(found.values()), np.delete(good, 2, 0))
    assert remark.startswith('left out 1 of 6 kernels, first ') and 'non-negative, finite numbers' in remark


def test_a_file_of_bad_kernels_alone_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / 'k.npy', np.full((3, 5, 5), np.nan))
    with pytest.raises(ValueError, match=r'k\.npy\[0\]: expected a kernel of non-negative, finite numbers'):
        read_kernel_file(tmp_path / 'k.npy')
