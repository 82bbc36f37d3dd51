"""Build the page that restores photographs in a browser, into a folder that a server or a disk can hold.

Example: python tools/build_page.py docs/_build/html/try

onnxruntime-web comes from the registry that npm is set up for, or from a folder that has the files of its dist.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import manet_basicsr
from manet_basicsr.archs import BlindSRNet
from manet_basicsr.restoration.restoring import load_blind_network
from manet_basicsr.restoration.tiling import OVERLAP
from manet_basicsr.utils.files import atomic_folder, refuse_existing
from manet_basicsr.weights.export import export_onnx

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / 'tools/page'
DRAWING = ROOT / 'manet_basicsr/explorer/drawing.js'

PACKAGE, VERSION = 'onnxruntime-web', '1.30.0'
INTEGRITY = 'sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=='
#: What each device needs of onnxruntime-web: the program, what starts its WebAssembly, and that.
RUNTIMES = {
    device: {'program': f'ort.{device}.min.js', 'glue': f'{wasm}.mjs', 'binary': f'{wasm}.wasm'}
    for device, wasm in (('wasm', 'ort-wasm-simd-threaded'), ('webgpu', 'ort-wasm-simd-threaded.asyncify'))
}


def build(target: Path, runtime: Mapping[str, bytes], weights: str | None = None, overwrite: bool = False) -> None:
    """Write the page's folder, whole or not at all.

    Args:
        target: The folder.
        runtime: Files of onnxruntime-web by name, those of :data:`RUNTIMES`.
        weights: File of weights of a blind network, or ``weights://NAME``; None for those that ship for x4.
        overwrite: Whether an existing folder is replaced.

    Raises:
        FileExistsError: The folder exists, and is not to be replaced.
        FileNotFoundError: There is no such file of weights.
        ValueError: The weights are no blind network's, or packages that export needs are missing.
    """
    network = load_blind_network(weights)
    with atomic_folder(target, overwrite=overwrite) as folder:
        (folder / 'parts').mkdir()
        parts = {
            'model': model_part(network),
            'worker': {'program': (SOURCES / 'worker.js').read_bytes()},
            **{device: {name: runtime[file] for name, file in files.items()} for device, files in RUNTIMES.items()},
        }
        for name, contents in parts.items():
            (folder / f'parts/{name}.js').write_text(part_script(name, contents), encoding='ascii')
        program = ''.join(file.read_text(encoding='utf-8') for file in (DRAWING, SOURCES / 'page.js'))
        (folder / 'page.js').write_text(program, encoding='utf-8')
        for name in ('page.css', 'isolate.js', 'LICENSES.txt'):
            shutil.copyfile(SOURCES / name, folder / name)
        words = {'scale': str(network.scale), 'version': manet_basicsr.__version__}
        page = (SOURCES / 'index.html').read_text(encoding='utf-8')
        page = re.sub('@(scale|version)@', lambda place: words[place[1]], page)
        (folder / 'index.html').write_text(page, encoding='utf-8')


def part_script(name: str, contents: Mapping[str, bytes]) -> str:
    """Write files as a script that puts them, deflated and in base64, into ``parts`` under a name.

    A page that is opened from a disk may load scripts and nothing else.
    """
    texts = {key: base64.b64encode(zlib.compress(content, 9)).decode('ascii') for key, content in contents.items()}
    return f'(self.parts ??= {{}})[{json.dumps(name)}] = {json.dumps(texts)};\n'


def model_part(network: BlindSRNet) -> dict[str, bytes]:
    """Export the two networks, and tell what tiling them needs to know."""
    estimator, generator = network.kernel_estimation, network.generator
    facts = {
        'scale': network.scale,
        'kernelSize': estimator.kernel_size,
        'halo': estimator.halo,
        'sizeMultiple': estimator.size_multiple,
        'overlap': OVERLAP,
        'floatsPerPixel': max(estimator.floats_per_pixel, generator.floats_per_pixel),
    }
    contents = {'facts': json.dumps(facts).encode()}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (('estimator', estimator), ('generator', generator)):
            path = Path(folder) / f'{name}.onnx'
            export_onnx(part, path)
            contents[name] = with_half_weights(path.read_bytes())
    return contents


def with_half_weights(content: bytes) -> bytes:
    """Keep the weights of an ONNX model in float16 where that changes none of them, as in the files that ship.

    The model is half as large and computes in float32 as before: onnxruntime converts the weights as it loads it.
    """
    import onnx
    from onnx import numpy_helper

    model: Any = onnx.load_model_from_string(content)
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        with np.errstate(over='ignore'):
            half = values.astype(np.float16)
        if values.dtype != np.float32 or values.size < 2 or not (half.astype(np.float32) == values).all():
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f'{name}.half'))
        casts.append(onnx.helper.make_node('Cast', [tensor.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def fetch_runtime() -> dict[str, bytes]:
    """Fetch onnxruntime-web by npm, in the version that is pinned here.

    Returns:
        Its files of :data:`RUNTIMES` by name.

    Raises:
        ValueError: npm is missing or fails, or what came is not what was pinned.
    """
    npm = shutil.which('npm')
    if npm is None:
        raise ValueError(f'npm is not installed; install Node.js, or give the dist folder of {PACKAGE} {VERSION}')
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, 'pack', f'{PACKAGE}@{VERSION}', '--prefer-offline', '--pack-destination', folder]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
        archives = list(Path(folder).glob('*.tgz'))
        if done.returncode or not archives:
            words = next((line for line in done.stderr.splitlines() if line.strip()), 'no word of why')
            raise ValueError(f'npm could not fetch {PACKAGE} {VERSION}: {words}')
        return read_archive(archives[0])


def read_archive(path: Path, integrity: str = INTEGRITY) -> dict[str, bytes]:
    """Read the files of :data:`RUNTIMES` from npm's archive.

    Args:
        path: The ``.tgz`` file.
        integrity: Its checksum as npm writes it, ``sha512-BASE64``.

    Raises:
        ValueError: It has another checksum.
    """
    kind, _, _ = integrity.partition('-')
    found = f'{kind}-{base64.b64encode(hashlib.new(kind, path.read_bytes()).digest()).decode()}'
    if found != integrity:
        raise ValueError(f'{path.name} has the checksum {found}, expected {integrity}; nothing of it is used')
    with tarfile.open(path) as archive:
        return {name: _member(archive, f'package/dist/{name}') for name in _runtime_files()}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None  # no folder: the checksum says what is in the archive
    return file.read()


def _runtime_files() -> list[str]:
    return [name for files in RUNTIMES.values() for name in files.values()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 where nothing was written."""
    introduction, example, note = (__doc__ or '').strip().split('\n\n')
    parser = argparse.ArgumentParser(description=introduction, epilog=f'{example} {note}')
    parser.add_argument('target', type=Path, help='folder to write')
    parser.add_argument('--runtime', type=Path, metavar='FOLDER', help=f'dist folder of {PACKAGE} {VERSION}')
    parser.add_argument('--weights', help='file of weights of stage 3, instead of those that ship')
    parser.add_argument('--force', action='store_true', help='replace an existing folder')
    options = parser.parse_args(arguments)
    try:
        refuse_existing(options.target, overwrite=options.force, switch='--force')
        if options.runtime is None:
            runtime = fetch_runtime()
        else:
            runtime = {name: (options.runtime / name).read_bytes() for name in _runtime_files()}
        build(options.target, runtime, options.weights, options.force)
    except (OSError, ValueError) as error:
        print(f'build_page: {error}', file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in options.target.rglob('*') if file.is_file())
    print(f'{options.target}/index.html: {size / 1e6:.0f} MB with all its parts')
    return 0


if __name__ == '__main__':
    sys.exit(main())
