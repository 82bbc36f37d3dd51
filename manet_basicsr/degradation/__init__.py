"""Image formation as pure tensor functions: blur kernels, kernel fields, blurring, corruption, the PCA basis."""

from __future__ import annotations

import importlib
import pkgutil

from manet_basicsr.degradation.bank import BankSampler
from manet_basicsr.degradation.blur import blur_downsample
from manet_basicsr.degradation.collage import CollageSampler
from manet_basicsr.degradation.corruption import add_gaussian_noise, jpeg_compress, quantize
from manet_basicsr.degradation.defocus import DefocusSampler
from manet_basicsr.degradation.gaussian import FixedSampler, InvariantSampler
from manet_basicsr.degradation.kernels import (
    ALIGNMENTS,
    anisotropic_gaussian_kernels,
    kernel_covariances,
    sample_kernel_parameters,
    training_variance_range,
)
from manet_basicsr.degradation.mixture import MixtureSampler
from manet_basicsr.degradation.motion import MotionSampler
from manet_basicsr.degradation.pca import kernel_pca_basis, load_pca_basis
from manet_basicsr.degradation.protocol import (
    ProtocolSampler,
    invariant_protocol_parameters,
    protocol_field,
    protocol_parameters,
)
from manet_basicsr.degradation.psf_grid import PsfGridSampler
from manet_basicsr.degradation.sampler import (
    FIELD_TYPES,
    FieldSampler,
    block_field,
    build_field_sampler,
    register_field,
)
from manet_basicsr.degradation.smooth import SmoothSampler, smooth_parameters

# Also blurs that nothing above names: importing registers them.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_module.name}')

__all__ = [
    'ALIGNMENTS',
    'FIELD_TYPES',
    'BankSampler',
    'CollageSampler',
    'DefocusSampler',
    'FieldSampler',
    'FixedSampler',
    'InvariantSampler',
    'MixtureSampler',
    'MotionSampler',
    'ProtocolSampler',
    'PsfGridSampler',
    'SmoothSampler',
    'add_gaussian_noise',
    'anisotropic_gaussian_kernels',
    'block_field',
    'blur_downsample',
    'build_field_sampler',
    'invariant_protocol_parameters',
    'jpeg_compress',
    'kernel_covariances',
    'kernel_pca_basis',
    'load_pca_basis',
    'protocol_field',
    'protocol_parameters',
    'quantize',
    'register_field',
    'sample_kernel_parameters',
    'smooth_parameters',
    'training_variance_range',
]
