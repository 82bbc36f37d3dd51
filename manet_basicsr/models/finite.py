"""Watching over a training's numbers: which iteration was not finite, in which loss, on which samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor

from manet_basicsr.utils.errors import NonFiniteError

GRADIENTS = 'gradients'
_ONLY_GRADIENTS = f'found {GRADIENTS} '
# Nothing is learnt any more.
_MOST_SKIPPED = 100
_SMALLEST_SCALE = 2.0**-10
_MOST_PATHS = 16
# Iterations whose samples are remembered for a look.
_LONGEST_MEMORY = 1000


def describe(current_iter: int, values: Mapping[str, float], paths: Sequence[str]) -> str:
    """Say which values of an iteration are not finite, and on which samples."""
    terms = ', '.join(f'{name} {value}' for name, value in values.items() if not math.isfinite(value))
    more = f' and {len(paths) - _MOST_PATHS} more' if len(paths) > _MOST_PATHS else ''
    samples = ', '.join(paths[:_MOST_PATHS]) + more or 'unknown'
    return f'iter {current_iter:,d}: found {terms}, expected finite numbers; samples: {samples}'


class FiniteWatch:
    """Remembers the first iteration whose losses or gradients were not finite, on the device, without waiting for it.

    Args:
        distributed: Whether other processes watch too; then all look equally often.
        skip: Whether such iterations are left out (:meth:`permits`) instead of ending the run (:meth:`look`).
    """

    def __init__(self, *, distributed: bool, skip: bool) -> None:
        self.distributed = distributed
        self.skip = skip
        #: Iterations left out so far.
        self.skipped = 0
        self._in_a_row = 0
        self._names: list[str] = []
        self._paths: dict[int, list[str]] = {}
        self._first: tuple[Tensor, Tensor] | None = None

    def record(
        self, current_iter: int, losses: Mapping[str, Tensor], gradients: Iterable[Tensor], paths: Sequence[str]
    ) -> None:
        """Note an iteration's values; ``gradients`` is empty where a loss scaler expects some to overflow."""
        values = _values(losses, gradients)
        if self._first is None or list(values) != self._names:
            self.look()
            self._names = list(values)
            device = next(iter(values.values())).device
            self._first = torch.zeros((), dtype=torch.int64, device=device), torch.zeros(len(values), device=device)
        iteration, remembered = self._first
        current = torch.stack(list(values.values()))
        is_first = ~current.isfinite().all() & (iteration == 0)
        self._first = torch.where(is_first, current_iter, iteration), torch.where(is_first, current, remembered)
        self._paths[current_iter] = list(paths)
        if len(self._paths) > _LONGEST_MEMORY:
            del self._paths[next(iter(self._paths))]

    def look(self) -> None:
        """Wait for the device and see whether an iteration since the last look was not finite.

        Raises:
            NonFiniteError: One was, in this process or another.
        """
        found = None
        if self._first is not None and (iteration := int(self._first[0])):
            values = dict(zip(self._names, self._first[1].tolist(), strict=True))
            found = iteration, describe(iteration, values, self._paths.get(iteration, []))
        everywhere = [one for one in self._gathered(found) if one is not None]
        if everywhere:
            # The process whose samples it were names a loss; the gradients, which all share, follow from it.
            raise NonFiniteError(min(everywhere, key=lambda one: (one[0], _ONLY_GRADIENTS in one[1], one[1]))[1])
        self._paths.clear()

    def permits(
        self, current_iter: int, losses: Mapping[str, Tensor], gradients: Iterable[Tensor], paths: Sequence[str]
    ) -> bool:
        """Tell whether an iteration is finite in every process; one that is not is logged and counted.

        Raises:
            NonFiniteError: So many in a row were not that nothing is left to train on.
        """
        values = _values(losses, gradients)
        numbers = torch.stack(list(values.values()))
        bad = (~numbers.isfinite()).any().to(torch.uint8)
        if self.distributed:
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
        if not bad:
            self._in_a_row = 0
            return True
        self.skipped += 1
        self._in_a_row += 1
        named = dict(zip(values, numbers.tolist(), strict=True))
        mine = None if all(map(math.isfinite, named.values())) else describe(current_iter, named, paths)
        everywhere = [one for one in self._gathered(mine) if one is not None]
        what = min(everywhere, key=lambda one: (_ONLY_GRADIENTS in one, one))
        get_root_logger().warning(f'{what}. Left out, {self.skipped} so far.')
        if self._in_a_row == _MOST_SKIPPED:
            raise NonFiniteError(f'{what}; so were the {_MOST_SKIPPED - 1} iterations before it')
        return False

    def check_scale(self, current_iter: int, scale: float) -> None:
        """Check that a loss scaler has not fallen for ever: its gradients then overflow whatever the scale.

        Raises:
            NonFiniteError: It has.
        """
        if scale < _SMALLEST_SCALE:
            raise NonFiniteError(
                f'iter {current_iter:,d}: gradients in float16 are not finite at any scale (now {scale:g}); '
                'expected finite ones, try amp: bf16'
            )

    def _gathered(self, mine: Any) -> list[Any]:
        if not self.distributed:
            return [mine]
        everywhere: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(everywhere, mine)
        return everywhere


def _values(losses: Mapping[str, Tensor], gradients: Iterable[Tensor]) -> dict[str, Tensor]:
    values = {name: loss.detach().float() for name, loss in losses.items()}
    listed = list(gradients)
    if listed:
        # The largest magnitude cannot overflow, as a sum of squares could.
        values[GRADIENTS] = torch.nn.utils.get_total_norm(listed, norm_type=math.inf).float()
    return values
