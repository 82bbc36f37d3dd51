"""Feed damaged files to everything that reads one, and see that each is named or read, and nothing else happens.

    python tools/fuzz_readers.py --seconds 120

Starts from real files, made here: images of every format, which are also restored and written again, LMDB values and
meta information, option files, kernel fields, manifests, weights, training states and PCA bases. Each is damaged at
random (bits, bytes, cuts, insertions, lying sizes, pieces of other files) and read. What may happen: the reader gives
something that holds what it promises, or raises its own one-line error. What may not: another error, more than 10
seconds, or 2 GB of memory. A damaged database file is read in a child process, for LMDB itself may die of it, which is
counted apart. Exit codes: 0 all well; 1 not, and the inputs are kept.
"""

from __future__ import annotations

import argparse
import collections
import io
import itertools
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import psutil
import skimage.data
import tifffile
import torch
from PIL import Image, ImageCms

from manet_basicsr import restore
from manet_basicsr.archs import BlindSRNet
from manet_basicsr.data.field_files import load_field, save_field
from manet_basicsr.data.image_files import decode_image_file
from manet_basicsr.data.image_headers import MAX_PIXELS
from manet_basicsr.data.images import ImageLmdb, decode_image
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.data.manifest import Manifest, ManifestEntry, read_manifest, write_manifest
from manet_basicsr.data.pictures import Pictures
from manet_basicsr.data.raw_pixels import encode_raw
from manet_basicsr.degradation import load_pca_basis
from manet_basicsr.options.checks import find_problems
from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.reading import load_options
from manet_basicsr.restoration.photographs import read_photograph, write_photograph
from manet_basicsr.restoration.pictures import write_pictures
from manet_basicsr.training.checkpoints import load_state, save_atomically
from manet_basicsr.utils.errors import BadSampleError
from manet_basicsr.utils.lmdb_handles import close_environment
from manet_basicsr.weights import load_state_dict_file

ROOT = Path(__file__).resolve().parents[1]
SECONDS_AN_INPUT = 10
MEMORY = 2 * 2**30
RESTORED_PIXELS = 64 * 64
WORDS = (b'nan', b'-1', b'1e999', b'null', b'[]', b'{}', b'!!python/object:os.system', b'&a', b'*a', b'~', b'\n')


@dataclass(frozen=True)
class Reader:
    """Something that reads files: the files to damage, how to read one, and the errors that it may raise."""

    seeds: list[bytes]
    suffix: str
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...]


class TooSlowError(Exception):
    """An input took longer than it may."""


def read_image(path: Path) -> None:
    image = decode_image(path.read_bytes(), str(path))
    assert image.dtype in (np.uint8, np.uint16) and image.ndim == 3 and image.shape[2] == 3
    assert 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS


def restore_into(folder: Path) -> Callable[[Path], object]:
    """Give what restoring does with a file: read, restored where it is small, written in each format and read again."""
    torch.manual_seed(0)
    generator = {'type': 'SFTRRDBNet', 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4, 'scale': 2}
    network = BlindSRNet({'type': 'MANet', 'num_feat': 8}, generator).eval()

    def read(path: Path) -> None:
        found = read_photograph(path)
        height, width = found.pixels.shape[:2]
        if height * width > RESTORED_PIXELS:
            return
        restored = restore(found.pixels, network, device='cpu').image
        assert (
            restored.shape == (2 * height, 2 * width, *found.pixels.shape[2:]) and restored.dtype == found.pixels.dtype
        )
        for suffix in ('png', 'tif', 'jpg', 'webp'):
            target = folder / f'restored.{suffix}'
            remarks = write_photograph(target, replace(found, pixels=restored))
            assert all(remark and '\n' not in remark for remark in (*found.remarks, *remarks))
            again = read_photograph(target)
            assert again.pixels.shape[:2] == restored.shape[:2]
            assert suffix not in ('png', 'tif') or (again.pixels == restored).all()
            assert found.profile is None or remarks or again.profile is not None

    return read


def read_options(path: Path) -> None:
    for is_train in (True, False):
        problems = find_problems(load_options(path), is_train=is_train)
        assert all(isinstance(problem, str) and problem for problem in problems)


def read_field(path: Path) -> None:
    saved = load_field(path)
    assert saved.field.isfinite().all() and saved.field.shape[1] == saved.kernel_size**2


def read_images_of(database: Path) -> None:
    """Read every image of an LMDB."""
    close_environment(database)
    images = ImageLmdb(str(database))
    for name in images.names:
        images.read(name)


def read_meta_info_beside(database: Path) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        shutil.copy(path, database / 'meta_info.txt')
        read_images_of(database)

    return read


