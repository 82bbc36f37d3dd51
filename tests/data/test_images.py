from __future__ import annotations

import io
import logging
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.utils import get_root_logger
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from manet_basicsr.data.images import (
    BadSampleError,
    ImageFolder,
    ImageLmdb,
    decode_image,
    image_to_tensor,
    open_images,
    read_meta_info,
)
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.data.raw_pixels import encode_raw
from manet_basicsr.utils.lmdb_handles import close_environment


@pytest.fixture(scope='module')
def rgb(photos: Path) -> np.ndarray:
    """A photograph of 40x50 px, (H, W, 3) RGB uint8."""
    image = cv2.imread(str(photos / 'astronaut.png'))
    assert image is not None
    return np.ascontiguousarray(image[40:80, 60:110, ::-1])


def encoded(image: Image.Image, kind: str = 'PNG', **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def never(path: str) -> None:
    raise AssertionError(f'{path} was said to have an alpha channel')


# ------------------------------------------------------------------------------------------------------------ decoding


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF'])
def test_colour_images_are_decoded_to_rgb_without_loss(rgb: np.ndarray, kind: str) -> None:
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(rgb), kind), 'image', never), rgb)


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF'])
def test_grey_is_repeated_to_three_channels(rgb: np.ndarray, kind: str) -> None:
    grey = rgb[..., 0]
    decoded = decode_image(encoded(Image.fromarray(grey), kind), 'image', never)
    np.testing.assert_array_equal(decoded, np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize('kind', ['PNG', 'BMP', 'TIFF'])
def test_one_bit_images_become_black_and_white(rgb: np.ndarray, kind: str) -> None:
    image = Image.fromarray(rgb).convert('1')
    expected = np.array(image.convert('RGB'))
    np.testing.assert_array_equal(decode_image(encoded(image, kind), 'image', never), expected)
    assert set(np.unique(expected)) == {0, 255}


@pytest.mark.parametrize('kind', ['PNG', 'BMP'])
def test_a_palette_is_converted_to_its_colours(rgb: np.ndarray, kind: str) -> None:
    image = Image.fromarray(rgb).quantize(16)
    np.testing.assert_array_equal(decode_image(encoded(image, kind), 'image', never), np.array(image.convert('RGB')))


def test_a_palette_with_transparency_is_converted_and_its_alpha_dropped_with_a_word(rgb: np.ndarray) -> None:
    image = Image.fromarray(rgb).quantize(16)
    warned: list[str] = []
    decoded = decode_image(encoded(image, transparency=3), 'image', warned.append)
    np.testing.assert_array_equal(decoded, np.array(image.convert('RGB')))
    assert warned == ['image']


@pytest.mark.parametrize('mode', ['RGBA', 'LA'])
def test_alpha_is_dropped_not_blended(rgb: np.ndarray, mode: str) -> None:
    image = Image.fromarray(rgb).convert(mode)
    warned: list[str] = []
    expected = np.array(image.convert('RGBA').convert('RGB'))
    image.putalpha(Image.fromarray(rgb[..., 1]))
    np.testing.assert_array_equal(decode_image(encoded(image), 'image', warned.append), expected)
    assert warned == ['image']


@pytest.mark.parametrize('channels', [1, 3])
def test_sixteen_bits_are_kept_and_scaled_to_one(channels: int) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    deep[0, 0], deep[0, 1] = 65535, 0
    content = cv2.imencode('.png', deep[..., ::-1])[1].tobytes()
    decoded = decode_image(content, 'image', never)
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, np.broadcast_to(deep, (20, 30, 3)))
    tensor = image_to_tensor(decoded)
    assert tensor.dtype == torch.float32
    assert (float(tensor.min()), float(tensor.max())) == (0, 1)
    # Half a level of 16 bit.
    expected = torch.from_numpy(decoded.astype(np.float64) / 65535).permute(2, 0, 1).float()
    torch.testing.assert_close(tensor, expected, atol=0.5 / 65535, rtol=0)


