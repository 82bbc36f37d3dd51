"""The package against files that loops over the paper's formulas made (see plain_reference.py)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.lib.npyio import NpzFile

from manet_basicsr.archs import MAConv
from manet_basicsr.degradation import (
    anisotropic_gaussian_kernels,
    block_field,
    blur_downsample,
    protocol_field,
    quantize,
)
from tests.plain_reference import ALIGNMENTS, CASES, FILE, INVARIANT, SCALES, SIZE


@pytest.fixture(scope='module')
def known() -> NpzFile:
    return np.load(FILE)


@pytest.mark.parametrize('alignment', ALIGNMENTS)
@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('name', INVARIANT)
def test_kernels_are_those_of_the_formula(known: NpzFile, name: str, scale: int, alignment: str) -> None:
    l1, l2, angle = INVARIANT[name]
    kernels = anisotropic_gaussian_kernels(torch.tensor([[l1, l2]]), torch.tensor([angle]), 21, scale, alignment)
    expected = torch.from_numpy(known[f'x{scale}_{alignment}_{name}_kernel']).float()
    torch.testing.assert_close(kernels.view(21, 21), expected, atol=1e-6, rtol=0)  # float32 taps below 1


@pytest.mark.parametrize('alignment', ALIGNMENTS)
@pytest.mark.parametrize('scale', SCALES)
@pytest.mark.parametrize('case', CASES)
def test_lr_images_are_those_of_the_plain_loop(known: NpzFile, case: str | int, scale: int, alignment: str) -> None:
    hr = torch.from_numpy(known['hr']).permute(2, 0, 1)[None] / 255
    if isinstance(case, str):
        field = block_field(torch.tensor([[INVARIANT[case]]]), *SIZE, scale, alignment=alignment)
    else:
        field = protocol_field(case, *SIZE, scale, alignment=alignment)
    lr = (quantize(blur_downsample(hr, field, scale))[0] * 255).round().permute(1, 2, 0)
    difference = (lr - torch.from_numpy(known[f'x{scale}_{alignment}_{case}_lr'])).abs()
    # Float32 decides otherwise only within 1e-4 of a half level: at most one of these few thousand values.
    assert difference.max() <= 1 and int((difference > 0).sum()) <= 1


def test_the_mutual_affine_convolution_is_that_of_the_plain_loop(known: NpzFile) -> None:
    network = MAConv(10, 10, split=4).double()
    state = {key: torch.from_numpy(known[f'maconv_{key}']) for key in network.state_dict()}
    network.load_state_dict(state, strict=True)
    output = network(torch.from_numpy(known['maconv_x'])[None])[0]
    torch.testing.assert_close(output, torch.from_numpy(known['maconv_y']), rtol=1e-12, atol=1e-12)
