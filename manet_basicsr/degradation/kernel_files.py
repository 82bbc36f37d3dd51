"""Reading kernels that others have measured: files of NumPy, MATLAB and images, whatever way kernels lie in them."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from manet_basicsr.utils.files import files_below

#: Arrays by a name that tells the file and the place in it.
Arrays = dict[str, NDArray[Any]]

_IMAGES = ('.png', '.bmp', '.tif', '.tiff')
KERNEL_SUFFIXES = ('.npy', '.npz', '.mat', *_IMAGES)
#: Taps down to so much of the largest one below 0 are what estimating leaves; those beyond are of no blur.
_LOWEST_TAP = -0.02
#: What of it is not worth a word.
_ROUNDING = -1e-3
#: Kernels of one stack sum to the same within this share.
_SAME_SUM = 0.01


def kernel_files(path: str) -> list[Path]:
    """List the files of kernels that a path stands for, in the order of their names: itself, or those below a folder.

    Hidden files and folders, and files of other suffixes, are left out.

    Raises:
        FileNotFoundError: There is no such file or folder.
    """
    root = Path(os.path.expanduser(path))
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise FileNotFoundError(f'{path} is not a folder of kernels')
    return sorted(file for file in files_below(root) if file.suffix.lower() in KERNEL_SUFFIXES)


def map_paths(field: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return a ``degradation.field`` whose paths of measured kernels are changed, those in a mixture, too."""

    def changed(key: str, value: Any) -> Any:
        if key == 'of' and isinstance(value, list | tuple):
            return [map_paths(part, change) if isinstance(part, Mapping) else part for part in value]
        return change(value) if key in ('folder', 'file') and isinstance(value, str) else value

    return {key: changed(key, value) for key, value in field.items()}


def paths_of(field: Mapping[str, Any]) -> list[str]:
    """List the paths of measured kernels in a ``degradation.field``."""
    paths = []

    def take(path: str) -> str:
        paths.append(path)
        return path

    map_paths(field, take)
    return paths


def read_kernel_file(path: Path) -> tuple[Arrays, list[str]]:
    """Read the kernels of one file.

    A ``.npy`` file holds one array, a ``.npz`` or ``.mat`` file (MATLAB v7.3, too, with h5py) any number of variables.
    An array is a kernel (h, w), or has two axes of taps among others that count kernels: (N, h, w), (h, w, N),
    (rows, columns, h, w, 3). An array of objects and a cell array hold arrays. A page of an image file is a kernel.
    Where a kernel has colours it is one kernel for each, because a field has one kernel for all colours.

    What is wrong with one array or one kernel costs that one, as long as there are others.

    Returns:
        Kernels (h, w), none with a negative tap, each summing to 1, float64; and what was changed in them or left out.

    Raises:
        ValueError: The file cannot be read, holds something else, how kernels lie in it cannot be told, or every one is
            wrong; the message names it.
    """
    kernels, remarks, refused = {}, [], []
    for name, array in _kernel_arrays(path).items():
        try:
            for index, taps in _split(array, name):
                try:
                    kernels[f'{name}{index}'], remark = _normalised(taps, f'{name}{index}')
                    remarks += remark
                except ValueError as error:
                    refused.append(str(error))
        except ValueError as error:  # how kernels lie in the array
            refused.append(str(error))
    if not kernels:
        raise ValueError(refused[0])
    if refused:
        remarks.append(f'left out {len(refused)} of {len(refused) + len(kernels)} kernels, first {refused[0]}')
    return kernels, remarks


def read_kernel_grid(path: Path) -> NDArray[np.float64]:
    """Read one array of kernels (..., h, w[, 3]) with the axes that count them in front, of colours their mean.

    Taps may be other neighbouring axes if over these alone all sums agree.

    The mean is taken of the kernels where they lie, so that it keeps how far the colours are apart.

    Raises:
        ValueError: As :func:`read_kernel_file` does, or there is more than one array.
    """
    arrays = _kernel_arrays(path)
    if len(arrays) != 1:
        raise ValueError(f'{path}: found {len(arrays)} arrays ({", ".join(arrays)}), expected one')
    ((name, array),) = arrays.items()
    axis = _first_tap_axis_of_grid(array, name)
    if array.ndim - axis == 3 and array.shape[-1] == 3 and axis:  # colours behind the taps
        array = _mean_of_colours(array.astype(np.float64), axis)
    grid = np.moveaxis(array, (axis, axis + 1), (-2, -1))
    taps = grid.reshape(-1, *grid.shape[-2:])
    return np.stack([_normalised(t, f'{name}[{n}]')[0] for n, t in enumerate(taps)]).reshape(grid.shape)


