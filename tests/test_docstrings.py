"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
from typing import Any

import pytest

import manet_basicsr
from manet_basicsr import losses, metrics
from manet_basicsr.degradation import FIELD_TYPES, blur_downsample

#: pyiqa is an extra, and fetches weights when it is first used.
_WITHOUT = {'calculate_pyiqa', 'calculate_pyiqa_nr'}
_EXPORTED = [getattr(module, name) for module in (losses, metrics) for name in module.__all__ if name not in _WITHOUT]
_SAMPLERS = [sampler for sampler in FIELD_TYPES.values() if sampler.__module__.startswith('manet_basicsr.')]
OBJECTS = [manet_basicsr.restore, blur_downsample, *_SAMPLERS, *_EXPORTED]


@pytest.mark.parametrize('documented', OBJECTS, ids=lambda documented: documented.__name__)
def test_examples_give_what_they_say(documented: Any) -> None:
    module = importlib.import_module(inspect.unwrap(documented).__module__)
    (test,) = doctest.DocTestFinder(recurse=False).find(documented, module=False, globs=dict(vars(module)))
    assert test.examples, 'an example is missing'
    output: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=output.append)
    assert not output, ''.join(output)
