"""What a training state holds, and which one a run goes on from."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.models.base_model import BaseModel

from manet_basicsr.training.checkpoints import (
    load_state,
    newest_whole_state,
    restore_training_state,
    save_atomically,
    saved_iterations,
    training_state,
)
from manet_basicsr.utils.errors import NonFiniteError


def small_model(scheduler: dict[str, Any] | None = None) -> BaseModel:
    """A model of BasicSR with a network, an optimizer that has taken a step, and a scheduler."""
    opt: dict[str, Any] = {'num_gpu': 0, 'is_train': True, 'dist': False}
    opt['train'] = {'scheduler': dict(scheduler or {'type': 'MultiStepLR', 'milestones': [1, 3, 3], 'gamma': 0.5})}
    model = BaseModel(opt)
    torch.manual_seed(0)
    model.network = torch.nn.Linear(2, 1)
    model.optimizers = [torch.optim.Adam(model.network.parameters(), lr=1.0)]
    model.setup_schedulers()
    model.network(torch.ones(1, 2)).sum().backward()
    model.optimizers[0].step()
    return model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with states at iterations 5, 10 and 20, each with its network."""
    for folder in ('models', 'training_states'):
        (tmp_path / folder).mkdir()
    for iteration in (5, 10, 20):
        save_atomically(training_state(small_model(), 0, iteration), tmp_path / f'training_states/{iteration}.state')
        save_atomically({'params': {'weight': torch.ones(9)}}, tmp_path / f'models/net_g_{iteration}.pth')
    return tmp_path


def newest(run: Path) -> tuple[int | None, list[str]]:
    path, notes = newest_whole_state(run / 'training_states', run / 'models', ['net_g'])
    return (load_state(path)['iter'] if path else None), notes


def test_newest_of_whole_states_is_taken_by_number_not_by_name(run: Path) -> None:
    assert saved_iterations(run / 'training_states') == [20, 10, 5]
    assert newest(run) == (20, [])


@pytest.mark.parametrize('kept', [0, 1, 0.5, 0.999])
def test_truncated_state_is_passed_over_and_named(run: Path, kept: float) -> None:
    path = run / 'training_states/20.state'
    os.truncate(path, 1 if kept == 1 else int(kept * path.stat().st_size))
    found, notes = newest(run)
    assert found == 10
    assert len(notes) == 1 and str(path) in notes[0] and '\n' not in notes[0]


@pytest.mark.parametrize('damage', ['missing', 'empty', 'half', 'folder'])
def test_state_whose_network_is_damaged_is_passed_over(run: Path, damage: str) -> None:
    path = run / 'models/net_g_20.pth'
    if damage == 'half':
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.unlink()
        if damage == 'empty':
            path.touch()
        elif damage == 'folder':
            path.mkdir()
    found, notes = newest(run)
    assert found == 10
    assert len(notes) == 1 and '20.state passed over' in notes[0]


@pytest.mark.parametrize('file', ['models/net_g_20.pth', 'training_states/20.state'])
def test_a_state_that_is_not_finite_is_passed_over(run: Path, file: str) -> None:
    content = torch.load(run / file, weights_only=True)
    if 'params' in content:
        content['params'] = {'w': torch.tensor([1.0, float('nan')])}
    else:
        content['optimizers'] = [{'state': {0: {'exp_avg_sq': torch.tensor([float('inf')])}}, 'param_groups': []}]
    torch.save(content, run / file)
    found, notes = newest(run)
    assert found == 10
    assert len(notes) == 1 and '20.state passed over' in notes[0] and 'not finite (NaN or infinite)' in notes[0]


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_nothing_that_is_not_finite_is_saved(tmp_path: Path, value: float) -> None:
    target = tmp_path / 'net.pth'
    save_atomically({'params': {'w': torch.ones(2)}}, target)
    with pytest.raises(NonFiniteError, match=r'net\.pth: found params_ema\.w not finite'):
        save_atomically({'params': {'w': torch.ones(2)}, 'params_ema': {'w': torch.tensor([value])}}, target)
    assert torch.load(target, weights_only=True)['params']['w'].tolist() == [1, 1]


