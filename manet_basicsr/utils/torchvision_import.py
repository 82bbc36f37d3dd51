"""What torchvision needs before basicsr can be imported on today's stack."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch


def define_torchvision_ops() -> bool:
    """Declare ``torchvision::nms`` and ``qnms`` where torchvision's compiled operators cannot load.

    A CUDA build of torchvision beside a CPU-only torch fails to import, because it registers shape functions for two
    operators that do not exist. BasicSR needs none of the compiled operators. Can go when torchvision guards those two
    registrations as it guards the others.

    Returns:
        Whether the operators had to be declared.
    """
    spec = importlib.util.find_spec('torchvision')
    if spec is None or spec.origin is None or 'torchvision' in sys.modules:
        return False
    for library in Path(spec.origin).parent.glob('_C*'):
        try:
            torch.ops.load_library(str(library))
            return False
        except OSError:
            continue
    box_arguments = 'Tensor dets, Tensor scores, float iou_threshold'
    for operator in ('nms', 'qnms'):
        torch.library.define(f'torchvision::{operator}', f'({box_arguments}) -> Tensor')
    return True


def restore_functional_tensor() -> bool:
    """Provide ``torchvision.transforms.functional_tensor``, which torchvision 0.17 removed and basicsr still imports.

    basicsr takes one function from it, ``rgb_to_grayscale``. Can go when basicsr imports it from
    ``torchvision.transforms.functional``.

    Returns:
        Whether the module had to be provided.
    """
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return False
    from torchvision.transforms.functional import rgb_to_grayscale

    module = ModuleType(name, 'Stand-in for the module that torchvision 0.17 removed.')
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module
    return True
