"""Two methods on the same images: the mean of their differences, its standard error, and what follows from both."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from manet_basicsr.evaluation.records import Row
from manet_basicsr.models.scoring import EXACT_MATCH_DB

#: A difference of fewer images decides nothing, however small its standard error: five is the smallest set there is.
FEWEST_IMAGES = 5
#: Standard errors by which a difference must miss its margin to be more than chance.
ERRORS = 2.0

#: An image by the name of its set and its own.
Image = tuple[str, str]


class Verdict(Enum):
    """What a difference says of a claim."""

    HOLDS = 'holds'
    REFUTED = 'refuted'
    OPEN = 'open'


@dataclass(frozen=True)
class Difference:
    """The mean difference of two methods over images.

    Attributes:
        mean: Of first minus second, each image counting once.
        error: Standard error of the mean; NaN for one image.
        images: Their number.
    """

    mean: float
    error: float
    images: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Difference:
        """Sum up the differences of images.

        Raises:
            ValueError: There are none.
        """
        if not values:
            raise ValueError('found no images to compare, expected at least 1')
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), error, len(values))

    def __str__(self) -> str:
        return f'{self.mean:+.2f}' if math.isnan(self.error) else f'{self.mean:+.2f} ± {self.error:.2f}'


def image_of(row: Row) -> Image:
    """Name the image of a row: the nine samples of the invariant set are one image with nine kernels."""
    name = str(row['sample'])
    return str(row['images']), re.sub(r'_k\d$', '', name) if row['set'] == 'invariant' else name


def mean_scores_by(rows: Sequence[Row], metric: str, by_sample: bool) -> dict[tuple[Image, str], float]:
    """Average the rows of one image, or of one sample of it where several seeds were run; exact matches are 100 dB.

    Args:
        rows: Rows of one method, of any of its seeds.
        metric: Their column; ``log10_seconds`` is the logarithm of ``seconds``. Rows without it are left out.
        by_sample: Whether the samples of an image are kept apart.

    Returns:
        The means by image and, with ``by_sample``, the sample's name (otherwise '').
    """
    grouped: dict[tuple[Image, str], list[float]] = {}
    for row in rows:
        value = row.get(metric.removeprefix('log10_'))
        if value is None:
            continue
        value = math.log10(value) if metric.startswith('log10_') else EXACT_MATCH_DB if math.isinf(value) else value
        grouped.setdefault((image_of(row), str(row['sample']) if by_sample else ''), []).append(value)
    return {key: statistics.fmean(values) for key, values in grouped.items()}


def paired_difference(
    first: Sequence[Row], second: Sequence[Row], metric: str, sets: tuple[str, str] | str
) -> Difference | None:
    """Compare two methods on the images that both have: first minus second.

    On one set the same samples are compared, so kernels that only one of the two was scored on do not count. Samples of
    an image are averaged, then images: a standard error of samples of one image would be too small.

    Args:
        first: Rows of a method, of any sets and seeds.
        second: Rows of another method, or of the same.
        metric: As in :func:`mean_scores_by`.
        sets: Name of the set, or of the set of the first and that of the second.

    Returns:
        The difference, or None where they have no image in common.
    """
    one, other = (sets, sets) if isinstance(sets, str) else sets
    left = mean_scores_by([row for row in first if row['set'] == one], metric, one == other)
    right = mean_scores_by([row for row in second if row['set'] == other], metric, one == other)
    by_image: dict[Image, list[float]] = {}
    for key in left.keys() & right.keys():
        by_image.setdefault(key[0], []).append(left[key] - right[key])
    return Difference.of([statistics.fmean(by_image[image]) for image in sorted(by_image)]) if by_image else None


def exceeds(difference: Difference, margin: float = 0.0) -> Verdict:
    """Judge the claim that a difference is larger than a margin.

    It holds if the difference is beyond the margin by more than two standard errors, is refuted if it is as far on the
    other side, and open in between, or if there are fewer than five images.
    """
    beyond = difference.mean - margin
    if difference.images < FEWEST_IMAGES or abs(beyond) <= ERRORS * difference.error:
        return Verdict.OPEN
    return Verdict.HOLDS if beyond > 0 else Verdict.REFUTED


def stays_within(difference: Difference, margin: float) -> Verdict:
    """Judge the claim that a difference is smaller than a margin, whatever its sign, likewise."""
    inside = margin - abs(difference.mean)
    if difference.images < FEWEST_IMAGES or abs(inside) <= ERRORS * difference.error:
        return Verdict.OPEN
    return Verdict.HOLDS if inside > 0 else Verdict.REFUTED


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Judge a claim of several parts: one that is refuted refutes it, and it holds if all do."""
    if Verdict.REFUTED in verdicts:
        return Verdict.REFUTED
    return Verdict.HOLDS if verdicts and set(verdicts) == {Verdict.HOLDS} else Verdict.OPEN


def group_by_method(rows: Sequence[Row], names: Mapping[str, str]) -> dict[str, list[Row]]:
    """Group rows by what their method stands for, such as the seeds of one solver; of others there is none.

    Args:
        rows: Rows of an evaluation.
        names: What each method's name stands for.
    """
    grouped: dict[str, list[Row]] = {}
    for row in rows:
        if row['method'] in names:
            grouped.setdefault(names[row['method']], []).append(row)
    return grouped
