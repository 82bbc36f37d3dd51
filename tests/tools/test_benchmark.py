"""The benchmark: both forms do the same work, and the report says what was measured."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / 'tools'

# Ours in float32 against the other form in float64, as (absolute, relative): sums of 441 products; a loss
# behind a rounding to 8 bit, in which a level may fall to the other side, and in bfloat16 with its 3 digits;
# convolutions; decibels.
TOLERANCES = {
    'a-kernels': (1e-6, 0),
    'b-invariant': (2e-6, 0),
    'c-small': (2e-6, 0),
    'd-float32': (0, 1e-4),
    'd-float32-off': (0, 1e-4),
    'd-bf16': (0, 2e-2),
    'd-bf16-off': (0, 2e-2),
    'd-stage2-float32': (0, 1e-4),
    'd-stage2-bf16': (0, 2e-2),
    'e-small': (1e-4, 0),
    'f-small': (0.02, 0),
}


@pytest.fixture(scope='module')
def benchmark() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module('benchmark')


def cases(benchmark: ModuleType, **setting: Any) -> dict[str, Any]:
    return {case.key: case for case in benchmark.make_cases(benchmark.Setting(quick=True, compiling=False, **setting))}


@pytest.mark.parametrize('key', TOLERANCES)
def test_both_forms_give_the_same(benchmark: ModuleType, key: str) -> None:
    case = cases(benchmark, other_dtype=torch.float64)[key]
    ours, other = (torch.as_tensor(prepare()(), dtype=torch.float64) for prepare in (case.ours, case.other))
    absolute, relative = TOLERANCES[key]
    torch.testing.assert_close(ours, other, atol=absolute, rtol=relative)


def test_every_item_with_another_form_is_compared_and_every_target_is_there(benchmark: ModuleType) -> None:
    every = cases(benchmark)
    assert {key[0] for key in every} == set(benchmark.ITEMS) == set('abcdefgh')
    compared = {key for key, case in every.items() if case.other and key[0] != 'g' and key != 'e-photo'}
    assert compared == set(TOLERANCES)
    assert {key: case.speedup for key, case in every.items() if case.speedup} == {
        'a-kernels': 40, 'b-invariant': 6, 'c-small': 150, 'e-small': 1,
        **dict.fromkeys(('d-float32-off', 'd-bf16-off', 'd-stage2-float32', 'd-stage2-bf16'), 1),
        'g-raw-loader': 3, 'g-raw-device': 3, 'g-png-cache': 2,
    }  # fmt: skip
    bounds = {key: round(case.memory_bound / 2**20) for key, case in every.items() if case.memory_bound}
    assert bounds == {'c-large': 1024, 'd-float32-off': 518, 'd-bf16-off': 367, 'e-large': 3072, 'f-large': 1024}
    assert {key: case.memory_share for key, case in every.items() if case.memory_share} == {'c-small': 1 / 20}


def test_on_amx_more_is_asked(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: True)
    every = cases(benchmark)
    assert every['d-bf16-off'].speedup == every['d-stage2-bf16'].speedup == pytest.approx(1 / 0.55)
    assert every['e-photo'].speedup == 3


def test_bf16_is_measured_only_where_the_processor_has_it(benchmark: ModuleType) -> None:
    full = {case.key for case in benchmark.make_cases(benchmark.Setting())}  # the tests' CPU has no such instructions
    assert 'd-float32' in full
    assert not any('bf16' in key for key in full)


def test_both_loaders_give_batches_of_the_same_crop_size(benchmark: ModuleType) -> None:
    every = cases(benchmark)
    batches = [every['g-raw-loader'].ours()(), every['g-raw-device'].ours()(), every['g-raw-loader'].other()()]
    assert [batch.get('gt', batch.get('gt_uint8')).shape for batch in batches] == [(4, 3, 48, 48)] * 3


@pytest.mark.parametrize('item', 'abcdefgh')
def test_an_item_runs_and_reports_time_and_ratio(
    benchmark: ModuleType, item: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / 'new/report.json'
    assert (
        benchmark.main(
            ['--quick', '--no-memory', '--rounds', '0', '--only', item, '--device', 'cpu', '--output', str(output)]
        )
        == 0
    )
    report = json.loads(output.read_text())
    assert all(row['ours_seconds'] > 0 and row['key'].startswith(item) for row in report['rows'])
    for row in report['rows']:
        if 'other_seconds' in row:
            assert row['speedup'] == pytest.approx(row['other_seconds'] / row['ours_seconds'])
    assert output.with_suffix('.md').read_text() in capsys.readouterr().out
    assert ('share_of_convolutions' in report) == (item == 'd')


@pytest.mark.parametrize(
    'names', [['degrade'], pytest.param(['degrade', 'estimate', 'restore', 'step'], marks=pytest.mark.slow)]
)
def test_costs_are_told_and_drawn_with_their_slopes(
    benchmark: ModuleType,
    names: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cost = importlib.import_module('benchmark_cost')
    monkeypatch.setattr(cost, 'CURVES', {name: cost.CURVES[name] for name in names})
    arguments = [
        '--quick',
        '--rounds',
        '0',
        '--only',
        'i',
        '--device',
        'cpu',
        '--output',
        str(tmp_path / 'report.json'),
    ]
    assert benchmark.main(arguments) == 0
    curves = json.loads((tmp_path / 'report.json').read_text())['costs']
    assert list(curves) == names
    assert [point['pixels'] for point in curves['degrade']] == [64**2, 128**2]
    assert all(point['seconds'] > 0 and point['bytes'] >= 0 for points in curves.values() for point in points)
    assert (tmp_path / 'cost.png').stat().st_size > 10_000
    assert '| degrade, by side | 64: ' in capsys.readouterr().out


def test_the_slope_is_that_of_the_largest_sizes(benchmark: ModuleType) -> None:
    cost = importlib.import_module('benchmark_cost')
    points = [{'pixels': 10**n, 'seconds': max(1e-3, 2e-6 * 10**n)} for n in range(2, 7)]
    assert cost.slope(points, 'seconds') == pytest.approx(1)


@pytest.mark.slow
def test_each_side_is_measured_in_processes_of_its_own(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PYTHONPATH', str(SCRIPTS.parent))
    row = benchmark.measure(cases(benchmark)['c-small'], benchmark.Setting(quick=True))
    # The other form unfolds 3 x 441 x 48 x 64 numbers and multiplies them.
    assert row['other_bytes'] > 2 * 4 * 3 * 441 * 48 * 64 > row['ours_bytes'] >= 0
    assert row['ours_spread'] > 0  # two processes are never equally fast
    assert row['speedup'] == row['other_seconds'] / row['ours_seconds']


def test_the_peak_counts_and_not_what_is_left(benchmark: ModuleType) -> None:
    def prepare() -> Any:
        kept = torch.ones(2**23)  # 32 MiB
        return lambda: float((kept + 1).sum())  # and once more for a moment

    growth = importlib.import_module('benchmark_measure').peak_growth(prepare, 'cpu')
    assert 60 * 2**20 < growth < 80 * 2**20


def test_a_missed_target_is_said(benchmark: ModuleType) -> None:
    row = {
        'key': 'a-kernels', 'title': 'kernels', 'ours_seconds': 1.0, 'other_seconds': 2.0, 'speedup': 2.0,
        'ours_bytes': 2**20, 'targets': {'speedup': 40, 'memory_share': None, 'memory_bound': 2**21},
    }  # fmt: skip
    assert '| >= 40x: **no**; <= 2 MiB: yes |' in benchmark.table([row])


def test_an_unknown_item_is_refused(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(['--only', 'a,z'])
    assert '--only: z: expected some of a, b' in capsys.readouterr().err