def test_a_cmyk_jpeg_is_converted_to_rgb(rgb: np.ndarray) -> None:
    smooth = cv2.GaussianBlur(rgb, (0, 0), 3)
    decoded = decode_image(encoded(Image.fromarray(smooth).convert('CMYK'), 'JPEG', quality=95), 'image', never)
    assert decoded.shape == rgb.shape
    # JPEG without chroma subsampling of a smooth image, and OpenCV's conversion from CMYK.
    assert np.abs(decoded.astype(int) - smooth).mean() < 4


def test_a_jpeg_is_turned_as_its_exif_data_say_like_in_basicsr(rgb: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    content = encoded(Image.fromarray(rgb), 'JPEG', exif=exif, quality=95)
    as_in_basicsr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    decoded = decode_image(content, 'image', never)
    assert decoded.shape == (50, 40, 3)
    np.testing.assert_array_equal(decoded, as_in_basicsr[..., ::-1])


def test_a_raw_value_is_viewed_without_a_copy(rgb: np.ndarray) -> None:
    content = encode_raw(rgb)
    decoded = decode_image(content, 'image', never)
    np.testing.assert_array_equal(decoded, rgb)
    assert np.shares_memory(decoded, np.frombuffer(content, np.uint8))


def test_an_image_becomes_a_contiguous_float_tensor_of_planes(rgb: np.ndarray) -> None:
    tensor = image_to_tensor(rgb[:, ::-1])
    assert tensor.is_contiguous()
    assert tensor.shape == (3, 40, 50)
    torch.testing.assert_close(tensor, torch.from_numpy(rgb[:, ::-1].copy()).permute(2, 0, 1) / 255, atol=0, rtol=0)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'BMP', 'WEBP', 'TIFF', 'raw'])
@pytest.mark.parametrize('kept', [0.0, 0.5, 0.99])
def test_a_truncated_image_is_an_error_that_names_it(rgb: np.ndarray, kind: str, kept: float) -> None:
    content = encode_raw(rgb) if kind == 'raw' else encoded(Image.fromarray(rgb), kind)
    with pytest.raises(BadSampleError, match=r'^some/image\.png: '):
        decode_image(content[: int(kept * len(content))], 'some/image.png')


@pytest.mark.parametrize('content', [b'no image', bytes(1000), b'P6\n4 4\n255\n'])
def test_garbage_is_an_error_that_names_it(content: bytes) -> None:
    with pytest.raises(BadSampleError, match=r'^some/image\.png: '):
        decode_image(content, 'some/image.png')


def test_floating_point_images_are_refused() -> None:
    content = cv2.imencode('.tiff', np.zeros((4, 4, 3), np.float32))[1].tobytes()
    with pytest.raises(BadSampleError, match='image: found float32 pixels, expected 8 or 16 bit'):
        decode_image(content, 'image')


# ------------------------------------------------------------------------------------------------------------- folders


def test_a_folder_lists_its_images_by_name_without_hidden_files_and_subfolders(tmp_path: Path, rgb: np.ndarray) -> None:
    names = ['b.png', 'a.JPG', 'c.tiff', '.hidden.png', 'notes.txt', 'sub/d.png']
    (tmp_path / 'sub').mkdir()
    for name in names:
        (tmp_path / name).write_bytes(encoded(Image.fromarray(rgb)))
    assert ImageFolder(str(tmp_path)).names == ['a', 'b', 'c']


@pytest.mark.parametrize('name', ['baby.v2.final', 'größe', '写真', 'two words', '%41'])
def test_a_folder_reads_images_of_any_name(tmp_path: Path, rgb: np.ndarray, name: str) -> None:
    (tmp_path / f'{name}.png').write_bytes(encoded(Image.fromarray(rgb)))
    images = ImageFolder(str(tmp_path))
    assert images.names == [name]
    assert images.path(name) == str(tmp_path / f'{name}.png')
    np.testing.assert_array_equal(images.read(name), rgb)


