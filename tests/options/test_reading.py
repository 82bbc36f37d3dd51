"""Option files and --force_yml: read as YAML, never evaluated, and resolved as BasicSR does."""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.utils import set_random_seed
from hypothesis import given, settings
from hypothesis import strategies as st

from manet_basicsr.options.reading import (
    OptionError,
    add_arguments,
    force,
    load_options,
    nearest,
    problems_of,
    read_yaml,
    resolve,
    write_resolved,
)
from manet_basicsr.weights import resolve_weights

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
    assert 'cannot read the option file (No such file or directory)' in refusal(tmp_path / 'none.yml')
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


# -------------------------------------------------------------------------------------------------------- --force_yml


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
    assert f"--force_yml '{entry}'" in str(raised.value)
    assert '\n' not in str(raised.value)
    assert options == {'train': {'lr': 'old', 'optim_g': {}}, 'name': 'x'}


def test_forced_keys_are_not_evaluated(tmp_path: Path) -> None:
    options: dict[str, Any] = {'name': 'x'}
    key = f'name"]=0;__import__("os").mkdir("{tmp_path}/witness");opt["name'
    force(options, [f'{key}=1'])
    assert not (tmp_path / 'witness').exists()
    assert options['name'] == 'x'


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


# ---------------------------------------------------------------------------------------------------------- resolving

