"""Image formation as pure tensor functions: blur kernels, kernel fields, blurring, corruption, the PCA basis."""

from __future__ import annotations

from manet_basicsr.degradation.blur import blur_downsample
from manet_basicsr.degradation.collage import CollageField, MixtureField
from manet_basicsr.degradation.corruption import add_gaussian_noise, jpeg_compress, quantize
from manet_basicsr.degradation.fields import (
    FIELD_TYPES,
    BankField,
    DefocusField,
    Field,
    FixedField,
    InvariantField,
    MotionField,
    ProtocolField,
    SmoothField,
    block_field,
    build_field,
    invariant_protocol_parameters,
    protocol_field,
    protocol_parameters,
    smooth_parameters,
)
from manet_basicsr.degradation.kernels import (
    ALIGNMENTS,
    anisotropic_gaussian_kernels,
    sample_kernel_parameters,
    training_variance_range,
)
from manet_basicsr.degradation.pca import kernel_pca_basis, load_pca_basis

__all__ = [
    'ALIGNMENTS',
    'FIELD_TYPES',
    'BankField',
    'CollageField',
    'DefocusField',
    'Field',
    'FixedField',
    'InvariantField',
    'MixtureField',
    'MotionField',
    'ProtocolField',
    'SmoothField',
    'add_gaussian_noise',
    'anisotropic_gaussian_kernels',
    'block_field',
    'blur_downsample',
    'build_field',
    'invariant_protocol_parameters',
    'jpeg_compress',
    'kernel_pca_basis',
    'load_pca_basis',
    'protocol_field',
    'protocol_parameters',
    'quantize',
    'sample_kernel_parameters',
    'smooth_parameters',
    'training_variance_range',
]
