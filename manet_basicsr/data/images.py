"""Reading training and test images from a folder or an LMDB, as RGB whatever they are stored as."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import torch

from manet_basicsr.data.image_files import decode_image_file
from manet_basicsr.data.raw_pixels import raw_view
from manet_basicsr.utils.errors import BadSampleError
from manet_basicsr.utils.lmdb_handles import open_environment

_SHAPE = re.compile(r'\s+\(\d+,\s*\d+,\s*\d+\)\s+\d+$')  # and the level of compression, in a meta_info.txt
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')


class AlphaWarning:
    """Remembers, across the workers of a loader, whether it was already said that alpha is dropped."""

    def __init__(self) -> None:
        self._said = torch.zeros((), dtype=torch.bool).share_memory_()

    def __call__(self, path: str) -> None:
        from basicsr.utils import get_root_logger

        if not self._said:
            self._said.fill_(True)
            get_root_logger().warning(f'{path} has an alpha channel: alpha is dropped, here and in all further images')


def decode_image(
    content: bytes | memoryview, path: str, warn_of_alpha: Callable[[str], None] = lambda path: None
) -> np.ndarray:
    """Decode an image file's bytes to RGB.

    Grey is repeated to three channels, a palette converted, alpha dropped.

    Args:
        content: The bytes of an image file, or a raw value of ``create_lmdb.py --raw``.
        path: What to call the image in messages.
        warn_of_alpha: Called with the path when alpha is dropped.

    Returns:
        ``(H, W, 3)``, uint8 or uint16; a raw value is a view of ``content``.

    Raises:
        BadSampleError: As :func:`decode_image_file`.
    """
    try:
        raw = raw_view(content)
    except ValueError as error:
        raise BadSampleError(f'{path}: {error}') from error
    if raw is not None:
        return raw
    pixels = decode_image_file(content, path).pixels
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2] == 4:
        warn_of_alpha(path)
    return pixels[..., :3]


def image_to_tensor(image: np.ndarray) -> torch.Tensor:
    """Turn an ``(H, W, 3)`` uint8 or uint16 image into a float32 tensor ``(3, H, W)`` in [0, 1]."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(planes.astype(np.float32)).div_(float(np.iinfo(image.dtype).max))


def keep_all(image: np.ndarray) -> np.ndarray:
    """Crop nothing."""
    return image


class ImageFolder:
    """The images of a folder, sorted by name; subfolders are left out, as in BasicSR.

    Args:
        root: The folder.
        meta_info_file: A BasicSR meta information file that names the images to use (first word of each line).

    Raises:
        FileNotFoundError: There is no such folder, or an image that the file names is not in it.
        ValueError: There are no images, or the file names none.
    """

    def __init__(self, root: str, meta_info_file: str | None = None) -> None:
        if not os.path.isdir(root):
            raise FileNotFoundError(f'{root} is not a folder of images')
        self.root = root
        if meta_info_file is not None:
            listed = read_meta_info(meta_info_file)
            missing = [name for name in listed if not os.path.isfile(os.path.join(root, name))]
            if missing:
                raise FileNotFoundError(f'{missing[0]}, listed in {meta_info_file}, is not in {root}')
        else:
            listed = sorted(name for name in os.listdir(root) if name.lower().endswith(IMAGE_SUFFIXES))
            listed = [name for name in listed if not name.startswith('.')]
            if not listed:
                raise ValueError(f'{root} holds no images ({", ".join(IMAGE_SUFFIXES)})')
        self.names = [os.path.splitext(file)[0] for file in listed]
        self._files: dict[str, str] = {}
        for name, file in zip(self.names, listed, strict=True):
            if self._files.setdefault(name, file) != file:
                raise ValueError(f'{root} holds two images named {name}: {self._files[name]} and {file}; rename one')
        self.warn_of_alpha = AlphaWarning()

    def path(self, name: str) -> str:
        """Give the file of an image, which is also what messages call it (``describe``)."""
        return os.path.join(self.root, self._files[name])

    describe = path

    def read(self, name: str, crop: Callable[[np.ndarray], np.ndarray] = keep_all) -> np.ndarray:
        """Read an image as ``(H, W, 3)`` RGB, uint8 or uint16, cut by ``crop``."""
        path = self.path(name)
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise BadSampleError(f'{path}: {error.strerror}') from error
        return crop(decode_image(content, path, self.warn_of_alpha))


