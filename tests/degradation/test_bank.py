"""Measured kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manet_basicsr.degradation import (
    BankSampler,
    anisotropic_gaussian_kernels,
    blur_downsample,
    kernel_covariances,
)
from manet_basicsr.degradation.bank import bank_kernels, centre_kernel, read_bank
from tests.degradation.drawing import centre_of_mass, draw, problem_of


def test_a_bank_has_the_kernels_of_every_format_in_the_order_of_their_names(folder: Path) -> None:
    bank = read_bank(str(folder))
    names = [Path(name).name for name in bank]
    assert names == ['cell.mat kernels[0]', 'cell.mat kernels[1]', 'comet.png', 'steps.npy[0]', 'steps.npy[1]']
    assert all(taps.sum() == pytest.approx(1) for taps in bank.values())
    np.testing.assert_allclose(bank[str(folder / 'comet.png')], list(bank.values())[1].T, atol=1e-3)
    drawn = torch.cat([draw(BankSampler(str(folder)), seed=seed).flatten(1) for seed in range(40)])
    assert len(drawn.unique(dim=0)) == 5


def test_a_measured_kernel_is_convolved_in_the_centered_alignment(tmp_path: Path) -> None:
    spread = np.zeros((9, 9))
    spread[4, 4], spread[4, 6] = 0.5, 0.5  # a point and its echo two px to the right of it
    np.save(tmp_path / 'echo.npy', spread)
    hr = torch.zeros(1, 1, 41, 41)
    hr[..., 20, 20] = 1
    seen = blur_downsample(hr, bank_kernels(str(tmp_path), 21, 1, 'centered').view(1, 441, 1, 1), 1)[0, 0]
    assert seen.nonzero().tolist() == [[20, 19], [20, 21]]  # about the centre of mass
    lopsided = np.zeros((9, 9))
    lopsided[4, 3:8] = [5, 1, 1, 1, 1]  # bright at the left
    (tmp_path / 'other').mkdir()
    np.save(tmp_path / 'other/echo.npy', lopsided)
    other = bank_kernels(str(tmp_path / 'other'), 21, 1, 'centered')
    seen = blur_downsample(hr, other.view(1, 441, 1, 1), 1)[0, 0]
    assert seen.argmax().item() % 41 < 20


def test_the_halves_of_a_pixel_that_even_scales_ask_for_blur_as_little_as_can_be(tmp_path: Path) -> None:
    wide, narrow = anisotropic_gaussian_kernels(torch.tensor([[2.0, 2], [0.7, 0.7]]), torch.zeros(2), 15, 1).numpy()
    point, corners = np.zeros((15, 15)), np.zeros((15, 15))
    point[7, 7] = corners[4:11, 4:11] = 1
    np.save(tmp_path / 'kernels.npy', np.stack([wide.reshape(15, 15), narrow.reshape(15, 15), point, corners]))
    measured = torch.from_numpy(np.stack([taps.ravel() for taps in read_bank(str(tmp_path)).values()]))
    for scale in (2, 4):
        gained = kernel_covariances(bank_kernels(str(tmp_path), 21, scale, 'centered')) - kernel_covariances(measured)
        gains = gained[:, (0, 1), (0, 1)]
        # By lines between the taps each gains 0.25 px^2 along each axis, as a point must.
        assert (gains[0].abs() < 0.002).all() and (gains[1].abs() < 0.04).all()
        torch.testing.assert_close(gains[2], torch.full((2,), 0.25, dtype=torch.float64), atol=1e-5, rtol=0)
        assert gains.max() < 0.25 + 1e-5
    laid = kernel_covariances(bank_kernels(str(tmp_path), 21, 3, 'centered'))
    torch.testing.assert_close(laid, kernel_covariances(measured), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.npy', b'garbage', 'a.npy cannot be read'),
        ('a.png', b'garbage', 'a.png cannot be read: damaged, or no image'),
        ('a.mat', b'garbage', 'a.mat cannot be read'),
        ('a.txt', b'1 2 3', 'holds no kernels (.npy, .npz, .mat, .png, .bmp, .tif, .tiff)'),
    ],
)
def test_a_file_that_holds_no_kernels_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        BankSampler(str(tmp_path)).check(21, 4)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ('taps', 'message'),
    [
        (np.ones(5), r'found float64 of shape \(5,\), expected kernels'),
        (np.zeros((5, 5)), 'sum to more than 0'),
        (np.full((5, 5), np.nan), 'non-negative, finite'),
        (np.diag([1.0, -1, 1]), 'taps down to -100.0% of the largest one, expected non-negative, finite'),
        (np.ones((25, 25)), 'a kernel of 25x25 taps .* would be cut off by 18x18 taps'),
    ],
)
def test_taps_that_are_no_kernel_are_refused_with_their_file(tmp_path: Path, taps: Any, message: str) -> None:
    np.save(tmp_path / 'bad.npy', taps)
    with pytest.raises(ValueError, match=rf'bad\.npy: .*{message}'):
        BankSampler(str(tmp_path)).check(21, 4)


def test_one_file_without_kernels_does_not_refuse_the_others(tmp_path: Path) -> None:
    np.save(tmp_path / 'a.npy', np.diag([1.0, -1, 1]))
    (tmp_path / 'b').mkdir()
    np.save(tmp_path / 'b/good.npy', np.eye(5))
    (tmp_path / 'c.mat').write_bytes(b'garbage')
    with pytest.warns(UserWarning) as warned:
        assert [Path(name).name for name in read_bank(str(tmp_path))] == ['good.npy']
    assert [str(tmp_path / name) in str(one.message) for one, name in zip(warned, ('a.npy', 'c.mat'), strict=True)]


def test_kernels_that_are_too_large_are_refused_left_out_or_cropped(tmp_path: Path) -> None:
    wide = np.ones((41, 41))
    wide[30, 30] += 1e4
    wide[31, 30] += 2e4
    np.save(tmp_path / 'a.npy', np.eye(5))
    np.save(tmp_path / 'b.npy', wide)
    with pytest.raises(ValueError, match=r'b\.npy: of a kernel of 41x41 taps 4% .* or fit: crop'):
        BankSampler(str(tmp_path)).check(21, 3)
    with pytest.warns(UserWarning, match=r'left out 1 of 2 kernels, first .*b\.npy'):
        assert len(bank_kernels(str(tmp_path), 21, 3, 'centered', 'skip')) == 1
    cropped = bank_kernels(str(tmp_path), 21, 3, 'published', 'crop')[1].view(21, 21)
    assert cropped.sum() == pytest.approx(1)
    axis = torch.arange(21.0) - 9  # the middle of the 19 taps that scale 3 leaves
    assert abs(cropped.sum(1) @ axis) < 1e-4 and abs(cropped.sum(0) @ axis) < 1e-4
    assert cropped[8:11, 8:11].sum() > 0.95  # the heavy taps, not the middle of the file


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'type': 'bank', 'folder': 3}, 'folder must be a path, found 3'),
        ({'type': 'bank', 'folder': '/nowhere'}, 'folder: /nowhere is not a folder of kernels'),
        ({'type': 'bank', 'folder': '/nowhere', 'fit': 'cut'}, "fit 'cut' is not one of error, skip, crop"),
        ({'type': 'bank', 'folder': '/nowhere', 'period': 1.5}, 'period must be a whole number (HR px), found 1.5'),
    ],
)
def test_wrong_options_are_one_clear_line_before_anything_is_read(
    photos: Path, options: dict[str, Any], message: str
) -> None:
    assert problem_of(options, photos) == f'degradation.field.{message}'


def test_what_is_cropped_is_centred_all_the_same(tmp_path: Path) -> None:
    """What is cut off along one axis moves the centre of the rest along the other."""
    rows, columns = np.mgrid[:31, :31]
    diagonal = np.exp(-((rows - 0.7 * columns) ** 2) / 4) * (columns > 6)
    corner = np.zeros((31, 31))
    corner[2:5, 2:29] = corner[2:29, 26:29] = 1
    np.save(tmp_path / 'long.npy', np.stack([diagonal, corner]))
    for scale in (1, 2, 3, 4):
        for alignment, sign in (('centered', 1), ('published', -1)):
            kernels = bank_kernels(str(tmp_path), 21, scale, alignment, 'crop').view(-1, 1, 441, 1, 1)
            for kernel in kernels:
                assert (centre_of_mass(kernel) - sign * (scale - 1) / 2).abs().max() < 1e-4
            torch.testing.assert_close(kernels.sum(2).flatten(), torch.ones(2))


def test_what_is_cut_off_is_told_though_cubics_overshoot() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        taps = generator.random((6, 5))
        assert centre_kernel(taps / taps.sum(), 4).sum() <= 1 + 1e-12
        assert centre_kernel(taps / taps.sum(), 9).sum() == pytest.approx(1)


def test_a_bank_is_laid_once_and_kept_on_each_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, number in (('one', 2), ('other', 3)):
        (tmp_path / name / 'kernels').mkdir(parents=True)
        np.save(tmp_path / name / 'kernels/a.npy', np.full((number, 7, 7), 1 / 49))
    found = []
    for name in ('one', 'other'):
        monkeypatch.chdir(tmp_path / name)  # a path is relative to where the program is
        found += [bank_kernels('kernels', 21, 4, 'centered', device=device) for device in 2 * ('cpu', 'meta')]
    assert [(len(kernels), kernels.device.type) for kernels in found[::2]] == 2 * [(2, 'cpu')] + 2 * [(3, 'cpu')]
    assert found[0] is found[2] and found[1] is found[3] and found[1].is_meta


@pytest.mark.parametrize('folder', ['', None, 3])
def test_a_folder_that_is_no_path_is_refused(folder: Any, photos: Path) -> None:
    message = f'degradation.field.folder must be a path, found {folder!r}'
    assert message in problem_of({'type': 'bank', 'folder': folder}, photos)


def test_a_kernel_that_is_too_large_is_named_with_its_key(tmp_path: Path, photos: Path) -> None:
    np.save(tmp_path / 'a.npy', np.full((41, 41), 1 / 41**2))
    of = [{'type': 'invariant', 'variance': [1, 2]}, {'type': 'bank', 'folder': str(tmp_path)}]
    assert f'degradation.field.of[1].folder: {tmp_path}/a.npy: of a kernel' in problem_of(
        {'type': 'mixture', 'of': of}, photos
    )