TRAINING = """
name: run
model_type: KernelL1Model
scale: 4
num_gpu: 0
manual_seed: 3
datasets:
  train:
    name: Train
    type: SVDegradationDataset
    dataroot_gt: ~/images
    gt_size: 48
    degradation: {field: {type: invariant, variance: [0.7, 10]}}
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
  val_1: &val
    name: Val
    type: SVDegradationDataset
    dataroot_gt: ~/images
    degradation: {field: {type: fixed, variances: [6, 1]}}
  val_2: {<<: *val, name: Val2}
network_g: {type: MANet, num_feat: 16}
path:
train:
  total_iter: 300
  optim_g: {type: Adam, lr: 1e-4}
  scheduler: {type: MultiStepLR, milestones: [200]}
  kernel_opt: {type: KernelL1Loss}
val: {val_freq: 100}
logger: {print_freq: 50, save_checkpoint_freq: 100}
"""
TESTING = TRAINING[: TRAINING.index('\ntrain:')].replace('  train:\n', '  test_1:\n').replace('val_', 'test_val')


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder with a folder of images; torch's and Python's random states are put back."""
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'images').mkdir()
    yield tmp_path
    set_random_seed(0)


def arguments(path: Path, *flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(['-opt', str(path), *flags])


def resolved(folder: Path, text: str = TRAINING, *flags: str, is_train: bool = True) -> dict[str, Any]:
    args = arguments(write(folder / 'o.yml', text), *flags)
    return resolve(args, str(folder / 'root'), is_train=is_train)


def test_resolved_training_options_have_all_that_basicsr_adds(home: Path) -> None:
    opt = resolved(home)
    root = home / 'root/experiments/run'
    assert opt['path'] == {
        'experiments_root': str(root),
        'log': str(root),
        'visualization': str(root / 'visualization'),
        'models': str(root / 'models'),
        'training_states': str(root / 'training_states'),
    }
    assert (opt['dist'], opt['rank'], opt['world_size'], opt['num_gpu']) == (False, 0, 1, 0)
    assert (opt['is_train'], opt['auto_resume'], opt['root_path']) == (True, False, str(home / 'root'))
    assert [(name, opt['datasets'][name]['phase']) for name in opt['datasets']] == [
        ('train', 'train'),
        ('val_1', 'val'),
        ('val_2', 'val'),
    ]
    assert all(dataset['scale'] == 4 for dataset in opt['datasets'].values())
    assert opt['datasets']['train']['dataroot_gt'] == str(home / 'images')
    assert opt['logger']['use_tb_logger'] is False
    assert not (home / 'root').exists()  # nothing is made yet


def test_resolved_test_options_have_the_defaults_of_val(home: Path) -> None:
    for text in (TESTING, f'{TESTING}\nval:\n', f'{TESTING}\nval: {{save_img: false}}'):
        opt = resolved(home, text.replace('datasets:\n  test_1', 'datasets:\n  test_0'), is_train=False)
        assert opt['val'] == {'save_img': False, 'suffix': None}
        assert opt['path']['results_root'] == opt['path']['log'] == str(home / 'root/results/run')


def test_experiments_root_of_the_file_is_honoured(home: Path) -> None:
    opt = resolved(home, TRAINING, '--auto_resume', '--force_yml', f'path={{experiments_root: {home}/elsewhere}}')
    assert opt['path']['experiments_root'] == opt['path']['log'] == str(home / 'elsewhere')
    assert opt['path']['models'] == str(home / 'elsewhere/models')
    assert opt['auto_resume']


def test_debug_changes_the_name_and_the_frequencies(home: Path) -> None:
    opt = resolved(home, TRAINING, '--debug')
    assert opt['name'] == 'debug_run'
    assert opt['path']['models'].endswith('experiments/debug_run/models')
    assert (opt['logger']['print_freq'], opt['logger']['save_checkpoint_freq'], opt['val']['val_freq']) == (1, 8, 8)
    assert resolved(home, TRAINING.replace('name: run', 'name: debug_run'), '--debug')['name'] == 'debug_run'


def test_seed_of_the_file_is_used_and_one_is_drawn_where_there_is_none(home: Path) -> None:
    draws = []
    for _ in range(2):
        assert resolved(home)['manual_seed'] == 3
        draws.append(torch.rand(()).item())
    assert draws[0] == draws[1]
    without = TRAINING.replace('manual_seed: 3', 'manual_seed: ~')
    torch.manual_seed(0)
    seeds = {resolved(home, without)['manual_seed'] for _ in range(8)}
    assert len(seeds) > 1  # all alike by chance: once in 10,000 ** 7


def test_every_problem_of_the_file_is_reported_with_its_name(home: Path) -> None:
    text = TRAINING.replace('num_feat', 'num_feet').replace('print_freq: 50', 'print_freq: often')
    with pytest.raises(OptionError) as raised:
        resolved(home, text)
    assert len(raised.value.problems) == 2
    assert all(problem.startswith(f'{home}/o.yml: ') for problem in raised.value.problems)


def test_more_gpus_than_there_are_is_refused(home: Path) -> None:
    with pytest.raises(OptionError, match='num_gpu: found 99, but there are'):
        resolved(home, TRAINING.replace('num_gpu: 0', 'num_gpu: 99'))
    assert resolved(home, TRAINING.replace('num_gpu: 0', 'num_gpu: auto'))['num_gpu'] == torch.cuda.device_count()


def test_launcher_without_torchrun_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(OptionError, match='RANK is not set, expected a start by torchrun'):
        resolved(home, TRAINING, '--launcher', 'pytorch')
    monkeypatch.delenv('SLURM_NODELIST', raising=False)
    with pytest.raises(OptionError, match='--launcher slurm: SLURM_NODELIST'):
        resolved(home, TRAINING, '--launcher', 'slurm')


def test_resolved_options_are_written_and_read_back(home: Path) -> None:
    opt = resolved(home)
    write_resolved(opt, home / 'resolved.yml')
    again = load_options(home / 'resolved.yml')
    assert again == {**{key: opt[key] for key in again}, 'path': {}}  # what follows from the rest is left out
    assert opt.keys() - again.keys() == {'dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path'}
    opt['path']['pretrain_network_g'] = str(resolve_weights('weights://manet_x4'))
    write_resolved(opt, home / 'resolved.yml')
    assert load_options(home / 'resolved.yml')['path'] == {'pretrain_network_g': 'weights://manet_x4'}
    assert '&' not in (home / 'resolved.yml').read_text()  # no aliases
