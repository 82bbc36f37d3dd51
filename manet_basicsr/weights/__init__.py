"""Files of weights: their addresses, reading, and conversion; ``export`` writes other programs' formats."""

from __future__ import annotations

from manet_basicsr.weights.files import (
    ESTIMATOR_PREFIX,
    convert_file,
    convert_state_dict,
    detect_stage,
    estimator_of,
    is_state_dict,
    load_any_state_dict,
    load_pretrained,
    load_state_dict_file,
)
from manet_basicsr.weights.shipped import (
    RESTORING,
    SHIPPED,
    ShippedWeights,
    choose_weights,
    describe_shipped,
    find_address,
    is_address,
    is_within_blind,
    resolve_weights,
    restoring_weights,
    shipped_for,
    shipped_scale,
    shipped_weights,
    weights_address,
)

__all__ = [
    'ESTIMATOR_PREFIX',
    'RESTORING',
    'SHIPPED',
    'ShippedWeights',
    'choose_weights',
    'convert_file',
    'convert_state_dict',
    'describe_shipped',
    'detect_stage',
    'estimator_of',
    'find_address',
    'is_address',
    'is_state_dict',
    'is_within_blind',
    'load_any_state_dict',
    'load_pretrained',
    'load_state_dict_file',
    'resolve_weights',
    'restoring_weights',
    'shipped_for',
    'shipped_scale',
    'shipped_weights',
    'weights_address',
]
