from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from manet_basicsr.degradation import (
    FixedSampler,
    anisotropic_gaussian_kernels,
    build_field_sampler,
    kernel_pca_basis,
    load_pca_basis,
    sample_kernel_parameters,
    training_variance_range,
)
from manet_basicsr.degradation.pca import kernel_covariance, kernels_from_codes, mean_kernel, principal_components
from manet_basicsr.metrics import calculate_lr_psnr
from manet_basicsr.options.reading import load_options

FEW_KERNELS = 10_000
# Smallest cosine between two 15-dimensional subspaces, one from 10,000 kernels only: measured 0.9965 or more.
SUBSPACE_COSINE = 0.99


def smallest_cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return torch.linalg.svdvals(first.double().T @ second.double()).min().item()


@pytest.fixture(scope='module')
def few() -> torch.Tensor:
    return kernel_pca_basis(4, num_kernels=FEW_KERNELS)


def test_basis_has_orthonormal_columns_and_its_largest_entries_positive(few: torch.Tensor) -> None:
    assert few.shape == (441, 15)
    assert few.dtype == torch.float32
    torch.testing.assert_close(few.T @ few, torch.eye(15), atol=1e-5, rtol=0)  # float32 sums of 441 products
    assert (few.gather(0, few.abs().argmax(0, keepdim=True)) > 0).all()


def test_basis_is_the_same_at_every_call_and_with_another_number_of_threads(few: torch.Tensor) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        again = kernel_pca_basis(4, num_kernels=FEW_KERNELS)
    finally:
        torch.set_num_threads(threads)
    # Float64 rounding, amplified by nearly equal eigenvalues, and one rounding to float32.
    torch.testing.assert_close(again, few, atol=1e-6, rtol=0)


def test_basis_is_that_of_a_plain_singular_value_decomposition() -> None:
    variances, angles = sample_kernel_parameters(500, training_variance_range(2), torch.Generator().manual_seed(0))
    kernels = anisotropic_gaussian_kernels(variances, angles, 9, 2, dtype=torch.float64)
    right = torch.linalg.svd(kernels - kernels.mean(0), full_matrices=False)[2][:5]
    basis = kernel_pca_basis(2, 9, 5, num_kernels=500)
    assert (right @ basis.double()).diagonal().abs().tolist() == pytest.approx([1] * 5, abs=1e-6)


def test_principal_components_of_a_diagonal_covariance_are_its_largest_axes() -> None:
    basis, explained = principal_components(torch.diag(torch.tensor([1.0, 5, 3, 1], dtype=torch.float64)), 2)
    assert torch.equal(basis, torch.eye(4)[:, [1, 2]])
    assert explained.tolist() == pytest.approx([0.5, 0.3])


def test_centered_and_published_bases_are_flips_of_each_other() -> None:
    centered, published = (kernel_pca_basis(4, 11, 3, alignment, None, 500) for alignment in ('centered', 'published'))
    torch.testing.assert_close(centered, published.flip(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_shipped_basis_spans_what_few_kernels_span(scale: int) -> None:
    shipped = load_pca_basis(scale)
    assert shipped.shape == (441, 15)
    assert smallest_cosine(shipped, kernel_pca_basis(scale, num_kernels=FEW_KERNELS)) > SUBSPACE_COSINE


@pytest.mark.slow
@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_shipped_basis_is_what_the_defaults_compute(scale: int) -> None:
    # Another processor or BLAS rounds float64 sums differently; nothing else may differ.
    torch.testing.assert_close(kernel_pca_basis(scale), load_pca_basis(scale), atol=1e-6, rtol=0)


def test_codes_keep_nearly_all_of_what_tells_training_kernels_apart(generator: torch.Generator) -> None:
    variances, angles = sample_kernel_parameters(200, training_variance_range(4), generator)
    kernels = anisotropic_gaussian_kernels(variances, angles)
    deviations = kernels - kernels.mean(0)
    basis = load_pca_basis(4)
    lost = deviations - deviations @ basis @ basis.T
    # 15 components explain 99.9% of the variance.
    assert (lost.square().sum() / deviations.square().sum()).item() < 0.005


@pytest.mark.parametrize('suffix', ['.npy', '.pt', '.pth'])
def test_a_basis_is_loaded_from_a_file(tmp_path: Path, suffix: str) -> None:
    basis = torch.rand(25, 3, dtype=torch.float64)
    path = tmp_path / f'basis{suffix}'
    if suffix == '.npy':
        np.save(path, basis.numpy())
    else:
        torch.save(basis, path)
    loaded = load_pca_basis(4, 5, 3, path)
    assert torch.equal(loaded, basis.float())
    assert torch.equal(load_pca_basis(4, 5, 3, str(path)), loaded)


def test_a_size_without_shipped_basis_names_the_script_that_makes_one() -> None:
    expected = r'kernel_size 15, .*x4_k21_c15_centered.npy.*scripts/compute_pca.py.*published.*pca_path'
    with pytest.raises(ValueError, match=expected):
        load_pca_basis(4, kernel_size=15)


def test_a_file_of_another_shape_is_refused_with_both_shapes(tmp_path: Path) -> None:
    np.save(tmp_path / 'basis.npy', np.zeros((441, 10), np.float32))
    with pytest.raises(ValueError, match=r'basis.npy has shape \(441, 10\), expected \(441, 15\)'):
        load_pca_basis(4, path=tmp_path / 'basis.npy')


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    torch.save({'basis': torch.zeros(441, 15)}, tmp_path / 'basis.pth')
    with pytest.raises(ValueError, match='one array of floating point numbers'):
        load_pca_basis(4, path=tmp_path / 'basis.pth')
    (tmp_path / 'basis.csv').write_text('')
    with pytest.raises(ValueError, match='must be a .npy, .pt or .pth file'):
        load_pca_basis(4, path=tmp_path / 'basis.csv')
    with pytest.raises(FileNotFoundError, match='missing.npy does not exist'):
        load_pca_basis(4, path=tmp_path / 'missing.npy')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'code_length': 0}, 'code_length must be 1 to 441, found 0'),
        ({'code_length': 442}, 'found 442'),
        ({'num_kernels': 1}, 'num_kernels must be at least 2'),
        ({'alignment': 'centred'}, "did you mean 'centered'"),
        ({'variance': (2, 1)}, '0 < min <= max'),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kernel_pca_basis(4, **{'num_kernels': 10, **arguments})


