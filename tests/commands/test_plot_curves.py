from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from torch.utils.tensorboard import SummaryWriter

from manet_basicsr.evaluation import build_methods, evaluate, plan_conditions, write_tables
from manet_basicsr.train import train_pipeline
from manet_basicsr.visualization.curves import plot, read_curves, read_results, smoothed
from tests import shortened


@pytest.fixture(scope='module')
def plot_curves() -> Callable[..., int]:
    return shortened.started('plot_curves')


def keep_figures(monkeypatch: pytest.MonkeyPatch, figures: list[Figure]) -> None:
    """Keep what would be drawn, and leave an empty file in its place."""

    def save(figure: Figure, path: Path, **settings: Any) -> None:
        figures.append(figure)
        path.touch()

    monkeypatch.setattr(Figure, 'savefig', save)


def height_of(text: Text) -> float:
    """Where on the vertical axis a number is written."""
    assert isinstance(text, Annotation)
    return float(text.xy[1])


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


@pytest.mark.parametrize('suffix', ['png', *(pytest.param(kind, marks=pytest.mark.slow) for kind in ('pdf', 'svg'))])
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


def test_two_results_of_one_method_on_a_set_are_refused(results: Path, tmp_path: Path) -> None:
    rows = read_results(results)
    with pytest.raises(ValueError, match='found fixed on invariant 2 times, expected once'):
        plot(tmp_path / 'a.png', results=[*rows, *rows])


def test_smoothing_averages_the_past_and_begins_at_the_first_value() -> None:
    assert smoothed([3.0, 3.0, 3.0], 0.9) == pytest.approx([3, 3, 3])
    assert smoothed([1.0, 2.0], 0.5) == pytest.approx([1, (0.5 * 1 * 0.5 + 0.5 * 2) / 0.75])
    assert smoothed([1.0, 5.0], 0.0) == [1, 5]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'there is nothing to draw, expected curves of runs'),
        (['--runs', 'FOLDER'], 'holds no tensorboard logs, expected tb_logger/NAME'),
        (['--results', 'FOLDER/no.csv'], 'FOLDER/no.csv cannot be read (No such file or direc'),
        (['--results', 'FOLDER'], 'FOLDER cannot be read (Is a directory), expected'),
        (['--results', 'FOLDER/other.csv'], 'is not the results.csv of an evaluation, expected the results.csv that'),
        (['--results', 'FOLDER/picture.png'], 'FOLDER/picture.png is no table, expected'),
        (['--results', 'FOLDER/words.csv'], "words.csv, line 3: found psnr 'good', expected a number"),
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
    (tmp_path / 'picture.png').write_bytes(b'\x89PNG')
    write_results(tmp_path / 'words.csv', [('Set5', 'a', '25'), ('Set5', 'b', 'good')])
    words = [word.replace('FOLDER', str(tmp_path)) for word in arguments]
    assert plot_curves(tmp_path / 'drawn.png', *words) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and message.replace('FOLDER', str(tmp_path)) in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / 'drawn.png').exists()


def test_a_table_that_an_editor_saved_with_a_byte_order_mark_is_read(
    plot_curves: Callable[..., int], tmp_path: Path
) -> None:
    write_results(tmp_path / 'results.csv', [('Set5', 'a', '25')])
    text = (tmp_path / 'results.csv').read_text(encoding='utf-8')
    (tmp_path / 'results.csv').write_text(text, encoding='utf-8-sig')
    assert plot_curves(tmp_path / 'a.png', '--results', tmp_path / 'results.csv') == 0


@pytest.mark.parametrize(
    ('picture', 'message'),
    [
        ('a.docx', "a.docx', expected a name that ends in .png, .pdf or .svg"),
        ('a', "a', expected a name that ends in .png, .pdf or .svg"),
        ('nowhere/a.png', 'nowhere does not exist'),
        ('folder.png', 'folder.png: Is a directory'),
    ],
)
def test_a_picture_that_cannot_be_written_is_one_line(
    plot_curves: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], picture: str, message: str
) -> None:
    (tmp_path / 'folder.png').mkdir()
    write_results(tmp_path / 'results.csv', [('Set5', 'a', '25')])
    assert plot_curves(tmp_path / picture, '--results', tmp_path / 'results.csv') == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and message in error
    assert len(error.splitlines()) == 1


def test_every_dot_lies_in_the_band_of_its_set_at_the_same_height_in_all_panels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the first method one set is missing, and all of the kernel PSNR.
    scores = [('type1', 'bicubic', '26', ''), ('type2', 'fixed', '27', '45'), ('type1', 'fixed', '28', 'inf')]
    scores += [('type3', 'fixed', '25', '50'), ('type3', 'bicubic', '24', ''), ('type3', 'best', '30', '51')]
    row = {'images': 'Set5', 'scale': '4', 'alignment': 'centered', 'corruption': 'clean', 'lr_psnr': ''}
    results = [{**row, 'set': s, 'method': m, 'psnr': psnr, 'kernel_psnr': kernel} for s, m, psnr, kernel in scores]
    figures: list[Figure] = []
    keep_figures(monkeypatch, figures)
    plot(tmp_path / 'drawn.png', results=results)
    panels = figures[0].axes
    assert [panel.get_title() for panel in panels] == ['PSNR_Y (dB)', 'kernel PSNR (dB)']
    for panel, metric in zip(panels, ('psnr', 'kernel_psnr'), strict=True):
        assert panel.get_ylim() == (2.5, -0.5)
        labels = dict(zip(panel.get_yticks(), [label.get_text() for label in panel.get_yticklabels()], strict=True))
        assert labels == {0: 'type1', 1: 'type2', 2: 'type3'}
        found = sorted((labels[round(height_of(text))], text.get_text()) for text in panel.texts)
        words = {'inf': 'exact'}
        expected = [(row['set'], words.get(row[metric], f'{row[metric]}.00')) for row in results if row[metric]]
        assert found == sorted(expected)
        for place in labels:  # the lines of the methods lie about the label
            assert all(abs(height_of(text) - place) < 0.4 for text in panel.texts if round(height_of(text)) == place)
    # An exact match stands beyond the numbers of the axis.
    (exact,) = (text for text in panels[1].texts if text.get_text() == 'exact')
    assert isinstance(exact, Annotation) and max(panels[1].get_xticks()) < exact.xy[0] < panels[1].get_xlim()[1]


def test_sets_are_named_by_what_differs_and_many_methods_look_different(
    plot_curves: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(tmp_path / 'a.csv', [('Set5', str(number), '25') for number in range(12)])
    write_results(tmp_path / 'b.csv', [('BSD100', '0', '24')])
    figures: list[Figure] = []
    keep_figures(monkeypatch, figures)
    assert plot_curves(tmp_path / 'drawn.png', '--results', tmp_path / 'a.csv', tmp_path / 'b.csv') == 0
    panel = figures[0].axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ['Set5 type1', 'BSD100 type1']
    lines = [line for line in panel.lines if line.get_marker() != 'None']
    assert len({(line.get_marker(), to_rgba(line.get_color())) for line in lines}) == 12


def write_results(path: Path, scores: list[tuple[str, str, str]]) -> None:
    """A table of one set, with the PSNR of each of some images' methods."""
    lines = ['images,scale,alignment,corruption,set,method,psnr,lr_psnr,kernel_psnr']
    lines += [f'{images},4,centered,clean,type1,{method},{psnr},,' for images, method, psnr in scores]
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
