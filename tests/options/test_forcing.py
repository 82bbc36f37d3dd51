"""Forced values: YAML, never evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.forcing import force


@pytest.mark.parametrize(
    ('entry', 'value'),
    [
        ('train:lr=1e-4', 1e-4),
        ('train:lr=-1', -1),
        ('train:lr=True', True),
        ('train:lr=~', None),
        ('train:lr=', None),
        ('train:lr=[1, 2]', [1, 2]),
        ('train:lr={type: L1Loss}', {'type': 'L1Loss'}),
        ('train:lr=a=b', 'a=b'),
        ('train:lr=C:/data', 'C:/data'),
        (' train : lr = text ', 'text'),
        ("train:lr='1'", '1'),
        ('train:new=5', 5),
        ('train:lr=__import__("os").abort()', '__import__("os").abort()'),
        ('train:lr=[__import__("os").abort()]', ['__import__("os").abort()']),
    ],
)
def test_forced_values_are_yaml_split_at_the_first_equals_sign(entry: str, value: Any) -> None:
    options = {'train': {'lr': 'old'}, 'name': 'x'}
    force(options, [entry])
    key = 'new' if 'new' in entry else 'lr'
    assert options['train'][key] == value
    assert options['name'] == 'x'


def test_later_entries_see_earlier_ones() -> None:
    options: dict[str, Any] = {'train': {}}
    force(options, ['train:scheduler={type: x}', 'train:scheduler:gamma=0.5', 'name=run'])
    assert options == {'train': {'scheduler': {'type': 'x', 'gamma': 0.5}}, 'name': 'run'}


@pytest.mark.parametrize(
    ('entry', 'words'),
    [
        ('trian:lr=1', "there is no section 'trian'; did you mean 'train'?"),
        ('train:optim:lr=1', "there is no section 'optim'; did you mean 'optim_g'?"),
        ('name:first=1', "there is no section 'name'"),
        ('zzz:lr=1', "there is no section 'zzz'"),
        ('train:lr', 'expected section:key=value'),
        ('=1', 'expected section:key=value'),
        ('train:=1', 'expected section:key=value'),
        (':lr=1', 'expected section:key=value'),
        ('train:lr=[1', 'line 1: '),
        ('train:lr=!!python/object/apply:os.abort []', 'could not determine a constructor'),
    ],
)
def test_forced_entry_that_is_wrong_is_named(entry: str, words: str) -> None:
    options = {'train': {'lr': 'old', 'optim_g': {}}, 'name': 'x'}
    with pytest.raises(OptionError) as raised:
        force(options, [entry])
    assert words in str(raised.value)
    assert str(raised.value).startswith(f"'{entry}': ")
    assert '\n' not in str(raised.value)
    assert options == {'train': {'lr': 'old', 'optim_g': {}}, 'name': 'x'}


def test_forced_keys_are_not_evaluated(tmp_path: Path) -> None:
    options: dict[str, Any] = {'name': 'x'}
    key = f'name"]=0;__import__("os").mkdir("{tmp_path}/witness");opt["name'
    force(options, [f'{key}=1'])
    assert not (tmp_path / 'witness').exists()
    assert options['name'] == 'x'