def read_database_in_a_child(database: Path) -> Callable[[Path], object]:
    """Give a reader of ``data.mdb`` that says whether LMDB died of it."""

    def read(path: Path) -> object:
        shutil.copy(path, database / 'data.mdb')
        process = os.fork()
        if process == 0:
            try:
                read_images_of(database)
            except (ValueError, FileNotFoundError):
                os._exit(1)
            except BaseException:
                os._exit(2)
            os._exit(0)
        status = os.waitpid(process, 0)[1]
        if os.WIFSIGNALED(status):
            return 'LMDB died'
        assert os.WEXITSTATUS(status) < 2
        if os.WEXITSTATUS(status):
            raise ValueError
        return None

    return read


def image_seeds() -> list[bytes]:
    """Encode a small photograph in every format."""
    image = np.ascontiguousarray(skimage.data.astronaut()[100:124, 100:132, ::-1])
    deep = image.astype(np.uint16) * 257
    encoded = [cv2.imencode(kind, image)[1].tobytes() for kind in ('.png', '.jpg', '.bmp', '.tiff', '.webp', '.ppm')]
    with_alpha, not_numbers = np.dstack([image, image[..., :1]]), np.full((4, 4, 3), np.nan, np.float32)
    encoded += [cv2.imencode('.png', kind)[1].tobytes() for kind in (deep, image[..., 0], with_alpha)]
    encoded += [cv2.imencode('.tiff', kind)[1].tobytes() for kind in (deep, not_numbers)]
    planar, premultiplied = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(planar, deep.transpose(2, 0, 1), photometric='rgb', planarconfig='separate', tile=(16, 16))
    tifffile.imwrite(premultiplied, with_alpha, photometric='rgb', extrasamples=['assocalpha'], compression='lzw')
    encoded += [planar.getvalue(), premultiplied.getvalue()]
    encoded += [said_of(image, kind) for kind in ('PNG', 'JPEG', 'WEBP', 'TIFF')]
    return [*encoded, encode_raw(image)]


def said_of(image: np.ndarray, kind: str) -> bytes:
    """Encode an image with EXIF data of three directories and a colour profile."""
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010F] = 6, 'Camera works'
    exif.get_ifd(0x8769).update({0x829A: 0.004, 0x927C: b'notes', 0xA002: 32, 0xA003: 24})
    exif.get_ifd(0x8825).update({1: 'N', 2: (48.0, 30.0, 5.0)})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    Image.fromarray(image).save(content, kind, exif=exif, icc_profile=profile)
    return content.getvalue()


def seeds_of_pictures() -> list[bytes]:
    """Encode animations and pages."""
    frames = [Image.fromarray(np.roll(skimage.data.astronaut()[100:116, 100:120], 3 * n, 1)) for n in range(3)]
    seeds = []
    for kind in ('GIF', 'PNG', 'WEBP', 'TIFF'):
        content = io.BytesIO()
        timing: dict[str, Any] = {} if kind == 'TIFF' else {'duration': 40}
        frames[0].save(content, kind, save_all=True, append_images=frames[1:], **timing)
        seeds.append(content.getvalue())
    return seeds


def read_pictures_into(folder: Path) -> Callable[[Path], object]:
    """Give what is done with all pictures of a file: read one by one, written and counted again."""

    def read(path: Path) -> None:
        content = path.read_bytes()
        pictures = Pictures(content, str(path), decode_image_file(content, str(path)))
        target = folder / ('pictures.tif' if pictures.are_pages else 'pictures.png')
        if pictures.first.pictures > 1 and pictures.first.pixels.size <= 4 * RESTORED_PIXELS:
            shown = list(itertools.islice(pictures, 8))
            write_pictures(target, shown, pictures.loops)
            assert decode_image_file(target.read_bytes(), 'again').pictures == len(shown)

    return read


def make_readers(folder: Path) -> dict[str, Reader]:
    """Make the files to damage, and what reads them."""
    images = folder / 'images'
    images.mkdir()
    for number, seed in enumerate(image_seeds()[:2]):
        (images / f'{number}{(".png", ".jpg")[number]}').write_bytes(seed)
    for name in ('meta.lmdb', 'data.lmdb'):
        write_lmdb(images, folder / name)
    field = torch.rand(441, 3, 4) + 0.01
    save_field(folder / 'field.npz', field / field.sum(0), scale=4, alignment='centered')
    kernels = {'a_k0': ManifestEntry('a', torch.ones(2, 3, 3))}
    write_manifest(Manifest(4, 21, 'centered', kernels), folder / 'kernels.json')
    save_atomically({'params': {'weight': torch.ones(20, 3)}}, folder / 'net.pth')
    save_atomically({'iter': 3, 'optimizers': [{'state': {0: torch.ones(9)}}], 'schedulers': []}, folder / '3.state')
    np.save(folder / 'basis.npy', np.ones((81, 4), np.float32))
    options = [path.read_bytes() for path in sorted((ROOT / 'options').glob('*/*_x4.yml'))]
    numbers = (ValueError, FileNotFoundError)
    meta, data = folder / 'meta.lmdb', folder / 'data.lmdb'

    def file(name: str, read: Callable[[Path], object]) -> Reader:
        return Reader([(folder / name).read_bytes()], Path(name).suffix, read, numbers)

    return {
        'image': Reader(image_seeds(), '.png', read_image, (BadSampleError,)),
        'restored image': Reader(image_seeds()[:-1], '.png', restore_into(folder), (BadSampleError,)),
        'pictures': Reader(seeds_of_pictures(), '.png', read_pictures_into(folder), (BadSampleError,)),
        'option file': Reader(options, '.yml', read_options, (OptionError,)),
        'meta_info.txt': file('meta.lmdb/meta_info.txt', read_meta_info_beside(meta)),
        'data.mdb': file('data.lmdb/data.mdb', read_database_in_a_child(data)),
        'kernel field': file('field.npz', read_field),
        'manifest': file('kernels.json', read_manifest),
        'weights': file('net.pth', load_state_dict_file),
        'training state': file('3.state', load_state),
        'PCA basis': file('basis.npy', lambda path: load_pca_basis(4, 9, 4, path)),
    }


