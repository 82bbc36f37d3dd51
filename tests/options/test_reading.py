"""Option files: read as YAML, never evaluated."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.reading import load_options
from manet_basicsr.utils.yaml_reading import read_yaml

# ------------------------------------------------------------------------------------------------------------ YAML


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1e-4', 1e-4),
        ('2.5e-4', 2.5e-4),
        ('1.5e5', 1.5e5),
        ('.5e3', 500.0),
        ('-1e+4', -1e4),
        ('3e5', 3e5),
        ('-1', -1),
        ('true', True),
        ('~', None),
        ('', None),
        ('[1, 2e-3]', [1, 2e-3]),
        ('{type: fixed, variances: [6, 1]}', {'type': 'fixed', 'variances': [6, 1]}),
        ('~/data/set.lmdb', '~/data/set.lmdb'),
        ('1e', '1e'),
        ('e5', 'e5'),
        ('x4', 'x4'),
        ('1e5x', '1e5x'),
        ('2024-01-02', datetime.date(2024, 1, 2)),
    ],
)
def test_yaml_scalars_are_read_as_what_they_look_like(text: str, value: Any) -> None:
    found = read_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize('text', ['a: 1\nb: 2\na: 3', 'x: {a: 1, a: 1}', "a: 1\n'a': 2", '? a\n: 1\n? a\n: 2'])
def test_key_given_twice_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^line \d+: key 'a' is given twice in one section$"):
        read_yaml(text)


def test_merged_keys_may_be_given_again() -> None:
    text = """
    base: &base {a: 1, b: 2}
    other: &other {c: 3}
    one: {<<: *base, b: 20}
    two: {<<: [*base, *other], c: 30}
    """
    options = read_yaml(text)
    assert options['one'] == {'a': 1, 'b': 20}
    assert options['two'] == {'a': 1, 'b': 2, 'c': 30}


def test_merge_of_a_merge_that_is_read_later_keeps_what_it_overrides() -> None:
    # PyYAML constructs the deeper section after the shallower one that merges it.
    options = read_yaml('x: {p: {q: &b {<<: &a {k: 1, l: 1}, k: 2}}, c: {<<: *b}}')
    assert options['x']['c'] == options['x']['p']['q'] == {'k': 2, 'l': 1}


def test_each_alias_is_a_copy_that_may_be_changed_alone() -> None:
    options = read_yaml('train: &set {field: {type: fixed}}\nval: *set\nlist: [*set]')
    options['val']['phase'] = 'val'
    options['val']['field']['type'] = 'smooth'
    assert options['train'] == {'field': {'type': 'fixed'}}
    assert options['list'] == [{'field': {'type': 'fixed'}}]


LAUGHS = 'a: &a [x, x, x, x, x, x, x, x, x]\n' + ''.join(
    f'{name}: &{name} [{", ".join([f"*{before}"] * 9)}]\n' for before, name in zip('abcdefgh', 'bcdefghi', strict=True)
)
MERGES = 'a: &a {x: 1}\n' + ''.join(
    f'{name}: &{name} {{<<: [{", ".join([f"*{before}"] * 9)}]}}\n'
    for before, name in zip('abcdefghijk', 'bcdefghijkl', strict=True)
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    'text', [LAUGHS, 'a: &a [*a]', 'a: &a {b: *a}', '[' * 20_000, '{a: ' * 20_000, '[' * 60 + ']' * 60, '- ' * 5_000]
)
def test_bombs_are_refused_at_once(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError) as raised:
        read_yaml(text)
    assert len(str(raised.value)) < 200
    assert time.perf_counter() - start < 10  # unfolded, the first would take years


@pytest.mark.timeout(20)
def test_merges_of_merges_do_not_multiply() -> None:
    assert read_yaml(MERGES)['l'] == {'x': 1}


@pytest.mark.parametrize(
    'text',
    [
        '!!python/object/apply:os.mkdir [WITNESS]',
        '!!python/object/new:os.mkdir [WITNESS]',
        '!!python/name:os.system',
        '!!python/module:os',
        '!!python/tuple [1]',
        'a: !mine 3',
    ],
)
def test_tags_that_run_code_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='^line 1: could not determine a constructor'):
        read_yaml(text.replace('WITNESS', str(tmp_path / 'witness')))
    assert not (tmp_path / 'witness').exists()


@pytest.mark.parametrize(
    'text',
    [
        '!!bool maybe',
        '!!int ""',
        '!!float "-"',
        '!!timestamp foo',
        '!!map [1, 2]',
        '!!set [1]',
        '? !!set x\n: 1',
        '? [1]\n: 2',
        'a: =',
        '<<: 1',
        '2024-13-45',
        '9' * 5000,
        '\0',
        'a: [1',
        '*unknown',
        'a\n---\nb',
    ],
)
def test_yaml_that_is_wrong_in_any_way_is_one_line(text: str) -> None:
    with pytest.raises(ValueError) as raised:
        read_yaml(text)
    assert str(raised.value)
    assert '\n' not in str(raised.value)


_TOKENS = [*'[]{}|"', '&a ', '*a', '<<: ', '!!int ', '!!set ', '!!binary ', ': ', ', ', '\n', '  ', '- ', '? ']


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(_TOKENS) | st.text(max_size=3)).map(''.join))
def test_any_text_is_yaml_or_a_value_error_of_one_line(text: str) -> None:
    try:
        read_yaml(text)
    except ValueError as error:
        assert '\n' not in str(error)


# ------------------------------------------------------------------------------------------------------ option files


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_option_file_is_read(tmp_path: Path) -> None:
    assert load_options(write(tmp_path / 'o.yml', 'name: x\ntrain: {lr: 1e-4}')) == {'name': 'x', 'train': {'lr': 1e-4}}


def refusal(path: Path) -> str:
    with pytest.raises(OptionError) as raised:
        load_options(path)
    (problem,) = raised.value.problems
    assert problem.startswith(str(path))
    assert '\n' not in problem
    return problem


def test_option_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = 'cannot read the option file (No such file or directory); basicsr options lists those that ship'
    assert missing in refusal(tmp_path / 'none.yml')
    assert 'cannot read the option file (Is a directory)' in refusal(tmp_path)
    (tmp_path / 'bytes.yml').write_bytes(b'\xff\xfe\x00')
    assert 'is no text in UTF-8' in refusal(tmp_path / 'bytes.yml')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'found NoneType, expected sections'),
        ('- a\n- b', 'found list, expected sections'),
        ('a: 1\na: 2', "line 2: key 'a' is given twice"),
        ('a: b: c', 'line 1: mapping values are not allowed here'),
    ],
)
def test_option_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refusal(write(tmp_path / 'o.yml', text))