def test_a_missing_or_empty_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere'):
        open_images(str(tmp_path / 'nowhere'))
    with pytest.raises(ValueError, match=f'{tmp_path} holds no images'):
        open_images(tmp_path)


def test_two_images_of_one_name_are_an_error_that_names_both(tmp_path: Path, rgb: np.ndarray) -> None:
    for name in ('baby.png', 'baby.bmp'):
        (tmp_path / name).write_bytes(encoded(Image.fromarray(rgb)))
    with pytest.raises(ValueError, match=r'two images named baby: baby\.bmp and baby\.png'):
        ImageFolder(str(tmp_path))


def test_an_image_that_vanished_is_an_error_that_names_it(tmp_path: Path, rgb: np.ndarray) -> None:
    (tmp_path / 'baby.png').write_bytes(encoded(Image.fromarray(rgb)))
    images = ImageFolder(str(tmp_path))
    (tmp_path / 'baby.png').unlink()
    with pytest.raises(BadSampleError, match=r'baby\.png: No such file'):
        images.read('baby')


# ------------------------------------------------------------------------------------------------------ meta_info_file


@pytest.mark.parametrize('as_lmdb', [False, True])
def test_a_meta_info_file_chooses_images_and_their_order(
    photos: Path, photos_lmdb: Path, tmp_path: Path, as_lmdb: bool
) -> None:
    meta_info = tmp_path / 'chosen.txt'
    meta_info.write_text('rocket.png (200,200,3) 1\n\nastronaut.png\nrocket.png (200,200,3)\n', encoding='utf-8')
    images = open_images(photos_lmdb if as_lmdb else photos, str(meta_info))
    assert images.names == ['rocket', 'astronaut', 'rocket']
    np.testing.assert_array_equal(images.read('rocket'), ImageFolder(str(photos)).read('rocket'))


@pytest.mark.parametrize('as_lmdb', [False, True])
def test_an_image_listed_but_not_there_is_an_error_at_once(
    photos: Path, photos_lmdb: Path, tmp_path: Path, as_lmdb: bool
) -> None:
    meta_info = tmp_path / 'chosen.txt'
    meta_info.write_text('rocket.png\nmoon.png\n', encoding='utf-8')
    with pytest.raises((FileNotFoundError, ValueError), match=r'moon.*chosen\.txt'):
        open_images(photos_lmdb if as_lmdb else photos, str(meta_info))


@pytest.mark.parametrize('as_lmdb', [False, True])
def test_a_meta_info_file_may_begin_with_a_byte_order_mark(
    photos: Path, photos_lmdb: Path, tmp_path: Path, as_lmdb: bool
) -> None:
    (tmp_path / 'names.txt').write_text('rocket.png (200,200,3) 1\ncoffee.png\n', encoding='utf-8-sig')
    images = open_images(photos_lmdb if as_lmdb else photos, str(tmp_path / 'names.txt'))
    assert images.names == ['rocket', 'coffee']


@pytest.mark.parametrize('text', ['', '\n \n', '\ufeff'])
@pytest.mark.parametrize('as_lmdb', [False, True])
def test_a_meta_info_file_without_names_says_so(
    photos: Path, photos_lmdb: Path, tmp_path: Path, as_lmdb: bool, text: str
) -> None:
    (tmp_path / 'names.txt').write_text(text, encoding='utf-8')
    with pytest.raises(ValueError, match=f'^{tmp_path}/names.txt lists no images, expected the name of one'):
        open_images(photos_lmdb if as_lmdb else photos, str(tmp_path / 'names.txt'))


def test_an_lmdb_that_lists_nothing_names_its_list(tmp_path: Path) -> None:
    root = lmdb_of(tmp_path / 'set.lmdb', {'baby': b''}, [])
    with pytest.raises(ValueError, match=rf'^{root}/meta_info\.txt lists no images'):
        open_images(root)


