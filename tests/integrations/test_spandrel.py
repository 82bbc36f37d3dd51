"""MANet as a network of spandrel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import manet_basicsr  # noqa: F401  (repairs the stack before spandrel imports torchvision)
from tests.small_networks import blind_network, blind_weights

spandrel: Any = pytest.importorskip('spandrel', reason='the extra spandrel is not installed')


@pytest.fixture(autouse=True, scope='module')
def registered() -> None:
    import manet_basicsr.integrations.spandrel  # noqa: F401


@pytest.mark.parametrize('scale', [1, 2, 4])
def test_a_file_of_weights_is_recognised_and_restores(scale: int, tmp_path: Path) -> None:
    model = spandrel.ModelLoader().load_from_file(blind_weights(tmp_path, scale))
    assert model.architecture.id == 'MANet'
    assert (model.scale, model.purpose) == (scale, 'SR' if scale > 1 else 'Restoration')
    assert (model.input_channels, model.output_channels) == (3, 3)
    assert model.tags == ['8nf', '1nb', '21k'] and not model.model.training
    assert model.tiling is spandrel.ModelTiling.SUPPORTED
    lq = torch.rand(1, 3, 9, 13)
    with torch.no_grad():
        expected = blind_network(scale)(lq).clamp(0, 1)
        torch.testing.assert_close(model(lq), expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_it_computes_in_half_precision_as_it_says(dtype: torch.dtype, tmp_path: Path) -> None:
    model = spandrel.ModelLoader().load_from_file(blind_weights(tmp_path))
    lq = torch.rand(1, 3, 12, 16)
    with torch.no_grad():
        expected = model(lq)
        found = model.to(dtype)(lq.to(dtype))
    assert found.dtype == dtype
    # bfloat16 has 8 bit.
    assert (found.float() - expected).abs().max() < 0.03


def test_other_networks_are_not_taken_for_it() -> None:
    state_dict = blind_network().state_dict()
    estimator = {key: value for key, value in state_dict.items() if key.startswith('kernel_estimation.')}
    generator = {key: value for key, value in state_dict.items() if key not in estimator}
    (ours,) = [one for one in spandrel.MAIN_REGISTRY if one.architecture.id == 'MANet']
    assert ours.detect(state_dict) and not ours.detect(estimator) and not ours.detect(generator)
    assert [one.architecture.id for one in spandrel.MAIN_REGISTRY if one.detect(state_dict)] == ['MANet']
    del state_dict['pca_matrix']
    with pytest.raises(ValueError, match="a MANet without the weights 'pca_matrix'"):
        spandrel.ModelLoader().load_from_state_dict(state_dict)


def test_importing_it_again_registers_nothing_twice() -> None:
    import importlib

    import manet_basicsr.integrations.spandrel as module

    number = len(spandrel.MAIN_REGISTRY)
    importlib.reload(module)
    assert len(spandrel.MAIN_REGISTRY) == number
