"""Kernel fields on disk: what is read is what was written, and nothing else is."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manet_basicsr import load_field
from manet_basicsr.data.field_files import save_field
from manet_basicsr.degradation import protocol_field


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file with a small field."""
    save_field(tmp_path / 'field.npz', torch.full((9, 2, 3), 1 / 9), scale=4, alignment='centered')
    return tmp_path / 'field.npz'


@pytest.mark.parametrize('alignment', ['centered', 'published'])
def test_field_is_read_as_it_was_saved_but_for_half_precision(tmp_path: Path, alignment: str) -> None:
    field = protocol_field(4, 120, 80, 4, alignment=alignment)
    save_field(tmp_path / 'field.npz', field, scale=4, alignment=alignment)
    read = load_field(tmp_path / 'field.npz')
    assert (read.kernel_size, read.scale, read.alignment) == (21, 4, alignment)
    assert read.field.shape == field.shape
    assert read.field.dtype == torch.float32
    # float16 rounds to 11 binary digits, to steps of 2**-24 where a tap is below 2**-14; then the sum is made 1 again.
    torch.testing.assert_close(read.field, field, rtol=2**-10, atol=2**-24)
    torch.testing.assert_close(read.field.sum(1), torch.ones(1, 30, 20), rtol=0, atol=1e-6)


@pytest.mark.parametrize('shape', [(441, 1, 1), (1, 441, 1, 1), (1, 9, 5, 2), (1, 1, 4, 4)])
def test_field_of_any_size_keeps_its_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    save_field(tmp_path / 'field.npz', torch.rand(shape).half(), scale=2, alignment='unknown')
    assert load_field(tmp_path / 'field.npz').field.shape == (1, *shape[-3:])


@pytest.mark.parametrize('shape', [(2, 9, 3, 3), (8, 3, 3), (9,), (9, 3)])
def test_what_is_no_field_of_one_image_is_not_saved(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r'expected \(k\*k, h, w\)'):
        save_field(tmp_path / 'field.npz', torch.rand(shape), scale=4, alignment='centered')
    assert not list(tmp_path.iterdir())


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='field.npz: no such field file'):
        load_field(tmp_path / 'field.npz')


def write(path: Path, **arrays: Any) -> None:
    content: dict[str, Any] = {
        'field': np.full((9, 2, 3), 1 / 9, np.float16),
        'kernel_size': 3,
        'scale': 4,
        'alignment': 'centered',
    }
    np.savez_compressed(path, **{key: value for key, value in {**content, **arrays}.items() if value is not None})


@pytest.mark.parametrize(
    'arrays',
    [
        {'field': None},
        {'scale': None},
        {'alignment': None},
        {'field': np.ones((8, 2, 3), np.float16)},
        {'field': np.ones((9, 2), np.float16)},
        {'field': np.array(['a'] * 9)},
        {'field': np.zeros((9, 2, 3), np.float16)},
        {'field': np.full((9, 2, 3), np.nan, np.float16)},
        {'field': np.full((9, 2, 3), np.inf, np.float16)},
        {'kernel_size': -3},
        {'kernel_size': np.ones(2)},
        {'scale': 0},
        {'alignment': 'middle'},
    ],
    ids=repr,
)
def test_file_with_wrong_arrays_is_refused_by_name(tmp_path: Path, arrays: dict[str, Any]) -> None:
    write(tmp_path / 'field.npz', **arrays)
    with pytest.raises(ValueError) as raised:
        load_field(tmp_path / 'field.npz')
    assert str(tmp_path / 'field.npz') in str(raised.value)


def test_pickles_are_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / 'witness',)

    write(tmp_path / 'field.npz', field=np.array([Hostile()], dtype=object))
    with pytest.raises(ValueError, match='is not a whole field file'):
        load_field(tmp_path / 'field.npz')
    assert not (tmp_path / 'witness').exists()


def test_files_of_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / 'field.npz'
    array = io.BytesIO()
    np.save(array, np.ones(3))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as file:
        file.writestr('field.npy', b'no array')
    for content in (b'', b'text', array.getvalue(), archive.getvalue()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match='field.npz'):
            load_field(path)
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_field(tmp_path)


def test_file_cut_at_any_byte_is_refused_by_name(saved: Path) -> None:
    whole = saved.read_bytes()
    for kept in range(len(whole)):
        saved.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match='field.npz'):
            load_field(saved)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_file_with_changed_bytes_is_read_as_a_field_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / 'changed_field.npz'
    write(path)
    content = bytearray(path.read_bytes())
    changes = st.dictionaries(st.integers(0, len(content) - 1), st.integers(0, 255), min_size=1)
    for place, value in data.draw(changes).items():
        content[place] = value
    path.write_bytes(content)
    try:
        field = load_field(path).field
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert field.isfinite().all()


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 0.0])
def test_kernels_that_could_not_be_read_again_are_not_saved(tmp_path: Path, value: float) -> None:
    field = torch.full((9, 2, 3), 1 / 9)
    field[:, 1, 1] = value
    with pytest.raises(ValueError, match=r'a\.npz: not written, because kernels are not finite'):
        save_field(tmp_path / 'a.npz', field, scale=2, alignment='centered')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('scale', 'alignment'), [(4, 'centred'), (0, 'centered')])
def test_a_field_of_no_grid_is_not_written(scale: int, alignment: str, tmp_path: Path) -> None:
    expected = (
        f"found scale {scale}, alignment '{alignment}', expected a scale of at least 1 and an alignment of centered"
    )
    with pytest.raises(ValueError, match=expected):
        save_field(tmp_path / 'a.npz', torch.full((9, 1, 1), 1 / 9), scale=scale, alignment=alignment)
    assert not list(tmp_path.iterdir())
