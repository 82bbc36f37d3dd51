from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from manet_basicsr.data.lmdb_writer import check_target
from manet_basicsr.data.preparation import ConflictError, ExistsError, find_images, map_in_parallel, read_image
from manet_basicsr.utils.errors import BadSampleError
from manet_basicsr.utils.files import atomic_folder

SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), (9, 9), 2)


@pytest.mark.parametrize('share', [0, 0.1, 0.5, 0.98])
@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.tiff', '.webp'])
def test_a_cut_off_file_is_damaged_in_every_format(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f'photo{suffix}'
    cv2.imwrite(str(path), SMOOTH)
    content = path.read_bytes()
    assert read_image(path).shape == SMOOTH.shape
    path.write_bytes(content[: int(share * len(content))])

    with pytest.raises(BadSampleError, match=f'photo{suffix}: damaged'):
        read_image(path)


def test_float_images_and_unreadable_files_are_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / 'float.tiff'), SMOOTH.astype(np.float32))
    with pytest.raises(BadSampleError, match='float.tiff: found float32 pixels, expected 8 or 16 bit'):
        read_image(tmp_path / 'float.tiff')
    with pytest.raises(BadSampleError, match='missing.png: No such file'):
        read_image(tmp_path / 'missing.png')


def test_a_palette_is_expanded(tmp_path: Path) -> None:
    palette = Image.fromarray(SMOOTH).quantize(16)
    palette.save(tmp_path / 'palette.png')

    assert np.array_equal(read_image(tmp_path / 'palette.png'), np.asarray(palette.convert('RGB')))


def test_only_visible_image_files_are_found_sorted(tmp_path: Path) -> None:
    for name in ('b.JPG', 'a.png', 'notes.txt', '.hidden.png', 'sub/c.png', '.git/d.png', 'folder.png/e.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert find_images(tmp_path) == [tmp_path / 'a.png', tmp_path / 'b.JPG']
    assert find_images(tmp_path, recursive=True) == [tmp_path / 'a.png', tmp_path / 'b.JPG', tmp_path / 'sub/c.png']
    with pytest.raises(ConflictError, match='subfolders were not searched'):
        find_images(tmp_path / 'folder.png')


def test_results_come_in_order_and_only_a_few_wait() -> None:
    begun = 0
    lock = threading.Lock()

    def square(number: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        return number * number

    for number, result in enumerate(map_in_parallel(square, range(100), workers=2)):
        assert result == number * number
        assert begun <= number + 1 + 2 * 2


def test_an_exception_is_raised_where_its_result_was_due() -> None:
    results = map_in_parallel(lambda number: 1 // (3 - number), range(1000), workers=2)

    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_images_in_linked_folders_are_found(tmp_path: Path) -> None:
    for place in ('photos/a/1.png', 'elsewhere/2.png', 'elsewhere/.hidden/3.png'):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
    (tmp_path / 'photos/b').symlink_to(tmp_path / 'elsewhere')
    found = find_images(tmp_path / 'photos', recursive=True)
    assert [str(path.relative_to(tmp_path / 'photos')) for path in found] == ['a/1.png', 'b/2.png']


def test_a_link_whose_disk_is_not_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / 'set.lmdb').symlink_to(tmp_path / 'disk/set.lmdb')
    with pytest.raises(ExistsError, match=r'set\.lmdb exists; remove it or choose another name'):
        check_target(tmp_path / 'set.lmdb', overwrite=False)
    with pytest.raises(FileExistsError), atomic_folder(tmp_path / 'set.lmdb'):
        pass
    assert (tmp_path / 'set.lmdb').is_symlink()
