"""What the arguments of optimizers, schedulers and losses may be: by their names, which all of them share.

The classes themselves would refuse most wrong values too, but in Python's words (``'<=' not supported between ...``),
and NaN, infinity and ``true`` pass as numbers.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeGuard

from manet_basicsr.options.sections import is_count, is_number


def is_amount(value: object) -> TypeGuard[float]:
    """Tell whether a value is a finite number of at least 0."""
    return is_number(value) and 0 <= value < math.inf


def _is_share(value: object) -> bool:
    return is_number(value) and 0 <= value < 1


def _is_iteration(value: object) -> bool:
    return is_amount(value) and value == int(value)


def _is_list(value: object, of: Callable[[object], bool]) -> TypeGuard[list[Any]]:
    return isinstance(value, (list, tuple)) and all(map(of, value))


def _is_pair(value: object) -> bool:
    return _is_list(value, _is_share) and len(value) == 2


def _are_periods(value: object) -> bool:
    return _is_list(value, lambda one: _is_iteration(one) and one != 0) and len(value) > 0


_Rules = Mapping[str, tuple[Callable[[object], bool], str]]
_RULES: _Rules = {
    **dict.fromkeys('lr adam_lr weight_decay eps adam_eps eta_min gamma'.split(), (is_amount, 'a number, at least 0')),
    **dict.fromkeys('loss_weight perceptual_weight style_weight'.split(), (is_amount, 'a number, at least 0')),
    **dict.fromkeys(('betas', 'adam_betas'), (_is_pair, 'two numbers, each from 0 to below 1')),
    'momentum': (_is_share, 'a number from 0 to below 1'),
    'ns_steps': (lambda value: is_count(value, 1), 'a whole number, at least 1'),
    **dict.fromkeys(('milestones', 'restarts'), (lambda value: _is_list(value, _is_iteration), 'a list of iterations')),
    'periods': (_are_periods, 'a list of numbers of iterations, each at least 1'),
    'restart_weights': (lambda value: _is_list(value, is_amount), 'a list of numbers, each at least 0'),
    **dict.fromkeys(('amsgrad', 'maximize'), (lambda value: isinstance(value, bool), 'true or false')),
}
#: Of the metrics of BasicSR and of this package.
_METRIC_RULES: _Rules = {
    'crop_border': (is_count, 'a whole number of pixels'),
    'test_y_channel': (lambda value: value in (True, False), 'true or false'),
    'input_order': (lambda value: value in ('HWC', 'CHW', 'HW'), 'HWC, CHW or HW'),
}


def value_problems(section: Mapping[str, Any], where: str) -> Iterator[str]:
    """Check the values of a section ``{type: NAME, argument: ...}`` whose arguments have known names."""
    yield from _problems(section, where, _RULES)


def metric_problems(section: Mapping[str, Any], where: str, metric: object) -> Iterator[str]:
    """Check the values of a section of ``val.metrics``; those of metrics of other packages are their own matter.

    Args:
        section: The section.
        where: Its key.
        metric: What is registered under its type.
    """
    if callable(metric) and metric.__module__.split('.')[0] in ('basicsr', 'manet_basicsr'):
        defaults = {name: parameter.default for name, parameter in inspect.signature(metric).parameters.items()}
        given = {key: value for key, value in section.items() if key not in defaults or value is not defaults[key]}
        yield from _problems(given, where, _METRIC_RULES)


def _problems(section: Mapping[str, Any], where: str, rules: _Rules) -> Iterator[str]:
    for key, value in section.items():
        is_right, expected = rules.get(key, (None, ''))
        if is_right is not None and not is_right(value):
            yield f'{where}.{key}: found {value!r}, expected {expected}'
