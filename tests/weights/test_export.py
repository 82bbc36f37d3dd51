"""Networks in other programs: ONNX, and torch's compiler."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from manet_basicsr import archs
from manet_basicsr.archs import BlindSRNet
from manet_basicsr.weights import export
from manet_basicsr.weights.export import export_onnx
from tests.shortened import ROOT
from tests.small_networks import ESTIMATOR, GENERATOR, blind_network, blind_weights

LQ = torch.rand(1, 3, 17, 13, generator=torch.Generator().manual_seed(0))
FIELD = torch.full((1, 441, 1, 1), 1 / 441)


@pytest.fixture(scope='module')
def onnxruntime() -> Any:
    for name in ('onnx', 'onnxscript'):
        pytest.importorskip(name, reason='the extra onnx is not installed')
    return pytest.importorskip('onnxruntime', reason='the extra onnx is not installed')


def run(onnxruntime: Any, path: Path, lq: Tensor, **more: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    inputs = {'lq': lq, **more}
    return torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0])


@pytest.fixture(scope='module')
def main() -> Callable[[list[str]], int]:
    """The script that exports a file of weights."""
    return runpy.run_path(str(ROOT / 'scripts/export_onnx.py'))['main']


@pytest.fixture(scope='module')
def exported(onnxruntime: Any, main: Callable[[list[str]], int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the estimator and the blind network of x4 as ONNX."""
    folder = tmp_path_factory.mktemp('onnx')
    assert export_onnx(blind_network(4).kernel_estimation, folder / 'estimator.onnx') < 1e-5
    assert main([str(blind_weights(folder, 4)), str(folder / 'blind.onnx')]) == 0
    return folder


@pytest.mark.parametrize('part', ['estimator', 'blind'])
def test_exported_networks_give_the_same_at_any_size(onnxruntime: Any, exported: Path, part: str) -> None:
    network = blind_network(4)
    original: Any = network.kernel_estimation if part == 'estimator' else network
    for batch, height, width in ((1, 8, 8), (3, 21, 34), (2, 5, 64)):
        lq = torch.rand(batch, 3, height, width)
        expected = original(lq).detach()
        found = run(onnxruntime, exported / f'{part}.onnx', lq)
        # float32 rounding in another order of summation
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_an_exported_generator_takes_the_field_of_the_exported_estimator(
    onnxruntime: Any, exported: Path, main: Callable[[list[str]], int]
) -> None:
    network = blind_network(4)
    torch.save({'params': network.generator.state_dict()}, exported / 'stage2.pth')
    assert main([str(exported / 'stage2.pth'), str(exported / 'generator.onnx')]) == 0
    for batch, height, width in ((1, 8, 8), (2, 21, 34)):
        lq = torch.rand(batch, 3, height, width)
        field = run(onnxruntime, exported / 'estimator.onnx', lq)
        found = run(onnxruntime, exported / 'generator.onnx', lq, field=field)
        expected = network(lq).detach()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_inputs_and_outputs_have_names_and_free_sizes(onnxruntime: Any, exported: Path) -> None:
    session = onnxruntime.InferenceSession(str(exported / 'blind.onnx'), providers=['CPUExecutionProvider'])
    (lq,), (sr,) = session.get_inputs(), session.get_outputs()
    assert (lq.name, lq.shape) == ('lq', ['batch', 3, 'height', 'width'])
    assert (sr.name, sr.shape) == ('sr', ['batch', 3, '4*height', '4*width'])


