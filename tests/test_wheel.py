"""What a wheel has: everything that users need who have no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.shortened import ROOT

FOLDERS = ('manet_basicsr', 'options')
FILES = ('manet_basicsr_commands.py', 'pyproject.toml', 'setup.py', 'MANIFEST.in', 'README.md', 'LICENSE')
BUILD = 'import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))'


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources: building leaves things beside them."""
    folder = tmp_path_factory.mktemp('wheel')
    (folder / 'source').mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / 'source' / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in FILES:
        shutil.copyfile(ROOT / name, folder / 'source' / name)
    subprocess.run([sys.executable, '-c', BUILD, str(folder)], cwd=folder / 'source', check=True, capture_output=True)
    return next(folder.glob('*.whl'))


def test_a_wheel_has_option_files_weights_bases_and_commands(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    options = {str(file.relative_to(ROOT / 'options')) for file in (ROOT / 'options').rglob('*.yml')}
    assert options and {f'manet_basicsr/option_files/{name}' for name in options} <= names
    package = (file for file in (ROOT / 'manet_basicsr').rglob('*') if file.is_file() and file.suffix != '.pyc')
    assert {str(file.relative_to(ROOT)) for file in package} <= names
    assert 'manet_basicsr_commands.py' in names
    assert not any(name.startswith(('tests/', 'scripts/', 'options/')) for name in names)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_a_wheel_in_a_fresh_environment_and_an_empty_folder_all_commands_work(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, '-m', 'venv', str(tmp_path / 'venv')], check=True)
    python = tmp_path / 'venv/bin/python'
    subprocess.run([python, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index', str(wheel)], check=True)
    # What the package depends on comes from where the tests run; .pth files in a folder so added are not followed, so
    # that an editable installation there stays unseen.
    site = next((tmp_path / 'venv/lib').glob('python*/site-packages'))
    (site / 'dependencies.pth').write_text('\n'.join(path for path in sys.path if path.endswith('site-packages')))
    here = tmp_path / 'empty'
    (here / 'hr').mkdir(parents=True)
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (120, 130, 3), dtype=np.uint8)
        cv2.imwrite(str(here / f'hr/{number}.png'), cv2.GaussianBlur(noise, (0, 0), 3))
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}

    def run(*words: str) -> str:
        command = [str(tmp_path / 'venv/bin/basicsr'), *words]
        done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = [str(python), '-c', 'import manet_basicsr; print(manet_basicsr.__file__)']
    assert str(site) in subprocess.check_output(where, cwd=here, env=environment, text=True)
    assert 'train_MANet_stage1_x4 ' in run('options')
    run('options', 'copy', 'train_MANet_stage1_x4')
    roots = ['datasets:train:dataroot_gt=hr', 'datasets:val:dataroot_gt=hr']
    for name in ('train_MANet_stage1_x4.yml', 'train_MANet_stage1_x2'):
        assert 'no problems found' in run('check', '-opt', name, '--force_yml', *roots)
    assert '2 images' in run('create-lmdb', 'hr', 'hr.lmdb', '--workers', '1')
    run('extract-subimages', 'hr', 'sub', '--crop-size', '64', '--step', '32', '--workers', '1')
    run('make-testset', 'hr', 'sets', '--sets', 'type1')
    run('evaluate', 'out', '--images', 'hr.lmdb', '--methods', 'bicubic', '--sets', 'type1')
    run('compute-pca', 'basis.npy', '--scale', '2', '--kernel-size', '9', '--code-length', '4', '--num-kernels', '100')
    run('convert-weights', 'manet_x4', 'released.pth', '--to', 'released')
    run('export-onnx', 'manet_x4', 'manet.onnx')
    run('plot-curves', 'curves.png', '--results', 'out/results.csv')
    assert {'manet.onnx', 'released.pth', 'basis.npy', 'curves.png'} <= {file.name for file in here.iterdir()}
