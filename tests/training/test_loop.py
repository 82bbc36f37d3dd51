"""What ends a training on its way: a validation that fails, workers that cannot start; and what is left then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import METRIC_REGISTRY
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from manet_basicsr import train
from manet_basicsr.commands.basicsr import main
from manet_basicsr.data.lmdb_writer import write_lmdb
from manet_basicsr.models.kernel_l1_model import KernelL1Model
from manet_basicsr.options.errors import OptionError
from manet_basicsr.test import test_pipeline
from manet_basicsr.training.checkpoints import load_state, saved_iterations
from manet_basicsr.training.trackers import start_trackers
from tests import shortened
from tests.trained import ENVIRONMENT, FILE, RUN


@METRIC_REGISTRY.register()
def not_a_number(field: Any, **_unused: Any) -> float:
    """A metric that is none."""
    return float('nan')


def command(images: Path, *more: str, **short: Any) -> list[str]:
    return ['train', '-opt', str(FILE), '--force_yml', *shortened.train_entries('MANet_stage1', images, **short), *more]


@pytest.fixture
def pair(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A set for validation with an image that is too small for its crop border."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'pair'
    folder.mkdir()
    image = cv2.imread(str(photos / 'coffee.png'))
    cv2.imwrite(str(folder / 'large.png'), image[:96, :96])
    cv2.imwrite(str(folder / 'small.png'), image[:16, :16])
    return folder


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('basicsr: ')]
    return line


def logged() -> str:
    return max(RUN.glob('train_*.log'), key=lambda path: path.stat().st_mtime_ns).read_text()


@pytest.mark.parametrize('save_freq', [2, 1000])
def test_a_validation_that_fails_costs_no_iteration_and_names_set_image_and_metric(
    photos: Path, pair: Path, capsys: pytest.CaptureFixture[str], save_freq: int
) -> None:
    name = load_name()
    wrong = [f'datasets:val:dataroot_gt={pair}', f'logger:save_checkpoint_freq={save_freq}']
    assert main(command(photos, *wrong, total_iter=3)) == 1
    line = line_of(capsys)
    assert f'validation of {name}, image {pair}/small.png: metric ' in line
    assert line.endswith('the newest state is that of iter 2, go on with --auto_resume')
    assert saved_iterations(RUN / 'training_states') == [2]
    assert (RUN / 'models/net_g_2.pth').is_file()
    last = logged().splitlines()[-1]
    assert 'ERROR: The run ended: validation of' in last and 'small.png' in last
    (pair / 'small.png').unlink()
    words = command(photos, *wrong, total_iter=3)
    assert main([*words[:1], '--auto_resume', *words[1:]]) == 0
    assert 'Resuming training from iter: 2.' in logged()


@pytest.mark.parametrize('at', ['a validation', 'the last validation', 'an iteration with a validation'])
def test_a_signal_leaves_the_rest_of_a_validation_with_the_state_saved(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tested: list[int] = []

    def test(self: KernelL1Model) -> None:
        tested.append(1)
        original(self)
        if len(tested) == 2:
            signal.raise_signal(signal.SIGTERM)

    def optimize(self: KernelL1Model, current_iter: int) -> None:
        original_step(self, current_iter)
        if current_iter == 2 and at == 'an iteration with a validation':
            signal.raise_signal(signal.SIGTERM)

    original, original_step = KernelL1Model.test, KernelL1Model.optimize_parameters
    monkeypatch.setattr(KernelL1Model, 'test', test)
    monkeypatch.setattr(KernelL1Model, 'optimize_parameters', optimize)
    every = 'val:val_freq=1000' if at == 'the last validation' else 'val:val_freq=2'
    words = command(photos, every, 'logger:save_checkpoint_freq=1000', total_iter=3)
    assert main(words) == 128 + signal.SIGTERM
    stopped = 3 if at == 'the last validation' else 2
    assert len(tested) == (0 if at == 'an iteration with a validation' else 2)  # of four
    assert line_of(capsys) == 'basicsr: interrupted; the same command with --auto_resume goes on'
    assert saved_iterations(RUN / 'training_states') == [stopped]
    assert f'SIGTERM: saved at iter {stopped}.' in logged()
    assert (f'The validation of {load_name()} is left out.' in logged()) is bool(tested)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    validated = validations(monkeypatch, KernelL1Model)
    assert main([*words[:1], '--auto_resume', *words[1:]]) == 0
    assert validated == ([3] if at == 'the last validation' else [2, 3])  # what was due and cut short, then the last
    assert load_state(RUN / f'training_states/{stopped}.state')['validation_pending'] is False
    records = load_state(RUN / f'training_states/{stopped}.state')['best_metric_results'][load_name()]
    assert {best['iter'] for best in records.values()} == {stopped}


def validations(monkeypatch: pytest.MonkeyPatch, model: Any) -> list[int]:
    """Give a list that gets the iteration of each validation from now on."""
    done: list[int] = []
    original = model.validation

    def validation(self: Any, loader: Any, current_iter: int, *more: Any) -> None:
        done.append(current_iter)
        original(self, loader, current_iter, *more)

    monkeypatch.setattr(model, 'validation', validation)
    return done


def test_a_signal_leaves_the_validation_of_a_stock_model_which_the_resume_makes_up_for(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tested: list[int] = []
    original = SRModel.test

    def test(self: SRModel) -> None:
        tested.append(1)
        original(self)
        if len(tested) == 2:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(SRModel, 'test', test)
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    run = Path('experiments') / file.stem
    entries = [*shortened.train_entries('BlindSR_stage3', photos, total_iter=3), 'model_type=SRModel']
    entries += ['val:metrics={psnr: {type: calculate_psnr, crop_border: 4}}', 'val:tile=96']
    words = ['train', '-opt', str(file), '--auto_resume', '--force_yml', *entries]
    assert main(words) == 128 + signal.SIGTERM
    assert len(tested) == 2  # of four
    assert line_of(capsys) == 'basicsr: interrupted; the same command with --auto_resume goes on'
    assert 'WARNING: val.tile: 96 has no effect with SRModel' in next(run.glob('train_*.log')).read_text()
    assert saved_iterations(run / 'training_states') == [2]
    assert load_state(run / 'training_states/2.state')['validation_pending'] is True
    validated = validations(monkeypatch, SRModel)
    assert main(words) == 0
    assert validated == [2, 3]
    (record,) = load_state(run / 'training_states/2.state')['best_metric_results'].values()
    assert record['psnr']['iter'] == 2 and record['psnr']['val'] > 0


def load_name() -> str:
    return str(shortened.forced(FILE, [])['datasets']['val']['name'])


def test_a_metric_that_is_not_a_number_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command(photos, 'val:metrics={odd: {type: not_a_number}}')) == 1
    assert 'metric odd: found nan, expected a number' in line_of(capsys)


def test_a_state_is_saved_with_the_records_of_the_validation_of_its_iteration(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command(photos)) == 0
    records = load_state(RUN / 'training_states/2.state')['best_metric_results']
    assert {best['iter'] for best in records[load_name()].values()} == {2}


def test_the_last_state_has_the_records_of_the_last_validation(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(KernelL1Model, 'validation', lambda self, loader, current_iter, *more: beat(self, current_iter))
    assert main(command(photos, 'val:val_freq=2', total_iter=3, every=1)) == 0
    assert load_state(RUN / 'training_states/3.state')['best_metric_results'] == {'set': {'m': {'iter': 3}}}


def beat(model: Any, current_iter: int) -> None:
    """Pretend a validation that is better than all before."""
    model.best_metric_results = {'set': {'m': {'iter': current_iter}}}


def test_a_stock_model_trains_the_same_however_often_it_validates(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    words = [
        'train',
        '-opt',
        str(file),
        '--force_yml',
        *shortened.train_entries('BlindSR_stage3', photos, total_iter=3),
    ]
    words += ['model_type=SRModel', 'val:metrics={psnr: {type: calculate_psnr, crop_border: 4}}', 'manual_seed=0']
    drawn = []
    original = SRModel.optimize_parameters

    def draw(self: SRModel, current_iter: int) -> None:
        drawn.append(torch.rand(1).item())  # as a layer of the network with dropout would
        original(self, current_iter)

    monkeypatch.setattr(SRModel, 'optimize_parameters', draw)
    for every in (1, 100):
        assert main([*words, f'val:val_freq={every}', f'name=every{every}']) == 0
    assert drawn[:3] == drawn[3:]


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_workers_that_cannot_all_start_end_the_run_soon(photos: Path, tmp_path: Path) -> None:
    words = [sys.executable, '-m', 'manet_basicsr', *command(photos, workers=8)]
    limited = ['bash', '-c', 'ulimit -n 40; exec "$@"', 'limited', *words]
    pipes: dict[str, Any] = {'capture_output': True, 'text': True, 'timeout': 100, 'check': False}
    done = subprocess.run(limited, cwd=tmp_path, env=ENVIRONMENT, **pipes)
    assert done.returncode == 1, done.stderr
    assert 'basicsr: error: [Errno 24] Too many open files' in done.stderr
    assert 'Too many open files' in next((tmp_path / RUN).glob('train_*.log')).read_text().splitlines()[-1]


def tracked_options(root: Path, logger: dict[str, Any]) -> dict[str, Any]:
    """What trackers read of resolved options."""
    path = {'experiments_root': str(root / 'experiments/run')}
    return {'rank': 0, 'name': 'run', 'root_path': str(root), 'is_train': True, 'path': path, 'logger': logger}


def test_tensorboard_has_each_step_once_after_a_resume(tmp_path: Path) -> None:
    opt = tracked_options(tmp_path, {'use_tb_logger': True})
    for start, last in ((0, 5), (3, 6)):
        writer = start_trackers(opt, start)
        for step in range(start + 1, last + 1):
            writer.add_scalar('losses/l_pix', step + start, step)
        writer.close()
    events = EventAccumulator(str(tmp_path / 'tb_logger/run'))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars('losses/l_pix')]
    assert found == [(1, 1), (2, 2), (3, 3), (4, 7), (5, 8), (6, 9)]


def test_a_tensorboard_that_fails_costs_the_run_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, *arguments: Any, **keywords: Any) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('torch.utils.tensorboard.SummaryWriter.add_scalar', fail)
    assert main(command(photos, 'logger:use_tb_logger=true', 'logger:print_freq=1')) == 0
    assert logged().count('tensorboard has no more from here on: [Errno 28] No space left on device') == 1
    assert '# kernel_psnr' in logged()


def test_a_perceptual_loss_without_its_network_says_which_file_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(opt: object) -> None:
        raise URLError(OSError(-2, 'Name or service not known'))

    monkeypatch.setattr(train, 'build_model', fail)
    with pytest.raises(
        OptionError, match=r'train\.perceptual_opt: .*put the file vgg19-dcbb9e9d\.pth .* into .*checkpoints'
    ):
        train._build_model({})


@pytest.mark.parametrize('name', ['train', pytest.param('test', marks=pytest.mark.slow)])
def test_the_files_of_a_clone_are_the_commands(name: str, tmp_path: Path) -> None:
    words = [sys.executable, str(shortened.ROOT / f'manet_basicsr/{name}.py'), '-opt', 'nowhere.yml']
    environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert line.startswith('basicsr: error: nowhere.yml: cannot read the option file (No such file or directory); ')
    assert done.returncode == 2


def test_images_of_any_name_are_tested(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'hr').mkdir()
    name = os.fsdecode(b'M\xfcller.png')
    (tmp_path / 'hr' / name).write_bytes((photos / 'coffee.png').read_bytes())
    file = shortened.option_file('test', 'BlindSR_stage3', 4)
    entries = [*shortened.small_network('BlindSR_stage3'), *shortened.random_blind_parts(), 'val:save_img=true']
    entries.append('datasets={test_0: {name: s, type: SVDegradationDataset, dataroot_lq: hr}}')
    opt = shortened.resolved(file, [*entries, 'name=run'], tmp_path)
    test_pipeline(opt)
    saved = tmp_path / 'results/run/visualization/s' / name.replace('.png', '_run.png')
    assert np.asarray(cv2.imdecode(np.frombuffer(saved.read_bytes(), np.uint8), cv2.IMREAD_COLOR)).shape[2] == 3


def test_images_of_one_name_in_subfolders_of_an_lmdb_are_all_saved(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, name in (('one', 'coffee'), ('two', 'rocket')):
        (tmp_path / 'hr' / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / 'hr' / folder / 'a.png'), cv2.imread(str(photos / f'{name}.png'))[:32, :32])
    write_lmdb(tmp_path / 'hr', tmp_path / 'hr.lmdb', recursive=True)
    file = shortened.option_file('test', 'BlindSR_stage3', 4)
    entries = [*shortened.small_network('BlindSR_stage3'), *shortened.random_blind_parts(), 'val:save_img=true']
    entries.append('datasets={test_0: {name: s, type: SVDegradationDataset, dataroot_lq: hr.lmdb}}')
    test_pipeline(shortened.resolved(file, [*entries, 'name=run'], tmp_path))
    saved = tmp_path / 'results/run/visualization/s'
    assert sorted(path.name for path in saved.iterdir()) == ['one_a_run.png', 'two_a_run.png']


def test_wandb_is_started_without_what_it_no_longer_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []
    fake = types.ModuleType('wandb')  # without wandb.util, as today's
    fake.init = lambda **arguments: started.append(arguments)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'wandb', fake)
    for resume_id in (None, None, 'mine'):
        wandb_opt = {'project': 'manet', 'resume_id': resume_id}
        logger_opt = {'use_tb_logger': True, 'wandb': wandb_opt}
        start_trackers(tracked_options(tmp_path, logger_opt), 0).close()
    assert [one['resume'] for one in started] == ['never', 'never', 'allow']
    assert started[2]['id'] == 'mine' and len({one['id'] for one in started}) == 3
