"""Paired differences: what is paired with what, and verdicts at known differences."""

from __future__ import annotations

import math
from typing import Any

import pytest

from manet_basicsr.evaluation.paired import (
    Difference,
    Verdict,
    all_of,
    exceeds,
    group_by_method,
    mean_scores_by,
    paired_difference,
    stays_within,
)


def row(sample: str, psnr: float | None, blur: str = 'type4', images: str = 'Set5', **more: Any) -> dict[str, Any]:
    return {'images': images, 'set': blur, 'sample': sample, 'method': 'm', 'psnr': psnr, 'seconds': 1.0, **more}


def test_a_difference_is_a_mean_with_the_standard_error_of_a_mean() -> None:
    found = Difference.of([1.0, 2, 3, 4])
    # Standard deviation sqrt(5 / 3), by the root of four.
    assert (found.mean, found.images) == (2.5, 4)
    assert found.error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert str(found) == '+2.50 ± 0.65'
    assert str(Difference.of([-1.0])) == '-1.00'
    with pytest.raises(ValueError, match='found no images to compare'):
        Difference.of([])


def test_only_images_that_both_have_are_compared() -> None:
    first = [row('a', 30.0), row('b', 31.0), row('c', 99.0), row('a', 7.0, images='BSD100')]
    second = [row('b', 30.0), row('a', 28.0), row('d', 1.0), row('a', 1.0, blur='type1')]
    assert paired_difference(first, second, 'psnr', 'type4') == Difference.of([2.0, 1.0])
    assert paired_difference(first, second, 'psnr', 'type1') is None
    assert paired_difference(first, [row('a', None)], 'psnr', 'type4') is None


def test_kernels_of_an_image_count_as_one_image_and_only_common_ones_count() -> None:
    first = [row(f'a_k{number}', 30.0 + number, 'invariant') for number in range(9)]
    second = [row('a_k0', 29.0, 'invariant'), row('a_k8', 35.0, 'invariant')]
    # 30 - 29 and 38 - 35.
    assert paired_difference(first, second, 'psnr', 'invariant') == Difference.of([2.0])


def test_seeds_are_averaged_and_exact_matches_are_100_db() -> None:
    rows = [row('a', 20.0, method='dip'), row('a', 22.0, method='dip[seed=1]'), row('b', math.inf)]
    assert mean_scores_by(rows, 'psnr', True) == {(('Set5', 'a'), 'a'): 21.0, (('Set5', 'b'), 'b'): 100.0}


def test_one_method_on_two_sets_is_paired_by_image() -> None:
    rows = [row('a', 33.0, 'bicubic'), *(row(f'a_k{number}', 27.0 + number, 'invariant') for number in range(3))]
    assert paired_difference(rows, rows, 'psnr', ('bicubic', 'invariant')) == Difference.of([5.0])


def test_times_are_compared_by_their_logarithms() -> None:
    slow, fast = ([row('a', None, seconds=value)] for value in (100.0, 0.1))
    found = paired_difference(slow, fast, 'log10_seconds', 'type4')
    assert found is not None and found.mean == pytest.approx(3)


@pytest.mark.parametrize(
    ('mean', 'error', 'images', 'verdict'),
    [
        (1.3, 0.1, 5, Verdict.HOLDS),
        (1.2, 0.1, 5, Verdict.OPEN),  # two standard errors are not more than two
        (0.9, 0.1, 5, Verdict.OPEN),
        (0.7, 0.1, 5, Verdict.REFUTED),
        (9.0, 0.1, 4, Verdict.OPEN),
        (9.0, math.nan, 1, Verdict.OPEN),
        (1.5, 0.0, 5, Verdict.HOLDS),
        (1.0, 0.0, 5, Verdict.OPEN),
    ],
)
def test_a_difference_exceeds_a_margin_of_1_by_two_standard_errors(
    mean: float, error: float, images: int, verdict: Verdict
) -> None:
    margin = 1.0
    shifted = Difference(round(mean, 6), error, images)
    assert exceeds(shifted, margin) is verdict


@pytest.mark.parametrize(
    ('mean', 'verdict'),
    [(0.1, Verdict.HOLDS), (-0.1, Verdict.HOLDS), (0.4, Verdict.OPEN), (-0.6, Verdict.OPEN), (-0.9, Verdict.REFUTED)],
)
def test_a_difference_stays_within_half_a_decibel(mean: float, verdict: Verdict) -> None:
    assert stays_within(Difference(mean, 0.1, 20), 0.5) is verdict


def test_a_claim_needs_all_its_parts() -> None:
    holds, refuted, is_open = Verdict.HOLDS, Verdict.REFUTED, Verdict.OPEN
    assert all_of([holds, holds]) is holds
    assert all_of([holds, is_open]) is is_open
    assert all_of([is_open, refuted, holds]) is refuted
    assert all_of([]) is is_open


def test_rows_are_grouped_by_what_their_method_stands_for() -> None:
    rows = [row('a', 1.0, method='dip'), row('a', 2.0, method='dip[seed=1]'), row('a', 3.0, method='other')]
    assert group_by_method(rows, {'dip': 'DIP', 'dip[seed=1]': 'DIP'}) == {'DIP': rows[:2]}