def test_a_folder_in_the_place_of_a_meta_info_file_is_named(photos: Path) -> None:
    with pytest.raises(ValueError, match=f'^{photos} cannot be read as a meta information file: Is a directory'):
        open_images(photos, str(photos))


def test_a_missing_meta_info_file_is_an_error_that_names_it(photos: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'none\.txt: no such meta information file'):
        open_images(photos, 'none.txt')


# --------------------------------------------------------------------------------------------------------------- LMDBs


@pytest.mark.parametrize('raw', [False, True])
def test_an_lmdb_gives_the_images_of_its_folder(photos: Path, tmp_path: Path, raw: bool) -> None:
    write_lmdb(photos, tmp_path / 'photos.lmdb', raw=raw)
    folder, packed = open_images(photos), open_images(tmp_path / 'photos.lmdb')
    assert isinstance(packed, ImageLmdb)
    assert packed.names == folder.names
    for name in folder.names:
        np.testing.assert_array_equal(packed.read(name), folder.read(name))


@pytest.mark.parametrize('raw', [False, True])
def test_an_lmdb_gives_a_turned_jpeg_as_its_folder_does(tmp_path: Path, rgb: np.ndarray, raw: bool) -> None:
    exif = Image.Exif()
    exif[0x112] = 8
    (tmp_path / 'phone.jpg').write_bytes(encoded(Image.fromarray(rgb), 'JPEG', exif=exif))
    write_lmdb(tmp_path, tmp_path / 'phone.lmdb', raw=raw)
    turned = open_images(tmp_path).read('phone')
    assert turned.shape == (50, 40, 3)
    np.testing.assert_array_equal(open_images(tmp_path / 'phone.lmdb').read('phone'), turned)
    assert '(50,40,3)' in (tmp_path / 'phone.lmdb' / 'meta_info.txt').read_text(encoding='ascii')


@pytest.mark.parametrize('raw', [False, True])
def test_what_an_lmdb_gives_outlives_its_handle(photos: Path, tmp_path: Path, raw: bool) -> None:
    root = tmp_path / 'photos.lmdb'
    write_lmdb(photos, root, raw=raw)
    images = open_images(root)
    image = images.read('rocket', lambda image: image[10:20, 30:50, :])
    close_environment(root)
    shutil.rmtree(root)
    np.testing.assert_array_equal(image, ImageFolder(str(photos)).read('rocket')[10:20, 30:50])


def lmdb_of(root: Path, values: dict[str, bytes], listed: list[str]) -> Path:
    with lmdb.open(str(root), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    (root / 'meta_info.txt').write_text(''.join(f'{name}.png (4,4,3) 1\n' for name in listed), encoding='utf-8')
    return root


def test_a_key_missing_in_an_lmdb_is_named_with_the_lmdb(tmp_path: Path, rgb: np.ndarray) -> None:
    root = lmdb_of(tmp_path / 'set.lmdb', {'baby': encoded(Image.fromarray(rgb))}, ['baby', 'bird'])
    images = open_images(root)
    np.testing.assert_array_equal(images.read('baby'), rgb)
    with pytest.raises(BadSampleError, match=f"no key 'bird' in {root}"):
        images.read('bird')


def test_keys_with_spaces_are_found_as_basicsr_finds_them(tmp_path: Path, rgb: np.ndarray) -> None:
    names = ['my photo', 'other', 'photo (1)', 'photo (2)']
    root = lmdb_of(tmp_path / 'set.lmdb', dict.fromkeys(names, encoded(Image.fromarray(rgb))), names)
    images = open_images(root)
    assert images.names == names
    np.testing.assert_array_equal(images.read('my photo'), rgb)


@pytest.mark.parametrize('value', [b'', b'no image', b'P6\n4 4\n255\nshort'])
def test_a_damaged_value_of_an_lmdb_is_named_with_the_lmdb(tmp_path: Path, value: bytes) -> None:
    root = lmdb_of(tmp_path / 'set.lmdb', {'baby': value}, ['baby'])
    with pytest.raises(BadSampleError, match=f'^{root}: baby: '):
        open_images(root).read('baby')


def test_a_folder_that_is_no_lmdb_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / 'set.lmdb').mkdir()
    with pytest.raises(FileNotFoundError, match=r'set\.lmdb is not an LMDB'):
        open_images(tmp_path / 'set.lmdb')