def test_state_of_another_kind_and_files_of_other_names_are_passed_over(run: Path) -> None:
    states = run / 'training_states'
    torch.save({'params': {}}, states / '30.state')
    torch.save([1], states / '31.state')
    torch.save({'iter': 'x', 'optimizers': [], 'schedulers': []}, states / '32.state')
    (states / 'latest.state').touch()
    (states / '.40.host-1-0badcafe.partial.state').touch()
    found, notes = newest(run)
    assert found == 20
    assert [note.partition(' ')[0] for note in notes] == [str(states / f'{number}.state') for number in (32, 31, 30)]


def test_no_whole_state_gives_none_and_a_note_for_each(run: Path) -> None:
    for path in (run / 'training_states').iterdir():
        path.write_bytes(b'')
    found, notes = newest(run)
    assert (found, len(notes)) == (None, 3)
    assert newest_whole_state(run / 'nowhere', run / 'models', ['net_g']) == (None, [])


def test_state_that_would_run_code_is_refused(run: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(run / 'witness'),)

    path = run / 'training_states/30.state'
    torch.save({'iter': 30, 'optimizers': [Hostile()], 'schedulers': []}, path)
    with pytest.raises(ValueError, match='is not a whole training state') as raised:
        load_state(path)
    assert str(path) in str(raised.value)
    assert newest(run)[0] == 20
    assert not (run / 'witness').exists()


def test_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='no such training state'):
        load_state(tmp_path / '1.state')


@pytest.mark.parametrize(
    'scheduler',
    [
        {'type': 'MultiStepLR', 'milestones': [1, 3, 3], 'gamma': 0.5},
        {'type': 'MultiStepRestartLR', 'milestones': [1], 'restarts': [2], 'restart_weights': [0.5]},
        {'type': 'CosineAnnealingRestartLR', 'periods': [3, 3], 'restart_weights': [1, 0.5], 'eta_min': 1e-7},
    ],
    ids=lambda scheduler: scheduler['type'],
)
def test_schedulers_go_on_from_a_saved_state_as_if_there_had_been_no_stop(
    tmp_path: Path, scheduler: dict[str, Any]
) -> None:
    model = small_model(scheduler)
    for iteration in (1, 2, 3):
        model.update_learning_rate(iteration)
    save_atomically(training_state(model, 0, 3), tmp_path / '3.state')
    other = small_model(scheduler)
    restore_training_state(other, load_state(tmp_path / '3.state'))
    rates = []
    for one in (model, other):
        one.network.zero_grad()
        for iteration in (4, 5, 6):
            one.update_learning_rate(iteration)
            rates.append(one.get_current_learning_rate())
    assert rates[:3] == rates[3:]
    moments = [one.optimizers[0].state_dict()['state'][0]['exp_avg'] for one in (model, other)]
    assert torch.equal(*moments)


def test_random_numbers_go_on_where_the_state_was_saved(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(()).item()]

    random.gauss(0, 1), np.random.randn()  # each keeps a second normal number for later
    model = small_model()
    save_atomically(training_state(model, 0, 1), tmp_path / '1.state')
    expected = draw()
    draw()
    restore_training_state(model, load_state(tmp_path / '1.state'))
    assert draw() == expected


def test_best_metrics_of_stock_metrics_which_are_numpy_numbers_load_with_weights_only(tmp_path: Path) -> None:
    model = small_model()
    model.opt['val'] = {'metrics': {'psnr': {'type': 'calculate_psnr'}, 'niqe': {'better': 'lower'}}}
    model._initialize_best_metric_results('Set5')
    model._update_best_metric_result('Set5', 'psnr', np.float64(27.5), 10)
    save_atomically(training_state(model, 0, 10), tmp_path / '10.state')
    other = small_model()
    other.opt['val'] = model.opt['val']
    restore_training_state(other, load_state(tmp_path / '10.state'))
    assert other.best_metric_results == model.best_metric_results
    assert other.best_metric_results['Set5']['psnr'] == {'better': 'higher', 'val': 27.5, 'iter': 10}


