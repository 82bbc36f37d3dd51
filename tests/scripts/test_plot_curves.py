from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from torch.utils.tensorboard import SummaryWriter

from manet_basicsr.evaluation import build_methods, evaluate, plan_conditions, write_tables
from manet_basicsr.plots import read_curves, smoothed
from manet_basicsr.train import train_pipeline
from tests import shortened

SCRIPT = Path(__file__).parents[2] / 'scripts/plot_curves.py'


@pytest.fixture(scope='module')
def plot_curves() -> Callable[..., int]:
    """The script's main function, given its arguments one by one."""
    spec = importlib.util.spec_from_file_location('plot_curves', SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return lambda *arguments: script.main([str(argument) for argument in arguments])


@pytest.fixture(scope='module')
def runs(photos_lmdb: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Logs of two trainings, of stage 1 and of an ablation."""
    root, folders = tmp_path_factory.mktemp('runs'), []
    ablation = shortened.ROOT / 'options/ablation/train_MANet_conv_x4.yml'
    for file in (shortened.option_file('train', 'MANet_stage1', 4), ablation):
        entries = [*shortened.train_entries('MANet_stage1', photos_lmdb, total_iter=4), 'logger:use_tb_logger=true']
        train_pipeline(shortened.resolved(file, entries, root), str(file))
        folders.append(root / 'tb_logger' / file.stem)
    return folders


@pytest.fixture(scope='module')
def results(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of an evaluation of two baselines, one of them exact on one of the sets."""
    folder = tmp_path_factory.mktemp('results')
    conditions = plan_conditions([photos], sets=['invariant', 'type3'])
    evaluation = evaluate(conditions, build_methods(['fixed', 'mean']), folder / 'records.jsonl', limit=1)
    write_tables(evaluation, folder)
    return folder / 'results.csv'


def test_curves_are_those_that_trainings_logged(runs: list[Path]) -> None:
    curves = {curve.tag: curve for curve in read_curves(runs[0])}
    loss = curves['losses/l_kernel']
    assert (loss.run, loss.steps) == ('train_MANet_stage1_x4', (2, 4))
    assert all(0 < value < 1 for value in loss.values)
    metric = next(curve for tag, curve in curves.items() if tag.endswith('lr_psnr'))
    assert metric.steps == (2, 4)


def test_an_iteration_that_a_resumed_training_logged_again_counts_once(tmp_path: Path) -> None:
    for values in ({1: 5.0, 2: 4.0, 3: 3.0}, {3: 2.5, 4: 2.0}):
        with SummaryWriter(str(tmp_path / 'run')) as writer:
            for step, value in values.items():
                writer.add_scalar('losses/l_pix', value, step)
                writer.add_scalar('time', 1.0, step)
    (curve,) = read_curves(tmp_path / 'run')
    assert (curve.steps, curve.values) == ((1, 2, 3, 4), (5.0, 4.0, 2.5, 2.0))


@pytest.mark.parametrize('suffix', ['png', 'pdf', 'svg'])
def test_curves_and_comparison_make_one_picture(
    plot_curves: Callable[..., int], runs: list[Path], results: Path, tmp_path: Path, suffix: str
) -> None:
    picture = tmp_path / f'ablation.{suffix}'
    assert plot_curves(picture, '--runs', *runs, '--results', results, '--smoothing', 0.9) == 0
    assert picture.stat().st_size > 10_000
    if suffix == 'svg':
        return
    if suffix == 'png':
        image = cv2.imread(str(picture))
        assert image.shape[1] > 1200 and image.std() > 10
    assert plot_curves(picture, '--results', results) == 0


def test_smoothing_averages_the_past_and_begins_at_the_first_value() -> None:
    assert smoothed([3.0, 3.0, 3.0], 0.9) == pytest.approx([3, 3, 3])
    assert smoothed([1.0, 2.0], 0.5) == pytest.approx([1, (0.5 * 1 * 0.5 + 0.5 * 2) / 0.75])
    assert smoothed([1.0, 5.0], 0.0) == [1, 5]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'there is nothing to draw'),
        (['--runs', 'FOLDER'], 'holds no tensorboard logs'),
        (['--results', 'FOLDER/nowhere.csv'], 'nowhere.csv'),
        (['--results', 'FOLDER/other.csv'], 'is not the results.csv of an evaluation'),
        (['--smoothing', '1'], '--smoothing: found 1, expected 0 to below 1'),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    plot_curves: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / 'other.csv').write_text('a,b\n1,2\n')
    words = [word.replace('FOLDER', str(tmp_path)) for word in arguments]
    assert plot_curves(tmp_path / 'picture.png', *words) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / 'picture.png').exists()