def damage(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Change a file's content in one to eight random ways."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        place = draw.randrange(len(data) + 1)
        # Half of the damage goes where the sizes are.
        place = min(place, draw.randrange(64)) if draw.random() < 0.5 else place
        way = draw.randrange(8)
        if way == 0 and place < len(data):
            data[place] ^= 1 << draw.randrange(8)
        elif way == 1 and place < len(data):
            data[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, draw.randrange(256)))
        elif way == 2:
            del data[place:]
        elif way == 3:
            del data[place : place + draw.randrange(1, 64)]
        elif way == 4:
            data[place:place] = draw.randbytes(draw.randrange(1, 64))
        elif way == 5:
            size = draw.choice((2, 4, 8))
            number = draw.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 10**5, 60_000))
            data[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, draw.choice(('little', 'big')))
        elif way == 6:
            other = draw.choice(others)
            begin = draw.randrange(len(other) + 1)
            data[place : place + draw.randrange(256)] = other[begin : begin + draw.randrange(256)]
        else:
            data[place:place] = draw.choice(WORDS)
    return bytes(data)


def too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TooSlowError(f'longer than {SECONDS_AN_INPUT} s')


def limit_memory() -> None:
    """Let this process have so much more memory than it has now."""
    limit = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def fuzz(seconds: float, seed: int, kept: Path) -> tuple[dict[str, collections.Counter[str]], int]:
    """Read damaged files for so long; give what happened, by reader, and the number of faults."""
    draw = random.Random(seed)
    signal.signal(signal.SIGALRM, too_slow)
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        readers = make_readers(folder)
        limit_memory()
        end = time.monotonic() + seconds
        spent = dict.fromkeys(readers, 0.0)
        while (begun := time.monotonic()) < end:
            # As much time for each reader: an option file takes as long as fifty images.
            label = min(spent, key=lambda label: spent[label])
            reader = readers[label]
            content = damage(draw.choice(reader.seeds), reader.seeds, draw)
            path = folder / f'damaged{reader.suffix}'
            path.write_bytes(content)
            outcome = read_damaged(reader, path)
            spent[label] += time.monotonic() - begun
            counts[label][outcome.partition(':')[0]] += 1
            if outcome.startswith('FAULT'):
                faults += 1
                kept.mkdir(parents=True, exist_ok=True)
                file = kept / f'{faults}{reader.suffix}'
                file.write_bytes(content)
                print(f'{label}: {outcome} ({file})', file=sys.stderr)
    return counts, faults


def read_damaged(reader: Reader, path: Path) -> str:
    """Read a file and say what happened."""
    signal.alarm(SECONDS_AN_INPUT)
    try:
        result: Any = reader.read(path)
    except reader.errors as error:
        several = '\n' in str(error) and not isinstance(error, OptionError)
        return 'FAULT: a message of several lines' if several else 'named'
    except Exception as error:
        return f'FAULT: {error!r}'
    finally:
        signal.alarm(0)
    return result if isinstance(result, str) else 'read'


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60, metavar='S')
    parser.add_argument('--seed', type=int, default=0, metavar='N')
    parser.add_argument('--keep', type=Path, default=Path('fuzz_faults'), metavar='FOLDER', help='for inputs at fault')
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    os.environ['OPENCV_LOG_LEVEL'] = 'SILENT'
    cv2.setNumThreads(1)
    counts, faults = fuzz(options.seconds, options.seed, options.keep)
    for label, counter in counts.items():
        words = ', '.join(f'{number:,d} {outcome}' for outcome, number in sorted(counter.items()))
        print(f'{label:15} {sum(counter.values()):8,d} inputs: {words}')
    total = sum(sum(counter.values()) for counter in counts.values())
    print(f'{"all":15} {total:8,d} inputs, {faults} at fault')
    return 1 if faults else 0


if __name__ == '__main__':
    sys.exit(main())