def test_loss_scaler_is_restored(tmp_path: Path) -> None:
    model, other = small_model(), small_model()
    for one, scale in ((model, 1024.0), (other, 8.0)):
        one.grad_scaler = torch.amp.GradScaler('cpu', init_scale=scale, enabled=True)
    model.grad_scaler.scale(torch.ones(()))
    save_atomically(training_state(model, 0, 1), tmp_path / '1.state')
    restore_training_state(other, load_state(tmp_path / '1.state'))
    assert other.grad_scaler.state_dict()['scale'] == 1024.0


def test_states_of_stock_basicsr_serve_too(tmp_path: Path) -> None:
    model = small_model()
    state = {'epoch': 0, 'iter': 4, 'optimizers': [model.optimizers[0].state_dict()]}
    state['schedulers'] = [model.schedulers[0].state_dict()]
    torch.save(state, tmp_path / '4.state')
    restore_training_state(small_model(), load_state(tmp_path / '4.state'))


def test_state_of_a_model_with_another_number_of_optimizers_is_refused(tmp_path: Path) -> None:
    model = small_model()
    state = training_state(model, 0, 1)
    model.optimizers.append(torch.optim.Adam(model.network.parameters()))
    with pytest.raises(ValueError, match='does not fit this model'):
        restore_training_state(model, state)


def test_full_disk_is_an_os_error_that_names_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / 'net_g_5.pth'
    save_atomically({'params': {'weight': torch.ones(9)}}, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a write beyond it fails, as on a full disk
    try:
        with pytest.raises(OSError, match='net_g_5.pth'):
            save_atomically({'params': {'weight': torch.ones(100_000)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ------------------------------------------------------------------------------------- what the options say at a resume

_COSINE = {'type': 'CosineAnnealingRestartLR', 'restart_weights': [1], 'eta_min': 1e-7}


def rates_after_resume(
    before: dict[str, Any], after: dict[str, Any], lr: float = 2e-4, upto: int = 12
) -> dict[int, float]:
    """The learning rate by iteration of a run that was saved at 6 and goes on with other options."""
    model, other = small_model(before), small_model(after)
    for iteration in range(1, 7):
        model.update_learning_rate(iteration)
    for one in (model, other):
        one.optimizers[0].param_groups[0].update(lr=lr, initial_lr=lr, weight_decay=lr)
        one.schedulers[0].base_lrs = [lr]
    model.optimizers[0].param_groups[0].update(betas=(0.5, 0.5), weight_decay=0.0)
    restore_training_state(other, training_state(model, 0, 6))
    assert other.optimizers[0].param_groups[0]['betas'] == (0.9, 0.999)
    assert other.optimizers[0].param_groups[0]['weight_decay'] == lr
    assert other.optimizers[0].state_dict()['state'][0]['step'] == 1  # moments are the state's
    found = {}
    for iteration in range(7, upto + 1):
        other.update_learning_rate(iteration)
        found[iteration] = other.get_current_learning_rate()[0]
    return found


def test_a_longer_cosine_goes_on_on_the_longer_curve() -> None:
    found = rates_after_resume({**_COSINE, 'periods': [6]}, {**_COSINE, 'periods': [12]})
    assert found[7] == pytest.approx(1.0005e-4, rel=1e-4)
    assert found[12] == pytest.approx(3.5e-6, rel=2e-2)


def test_a_new_rate_new_milestones_and_another_schedule_take_effect() -> None:
    steps = {'type': 'MultiStepLR', 'milestones': [100], 'gamma': 0.5}
    assert rates_after_resume(steps, steps, lr=1e-5)[7] == 1e-5
    found = rates_after_resume(steps, {**steps, 'milestones': [8], 'gamma': 0.1})
    assert [found[iteration] for iteration in (8, 9, 12)] == pytest.approx([2e-4, 2e-5, 2e-5])
    found = rates_after_resume({**_COSINE, 'periods': [6]}, steps)
    assert set(found.values()) == {2e-4}


def test_a_state_without_the_moments_of_amsgrad_is_refused() -> None:
    model, other = small_model(), small_model()
    other.optimizers[0].param_groups[0]['amsgrad'] = True
    with pytest.raises(ValueError, match='no moments for amsgrad: true'):
        restore_training_state(other, training_state(model, 0, 1))
