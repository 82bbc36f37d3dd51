"""Scoring the images of a set by metrics, and averaging their scores."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor

from manet_basicsr.metrics.kernel_metric import make_lr_images
from manet_basicsr.utils.errors import last_line

#: What an exact match, whose PSNR is infinite, counts as in an average.
EXACT_MATCH_DB = 100.0


def check_finite(result: Mapping[str, Tensor]) -> None:
    """Refuse what a network gave where it is not finite: an image would be black, and maybe score well enough.

    Args:
        result: Images and fields by name, such as ``sr`` and ``field``.

    Raises:
        ValueError: One is not finite.
    """
    words = {'sr': 'the restored image is', 'field': 'the estimated kernels are'}
    for name, values in result.items():
        if not bool(values.isfinite().all()):
            raise ValueError(f'{words.get(name, f"{name} is")} not finite (NaN or infinite)')


def score_image(known: dict[str, Any], metrics: Mapping[str, Any]) -> dict[str, float]:
    """Calculate those metrics whose inputs are known.

    Args:
        known: What metrics are called with, by name; ``lr_images`` is added where a metric takes them.
        metrics: The sections of ``val.metrics``.

    Raises:
        ValueError: A metric fails, or is not a number; the message begins with its name.
    """
    scores = {}
    for name, options in metrics.items():
        parameters = inspect.signature(METRIC_REGISTRY.get(options['type'])).parameters.values()
        needed = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
        # A metric that allows for a missing image takes it as None; here only what is required decides.
        if not needed <= known.keys() | options.keys():
            continue
        try:
            if 'lr_images' not in known and any(p.name == 'lr_images' for p in parameters):
                known['lr_images'] = make_lr_images(*(known[name] for name in ('field', 'field_gt', 'gt', 'scale')))
            arguments = {key: value for key, value in options.items() if key != 'better'}
            takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
            taken = known.keys() if takes_all else known.keys() & {p.name for p in parameters}
            scores[name] = float(calculate_metric({key: known[key] for key in taken}, arguments))
        except Exception as error:  # of a metric, which may be anybody's
            raise ValueError(f'metric {name}: {last_line(error)}') from error
        if math.isnan(scores[name]):
            raise ValueError(f'metric {name}: found nan, expected a number')
    return scores


def mean_scores(
    scores: Sequence[Mapping[str, float]], metrics: Mapping[str, Any], dataset_name: str
) -> dict[str, float]:
    """Average each metric over the images that have it, and log for how many it was skipped."""
    means = {}
    for name in metrics:
        values = [EXACT_MATCH_DB if score[name] == math.inf else score[name] for score in scores if name in score]
        if len(values) < len(scores):
            get_root_logger().info(
                f'Validation {dataset_name}: {name} skipped for {len(scores) - len(values)} of {len(scores)} '
                'images without what it compares'
            )
        if values:
            means[name] = sum(values) / len(values)
    return means