def test_covariance_reports_its_progress() -> None:
    done: list[int] = []
    kernel_covariance(2, 5, num_kernels=10_050, progress=done.append)
    assert sum(done) == 10_050


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('basis.npy', b''),
        ('basis.npy', b'\x93NUMPY\x01\x00\x10\x00{"descr": (((\n'),
        ('basis.pth', b'no archive'),
        ('basis.pt', b''),
    ],
    ids=['empty', 'header', 'archive', 'nothing'],
)
def test_a_damaged_basis_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf'^PCA basis {tmp_path}/{name} cannot be read: .'):
        load_pca_basis(4, path=tmp_path / name)


@pytest.mark.parametrize(('variances', 'angle'), [((5, 1), 0), ((9, 9), 0), ((9, 1), 0.785), ((1, 1), 0)])
def test_a_kernel_comes_back_from_its_code_which_the_basis_alone_cannot_do(
    variances: tuple[float, float], angle: float
) -> None:
    kernel = anisotropic_gaussian_kernels(torch.tensor([variances]).float(), torch.tensor([float(angle)]))
    basis, mean = load_pca_basis(4), mean_kernel(4)
    code = kernel @ basis
    remade = kernels_from_codes(code, basis, mean)
    assert remade.min() >= 0
    torch.testing.assert_close(remade.sum(1), torch.ones(1))
    error, alone = ((kernels - kernel).norm() / kernel.norm() for kernels in (remade, code @ basis.T))
    assert error < 0.06  # the narrowest has most detail beyond 15 components
    assert alone > 0.2


def test_half_of_the_mean_kernel_lies_outside_the_basis() -> None:
    basis, mean = load_pca_basis(4), mean_kernel(4)
    outside = mean - basis @ (basis.T @ mean)
    assert (outside.norm() / mean.norm()).item() == pytest.approx(0.49, abs=0.01)


@pytest.mark.parametrize(
    ('image', 'expected'), [('butterfly', [55.9, 56.5, 52.6, 57.4]), ('bird', [61.5, 61.0, 59.7, 62.0])]
)
def test_what_fifteen_numbers_can_say_of_a_kernel(image: str, expected: list[float], shared: Path) -> None:
    pixels = cv2.imread(str(shared / f'data/eval/Set5/{image}.png'))[..., ::-1] / np.float32(255)
    gt = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    variances = torch.tensor([[5.0, 1], [9, 9], [9, 1], [1, 1]])
    kernels = anisotropic_gaussian_kernels(variances, torch.tensor([0, 0, math.pi / 4, 0]))
    basis = load_pca_basis(4)
    remade = kernels_from_codes(kernels @ basis, basis, mean_kernel(4))
    scores = [
        calculate_lr_psnr(field=one.view(1, -1, 1, 1), field_gt=true.view(1, -1, 1, 1), gt=gt, scale=4)
        for one, true in zip(remade, kernels, strict=True)
    ]
    assert scores == pytest.approx(expected, abs=0.3)


def test_the_mean_kernel_is_the_same_also_while_a_network_is_built_without_memory() -> None:
    mean_kernel.cache_clear()
    with torch.device('meta'):
        mean = mean_kernel(2)
    assert mean.device.type == 'cpu'
    mean_kernel.cache_clear()
    assert torch.equal(mean, mean_kernel(2))
    assert mean.sum().item() == pytest.approx(1)


@pytest.mark.parametrize('scale', [1, 2, 4])
def test_the_basis_for_photographs_spans_the_kernels_that_its_option_file_trains_on(scale: int) -> None:
    file = Path(__file__).resolve().parents[2] / f'options/train/train_MANet_stage1_x{scale}_gpu_real.yml'
    sampler = build_field_sampler(load_options(file)['datasets']['train']['degradation']['field'])
    covariance = kernel_covariance(scale, num_kernels=1000, seed=1, sampler=sampler)
    basis = load_pca_basis(scale, code_length=40).double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(40, dtype=torch.float64), atol=1e-5, rtol=0)
    explained = (basis.T @ covariance @ basis).trace() / covariance.trace()
    assert explained > 0.99
    gaussians = load_pca_basis(scale).double()
    assert (gaussians.T @ covariance @ gaussians).trace() / covariance.trace() < explained


def test_kernels_that_are_all_the_same_have_no_basis() -> None:
    covariance = kernel_covariance(4, num_kernels=50, sampler=FixedSampler(variances=(4, 1), angle=0.3))
    with pytest.raises(ValueError, match='the kernels are all the same, so they have no principal components'):
        principal_components(covariance, 5)
