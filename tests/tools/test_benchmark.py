"""The benchmark: ours and plain do the same work, and the report says what was measured."""

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

# Ours in float32 against plain in float64, as (absolute, relative): sums of 441 products; a loss behind an 8-bit
# rounding, in which a level may fall to the other side, and in bfloat16 with its 3 digits; convolutions; decibels.
TOLERANCES = {
    'a-kernels': (1e-6, 0),
    'b-unfold': (2e-6, 0),
    'b-convolution': (2e-6, 0),
    'c-small': (2e-6, 0),
    'd-float32': (0, 1e-4),
    'd-bfloat16': (0, 2e-2),
    'e-small': (1e-4, 0),
    'f-small': (0.02, 0),
}


@pytest.fixture(scope='module')
def benchmark() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module('benchmark')


def cases(benchmark: ModuleType, **setting: Any) -> dict[str, Any]:
    return {case.key: case for case in benchmark.make_cases(benchmark.Setting(quick=True, **setting))}


@pytest.mark.parametrize('key', TOLERANCES)
def test_ours_and_plain_give_the_same(benchmark: ModuleType, key: str) -> None:
    case = cases(benchmark, plain_dtype=torch.float64)[key]
    ours, plain = (torch.as_tensor(prepare()(), dtype=torch.float64) for prepare in (case.ours, case.plain))
    absolute, relative = TOLERANCES[key]
    torch.testing.assert_close(ours, plain, atol=absolute, rtol=relative)


def test_every_item_with_a_plain_form_is_compared_and_every_target_is_there(benchmark: ModuleType) -> None:
    every = cases(benchmark)
    assert {key[0] for key in every} == set(benchmark.ITEMS) == set('abcdefgh')
    assert {key for key, case in every.items() if case.plain and key[0] != 'g'} == set(TOLERANCES)
    assert {key: case.speedup for key, case in every.items() if case.speedup} == {
        'a-kernels': 40, 'b-unfold': 8, 'c-small': 150, 'd-float32': 3, 'd-bfloat16': 6, 'e-small': 1,
        'g-raw-loader': 3, 'g-raw-device': 3, 'g-png-cache': 2,
    }  # fmt: skip
    bounds = {key: case.memory_bound for key, case in every.items() if case.memory_bound}
    assert bounds == {'c-large': 2**30, 'e-large': 3 * 2**30, 'f-large': 2**30}
    shares = {key: case.memory_share for key, case in every.items() if case.memory_share}
    assert shares == {'c-small': 1 / 20, 'd-float32': 0.3, 'd-bfloat16': 0.3}


def test_both_loaders_give_batches_of_the_same_crop_size(benchmark: ModuleType) -> None:
    every = cases(benchmark)
    batches = [every['g-raw-loader'].ours()(), every['g-raw-device'].ours()(), every['g-raw-loader'].plain()()]
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
        if 'plain_seconds' in row:
            assert row['speedup'] == pytest.approx(row['plain_seconds'] / row['ours_seconds'])
    assert output.with_suffix('.md').read_text() in capsys.readouterr().out
    assert ('share_of_ceiling' in report) == (item == 'd')


@pytest.mark.slow
def test_each_side_is_measured_in_processes_of_its_own(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PYTHONPATH', str(SCRIPTS.parent))
    row = benchmark.measure(cases(benchmark)['c-small'], benchmark.Setting(quick=True))
    # Plain unfolds 3 x 441 x 48 x 64 numbers and multiplies them.
    assert row['plain_bytes'] > 2 * 4 * 3 * 441 * 48 * 64 > row['ours_bytes'] >= 0
    assert row['ours_spread'] > 0  # two processes are never equally fast
    assert row['speedup'] == row['plain_seconds'] / row['ours_seconds']


def test_the_peak_counts_and_not_what_is_left(benchmark: ModuleType) -> None:
    def prepare() -> Any:
        kept = torch.ones(2**23)  # 32 MiB
        return lambda: float((kept + 1).sum())  # and once more for a moment

    growth = importlib.import_module('benchmark_measure').peak_growth(prepare, 'cpu')
    assert 60 * 2**20 < growth < 80 * 2**20


def test_a_missed_target_is_said(benchmark: ModuleType) -> None:
    row = {
        'key': 'a-kernels', 'title': 'kernels', 'ours_seconds': 1.0, 'plain_seconds': 2.0, 'speedup': 2.0,
        'ours_bytes': 2**20, 'targets': {'speedup': 40, 'memory_share': None, 'memory_bound': 2**21},
    }  # fmt: skip
    assert '| >= 40x: **no**; <= 2 MiB: yes |' in benchmark.table([row])


def test_an_unknown_item_is_refused(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(['--only', 'a,z'])
    assert '--only: z: expected some of a, b' in capsys.readouterr().err
