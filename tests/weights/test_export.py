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


def small_network() -> nn.Module:
    """A network ``lq -> image`` of three operations; an export of ours takes half a minute."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 12, 3, 1, 1), nn.ReLU(), nn.PixelShuffle(2))


@pytest.fixture(scope='module')
def small(onnxruntime: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small network as ONNX, also in half precision."""
    folder = tmp_path_factory.mktemp('onnx')
    assert export_onnx(small_network(), folder / 'small.onnx') < 1e-5
    assert 0 < export_onnx(small_network(), folder / 'half.onnx', half=True) < 1e-2
    return folder


@pytest.fixture(scope='module')
def exported(onnxruntime: Any, main: Callable[[list[str]], int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the estimator and the blind network of x4 as ONNX, the latter also in half precision."""
    folder = tmp_path_factory.mktemp('onnx')
    assert export_onnx(blind_network(4).kernel_estimation, folder / 'estimator.onnx') < 1e-5
    assert main([str(blind_weights(folder, 4)), str(folder / 'blind.onnx')]) == 0
    assert main([str(folder / 'blind_x4.pth'), str(folder / 'half.onnx'), '--half']) == 0
    return folder


def check_at_any_size(onnxruntime: Any, file: Path, original: Any) -> None:
    for batch, height, width in ((1, 8, 8), (3, 21, 34), (2, 5, 64)):
        lq = torch.rand(batch, 3, height, width)
        expected = original(lq).detach()
        # float32 rounding in another order of summation
        torch.testing.assert_close(
            run(onnxruntime, file, lq), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()
        )


def check_names_and_sizes(onnxruntime: Any, file: Path, scale: int) -> None:
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    (lq,), (sr,) = session.get_inputs(), session.get_outputs()
    assert (lq.name, lq.shape) == ('lq', ['batch', 3, 'height', 'width'])
    assert (sr.name, sr.shape) == ('sr', ['batch', 3, f'{scale}*height', f'{scale}*width'])


def check_half_precision(onnxruntime: Any, folder: Path, whole: str) -> None:
    session = onnxruntime.InferenceSession(str(folder / 'half.onnx'), providers=['CPUExecutionProvider'])
    assert session.get_inputs()[0].type == session.get_outputs()[0].type == 'tensor(float16)'
    found = run(onnxruntime, folder / 'half.onnx', LQ.half()).float()
    expected = run(onnxruntime, folder / whole, LQ)
    assert 0 < (found - expected).abs().max() < 1e-2 * expected.abs().max()


def test_an_exported_network_gives_the_same_at_any_size_and_its_sizes_have_names(onnxruntime: Any, small: Path) -> None:
    check_at_any_size(onnxruntime, small / 'small.onnx', small_network())
    check_names_and_sizes(onnxruntime, small / 'small.onnx', 2)
    check_half_precision(onnxruntime, small, 'small.onnx')


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_estimators_and_blind_networks_are_exported_as_well(onnxruntime: Any, exported: Path) -> None:
    network = blind_network(4)
    check_at_any_size(onnxruntime, exported / 'estimator.onnx', network.kernel_estimation)
    check_at_any_size(onnxruntime, exported / 'blind.onnx', network)
    check_names_and_sizes(onnxruntime, exported / 'blind.onnx', 4)
    check_half_precision(onnxruntime, exported, 'blind.onnx')


@pytest.mark.slow
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


def check_versions(*files: Path) -> None:
    onnx = pytest.importorskip('onnx')
    for file in files:
        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        # onnxruntime 1.17 reads IR 9 and opset 20, 1.14 IR 8 and opset 18.
        assert model.ir_version == 8
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [('', 18)]


def test_files_are_of_versions_that_older_programs_read(small: Path) -> None:
    check_versions(small / 'small.onnx', small / 'half.onnx')


@pytest.mark.slow
def test_files_of_our_networks_are_of_versions_that_older_programs_read(exported: Path) -> None:
    check_versions(*(exported / f'{name}.onnx' for name in ('estimator', 'blind', 'half')))


@pytest.mark.parametrize('half', [False, True])
def test_a_network_is_left_as_it_was(onnxruntime: Any, tmp_path: Path, half: bool) -> None:
    network = small_network().train()
    network[0].eval()
    before = [module.training for module in network.modules()]
    export_onnx(network, tmp_path / 'estimator.onnx', half=half)
    assert [module.training for module in network.modules()] == before
    assert len(set(before)) == 2
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_an_export_that_does_not_agree_is_not_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (small / 'small.onnx').read_bytes()
    monkeypatch.setattr(export, '_export', lambda *arguments: content)
    other = small_network()
    torch.nn.init.zeros_(other[0].weight)
    for network in (other, nn.Conv2d(3, 3, 1)):  # of other weights, of another scale
        with pytest.raises(ValueError, match=r'net.onnx: the exported model differs by .*; not written'):
            export_onnx(network, tmp_path / 'net.onnx')
    assert not (tmp_path / 'net.onnx').exists()


def test_the_script_replaces_nothing_and_says_what_is_wrong(
    tmp_path: Path, main: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    weights, target = str(blind_weights(tmp_path, 4)), tmp_path / 'blind.onnx'
    target.write_bytes(b'kept')
    assert main([weights, str(target)]) == 2
    assert 'blind.onnx already exists; --force replaces it' in capsys.readouterr().err
    assert main(['absent.pth', str(target), '--force']) == 2
    assert 'absent.pth: no such file of weights' in capsys.readouterr().err
    assert target.read_bytes() == b'kept'


@pytest.mark.parametrize(
    ('name', 'arguments', 'inputs'),
    [
        ('MAConv', {'in_channels': 3, 'out_channels': 5}, (LQ,)),
        ('MABlock', {'in_channels': 3, 'out_channels': 3}, (LQ,)),
        ('MANet', {'num_feat': 8}, (LQ,)),
        ('SFTRRDBNet', {'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4}, (LQ, FIELD)),
        ('SRMDNet', {'num_feat': 8, 'num_conv': 3}, (LQ, FIELD)),
        ('MAEDSR', {'num_feat': 8, 'num_block': 1}, (LQ,)),
        pytest.param('HAN', {'num_feat': 16, 'num_group': 2, 'num_block': 1}, (LQ,), marks=pytest.mark.slow),
        pytest.param('SFTMD', {'num_feat': 8, 'num_block': 1}, (LQ, FIELD), marks=pytest.mark.slow),
        ('CFSNet', {'num_feat': 8, 'num_block': 2}, (LQ, FIELD)),
        ('CResMD', {'num_feat': 8, 'num_block': 2}, (LQ, FIELD)),
        pytest.param(
            'IKCNet', {'generator': GENERATOR, 'num_feat': 8, 'num_correction': 2}, (LQ,), marks=pytest.mark.slow
        ),
        pytest.param(
            'DANNet',
            {'num_feat': 8, 'num_group': 2, 'num_block': 1, 'num_estimator_block': 1, 'num_loop': 2},
            (LQ,),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            'SRSVDNet', {'generator': GENERATOR, 'num_feat': 8, 'num_block': 2}, (LQ, FIELD), marks=pytest.mark.slow
        ),
        ('BlindSRNet', {'estimator': ESTIMATOR, 'generator': GENERATOR}, (LQ,)),
    ],
)
def test_every_architecture_compiles_to_one_graph(
    name: str, arguments: dict[str, Any], inputs: tuple[Tensor, ...]
) -> None:
    torch.compiler.reset()
    network: nn.Module = getattr(archs, name)(**arguments).eval()
    keys, expected = list(network.state_dict()), network(*inputs)
    network.compile(backend='eager', fullgraph=True)
    torch.testing.assert_close(network(*inputs), expected)
    assert list(network.state_dict()) == keys


def test_no_architecture_is_left_out_of_the_test_of_compiling() -> None:
    mark = next(mark for mark in test_every_architecture_compiles_to_one_graph.pytestmark if mark.name == 'parametrize')
    assert {getattr(case, 'values', case)[0] for case in mark.args[1]} == set(archs.__all__)