@pytest.mark.parametrize('content', [b'', b'rubbish' * 4000])
def test_a_damaged_database_is_an_error_that_names_it(photos: Path, tmp_path: Path, content: bytes) -> None:
    root = tmp_path / 'photos.lmdb'
    write_lmdb(photos, root)
    (root / 'data.mdb').write_bytes(content)
    with pytest.raises(ValueError, match=r'photos\.lmdb is not a whole LMDB'):
        open_images(root)


def test_a_database_cut_short_is_an_error_and_not_a_bus_error(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / 'photos.lmdb'
    write_lmdb(photos, root)
    size = os.path.getsize(root / 'data.mdb')
    os.truncate(root / 'data.mdb', size // 2)
    with pytest.raises(ValueError, match=rf'photos\.lmdb is not a whole LMDB: .* {size // 2} bytes, expected .*{size}'):
        open_images(root)


def test_a_replaced_database_is_read_anew(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / 'photos.lmdb'
    write_lmdb(photos, root)
    images = open_images(root)
    before = images.read('rocket')
    darker = tmp_path / 'darker'
    darker.mkdir()
    Image.fromarray(before // 2).save(darker / 'rocket.png')
    write_lmdb(darker, root, overwrite=True)
    np.testing.assert_array_equal(images.read('rocket'), before // 2)


def test_io_backend_lmdb_with_a_folder_is_an_error(photos: Path) -> None:
    with pytest.raises(ValueError, match=r"does not end in '\.lmdb'"):
        open_images(photos, lmdb=True)


def test_the_first_word_of_each_line_of_meta_information_counts(tmp_path: Path) -> None:
    path = tmp_path / 'meta_info.txt'
    path.write_bytes('a.png (1,2,3) 1\r\n\r\nsub/ü.png\n'.encode())
    assert read_meta_info(str(path)) == ['a.png', 'sub/ü.png']


# --------------------------------------------------------------------------------------------------------------- alpha


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A file that has what this process and its workers log."""
    handler = logging.FileHandler(tmp_path / 'log.txt')
    logger = get_root_logger()
    logger.addHandler(handler)
    yield tmp_path / 'log.txt'
    logger.removeHandler(handler)
    handler.close()


class _Reads(Dataset[int]):
    def __init__(self, images: ImageFolder | ImageLmdb) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images.names)

    def __getitem__(self, index: int) -> int:
        return self.images.read(self.images.names[index]).shape[2]


@pytest.mark.parametrize('workers', [0, 2])
def test_alpha_is_warned_of_once_whatever_the_number_of_workers(
    tmp_path: Path, rgb: np.ndarray, workers: int, log: Path
) -> None:
    for number in range(4):
        Image.fromarray(rgb).convert('RGBA').save(tmp_path / f'{number}.png')
    images = ImageFolder(str(tmp_path))
    # The loader's threads and processes start one after the other; the second one finds that it was said.
    assert [int(channels) for channels in DataLoader(_Reads(images), num_workers=workers)] == [3] * 4
    images.read('0')
    said = log.read_text(encoding='utf-8').splitlines()
    assert len(said) == 1
    assert str(tmp_path) in said[0]


def test_images_of_an_open_lmdb_can_be_sent_to_a_process(photos_lmdb: Path) -> None:
    images = open_images(photos_lmdb)
    before = images.read('rocket')
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images)).read('rocket'), before)
