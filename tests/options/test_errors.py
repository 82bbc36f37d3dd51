"""What is said of wrong options."""

from __future__ import annotations

import pytest

from manet_basicsr.options.errors import OptionError, named, problems_of
from manet_basicsr.utils.messages import nearest


def test_nearest_says_nothing_where_nothing_is_near() -> None:
    assert nearest('invariante', ['fixed', 'invariant']) == "; did you mean 'invariant'?"
    assert nearest('zzz', ['fixed', 'invariant']) == ''
    assert nearest(3, [3, None]) == "; did you mean '3'?"


def test_complaint_about_input_says_where_to_change_it() -> None:
    for error in (ValueError('too small'), KeyError('too small'), TypeError('too small')):
        with pytest.raises(OptionError, match='^file: train.lr: too small$'), problems_of('file', 'train.lr'):
            raise error
    with pytest.raises(ZeroDivisionError), problems_of('file'):
        raise ZeroDivisionError


def test_the_name_of_a_file_is_put_in_front_of_every_problem() -> None:
    with pytest.raises(OptionError) as raised, named('o.yml: '):
        raise OptionError(['lr: missing', 'name: missing'])
    assert raised.value.problems == ['o.yml: lr: missing', 'o.yml: name: missing']
