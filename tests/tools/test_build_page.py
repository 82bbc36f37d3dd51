"""The folder of the page that restores: complete, asking for nothing from elsewhere, with the weights as they are."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import runpy
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.shortened import ROOT
from tests.small_networks import blind_weights

RUNTIME = {
    'ort.wasm.min.js': b'program',
    'ort-wasm-simd-threaded.mjs': b'glue',
    'ort-wasm-simd-threaded.wasm': b'\0asm',
    'ort.webgpu.min.js': b'program of WebGPU',
    'ort-wasm-simd-threaded.asyncify.mjs': b'glue of WebGPU',
    'ort-wasm-simd-threaded.asyncify.wasm': b'\0asm of WebGPU',
}


@pytest.fixture
def tool() -> dict[str, Any]:
    """The tool's names; its functions see what is set in their globals."""
    return runpy.run_path(str(ROOT / 'tools/build_page.py'))


def contents(script: Path) -> dict[str, bytes]:
    """Give what a part has, as the page reads it."""
    found = re.fullmatch(r'\(self\.parts \?\?= \{\}\)\["(\w+)"\] = (\{.*\});\n', script.read_text())
    assert found is not None and found[1] == script.stem
    return {name: zlib.decompress(base64.b64decode(text)) for name, text in json.loads(found[2]).items()}


@pytest.fixture
def page(tool: dict[str, Any], tmp_path: Path) -> Path:
    """A page whose networks are not exported, which takes long."""
    tool['main'].__globals__['model_part'] = lambda network: {'facts': json.dumps({'scale': network.scale}).encode()}
    (tmp_path / 'dist').mkdir()
    for name, content in RUNTIME.items():
        (tmp_path / 'dist' / name).write_bytes(content)
    words = [str(tmp_path / 'try'), '--runtime', str(tmp_path / 'dist'), '--weights', str(blind_weights(tmp_path, 2))]
    assert tool['main'](words) == 0
    return tmp_path / 'try'


def test_the_folder_has_all_that_the_page_asks_for(page: Path) -> None:
    html = (page / 'index.html').read_text()
    names = re.findall(r'(?:src|href)="([^":#]+)"', html)
    assert {'page.css', 'page.js', 'LICENSES.txt'} <= set(names)
    assert all((page / name).is_file() for name in names if name != '../restore.html')
    assert contents(page / 'parts/wasm.js') == {'program': b'program', 'glue': b'glue', 'binary': b'\0asm'}
    assert contents(page / 'parts/webgpu.js')['binary'] == b'\0asm of WebGPU'
    assert contents(page / 'parts/worker.js')['program'] == (ROOT / 'tools/page/worker.js').read_bytes()
    assert json.loads(contents(page / 'parts/model.js')['facts']) == {'scale': 2}
    assert 'data-scale="2"' in html and not re.search(r'@\w+@', html)


def test_it_asks_for_nothing_from_elsewhere(page: Path) -> None:
    for file in (path for path in page.rglob('*') if path.is_file()):
        assert not re.search(r'(?:https?:)?//[a-z]+\.', file.read_text()), file
    assert "default-src 'none'" in (page / 'index.html').read_text()
    assert 'connect-src' not in (page / 'index.html').read_text()


def test_elements_that_the_program_names_are_on_the_page(page: Path) -> None:
    ids = set(re.findall(r' id="([\w-]+)"', (page / 'index.html').read_text()))
    program = (ROOT / 'tools/page/page.js').read_text()
    assert set(re.findall(r"byId\('([\w-]+)'\)", program)) <= ids
    labelled = set(re.findall(r'for="([\w-]+)"', (page / 'index.html').read_text()))
    assert labelled <= ids


def test_a_folder_is_replaced_only_if_asked(
    tool: dict[str, Any], page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (page / 'mine.txt').write_text('mine')
    words = [str(page), '--runtime', str(page.parent / 'dist'), '--weights', str(page.parent / 'blind_x2.pth')]
    assert tool['main'](words) == 2
    assert 'try already exists; --force replaces it' in capsys.readouterr().err
    assert (page / 'mine.txt').exists()
    tool['main'].__globals__['model_part'] = lambda network: {}
    assert tool['main']([*words, '--force']) == 0
    assert not (page / 'mine.txt').exists()


def test_what_npm_brings_is_used_only_with_its_checksum(tool: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / 'runtime.tgz'
    with tarfile.open(path, 'w:gz') as archive:
        for name, content in {**RUNTIME, 'other.js': b'other'}.items():
            info = tarfile.TarInfo(f'package/dist/{name}')
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    integrity = f'sha512-{base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()}'
    assert tool['read_archive'](path, integrity) == RUNTIME
    with pytest.raises(ValueError, match=r'runtime.tgz has the checksum sha512-.*, expected sha512-.*; nothing of it'):
        tool['read_archive'](path)


def test_without_npm_the_tool_says_what_to_do(
    tool: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    assert tool['main']([str(tmp_path / 'try')]) == 2
    assert 'npm is not installed; install Node.js, or give the dist folder' in capsys.readouterr().err
    assert not (tmp_path / 'try').exists()


def test_weights_are_halved_only_where_nothing_is_lost(tool: dict[str, Any]) -> None:
    onnx = pytest.importorskip('onnx', reason='the extra onnx is not installed')
    onnxruntime = pytest.importorskip('onnxruntime', reason='the extra onnx is not installed')
    shipped = np.random.default_rng(0).normal(size=300).astype(np.float16).astype(np.float32)
    basis = np.random.default_rng(1).normal(size=300).astype(np.float32)
    large = np.array([1e6, 2e6], np.float32)  # beyond float16
    weights = {'shipped': shipped, 'basis': basis, 'large': large}
    total = [onnx.helper.make_node('ReduceSum', ['large'], ['sum'], keepdims=1)]
    nodes = [*total, onnx.helper.make_node('Mul', ['x', 'shipped'], ['scaled'])]
    nodes += [
        onnx.helper.make_node('Add', ['scaled', 'basis'], ['y']),
        onnx.helper.make_node('Add', ['y', 'sum'], ['z']),
    ]
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [300]) for name in 'xz']
    tensors = [onnx.numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = onnx.helper.make_graph(nodes, 'graph', value[:1], value[1:], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 18)], ir_version=8)
    light = tool['with_half_weights'](model.SerializeToString())
    kept = {tensor.name: tensor.data_type for tensor in onnx.load_model_from_string(light).graph.initializer}
    assert kept == {
        'shipped.half': onnx.TensorProto.FLOAT16,
        'basis': onnx.TensorProto.FLOAT,
        'large': onnx.TensorProto.FLOAT,
    }
    x = np.linspace(-1, 1, 300, dtype=np.float32)
    results = [
        onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider']).run(None, {'x': x})[0]
        for content in (model.SerializeToString(), light)
    ]
    assert np.array_equal(*results)
