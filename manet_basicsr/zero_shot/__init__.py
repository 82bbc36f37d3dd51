"""Solvers: methods that learn from the one image that they restore, without any training before.

Most are of one family: an image prior times a model of the kernel, fitted to the LR image through ``blur_downsample``.
A solver is a frozen dataclass of its settings under ``@register_solver``; every module of this folder is imported with
the package, so a new file is all that a new solver needs.
"""

from __future__ import annotations

import importlib
import pkgutil

from manet_basicsr.zero_shot.solver import (
    BUDGETS,
    SOLVERS,
    Problem,
    Solution,
    Solver,
    build_solver,
    is_solver,
    register_solver,
    solve,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f'{__name__}.{_module.name}')

__all__ = [
    'BUDGETS',
    'SOLVERS',
    'Problem',
    'Solution',
    'Solver',
    'build_solver',
    'is_solver',
    'register_solver',
    'solve',
]
