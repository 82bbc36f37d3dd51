"""Networks in other programs: export to ONNX, checked against the original."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from manet_basicsr.archs.copies import evaluation_copy
from manet_basicsr.archs.protocols import FieldEstimator, FieldGenerator
from manet_basicsr.utils.files import atomic_path
from manet_basicsr.utils.tensors import not_finite

#: Both of onnx 1.13, which onnxruntime 1.14 and newer read; the exporter alone would write the newest IR version.
OPSET, IR_VERSION = 18, 8
#: Largest difference allowed, in the largest value of the outputs. That of float32 is rounding in another order of
#: summation, that of float16 rounding to 11 bit in every layer; anything wrong differs by far more.
_TOLERANCES = {torch.float32: 1e-3, torch.float16: 1e-2}
_SIZES = ((1, 16, 16), (2, 9, 30))  # batch, height, width at which an export is checked


def export_onnx(network: nn.Module, path: str | Path, *, channels: int = 3, half: bool = False) -> float:
    """Export an estimator, a generator or a blind network to ONNX, for any batch and size, and run it to compare.

    The model has the input ``lq`` (B, C, h, w) in [0, 1], a generator also ``field`` (B, k*k, h, w), float32. Its
    output is the ``field`` of an estimator, float32, otherwise ``sr`` (B, C, s*h, s*w), not clipped. It appears under
    its name only if it gives what the network gives, at sizes other than that of the export.

    Args:
        network: A :class:`MANet`, an :class:`SFTRRDBNet`, a :class:`BlindSRNet` or another network ``lq -> image``, in
            float32; not changed.
        path: The ``.onnx`` file; its folder must exist.
        channels: Of the input.
        half: Whether weights and images are float16: half as large, and on GPUs faster.

    Returns:
        The largest difference from the float32 network that was found, in the largest value of the outputs.

    Raises:
        ValueError: The packages onnx, onnxscript or onnxruntime are missing, weights are not finite, or the export
            does not agree.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise ValueError('ONNX needs more packages: pip install onnx onnxruntime onnxscript') from error
    network = evaluation_copy(network, torch.device('cpu'))
    if name := not_finite(network.state_dict()):
        raise ValueError(f'{path}: not written, because {name} of the network is not finite (NaN or infinite)')
    dtype = torch.float16 if half else torch.float32
    # The copy's tensors are its own once they are converted; those of float32 stay shared.
    content = _export(evaluation_copy(network, torch.device('cpu')).to(dtype), channels, dtype)
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    difference = max(
        _difference(network, session, _inputs(network, torch.rand(batch, channels, height, width)), dtype)
        for batch, height, width in _SIZES
    )
    if not difference < _TOLERANCES[dtype]:
        raise ValueError(f'{path}: the exported model differs by {difference:.1g} of the largest value; not written')
    with atomic_path(path) as partial:
        partial.write_bytes(content)
    return difference


def _inputs(network: nn.Module, lq: Tensor) -> dict[str, Tensor]:
    """Give the inputs of a network by name: an LR image, and for a generator a field of kernels that fits it."""
    # An estimator has a generator's attributes, too.
    if isinstance(network, FieldEstimator) or not isinstance(network, FieldGenerator):
        return {'lq': lq}
    batch, _, height, width = lq.shape
    return {'lq': lq, 'field': torch.randn(batch, network.kernel_size**2, height, width).softmax(1)}


def _export(network: nn.Module, channels: int, dtype: torch.dtype) -> bytes:
    axis = torch.export.Dim.DYNAMIC
    inputs = _inputs(network, torch.rand(2, channels, 17, 22))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of torch's exporter about its own insides
        program: Any = torch.onnx.export(
            network,
            tuple({**inputs, 'lq': inputs['lq'].to(dtype)}.values()),
            input_names=list(inputs),
            output_names=['field' if isinstance(network, FieldEstimator) else 'sr'],
            dynamic_shapes=tuple({0: axis, 2: axis, 3: axis} for _ in inputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = program.model_proto
    model.ir_version = min(model.ir_version, IR_VERSION)
    _name_axes(model)
    return bytes(model.SerializeToString())


def _name_axes(model: Any) -> None:
    """Call the free axes of the input batch, height and width instead of what the exporter calls them."""
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    given = {dimensions[axis].dim_param: name for axis, name in ((0, 'batch'), (2, 'height'), (3, 'width'))}
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    for value in values:
        for dimension in value.type.tensor_type.shape.dim:
            for old, new in given.items():
                if dimension.dim_param:
                    dimension.dim_param = dimension.dim_param.replace(old, new)


@torch.no_grad()
def _difference(network: nn.Module, session: Any, inputs: dict[str, Tensor], dtype: torch.dtype) -> float:
    inputs['lq'] = inputs['lq'].to(dtype)
    expected: Tensor = network(*(tensor.float() for tensor in inputs.values()))
    found = torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0]).float()
    if found.shape != expected.shape:
        return float('inf')
    return ((found - expected).abs().max() / expected.abs().max()).item()
