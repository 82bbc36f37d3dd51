"""The folder of a run: where it lies, who may use it, what is moved aside, and what a resume needs of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from manet_basicsr.commands.basicsr import main
from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.reading import load_options
from manet_basicsr.training.checkpoints import save_atomically, saved_iterations
from manet_basicsr.training.resuming import find_resume_state, forget_beginning_of_resumed, goes_on_in_place
from manet_basicsr.training.run_folder import make_folders, move_aside, prepare_run_folder, tensorboard_folder
from tests import shortened

TRAINING = shortened.option_file('train', 'MANet_stage1', 4)
TESTING = shortened.option_file('test', 'MANet_stage1', 4)


pytestmark = pytest.mark.usefixtures('here')


def train(images: Path, *more: str, auto_resume: bool = False, **short: Any) -> int:
    """Train the shortened stage-1 file by the command, without validation."""
    entries = [*shortened.train_entries('MANet_stage1', images, **short), 'val=~', *more]
    return main(['train', '-opt', str(TRAINING), *(['--auto_resume'] if auto_resume else []), '--force_yml', *entries])


def log(folder: Path) -> str:
    return max(folder.glob('train_*.log'), key=lambda path: path.stat().st_mtime_ns).read_text()


# ------------------------------------------------------------------------------------------------------- where it lies


def test_runs_lie_side_by_side_below_their_root_and_nothing_else_there_is_touched(photos: Path, here: Path) -> None:
    (here / 'runs').mkdir()
    (here / 'runs/thesis.tex').write_text('mine')
    assert train(photos, 'path:experiments_root=runs', 'name=A') == 0
    assert train(photos, 'path:experiments_root=runs', 'name=B', auto_resume=True) == 0
    assert (here / 'runs/thesis.tex').read_text() == 'mine'
    assert not list(here.glob('runs_*'))
    assert 'Resuming' not in log(here / 'runs/B')
    for name in 'AB':
        assert saved_iterations(here / f'runs/{name}/training_states') == [2]
        assert load_options(here / f'runs/{name}/resolved.yml')['path']['experiments_root'] == 'runs'


@pytest.mark.parametrize('is_train', [True, False])
def test_a_folder_that_holds_no_run_is_refused_and_left_alone(here: Path, is_train: bool) -> None:
    (here / 'pics').mkdir()
    (here / 'pics/holiday.png').touch()
    key = 'experiments_root' if is_train else 'results_root'
    opt = {'is_train': is_train, 'path': {key: str(here / 'pics'), 'log': str(here / 'pics')}}
    with pytest.raises(OptionError, match='holds other files than those of a run'):
        make_folders(opt)
    assert [path.name for path in here.rglob('*')] == ['pics', 'holiday.png']


@pytest.mark.parametrize('refused', ['results', 'run'])
def test_a_test_whose_folder_cannot_be_made_is_one_line_with_the_key_that_leads_elsewhere(
    photos: Path, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    from basicsr.archs import build_network

    save_atomically({'params': build_network({'type': 'MANet', 'num_feat': 16}).state_dict()}, here / 'w.pth')
    mkdir = os.mkdir

    def refuse(path: str | Path, *given: Any, **settings: Any) -> None:  # permissions do not stop every user
        if Path(path).name == refused:
            raise PermissionError(13, 'Permission denied', str(path))
        mkdir(path, *given, **settings)

    monkeypatch.setattr(os, 'mkdir', refuse)
    entries = [*shortened.test_entries('MANet_stage1', photos, here / 'w.pth'), 'name=run']
    assert main(['test', '-opt', str(TESTING), '--force_yml', *entries]) == 1
    error = f'cannot write {here}/results/run: Permission denied; path.results_root leads to another folder'
    assert capsys.readouterr().err == f'basicsr: error: {error}\n'


def test_runs_that_begin_in_one_second_are_all_kept(here: Path) -> None:
    for number in range(3):
        (here / 'run/training_states').mkdir(parents=True)
        (here / f'run/{number}').touch()
        move_aside(here / 'run', ('training_states',))
    assert {path.name for path in here.glob('run_archived_*/?')} == {'0', '1', '2'}


def test_the_copy_of_a_file_that_begins_with_a_byte_order_mark_is_read_again(here: Path) -> None:
    (here / 'bom.yml').write_bytes(b'\xef\xbb\xbf# Stage 1\nname: run\nlogger: {}\n')
    root = here / 'experiments/run'
    opt = {'is_train': True, 'name': 'run', 'root_path': str(here), 'logger': {}}
    opt['path'] = {'experiments_root': str(root), 'log': str(root)}
    prepare_run_folder(opt, 'bom.yml', in_place=False)
    assert load_options(root / 'bom.yml') == load_options('bom.yml') == {'name': 'run', 'logger': {}}


# ---------------------------------------------------------------------------------------------------- one run at a time


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Let another process hold the lock of a run; gives its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    script = (
        'import fcntl, os, sys\n'
        'file = open(sys.argv[1], "w")\n'
        'fcntl.lockf(file, fcntl.LOCK_EX)\n'
        'print(f"process {os.getpid()} on a machine", file=file, flush=True)\n'
        'print("locked", flush=True)\n'
        'sys.stdin.read()\n'
    )
    words = [sys.executable, '-c', script, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b'locked\n'
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def test_a_second_start_of_a_name_ends_with_2_while_the_first_lives(
    photos: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / 'experiments/run/training_states').mkdir(parents=True)
    with locked(here / 'experiments/.run.lock') as number:
        assert train(photos, 'name=run') == 2
    assert f'experiments/run is in use by another run (process {number} on a machine)' in capsys.readouterr().err
    assert [path.name for path in (here / 'experiments').iterdir() if path.is_dir()] == ['run']
    assert train(photos, 'name=run') == 0  # the lock goes with its process


def test_a_second_test_of_a_name_ends_with_2_while_the_first_lives(
    photos: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from basicsr.archs import build_network

    save_atomically({'params': build_network({'type': 'MANet', 'num_feat': 16}).state_dict()}, here / 'w.pth')
    with locked(here / 'results/.run.lock'):
        entries = [*shortened.test_entries('MANet_stage1', photos, here / 'w.pth'), 'name=run']
        assert main(['test', '-opt', str(TESTING), '--force_yml', *entries]) == 2
    assert 'results/run is in use by another run' in capsys.readouterr().err
    assert not (here / 'results/run').exists()


# ------------------------------------------------------------------------------------------- what a run goes on from


def resumed(here: Path, name: str, state: Path) -> dict[str, Any]:
    root = here / 'experiments' / name
    paths = {'experiments_root': str(root), 'training_states': str(root / 'training_states')}
    paths.update(models=str(root / 'models'), resume_state=str(state), param_key_g='params_ema', strict_load_g=False)
    train = {'total_iter': 9}
    return {'path': paths, 'auto_resume': False, 'network_g': {}, 'manual_seed': 0, 'train': train}


@pytest.fixture
def state(here: Path) -> Path:
    """A state of run A, with its network; run B has a network of the same iteration."""
    for name in 'AB':
        (here / f'experiments/{name}/models').mkdir(parents=True)
        (here / f'experiments/{name}/models/net_g_6.pth').touch()
    (here / 'experiments/A/training_states').mkdir()
    path = here / 'experiments/A/training_states/6.state'
    torch.save({'iter': 6, 'optimizers': [], 'schedulers': []}, path)
    return path


def test_the_networks_of_a_resume_are_those_that_lie_beside_its_state(here: Path, state: Path) -> None:
    for name, in_place in (('A', True), ('B', False)):
        opt = resumed(here, name, state)
        find_resume_state(opt)
        assert opt['path']['pretrain_network_g'] == str(here / 'experiments/A/models/net_g_6.pth')
        assert not {'strict_load_g', 'param_key_g'} & opt['path'].keys()  # a resume is strict
        assert goes_on_in_place(opt) is in_place


def test_a_state_apart_from_its_networks_is_refused_naming_both(here: Path, state: Path) -> None:
    (here / 'experiments/A/models/net_g_6.pth').unlink()
    with pytest.raises(OptionError, match=r'found .*A/training_states/6\.state, but not .*A/models/net_g_6\.pth'):
        find_resume_state(resumed(here, 'B', state))


def test_a_run_that_begins_at_another_s_state_has_its_networks_and_a_folder_of_its_own(
    photos: Path, here: Path
) -> None:
    states = 'experiments/{}/training_states'
    assert train(photos, 'name=A') == 0
    assert train(photos, 'name=B', 'manual_seed=7') == 0
    resume = [f'path:resume_state={states.format("A")}/2.state', 'train:optim_g:lr=0', 'train:total_iter=4']
    assert train(photos, 'name=B', *resume) == 0
    first, second = (
        torch.load(here / f'experiments/{name}.pth', weights_only=True)['params']
        for name in ('A/models/net_g_2', 'B/models/net_g_4')
    )
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert len(list((here / 'experiments').glob('B_archived_*'))) == 1
    assert saved_iterations(here / states.format('A')) == [2]


def test_a_run_that_ended_goes_on_where_it_is_to_be_longer(photos: Path, here: Path) -> None:
    run = here / 'experiments/A'
    for total_iter in (3, 3, 5):  # the second has nothing left to do
        words = ['name=A', f'train:total_iter={total_iter}', 'logger:save_checkpoint_freq=1000']
        assert train(photos, *words, auto_resume=True) == 0
        last = torch.load(run / f'models/net_g_{total_iter}.pth', weights_only=True)['params']
        latest = torch.load(run / 'models/net_g_latest.pth', weights_only=True)['params']
        assert all(torch.equal(value, latest[key]) for key, value in last.items())
    assert saved_iterations(run / 'training_states') == [5, 3]
    assert 'Resuming training from iter: 3.' in log(run)
    assert not list((here / 'experiments').glob('A_archived_*'))


def test_a_run_that_goes_on_from_an_earlier_state_stays_with_it(photos: Path, here: Path) -> None:
    assert train(photos, 'name=A', 'train:total_iter=4', 'logger:save_checkpoint_freq=2') == 0
    states = here / 'experiments/A/training_states'
    assert saved_iterations(states) == [4, 2]
    resume = [f'path:resume_state={states}/2.state', 'train:total_iter=3', 'logger:save_checkpoint_freq=1']
    assert train(photos, 'name=A', *resume) == 0
    assert saved_iterations(states) == [3, 2]
    assert len(list(states.glob('4.state_set_aside_*'))) == 1
    copies = [path.read_text() for path in (here / 'experiments/A').glob('train_*.yml')]
    assert copies == [next((shortened.ROOT / 'options/train').glob('train_MANet_stage1_x4.yml')).read_text()]


def test_a_short_run_begins_with_the_weights_it_is_given_whatever_the_long_one_has(here: Path) -> None:
    states = here / 'experiments/run/training_states'
    states.mkdir(parents=True)
    (states / '5.state').touch()
    for debug, kept in ((True, True), (False, False)):
        options: dict[str, Any] = {'name': 'run', 'path': {'pretrain_network_g': 'mine.pth'}, 'network_g': {}}
        forget_beginning_of_resumed(options, str(here), auto_resume=True, debug=debug)
        assert ('pretrain_network_g' in options['path']) == kept


def test_a_resume_needs_the_run_s_folder_only(photos: Path, here: Path) -> None:
    assert train(photos, 'name=e') == 0
    estimator = here / 'experiments/e/models/net_g_latest.pth'
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    entries = [*shortened.train_entries('BlindSR_stage3', photos), 'val=~']
    entries.append(f'network_g:estimator:pretrained={estimator}')
    assert main(['train', '-opt', str(file), '--force_yml', *entries]) == 0
    estimator.unlink()
    words = ['train', '-opt', str(file), '--auto_resume', '--force_yml', *entries, 'train:total_iter=3']
    assert main(words) == 0
    assert 'Resuming training from iter: 2.' in log(here / 'experiments' / file.stem)
    assert main(['train', '-opt', str(file), '--force_yml', *entries, 'name=other']) == 2


def test_what_a_run_began_with_stays_in_its_options_when_it_goes_on(photos: Path, here: Path) -> None:
    assert train(photos, 'name=begin') == 0
    begin = here / 'experiments/begin/models/net_g_latest.pth'
    with_weights = [f'path:pretrain_network_g={begin}', 'path:param_key_g=params', 'path:strict_load_g=false']
    assert train(photos, 'name=run', *with_weights) == 0
    resolved = here / 'experiments/run/resolved.yml'
    first = load_options(resolved)
    assert first['path']['pretrain_network_g'] == str(begin)
    assert train(photos, 'name=run', *with_weights, 'train:total_iter=4', auto_resume=True) == 0
    again = load_options(resolved)
    assert again['path'] == first['path']
    assert (first['train'].pop('total_iter'), again['train'].pop('total_iter')) == (2, 4)
    assert again == first
    # As versions wrote it that took where a run went on for its beginning.
    states = here / 'experiments/run/training_states'
    text = resolved.read_text().replace('  resume_state: null', f'  resume_state: {states}/2.state')
    resolved.write_text(text.replace(str(begin), str(here / 'experiments/run/models/net_g_2.pth')))
    assert train(photos, 'name=run', *with_weights, 'train:total_iter=5', auto_resume=True) == 0
    assert not {'resume_state', 'pretrain_network_g'} & load_options(resolved)['path'].keys()
    resolved.unlink()  # without it nothing is known of the beginning, and nothing wrong is said
    assert train(photos, 'name=run', *with_weights, 'train:total_iter=6', auto_resume=True) == 0
    assert not {'resume_state', 'pretrain_network_g', 'param_key_g'} & load_options(resolved)['path'].keys()


def test_runs_of_one_name_in_different_roots_have_their_own_tensorboard_files(here: Path) -> None:
    def folder(root: Path) -> Path:
        paths = {'experiments_root': str(root / 'run')}
        return tensorboard_folder({'is_train': True, 'name': 'run', 'root_path': str(here), 'path': paths})

    assert folder(here / 'experiments') == here / 'tb_logger/run'  # BasicSR's place
    (here / 'disk').mkdir()
    (here / 'experiments').symlink_to(here / 'disk')
    assert folder(here / 'experiments') == here / 'tb_logger/run'
    assert folder(here / 'a') == here / 'a/tb_logger/run'
    assert folder(here / 'b') == here / 'b/tb_logger/run'


def test_a_short_run_of_a_file_that_goes_on_from_a_long_run_begins_anew(photos: Path, here: Path) -> None:
    assert train(photos, 'name=long', 'train:total_iter=20', 'logger:save_checkpoint_freq=20') == 0
    entries = [*shortened.train_entries('MANet_stage1', photos), 'val=~', 'name=run']
    entries += ['train:total_iter=40', f'path:resume_state={here}/experiments/long/training_states/20.state']
    assert main(['train', '-opt', str(TRAINING), '--debug', '--force_yml', *entries]) == 0
    assert saved_iterations(here / 'experiments/debug_run/training_states')


def test_values_may_be_forced_by_several_flags(photos: Path, here: Path) -> None:
    entries = [*shortened.train_entries('MANet_stage1', photos), 'val=~']
    words = ['train', '-opt', str(TRAINING), '--force_yml', *entries, '--force_yml', 'name=mine', 'train:total_iter=1']
    assert main(words) == 0
    assert load_options(here / 'experiments/mine/resolved.yml')['train']['total_iter'] == 1