def _mean_of_colours(array: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Give the mean of kernels over the last axis; none counts for more because it is brighter."""
    sums = array.sum((axis, axis + 1), keepdims=True)
    if not (sums > 0).all():  # the kernel is refused by its name, later
        return array.mean(-1)
    weighted: NDArray[np.float64] = (array / sums).mean(-1)
    return weighted


def _kernel_arrays(path: Path) -> Arrays:
    """Read the arrays of a file that may be kernels; what else lies beside them is left out."""
    try:
        arrays = dict(_leaves(str(path), _content(path)))
    except Exception as error:  # each reader reports damage as exceptions of its own
        raise ValueError(f'{path} cannot be read: {error}') from error
    is_image = path.suffix.lower() in _IMAGES  # which holds nothing else; a single row is a horizontal motion
    kernels = {name: array for name, array in arrays.items() if (is_image and array.size > 1) or _may_be_kernels(array)}
    if not kernels:
        found = ', '.join(f'{array.dtype} of shape {array.shape}' for array in arrays.values()) or 'nothing'
        raise ValueError(f'{path}: found {found}, expected kernels (h, w), (N, h, w) or (h, w, N)')
    return kernels


def _content(path: Path) -> Any:
    """Return what a file holds: an array, or arrays by name, possibly within each other."""
    suffix = path.suffix.lower()
    if suffix == '.npy':
        with path.open('rb') as file:
            return _read_npy(file)
    if suffix == '.npz':
        with np.load(path, allow_pickle=False) as variables:
            return {f' {name}': array for name, array in variables.items()}
    if suffix == '.mat':
        return _read_mat(path)
    if suffix in _IMAGES:
        return _read_image(path)
    raise ValueError(f'expected one of {", ".join(KERNEL_SUFFIXES)}')


def _read_npy(file: BinaryIO) -> NDArray[Any]:
    """Read a .npy file; the objects of an array of objects may be arrays and nothing else."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if not read_header(file)[2].hasobject:
        file.seek(0)
        array: NDArray[Any] = np.load(file, allow_pickle=False)
        return array
    array = _ArrayUnpickler(file).load()
    return array


class _ArrayUnpickler(pickle.Unpickler):
    """Makes NumPy's arrays of a pickle, and refuses all else, for a pickle may run any code."""

    _NAMES = ('ndarray', 'dtype', '_reconstruct', '_frombuffer', 'scalar')

    def find_class(self, module: str, name: str) -> Any:
        is_numpy = re.fullmatch(r'numpy(\._?core\.(multiarray|numeric))?', module) is not None
        if (is_numpy and name in self._NAMES) or (module, name) == ('_codecs', 'encode'):
            return super().find_class(module, name)
        raise ValueError(f'it holds objects of {module}.{name}, expected only arrays')


def _read_mat(path: Path) -> dict[str, Any]:
    with path.open('rb') as file:
        is_hdf5 = file.read(520)[512:] == b'\x89HDF\r\n\x1a\n'
    if not is_hdf5:
        from scipy.io import loadmat

        return {f' {name}': array for name, array in loadmat(path).items() if not name.startswith('__')}
    try:
        import h5py
    except ImportError:
        raise ValueError(
            'MATLAB v7.3 needs the package h5py: pip install h5py, or save it in MATLAB with -v7'
        ) from None
    with h5py.File(path) as file:

        def read(item: Any) -> Any:
            if isinstance(item, h5py.Group):
                return {f'.{name}': read(part) for name, part in item.items()}
            # MATLAB counts columns first.
            array = np.asarray(item[()]).T
            if h5py.check_ref_dtype(item.dtype) is None:
                return array
            cells = np.empty(array.shape, dtype=object)
            for place, reference in np.ndenumerate(array):
                cells[place] = read(file[reference])
            return cells

        return {f' {name}': read(item) for name, item in file.items() if not name.startswith('#')}


def _read_image(path: Path) -> list[NDArray[Any]] | NDArray[Any]:
    """Read a grey or coloured image file, of which all pages: planes (h, w), three where the colours differ."""
    content = np.fromfile(path, np.uint8)
    is_whole, pages = cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)
    if not is_whole or not pages:
        raise ValueError('damaged, or no image')
    planes = []
    for page in pages:
        colours = page[..., None] if page.ndim == 2 else page[..., 2::-1]  # OpenCV gives blue first, alpha last
        is_grey = bool((colours == colours[..., :1]).all())
        planes += [colours[..., 0]] if is_grey else list(np.moveaxis(colours, -1, 0))
    return planes[0] if len(planes) == 1 else planes


