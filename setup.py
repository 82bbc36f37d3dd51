"""The package's metadata; pyproject.toml has the build system and the settings of the tools."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def read_version() -> str:
    """Read the version without importing the package, which needs torch and basicsr."""
    match = re.search(r"^__version__ = '([^']+)'$", (HERE / 'manet_basicsr/__init__.py').read_text(), re.MULTILINE)
    if match is None:
        raise ValueError("manet_basicsr/__init__.py has no line __version__ = '...'")
    return match[1]


def read_readme() -> str:
    readme = HERE / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.is_file() else ''


setup(
    name='manet_basicsr',
    version=read_version(),
    description='MANet (mutual affine network, ICCV 2021) for blind super-resolution, as a plugin for BasicSR',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    author='The manet_basicsr developers',
    license='Apache-2.0',
    keywords=['super-resolution', 'blur kernel estimation', 'BasicSR', 'MANet'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Processing',
        'Typing :: Typed',
    ],
    py_modules=['manet_basicsr_commands'],
    packages=find_packages(include=['manet_basicsr', 'manet_basicsr.*']),
    package_data={
        'manet_basicsr': ['py.typed', 'degradation/pca/*.npy', 'explorer/page.*', 'weights_data/*.pth'],
    },
    zip_safe=False,
    python_requires='>=3.10',
    # Ranges are open at the top: constraints.txt has the versions that were tested together.
    install_requires=[
        'basicsr>=1.4.2',
        'imagecodecs',
        'lmdb',
        'numpy',
        'opencv-python',
        'pillow',
        'psutil',
        'pyyaml',
        'scipy',
        'tifffile',
        'torch>=2.6',
        'torchvision',
        'tqdm',
    ],
    extras_require={
        'onnx': ['onnx', 'onnxruntime', 'onnxscript'],
        'plot': ['matplotlib'],
        'safetensors': ['safetensors'],
        'test': [
            'hypothesis',
            'matplotlib',
            'mypy',
            'onnx',
            'onnxruntime',
            'onnxscript',
            'pytest',
            'pytest-cov',
            'pytest-timeout',
            'ruff',
            'safetensors',
            'selenium',
        ],
    },
    entry_points={
        'console_scripts': [
            'basicsr = manet_basicsr_commands:basicsr',
            'manet-explore = manet_basicsr_commands:explore',
            'manet-restore = manet_basicsr_commands:restore',
        ]
    },
)
