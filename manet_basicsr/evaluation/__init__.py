"""The paper's evaluation: methods against conditions, image by image, in tables (docs/EVALUATION.md)."""

from __future__ import annotations

from manet_basicsr.evaluation.conditions import Condition, plan_conditions
from manet_basicsr.evaluation.methods import Method
from manet_basicsr.evaluation.naming import build_methods
from manet_basicsr.evaluation.runner import Evaluation, Failure, evaluate
from manet_basicsr.evaluation.tables import summarize, write_tables

__all__ = [
    'Condition',
    'Evaluation',
    'Failure',
    'Method',
    'build_methods',
    'evaluate',
    'plan_conditions',
    'summarize',
    'write_tables',
]
