"""Faults on the way: kills in the middle of a write, damaged data, numbers that are not finite."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.utils.registry import LOSS_REGISTRY, MODEL_REGISTRY
from torch import Tensor

from manet_basicsr.commands.basicsr import main
from manet_basicsr.models.finite import FiniteWatch
from manet_basicsr.models.kernel_l1_model import KernelL1Model
from manet_basicsr.options.errors import OptionError
from manet_basicsr.training.checkpoints import prune_checkpoints, saved_iterations
from manet_basicsr.utils.errors import NonFiniteError
from tests import shortened
from tests.small_networks import blind_weights
from tests.trained import ENVIRONMENT, FILE, RUN, run, states


@LOSS_REGISTRY.register()
class L1LossThatBreaks(torch.nn.Module):
    """The L1 loss, but for one call (from 1) in which it has another value or other gradients."""

    def __init__(self, call: int, value: float = math.nan, gradients_only: bool = False) -> None:
        super().__init__()
        self.call, self.value, self.gradients_only = call, value, gradients_only
        self.calls = 0

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        loss = (output - target).abs().mean()
        if self.calls != self.call:
            return loss
        if self.gradients_only:
            output.register_hook(lambda gradient: gradient * self.value)
            return loss
        return loss * self.value


# --------------------------------------------------------------------------------------------------------------- kills


@pytest.mark.slow
def test_a_run_killed_at_random_and_while_writing_ends_as_the_uninterrupted_one(tmp_path: Path) -> None:
    """The long form is `python tools/torture.py FOLDER --kills 100`."""
    script = [sys.executable, str(shortened.ROOT / 'tools/torture.py'), str(tmp_path / 'torture')]
    script += ['--kills', '4', '--iterations', '45', '--num-feat', '16', '--seed', '3']
    done = subprocess.run(script, env=ENVIRONMENT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'equals that of the uninterrupted run bit for bit' in done.stdout


def test_what_killed_runs_left_half_written_is_removed_at_the_next_start(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb)
    process = subprocess.Popen([sys.executable, '-c', ''])
    process.wait()
    host = os.uname().nodename.split('.')[0]
    for name in ('models/.net_g_4', 'training_states/.4', '.resolved'):
        (tmp_path / RUN / f'{name}.{host}-{process.pid}-0badcafe.partial.pth').write_bytes(b'half')
    text = run(tmp_path, photos_lmdb, total_iter=3, auto_resume=True)
    assert not list((tmp_path / RUN).rglob('.*.partial*'))
    assert text.count('which a killed run left half-written') == 3


def test_a_state_beyond_total_iter_is_refused(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb, total_iter=4)
    with pytest.raises(OptionError, match=r'train\.total_iter: found 3, expected at least the 4 iterations of .*4\.st'):
        run(tmp_path, photos_lmdb, total_iter=3, auto_resume=True)


def test_a_run_tells_how_long_it_will_take(photos_lmdb: Path, tmp_path: Path) -> None:
    text = run(tmp_path, photos_lmdb, 'val=~', total_iter=6, every=6)
    assert 'Batch: 2 (2 a GPU, 1 processes)' in text
    assert 'Iterations: 6, 2.0 an epoch' in text and 'Epochs: 3.0' in text
    assert text.count('Expected time: ') == 1
    assert 'for the 2 iterations left' in text


# ------------------------------------------------------------------------------------------------------ old checkpoints


def test_only_the_newest_states_and_their_networks_are_kept_when_asked(photos_lmdb: Path, tmp_path: Path) -> None:
    run(tmp_path, photos_lmdb, 'logger:keep_checkpoints=2', 'val=~', total_iter=5, every=1)
    assert states(tmp_path) == [5, 4]
    names = {path.name for path in (tmp_path / RUN / 'models').iterdir()}
    assert names == {'net_g_4.pth', 'net_g_5.pth', 'net_g_latest.pth'}


def test_pruning_leaves_files_of_other_names_and_later_states(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ('training_states', 'models')}
    others = ['net_g_latest.pth', 'net_g_5.pth.bak', 'net_d_5.pth', 'best.pth', 'net_g_x.pth', '5.state']
    for folder in folders.values():
        folder.mkdir()
        for name in others:
            (folder / name).touch()
    (folders['training_states'] / '5.state').unlink()
    for iteration in (5, 10, 15, 20, 90):
        (folders['training_states'] / f'{iteration}.state').touch()
        (folders['models'] / f'net_g_{iteration}.pth').touch()
    (folders['models'] / 'net_g_12.pth').touch()  # its state was never written
    # 90 was damaged: the run went on from 15 and has just saved 20.
    removed = prune_checkpoints(folders['training_states'], folders['models'], ['net_g'], newest=20, keep=1)
    assert saved_iterations(folders['training_states']) == [90, 20]
    expected = ['5.state', '10.state', '15.state', *(f'net_g_{number}.pth' for number in (5, 10, 12, 15))]
    assert sorted(path.name for path in removed) == sorted(expected)
    left = {path.name for path in folders['models'].iterdir()}
    assert left == {*others, 'net_g_20.pth', 'net_g_90.pth'}


# --------------------------------------------------------------------------------------------------------- bad samples


@pytest.fixture
def images(photos: Path, tmp_path: Path) -> Path:
    """The photographs, the first of them cut short and the third too small."""
    folder = tmp_path / 'images'
    shutil.copytree(photos, folder)
    first, _, third, _ = sorted(folder.iterdir())
    first.write_bytes(first.read_bytes()[:2000])
    import cv2

    cv2.imwrite(str(third), cv2.imread(str(third))[:30, :30])
    return folder


@pytest.mark.parametrize('workers', [0, 2])
def test_bad_samples_are_replaced_and_reported_when_asked(images: Path, tmp_path: Path, workers: int) -> None:
    entries = ['datasets:train:on_bad_sample=skip', 'val=~']
    text = run(tmp_path / 'run', images, *entries, total_iter=4, workers=workers)
    first, _, third, _ = sorted(images.iterdir())
    assert text.count('Bad sample, replaced by another: ') == 2
    assert f'{first}: ' in text and f'{third}: 30x30 px is smaller than gt_size 48' in text
    assert '2 of 4 training samples are bad and were replaced so far' in text


def test_replaced_samples_are_the_same_for_any_number_of_workers(images: Path, tmp_path: Path) -> None:
    last = {}
    for workers in (0, 2):
        root = tmp_path / str(workers)
        run(root, images, 'datasets:train:on_bad_sample=skip', 'val=~', total_iter=4, workers=workers)
        last[workers] = torch.load(root / RUN / 'models/net_g_latest.pth', weights_only=True)['params']
    assert all(torch.equal(last[0][key], last[2][key]) for key in last[0])


def test_a_set_of_nothing_but_bad_samples_is_an_error_that_names_the_last(images: Path, tmp_path: Path) -> None:
    for path in images.iterdir():
        path.write_bytes(b'no image')
    from manet_basicsr.utils.errors import BadSampleError

    with pytest.raises(BadSampleError, match=rf'4 samples in a row are bad, the last one: {images}/'):
        run(tmp_path / 'run', images, 'datasets:train:on_bad_sample=skip', 'val=~')


@pytest.mark.parametrize(('as_lmdb', 'workers'), [(False, 0), (True, 1)])
def test_damaged_image_of_a_stock_dataset_is_one_line_that_names_it_and_1(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    as_lmdb: bool,
    workers: int,
) -> None:
    from manet_basicsr.data.lmdb_writer import write_lmdb
    from manet_basicsr.utils.lmdb_handles import close_environment

    roots = {}
    for kind in ('gt', 'lq'):
        roots[kind] = tmp_path / kind
        shutil.copytree(photos, roots[kind])
        if as_lmdb:
            write_lmdb(roots[kind], tmp_path / f'{kind}.lmdb')
            roots[kind] = tmp_path / f'{kind}.lmdb'
    if as_lmdb:
        import lmdb

        close_environment(roots['lq'])
        with lmdb.open(str(roots['lq'])) as environment, environment.begin(write=True) as transaction:
            for key, _ in list(transaction.cursor()):
                transaction.put(key, b'damaged')
    else:
        for path in roots['lq'].iterdir():
            path.write_bytes(path.read_bytes()[:500])
    monkeypatch.chdir(tmp_path)
    backend = '{type: lmdb}' if as_lmdb else '{type: disk}'
    dataset = f'{{name: pairs, type: PairedImageDataset, dataroot_gt: {roots["gt"]}, dataroot_lq: {roots["lq"]}, '
    dataset += f'io_backend: {backend}, filename_tmpl: "{{}}", gt_size: 48, batch_size_per_gpu: 2, '
    dataset += f'num_worker_per_gpu: {workers}, use_hflip: false, use_rot: false}}'
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    entries = [*shortened.train_entries('BlindSR_stage3', photos), f'datasets:train={dataset}', 'val=~']
    assert main(['train', '-opt', str(file), '--force_yml', *entries]) == 1
    captured = capsys.readouterr()
    (line,) = [line for line in captured.err.splitlines() if line.startswith('basicsr: ')]
    assert any(name in line for name in ('astronaut', 'chelsea', 'coffee', 'rocket')) and 'bytes that are no' in line
    assert 'Traceback' not in captured.err


def test_worker_that_dies_is_one_line_and_1(
    photos_lmdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from manet_basicsr.data import SVDegradationDataset

    monkeypatch.setattr(SVDegradationDataset, '__getitem__', lambda self, index: os.kill(os.getpid(), 9))
    monkeypatch.chdir(tmp_path)
    entries = [*shortened.train_entries('MANet_stage1', photos_lmdb, workers=1), 'val=~']
    assert main(['train', '-opt', str(FILE), '--force_yml', *entries]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('basicsr: ')]
    assert 'DataLoader worker' in line and 'out of memory?' in line


# ------------------------------------------------------------------------------------------ numbers that are not finite


@pytest.mark.parametrize(
    ('loss', 'found'),
    [
        ('{type: L1LossThatBreaks, call: 3}', 'l_kernel nan, gradients nan'),
        ('{type: L1LossThatBreaks, call: 3, value: .inf}', 'l_kernel inf, gradients'),
        ('{type: L1LossThatBreaks, call: 3, gradients_only: true}', 'found gradients nan'),
    ],
    ids=['nan', 'inf', 'gradients'],
)
def test_numbers_that_are_not_finite_stop_the_run_before_they_are_saved(
    photos_lmdb: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    loss: str,
    found: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Nothing waits for the device between iterations 2 and 4, where they are found.
    entries = [*shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=6), f'train:kernel_opt={loss}']
    assert main(['train', '-opt', str(FILE), '--force_yml', *entries]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('basicsr: ')]
    assert 'iter 3: ' in line and found in line
    assert sum(name in line for name in ('astronaut', 'chelsea', 'coffee', 'rocket')) == 2  # a batch
    assert 'the newest state is that of iter 2' in line
    assert states(tmp_path) == [2]
    saved = torch.load(tmp_path / RUN / 'models/net_g_2.pth', weights_only=True)['params']
    assert all(value.isfinite().all() for value in saved.values())


def test_iterations_that_are_not_finite_are_left_out_when_asked(photos_lmdb: Path, tmp_path: Path) -> None:
    loss = 'train:kernel_opt={type: L1LossThatBreaks, call: 3}'
    text = run(tmp_path, photos_lmdb, loss, 'train:on_nonfinite=skip', 'train:ema_decay=0.9', total_iter=6)
    assert text.count('Left out, 1 so far.') == 1
    assert 'iter 3: found l_kernel nan, gradients nan, expected finite numbers; samples: ' in text
    saved = torch.load(tmp_path / RUN / 'models/net_g_latest.pth', weights_only=True)
    assert all(value.isfinite().all() for weights in saved.values() for value in weights.values())


def test_a_run_that_would_leave_out_everything_stops() -> None:
    watch = FiniteWatch(distributed=False, skip=True)
    losses, gradients = {'l_pix': torch.tensor(1.0)}, [torch.tensor([math.nan])]
    with pytest.raises(NonFiniteError, match='iter 100: found gradients nan.* so were the 99 iterations before it'):
        for current_iter in range(1, 200):
            assert not watch.permits(current_iter, losses, gradients, ['a'])


def test_a_stock_model_stops_too(
    photos_lmdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    entries = [*shortened.train_entries('BlindSR_stage3', photos_lmdb, total_iter=6), 'model_type=SRModel']
    entries.append('train:pixel_opt={type: L1LossThatBreaks, call: 3}')
    assert main(['train', '-opt', str(file), '--force_yml', *entries]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('basicsr: ')]
    assert 'iter 3: found l_pix nan' in line and 'the newest state is that of iter 2' in line


@pytest.mark.parametrize('model', ['RestorationModel', 'SRModel'])
@pytest.mark.parametrize('kind', ['weights', 'averaged weights'])
def test_weights_that_overflow_in_the_last_step_are_not_saved(
    kind: str,
    model: str,
    photos_lmdb: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = dict(iter(MODEL_REGISTRY))[model]
    original = trained.optimize_parameters

    def overflow(self: Any, current_iter: int) -> None:
        original(self, current_iter)
        if current_iter == 4:
            network = self.net_g if kind == 'weights' else self.net_g_ema
            next(network.parameters()).data[0] = math.inf

    monkeypatch.setattr(trained, 'optimize_parameters', overflow)
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    entries = [*shortened.train_entries('BlindSR_stage3', photos_lmdb, total_iter=4), f'model_type={model}', 'val=~']
    assert main(['train', '-opt', str(file), '--force_yml', *entries, 'train:ema_decay=0.9']) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('basicsr: ')]
    assert 'net_g_4.pth: found params' in line and 'not finite' in line and 'the newest state is that of iter 2' in line
    assert not list((tmp_path / 'experiments').rglob('net_g_4.pth'))


@pytest.mark.parametrize('model', ['RestorationModel', 'SRModel'])
def test_a_test_with_damaged_weights_writes_no_black_images(
    model: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content = torch.load(blind_weights(tmp_path, 4), weights_only=True)
    content['params']['conv_first.bias'][0] = math.nan
    torch.save(content, tmp_path / 'nan.pth')
    file = shortened.option_file('test', 'BlindSR_stage3', 4)
    entries = [*shortened.test_entries('BlindSR_stage3', photos, tmp_path / 'nan.pth'), f'model_type={model}']
    entries += ['network_g:estimator:num_feat=8']
    assert main(['test', '-opt', str(file), '--force_yml', *entries]) == 2
    assert 'conv_first.bias is not finite' in capsys.readouterr().err
    assert not list(tmp_path.rglob('*.png'))


@pytest.mark.parametrize('key', ['params', 'params_ema'])
@pytest.mark.parametrize('model', ['RestorationModel', 'SRModel'])
def test_a_training_does_not_start_from_damaged_weights(
    model: str,
    key: str,
    photos_lmdb: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = torch.load(blind_weights(tmp_path, 4), weights_only=True)['params']
    damaged = {**whole, 'conv_first.bias': whole['conv_first.bias'] * math.nan}
    torch.save({'params': whole, 'params_ema': whole, key: damaged}, tmp_path / 'nan.pth')
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    entries = [*shortened.train_entries('BlindSR_stage3', photos_lmdb), 'network_g:estimator:num_feat=8']
    entries.append('network_g:estimator:pretrained=~')
    entries += [f'path:pretrain_network_g={tmp_path / "nan.pth"}', 'train:ema_decay=0.9', f'model_type={model}']
    assert main(['train', '-opt', str(file), '--force_yml', *entries]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('basicsr: ')]
    assert 'nan.pth: conv_first.bias is not finite (NaN or infinite)' in line


def test_an_image_that_overflows_ends_a_validation_and_is_not_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content = torch.load(blind_weights(tmp_path, 4), weights_only=True)
    content['params']['conv_first.weight'] *= 3e38  # finite, and the image is not
    torch.save(content, tmp_path / 'large.pth')
    file = shortened.option_file('test', 'BlindSR_stage3', 4)
    entries = [*shortened.test_entries('BlindSR_stage3', photos, tmp_path / 'large.pth')]
    entries += ['network_g:estimator:num_feat=8']
    assert main(['test', '-opt', str(file), '--force_yml', *entries]) == 1
    assert 'the restored image is not finite (NaN or infinite)' in capsys.readouterr().err
    assert not list(tmp_path.rglob('*.png'))


def test_a_first_look_names_the_first_of_several_iterations() -> None:
    watch = FiniteWatch(distributed=False, skip=False)
    for current_iter in range(1, 6):
        value = math.inf if current_iter in (2, 4) else 1.0
        watch.record(current_iter, {'l_pix': torch.tensor(value)}, [torch.ones(3)], [f'{current_iter}.png'])
    with pytest.raises(NonFiniteError, match=r'^iter 2: found l_pix inf, expected finite numbers; samples: 2\.png$'):
        watch.look()


def test_large_gradients_are_finite() -> None:
    watch = FiniteWatch(distributed=False, skip=False)
    watch.record(1, {'l_pix': torch.ones(())}, [torch.full((1000,), 3e38)], [])  # their squares are not
    watch.look()


def test_a_loss_scale_that_fell_for_ever_is_not_finite_numbers_any_more() -> None:
    watch = FiniteWatch(distributed=False, skip=False)
    watch.check_scale(9, 2.0**-9)
    with pytest.raises(NonFiniteError, match='iter 9: gradients in float16 are not finite at any scale'):
        watch.check_scale(9, 2.0**-11)


@pytest.mark.parametrize('amp', ['bf16', 'fp16'])
@pytest.mark.parametrize('iterations', [60, pytest.param(300, marks=pytest.mark.slow)])
def test_mixed_precision_stays_finite_and_learns(amp: str, iterations: int, photos_lmdb: Path, tmp_path: Path) -> None:
    entries = [*shortened.train_entries('MANet_stage1', photos_lmdb), f'train:amp={amp}', 'datasets:train:gt_size=32']
    opt = shortened.resolved(FILE, entries, tmp_path)
    torch.manual_seed(0)
    model = KernelL1Model(opt)
    loader = build_dataloader(build_dataset(opt['datasets']['train']), opt['datasets']['train'])
    batches = [next(iter(loader)) for _ in range(4)]
    losses = []
    for current_iter in range(1, iterations + 1):
        model.feed_data(batches[current_iter % 4])
        model.optimize_parameters(current_iter)
        if current_iter % (iterations // 3) == 0:
            model.check_finite(current_iter)
            losses.append(model.get_current_log()['l_kernel'])
    assert all(parameter.isfinite().all() for parameter in model.net_g.parameters())
    assert losses[-1] < losses[0]  # and it learns
    if amp == 'fp16':
        assert model.grad_scaler.get_scale() >= 1


# --------------------------------------------------------------------------------------------------------- long reading


@pytest.mark.slow
def test_many_workers_on_one_lmdb_neither_grow_nor_change_the_samples() -> None:
    """The long form is `python tools/soak.py`: 1, 4 and 16 workers, 10,000 batches."""
    script = [sys.executable, str(shortened.ROOT / 'tools/soak.py'), '--workers', '1', '4', '--batches', '300']
    done = subprocess.run(script, env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('300 batches') == 2


def test_damaged_files_are_named_by_every_reader(tmp_path: Path) -> None:
    """The long form is `python tools/fuzz_readers.py --seconds 300`."""
    script = [sys.executable, str(shortened.ROOT / 'tools/fuzz_readers.py'), '--seconds', '2', '--seed', '9']
    script += ['--keep', str(tmp_path / 'faults')]
    done = subprocess.run(script, env=ENVIRONMENT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert ' 0 at fault' in done.stdout
