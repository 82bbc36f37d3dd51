"""What a training tells while it runs: how long it will take, and which samples were replaced."""

from __future__ import annotations

import datetime
from typing import Any

import torch
from basicsr.utils import get_root_logger

from manet_basicsr.data.sampling import IterationSampler, SeededDataset
from manet_basicsr.options.reading import Options


class Forecast:
    """Logs once, after the first iterations, how long the others will take."""

    def __init__(self, sampler: IterationSampler) -> None:
        self.total_iter = sampler.total_iter
        left = sampler.total_iter - sampler.start_iter
        # The first iteration is slower than all others.
        self.last = sampler.start_iter + 1 + min(20, left // 2)
        self.seconds: list[float] = []

    def note(self, current_iter: int, seconds: float) -> None:
        """Take the time of an iteration."""
        if current_iter > self.last:
            return
        self.seconds.append(seconds)
        left = self.total_iter - current_iter
        if current_iter == self.last and len(self.seconds) > 1 and left:
            each = sum(self.seconds[1:]) / (len(self.seconds) - 1)
            whole = datetime.timedelta(seconds=round(each * left))
            get_root_logger().info(
                f'Expected time: {whole} for the {left:,d} iterations left, {each:.3g} s each; validations and '
                'checkpoints come on top'
            )


class BadSampleReport:
    """Logs which samples ``on_bad_sample: skip`` replaced, in every process, when there are new ones."""

    def __init__(self, dataset: SeededDataset, opt: Options) -> None:
        source: Any = dataset.dataset
        self.source = source if getattr(source, 'skips_bad_samples', False) else None
        self.opt = opt
        self.known: set[int] = set()

    def update(self) -> None:
        """Name the new ones and count all; with several processes, all must call it."""
        if self.source is None:
            return
        found: list[int] = self.source.bad_samples()
        if self.opt['dist']:
            everywhere: list[list[int]] = [[] for _ in range(self.opt['world_size'])]
            torch.distributed.all_gather_object(everywhere, found)
            found = sorted({index for part in everywhere for index in part})
        new = [index for index in found if index not in self.known]
        self.known.update(new)
        if new and self.opt['rank'] == 0:
            for index in new:
                get_root_logger().warning(f'Bad sample, replaced by another: {self.source.describe_bad_sample(index)}')
            get_root_logger().warning(
                f'{len(self.known)} of {len(self.source)} training samples are bad and were replaced so far '
                '(on_bad_sample: skip).'
            )
