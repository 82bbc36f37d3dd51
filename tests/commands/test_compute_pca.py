from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from manet_basicsr.degradation import kernel_pca_basis, load_pca_basis
from manet_basicsr.degradation.defocus import disk_kernels

SCRIPT = Path(__file__).resolve().parents[2] / 'scripts' / 'compute_pca.py'
DISKS = {'type': 'defocus', 'radius': [1, 3]}
SMALL = ['--scale', '2', '--kernel-size', '9', '--code-length', '4', '--num-kernels', '200']


@pytest.fixture(scope='module')
def main() -> Callable[[list[str]], int]:
    return runpy.run_path(str(SCRIPT))['main']


def test_it_writes_the_basis_and_says_what_it_explains(
    main: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / 'new' / 'basis.npy'
    assert main([str(output), *SMALL]) == 0
    assert torch.equal(load_pca_basis(2, 9, 4, output), kernel_pca_basis(2, 9, 4, num_kernels=200))
    assert '81 x 4, explains 9' in capsys.readouterr().out
    assert [path.name for path in output.parent.iterdir()] == ['basis.npy']  # nothing is left aside


def test_options_reach_the_computation(main: Callable, tmp_path: Path) -> None:
    output = tmp_path / 'basis.npy'
    assert main([str(output), *SMALL, '--alignment', 'published', '--variance', '1', '3', '--seed', '5']) == 0
    expected = kernel_pca_basis(2, 9, 4, 'published', (1, 3), 200, seed=5)
    assert torch.equal(load_pca_basis(2, 9, 4, output), expected)


def test_an_existing_file_is_kept_without_force(main: Callable, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / 'basis.npy'
    output.write_text('precious')
    assert main([str(output), *SMALL]) == 2
    assert output.read_text() == 'precious'
    assert '--force' in capsys.readouterr().err
    assert main([str(output), *SMALL, '--force']) == 0
    assert load_pca_basis(2, 9, 4, output).shape == (81, 4)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['basis.npy', *SMALL, '--kernel-size', '8'], 'kernel_size must be odd'),
        (['basis.npy', *SMALL, '--variance', '3', '1'], '0 < min <= max'),
        (['basis.pth', *SMALL], 'must be a .npy file'),
    ],
)
def test_wrong_arguments_give_one_line_and_no_file(
    main: Callable, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    assert main([str(tmp_path / arguments[0]), *arguments[1:]]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_kernels_may_be_those_that_an_option_file_trains_on(
    main: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / 'train.yml'
    degradation = {'kernel_size': 9, 'alignment': 'published', 'field': DISKS}
    file.write_text(yaml.safe_dump({'scale': 2, 'datasets': {'train': {'degradation': degradation}}}))
    output = tmp_path / 'basis.npy'
    assert main([str(output), '--opt', str(file), '--code-length', '4', '--num-kernels', '300']) == 0
    basis = load_pca_basis(2, 9, 4, output)
    disks = disk_kernels(torch.linspace(1, 3, 20), 9, 2, 'published')
    deviations = disks - disks.mean(0)
    outside = deviations - deviations @ basis @ basis.T
    assert outside.norm() < 0.1 * deviations.norm()
    gaussian = deviations - deviations @ (other := kernel_pca_basis(2, 9, 4, num_kernels=300)) @ other.T
    assert outside.norm() < gaussian.norm()


@pytest.mark.parametrize(
    ('content', 'more', 'message'),
    [
        ({'scale': 2, 'datasets': {'val': {}}}, [], 'found no section degradation in datasets.train'),
        ({'scale': 2, 'datasets': [1]}, [], 'found no section degradation in datasets.train'),
        ({'scale': 2, 'datasets': {'train': {'degradation': 'published'}}}, [], 'found no section degradation'),
        ({'datasets': {'train': {'degradation': {'field': DISKS}}}}, [], 'scale: found None, expected a whole number'),
        ({'scale': '4', 'datasets': {'train': {'degradation': {'field': DISKS}}}}, [], "scale: found '4'"),
        ({'scale': 4, 'datasets': {'train': {'degradation': {}}}}, [], 'degradation.field: missing'),
        (
            {'scale': 4, 'datasets': {'train': {'degradation': {'field': DISKS}}}},
            ['--variance', '1', '2'],
            '--variance',
        ),
        (None, [], 'No such file'),
    ],
)
def test_a_wrong_option_file_is_one_line(
    main: Callable, tmp_path: Path, capsys: pytest.CaptureFixture, content: object, more: list[str], message: str
) -> None:
    file = tmp_path / 'train.yml'
    if content is not None:
        file.write_text(yaml.safe_dump(content))
    assert main([str(tmp_path / 'none.npy'), '--opt', str(file), *more]) == 2
    assert message in capsys.readouterr().err
