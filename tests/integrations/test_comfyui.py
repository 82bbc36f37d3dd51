"""The nodes of ComfyUI, by the contract that it has with nodes; ComfyUI itself is no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.restoration.restoring import restore
from tests.shortened import ROOT
from tests.small_networks import blind_network, blind_weights


@pytest.fixture(scope='module')
def nodes() -> Any:
    """The folder, loaded as ComfyUI loads those in custom_nodes."""
    folder = ROOT / 'integrations/comfyui'
    spec = importlib.util.spec_from_file_location('comfyui', folder / '__init__.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(node: Any, **given: Any) -> torch.Tensor:
    """Run a node with the defaults of what is not given, as ComfyUI does."""
    inputs = node.INPUT_TYPES()
    arguments = {
        name: kind[1]['default'] for section in inputs.values() for name, kind in section.items() if len(kind) > 1
    }
    function = getattr(node(), node.FUNCTION)
    outputs = function(**{**arguments, **given})
    assert isinstance(outputs, tuple) and len(outputs) == len(node.RETURN_TYPES)
    picture: torch.Tensor = outputs[0]
    return picture


def test_nodes_keep_the_contract(nodes: Any) -> None:
    assert nodes.NODE_CLASS_MAPPINGS.keys() == nodes.NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in nodes.NODE_CLASS_MAPPINGS.values():
        assert isinstance(node.CATEGORY, str) and node.RETURN_TYPES == ('IMAGE',)
        assert callable(getattr(node, node.FUNCTION))
        inputs = node.INPUT_TYPES()
        assert inputs.keys() <= {'required', 'optional', 'hidden'}
        for kind, *settings in (kind for section in inputs.values() for kind in section.values()):
            assert kind in ('IMAGE', 'STRING', 'INT') or settings[0]['default'] in kind


def test_images_are_restored_in_comfyuis_layout(nodes: Any, tmp_path: Path) -> None:
    images = torch.rand(2, 18, 24, 4) * 1.01  # with alpha, and beyond the range by rounding
    found = run(nodes.MANetRestore, image=images, weights=str(blind_weights(tmp_path)), precision='float32')
    assert found.shape == (2, 36, 48, 3) and found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1
    lq = images[..., :3].clamp(0, 1).movedim(-1, 1)
    torch.testing.assert_close(found.movedim(-1, 1), restore(lq, blind_network()).image)


def test_kernels_are_a_picture(nodes: Any, tmp_path: Path) -> None:
    image = torch.zeros(1, 18, 24, 3)
    found = run(nodes.MANetKernels, image=image, weights=str(blind_weights(tmp_path)), across=4)
    assert found.shape == (1, 192, 256, 3) and 0 < found.max() <= 1
    orange = found[0][found[0].sum(-1) > 0.5].mean(0)  # of the colour map; red comes first
    assert orange[0] > orange[2]