def _leaves(name: str, content: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Go through what lies within each other, by names that tell the place."""
    if isinstance(content, Mapping):
        for key, part in content.items():
            yield from _leaves(f'{name}{key}', part)
    elif isinstance(content, list):
        for number, part in enumerate(content):
            yield from _leaves(f'{name}[{number}]', part)
    elif isinstance(content, np.ndarray) and content.dtype.names is not None:  # MATLAB's struct
        for field in content.dtype.names:
            yield from _leaves(f'{name}.{field}', content[field])
    elif isinstance(content, np.ndarray) and content.dtype == object:
        parts = list(content.flat)
        for number, part in enumerate(parts):
            yield from _leaves(f'{name}[{number}]' if len(parts) > 1 else name, part)
    else:
        yield name, np.asarray(content)


def _may_be_kernels(array: NDArray[Any]) -> bool:
    """Tell kernels from what lies beside them: words, scalars, and rows of numbers that do not sum to 1."""
    if array.dtype.kind not in 'fuib' or array.ndim < 2 or array.size < 2:
        return False
    return array.ndim > 2 or min(array.shape) > 1 or abs(float(array.sum()) - 1) < _SAME_SUM


def _split(array: NDArray[Any], name: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Give the kernels (h, w) of an array, each with its place in it."""
    if array.ndim == 2:
        yield '', array
        return
    axis = _first_tap_axis(array, name)
    taps = np.moveaxis(array, (axis, axis + 1), (-2, -1))
    for place in np.ndindex(taps.shape[:-2]):
        yield f'[{", ".join(map(str, place))}]', taps[place]


def _first_tap_axis(array: NDArray[Any], name: str) -> int:
    """Find the two neighbouring axes that are taps: those over which all sums agree, or that are as long as each other.

    Raises:
        ValueError: Neither tells.
    """
    axes: Sequence[int] = [axis for axis in range(array.ndim - 1) if min(array.shape[axis : axis + 2]) > 1]
    for holds in (_sums_agree, _is_square):
        axes = [axis for axis in axes if holds(array, axis)] or axes
        if len(axes) == 1:
            return axes[0]
    raise ValueError(
        f'{name}: found shape {array.shape}, and cannot tell which axes are taps and which count kernels; '
        'save (N, h, w), each kernel summing to 1'
    )


def _first_tap_axis_of_grid(array: NDArray[Any], name: str) -> int:
    """Find the taps of a grid of kernels, which may differ in brightness: the last axes, or those before colours.

    Of an array from MATLAB they are the first: a square that is no smaller than the last axes tells.

    Raises:
        ValueError: It cannot be told.
    """
    axes = [axis for axis in range(array.ndim - 1) if min(array.shape[axis : axis + 2]) > 1]
    agree = [axis for axis in axes if _sums_agree(array, axis)]
    if len(agree) == 1:
        return agree[0]
    has_colours = array.ndim > 3 and array.shape[-1] == 3 and array.shape[-2] != 3
    last = array.ndim - (3 if has_colours else 2)
    squares = [axis for axis in axes if _is_square(array, axis) and axis != last]
    is_larger = all(min(array.shape[last : last + 2]) > array.shape[axis] for axis in squares)
    return last if is_larger else _first_tap_axis(array, name)


def _sums_agree(array: NDArray[Any], axis: int) -> bool:
    sums = array.sum((axis, axis + 1), dtype=np.float64)
    sums = sums[np.isfinite(sums)]  # of those that are wrong nothing is learnt
    return sums.size > 0 and bool(np.ptp(sums) <= _SAME_SUM * abs(sums).max())


def _is_square(array: NDArray[Any], axis: int) -> bool:
    return array.shape[axis] == array.shape[axis + 1]


def _normalised(kernel: NDArray[Any], name: str) -> tuple[NDArray[np.float64], list[str]]:
    """Make a kernel sum to 1, without negative taps; a remark tells of those that were."""
    taps = kernel.astype(np.float64)
    if not np.isfinite(taps).all() or taps.sum() <= 0:
        raise ValueError(f'{name}: expected a kernel of non-negative, finite numbers that sum to more than 0')
    lowest = float(taps.min() / taps.max())
    if lowest < _LOWEST_TAP:
        found = f'found taps down to {lowest:.1%} of the largest one'
        raise ValueError(f'{name}: {found}, expected non-negative, finite numbers (at most {_LOWEST_TAP:.0%} is cut)')
    remark = [f'{name}: negative taps down to {lowest:.1%} of the largest one are set to 0'] * (lowest < _ROUNDING)
    taps = taps.clip(min=0)
    return taps / taps.sum(), remark
