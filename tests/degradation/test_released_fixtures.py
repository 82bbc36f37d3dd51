"""Kernels, fields and LR images against what the authors' release makes of the same input."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib.npyio import NpzFile

from manet_basicsr.degradation import (
    anisotropic_gaussian_kernels,
    block_field,
    blur_downsample,
    kernel_pca_basis,
    protocol_field,
    protocol_parameters,
    quantize,
)

TAP_TOLERANCE = 1e-6


@pytest.fixture(scope='module')
def released(shared: Path) -> NpzFile:
    return np.load(shared / 'fixtures' / 'published' / 'degradation.npz')


def kernels_of(parameters: np.ndarray, scale: int) -> torch.Tensor:
    table = torch.from_numpy(parameters).float().view(-1, 3)
    return anisotropic_gaussian_kernels(table[:, :2], table[:, 2], 21, scale, 'published').view(-1, 21, 21)


def assert_same_bytes(released: NpzFile, name: str, field: torch.Tensor, scale: int) -> None:
    hr = torch.from_numpy(released['hr_uint8']).permute(2, 0, 1)[None] / 255
    lr = (quantize(blur_downsample(hr, field, scale))[0] * 255).round().permute(1, 2, 0)
    difference = (lr - torch.from_numpy(released[name])).abs()
    assert difference.max() <= 1
    # Values within float32 rounding of a half level: one in 10,000, so at most one or two in these small images.
    assert int((difference > 0).sum()) <= math.ceil(difference.numel() / 10_000)


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('name', ['si0', 'si1', 'si2', 'train'])
def test_kernels_equal_the_released_ones(released: NpzFile, name: str, scale: int) -> None:
    expected = released[f'x{scale}_{name}_{"kernels" if name == "train" else "kernel"}'].reshape(-1, 21, 21)
    kernels = kernels_of(released[f'x{scale}_{name}_params'], scale)
    torch.testing.assert_close(kernels, torch.from_numpy(expected), atol=TAP_TOLERANCE, rtol=0)


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('name', ['si0', 'si1', 'si2'])
def test_invariant_lr_images_equal_the_released_ones(released: NpzFile, name: str, scale: int) -> None:
    parameters = torch.from_numpy(released[f'x{scale}_{name}_params']).float().view(1, 1, 3)
    height, width = released['hr_uint8'].shape[:2]
    field = block_field(parameters, height, width, scale, alignment='published')
    assert_same_bytes(released, f'x{scale}_{name}_lr_uint8', field, scale)


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('kind', [1, 2, 3, 4])
def test_variant_fields_and_lr_images_equal_the_released_ones(released: NpzFile, kind: int, scale: int) -> None:
    height, width = released['hr_uint8'].shape[:2]
    parameters = protocol_parameters(kind, height, width, scale)
    expected = torch.from_numpy(released[f'x{scale}_sv{kind}_sigma_hr'])
    torch.testing.assert_close(parameters, expected, atol=TAP_TOLERANCE, rtol=0)
    field = protocol_field(kind, height, width, scale, alignment='published')
    i, j = torch.from_numpy(released[f'x{scale}_sv{kind}_points']).T
    at_points = field[0, :, i, j].T.reshape(-1, 21, 21)
    expected = torch.from_numpy(released[f'x{scale}_sv{kind}_kernels'])
    torch.testing.assert_close(at_points, expected, atol=TAP_TOLERANCE, rtol=0)
    assert_same_bytes(released, f'x{scale}_sv{kind}_lr_uint8', field, scale)


def test_basis_spans_the_released_one(shared: Path) -> None:
    checkpoint = torch.load(shared / 'fixtures' / 'published' / 'stage2_x4.pth', weights_only=True)
    released = checkpoint['state_dict']['pca_matrix'].view(441, 15)
    ours = kernel_pca_basis(4, alignment='published', num_kernels=10_000)
    # Smallest cosine between the two subspaces; 20,000 kernels gave 0.9993.
    assert torch.linalg.svdvals(released.T @ ours).min() > 0.99