class ImageLmdb:
    """The images of an LMDB in BasicSR's layout, encoded or raw.

    Args:
        root: The LMDB's folder, with its ``meta_info.txt``.
        meta_info_file: Another meta information file that names the images to use.
        readahead: As in ``lmdb.open``.

    Raises:
        FileNotFoundError: There is no such database, or no meta information in it.
        ValueError: It is damaged, holds no images, or not one that the file names.
    """

    def __init__(self, root: str, meta_info_file: str | None = None, readahead: bool = False) -> None:
        self.root = root
        self.readahead = readahead
        environment = open_environment(root, readahead=readahead)
        # As BasicSR does, which finds keys with spaces so, in the database's own list.
        own = os.path.join(root, 'meta_info.txt')
        names = read_meta_info(own, whole_lines=True) if meta_info_file is None else read_meta_info(meta_info_file)
        self.names = [name.split('.')[0] for name in names]
        if meta_info_file is not None:
            with environment.begin(buffers=True) as transaction:
                missing = [name for name in self.names if not name or transaction.get(name.encode()) is None]
            if missing:
                raise ValueError(f"no key '{missing[0]}' in {root}, though {meta_info_file} lists it")
        self.warn_of_alpha = AlphaWarning()

    def path(self, name: str) -> str:
        """Give the key of an image, which is what BasicSR's datasets call its path."""
        return name

    def describe(self, name: str) -> str:
        """Say in messages which image it is."""
        return f'{self.root}: {name}'

    def read(self, name: str, crop: Callable[[np.ndarray], np.ndarray] = keep_all) -> np.ndarray:
        """Read an image as ``(H, W, 3)`` RGB, uint8 or uint16, cut by ``crop``; of a raw value only that is copied."""
        environment = open_environment(self.root, readahead=self.readahead)
        with environment.begin(buffers=True) as transaction:
            try:
                value = transaction.get(name.encode())
            except lmdb.Error as error:
                raise BadSampleError(f'{self.describe(name)}: {error}') from error
            if value is None:
                raise BadSampleError(f"no key '{name}' in {self.root}, though its meta_info.txt lists it")
            return crop(decode_image(value, self.describe(name), self.warn_of_alpha)).copy()


def read_meta_info(path: str, *, whole_lines: bool = False) -> list[str]:
    """List the images that a BasicSR meta information file names, the first word of each line.

    Args:
        path: The file.
        whole_lines: Give all that stands before the shape of an image, where that ends in a suffix.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text in UTF-8, or names no image.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8-sig').splitlines()  # Windows' editors begin a file with a mark
    except FileNotFoundError:
        raise FileNotFoundError(f'{path}: no such meta information file') from None
    except OSError as error:
        raise ValueError(f'{path} cannot be read as a meta information file: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no meta information file: {error}') from error
    written = [line.strip() for line in lines if line.strip()]
    bare = [_SHAPE.sub('', line) for line in written] if whole_lines else []
    names = [name if '.' in name else name.split()[0] for name in bare] or [line.split()[0] for line in written]
    if not names:
        raise ValueError(f'{path} lists no images, expected the name of one at the beginning of each line')
    return names


def open_images(
    root: str | os.PathLike[str],
    meta_info_file: str | None = None,
    *,
    lmdb: bool | None = None,
    readahead: bool = False,
) -> ImageFolder | ImageLmdb:
    """Open a folder or an LMDB of images.

    Args:
        root: A path; one that ends in ``.lmdb`` is an LMDB.
        meta_info_file: Names the images to use; ``None`` for all.
        lmdb: What ``io_backend`` says it is; ``None`` to go by the name.
        readahead: For an LMDB, as in ``lmdb.open``.
    """
    root = os.fspath(root)
    named_lmdb = root.rstrip('/').endswith('.lmdb')
    if lmdb and not named_lmdb:
        raise ValueError(f"io_backend type is lmdb, but {root} does not end in '.lmdb'")
    if named_lmdb:
        return ImageLmdb(root, meta_info_file, readahead)
    return ImageFolder(root, meta_info_file)