def test_files_are_of_versions_that_older_programs_read(exported: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip('onnx')
    export_onnx(blind_network(2), tmp_path / 'half.onnx', half=True)
    for file in (exported / 'estimator.onnx', exported / 'blind.onnx', tmp_path / 'half.onnx'):
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        # onnxruntime 1.17 reads IR 9 and opset 20, 1.14 IR 8 and opset 18.
        assert model.ir_version == 8
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [('', 18)]


def test_half_precision_halves_the_file_and_hardly_changes_the_image(
    onnxruntime: Any, exported: Path, main: Callable[[list[str]], int]
) -> None:
    target = exported / 'half.onnx'
    assert main([str(exported / 'blind_x4.pth'), str(target), '--half']) == 0
    session = onnxruntime.InferenceSession(str(target), providers=['CPUExecutionProvider'])
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == 'tensor(float16)'
    found, expected = run(onnxruntime, target, LQ.half()).float(), run(onnxruntime, exported / 'blind.onnx', LQ)
    assert 0 < (found - expected).abs().max() < 1e-2 * expected.abs().max()
    network = blind_network(4)
    export_onnx(network, exported / 'again.onnx', half=True)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_a_network_is_left_as_it_was(onnxruntime: Any, tmp_path: Path) -> None:
    network = blind_network(2).kernel_estimation.train()
    network.m_head.eval()
    before = [module.training for module in network.modules()]
    export_onnx(network, tmp_path / 'estimator.onnx')
    assert [module.training for module in network.modules()] == before
    assert len(set(before)) == 2


def test_an_export_that_does_not_agree_is_not_written(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (exported / 'blind.onnx').read_bytes()
    monkeypatch.setattr(export, '_export', lambda *arguments: content)
    for other in (blind_network(2), BlindSRNet(ESTIMATOR, GENERATOR)):  # of another scale, of other weights
        with pytest.raises(ValueError, match=r'net.onnx: the exported model differs by .*; not written'):
            export_onnx(other, tmp_path / 'net.onnx')
    assert not (tmp_path / 'net.onnx').exists()


def test_the_script_replaces_nothing_and_says_what_is_wrong(
    exported: Path, main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    weights, target = str(exported / 'blind_x4.pth'), str(exported / 'blind.onnx')
    assert main([weights, target]) == 2
    assert 'blind.onnx already exists; --force replaces it' in capsys.readouterr().err
    assert main(['absent.pth', target, '--force']) == 2
    assert 'absent.pth: no such file of weights' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('name', 'arguments', 'inputs'),
    [
        ('MAConv', {'in_channels': 3, 'out_channels': 5}, (LQ,)),
        ('MABlock', {'in_channels': 3, 'out_channels': 3}, (LQ,)),
        ('MANet', {'num_feat': 8}, (LQ,)),
        ('SFTRRDBNet', {'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}, (LQ, FIELD)),
        ('SRMDNet', {'num_feat': 8, 'num_conv': 3}, (LQ, FIELD)),
        ('MAEDSR', {'num_feat': 8, 'num_block': 1}, (LQ,)),
        ('HAN', {'num_feat': 16, 'num_group': 2, 'num_block': 1}, (LQ,)),
        ('SFTMD', {'num_feat': 8, 'num_block': 1}, (LQ, FIELD)),
        ('CFSNet', {'num_feat': 8, 'num_block': 2}, (LQ, FIELD)),
        ('CResMD', {'num_feat': 8, 'num_block': 2}, (LQ, FIELD)),
        ('IKCNet', {'generator': GENERATOR, 'num_feat': 8, 'num_correction': 2}, (LQ,)),
        ('DANNet', {'num_feat': 8, 'num_group': 2, 'num_block': 1, 'num_estimator_block': 1, 'num_loop': 2}, (LQ,)),
        ('SRSVDNet', {'generator': GENERATOR, 'num_feat': 8, 'num_block': 2}, (LQ, FIELD)),
        ('BlindSRNet', {'estimator': ESTIMATOR, 'generator': GENERATOR}, (LQ,)),
    ],
)
def test_every_architecture_compiles_to_one_graph(
    name: str, arguments: dict[str, Any], inputs: tuple[Tensor, ...]
) -> None:
    torch.compiler.reset()
    network: nn.Module = getattr(archs, name)(**arguments).eval()
    compiled = torch.compile(network, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), network(*inputs))


def test_no_architecture_is_left_out_of_the_test_of_compiling() -> None:
    mark = next(mark for mark in test_every_architecture_compiles_to_one_graph.pytestmark if mark.name == 'parametrize')
    assert {case[0] for case in mark.args[1]} == set(archs.__all__)
