"""A solver fits something to one image: what it is, how it is named, and how it is run."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from manet_basicsr.degradation.kernels import check_kernel_grid, published_of_centered
from manet_basicsr.utils.messages import unknown_name
from manet_basicsr.utils.yaml_reading import read_yaml

#: Called after each step with the number of steps done and that of all.
Tick = Callable[[int, int], object]
#: A setting of a name, up to a comma that is not in quotes; and a value that is in quotes.
_SETTING = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,])+""")
_QUOTED = re.compile(r"""(["']).*\1""", re.DOTALL)
#: How much work is done: what the papers do, or less; what less costs is not measured.
BUDGETS = ('short', 'full')


@dataclass(frozen=True)
class Solution:
    """What a solver made of an image.

    Attributes:
        sr: ``(1, 3, s*h, s*w)`` in [0, 1], or None for a solver that finds kernels alone.
        field: Kernel field ``(1, k*k, h, w)`` or ``(1, k*k, 1, 1)``, or None for one that knows of no kernel.
    """

    sr: Tensor | None
    field: Tensor | None


@dataclass(frozen=True)
class Problem:
    """What is to be solved, on the ``centered`` grid.

    Attributes:
        lq: The LR image ``(1, 3, h, w)`` in [0, 1], on the device to compute on.
        scale: Downsampling factor.
        kernel_size: Side k of the kernels that are looked for.
        generator: Source of all randomness, on the CPU.
        tick: Called after each step.
        field: The true kernel field, ``(1, k*k, h, w)`` or ``(1, k*k, 1, 1)``, for a solver that is told it.
    """

    lq: Tensor
    scale: int
    kernel_size: int
    generator: torch.Generator
    tick: Tick = lambda done, total: None
    field: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the HR image."""
        return self.lq.shape[-2] * self.scale, self.lq.shape[-1] * self.scale

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Let what draws from torch's global generator, such as new layers, draw from this problem's instead."""
        seed = int(torch.randint(2**62, (), generator=self.generator))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds GPUs, too, which is not taken back
            yield

    def normal(self, *size: int) -> Tensor:
        """Draw normal numbers on the image's device."""
        return torch.randn(size, generator=self.generator).to(self.lq.device)

    def uniform(self, *size: int) -> Tensor:
        """Draw numbers uniform in [0, 1) on the image's device."""
        return torch.rand(size, generator=self.generator).to(self.lq.device)


@dataclass(frozen=True)
class Solver:
    """A way to fit something to one image; its dataclass fields are its settings, by default those of its paper.

    Args:
        seed: Another seed gives another result, by which the spread of a method is measured.

    Raises:
        ValueError: A setting is below its least value, not finite, or none of its choices.
    """

    word: ClassVar[str]
    #: Settings that ``short`` changes, to end sooner.
    SHORT: ClassVar[Mapping[str, Any]] = {}
    #: Least values of settings; of other numbers it is 0.
    LEAST: ClassVar[Mapping[str, int]] = {}
    #: All values of settings that have few.
    CHOICES: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    #: Scales that it can solve; None for any.
    SCALES: ClassVar[tuple[int, ...] | None] = None
    #: Whether it makes an image, and not kernels alone.
    RESTORES: ClassVar[bool] = True

    seed: int = 0

    def __post_init__(self) -> None:
        for key, value in ((item.name, getattr(self, item.name)) for item in fields(self)):
            where = f'{self.word}: setting {key}'
            if key in self.CHOICES and value not in self.CHOICES[key]:
                raise ValueError(unknown_name(where, value, map(str, self.CHOICES[key])))
            least = self.LEAST.get(key, 0)
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= least):
                raise ValueError(f'{where}: found {value}, expected a finite number of at least {least}')

    @property
    def name(self) -> str:
        """The word, and in brackets every setting that is not its paper's: ``dip[width=64,steps=1000]``.

        :func:`build_solver` makes the same solver of it.
        """
        items = [item.name for item in fields(self) if self._is_changed(item.name)]
        changed = [f'{key}={_written(getattr(self, key))}' for key in items]
        return f'{self.word}[{",".join(changed)}]' if changed else self.word

    def _is_changed(self, name: str) -> bool:
        default = next(item.default for item in fields(self) if item.name == name)
        return default is not MISSING and getattr(self, name) != default

    @property
    def is_told(self) -> bool:
        """Whether it has to be told the true kernel field, which only an evaluation knows."""
        return False

    @property
    def needs_one_kernel(self) -> bool:
        """Whether the kernel that it is told has to be one for the whole image."""
        return False

    def fingerprint(self) -> dict[str, Any]:
        """Give everything that decides the result, files that are read included."""
        return {'solver': self.word, **asdict(self)}

    def check(self, scale: int) -> None:
        """Refuse a scale that it cannot solve.

        Raises:
            ValueError: It cannot.
        """
        if self.SCALES is not None and scale not in self.SCALES:
            raise ValueError(f'{self.word}: found scale {scale}, expected one of {", ".join(map(str, self.SCALES))}')

    def prepare(self, scale: int, kernel_size: int, tick: Tick) -> None:
        """Do, once a process, what is the same for every image, such as the training of a network.

        Args:
            scale: Downsampling factor.
            kernel_size: Side k of the kernels.
            tick: Called after each step.
        """

    def solve(self, problem: Problem) -> Solution:
        """Solve a problem.

        Raises:
            ValueError: The image is too small, or the scale cannot be solved.
        """
        raise NotImplementedError


def solve(
    solver: Solver,
    lq: Tensor,
    scale: int,
    kernel_size: int = 21,
    alignment: str = 'centered',
    tick: Tick = lambda done, total: None,
    field: Tensor | None = None,
) -> Solution:
    """Solve one image, on whichever grid it was sampled.

    Every solver takes the ``centered`` grid for granted. A ``published`` image lies s - 1 HR px further to the upper
    left: it is padded, its result is cut, and kernels are moved.

    Args:
        solver: The solver.
        lq: ``(1, 3, h, w)`` in [0, 1].
        scale: Downsampling factor.
        kernel_size: Side k of the kernels.
        alignment: ``centered`` or ``published``.
        tick: Called after each step.
        field: The true kernel field, ``(1, k*k, h, w)`` or ``(1, k*k, 1, 1)``, for a solver that is told it, on the
            ``centered`` grid.

    Returns:
        The solution, on the image's device. The same image gives the same one, in whatever order images come.

    Raises:
        ValueError: The image has another shape or is too small, the scale cannot be solved, there is no such grid, or
            the solver has to be told the field and is not.
    """
    check_kernel_grid(kernel_size, scale, alignment)
    solver.check(scale)
    if solver.is_told and (field is None or alignment != 'centered'):
        found = 'no field' if field is None else f'alignment {alignment}'
        raise ValueError(f'{solver.name}: found {found}, expected the true kernel field of an evaluation, centered')
    if lq.ndim != 4 or lq.shape[:2] != (1, 3):
        raise ValueError(f'lq has shape {tuple(lq.shape)}, expected (1, 3, h, w)')
    # Not of Python's hash, which differs from run to run.
    digest = zlib.crc32(lq.detach().float().cpu().contiguous().numpy().tobytes())
    # torch looks at 32 bits of a seed, so both go into these.
    generator = torch.Generator().manual_seed(zlib.crc32(str(solver.seed).encode(), digest))
    published = alignment == 'published' and scale > 1
    padded = F.pad(lq, (0, 1, 0, 1), mode='replicate') if published else lq
    # A caller may be in inference mode, where nothing can be fitted.
    with torch.inference_mode(False), torch.enable_grad():
        told = field.to(lq.device).float().clone() if solver.is_told and field is not None else None
        solution = solver.solve(Problem(padded.detach().float().clone(), scale, kernel_size, generator, tick, told))
    sr, field = (None if part is None else part.detach() for part in (solution.sr, solution.field))
    if published:
        height, width = (side * scale for side in lq.shape[-2:])
        if sr is not None:
            sr = sr[..., scale - 1 : scale - 1 + height, scale - 1 : scale - 1 + width]
        if field is not None:
            field = published_of_centered(field, scale)[..., : lq.shape[-2], : lq.shape[-1]]
    return Solution(None if sr is None else sr.clamp(0, 1), field)


SOLVERS: dict[str, type[Solver]] = {}
"""The solvers by the word that a command names them with."""


def register_solver(solver: type[Solver]) -> type[Solver]:
    """Register a solver under its word.

    Raises:
        ValueError: Another one has that word.
    """
    if solver.word in SOLVERS:
        raise ValueError(f'solver {solver.word!r} is registered twice')
    SOLVERS[solver.word] = solver
    return solver


def is_solver(text: str) -> bool:
    """Tell whether a text names a solver, with settings or without."""
    return text.partition('[')[0] in SOLVERS


def build_solver(text: str, budget: str = 'full') -> Solver:
    """Make the solver that a text names.

    Args:
        text: Its word, and settings in brackets if wanted, such as ``dip[steps=500]``: a solver's own name.
        budget: ``full`` for its paper's settings, ``short`` for less work; settings in the text win.

    Raises:
        ValueError: The word, a setting or the budget is unknown, or a value of another type.
    """
    word, _, inside = text.partition('[')
    if word not in SOLVERS:
        raise ValueError(unknown_name('method', word, sorted(SOLVERS)))
    if budget not in BUDGETS:
        raise ValueError(unknown_name('budget', budget, BUDGETS))
    solver = SOLVERS[word]()
    if budget == 'short':
        solver = replace(solver, **solver.SHORT)
    known = {item.name: getattr(solver, item.name) for item in fields(solver)}
    settings: dict[str, Any] = {}
    if '[' in text and not inside.endswith(']'):
        raise ValueError(f"method: found '{text}', expected a ] at the end")
    for entry in _SETTING.findall(inside.removesuffix(']')):
        key, _, value = (part.strip() for part in entry.partition('='))
        if key not in known:
            raise ValueError(unknown_name(f'{word}: setting', key, list(known)))
        if key in settings:
            raise ValueError(f'{word}: setting {key}: found twice, expected once')
        settings[key] = _read(f'{word}: setting {key}', value, known[key])
    return replace(solver, **settings)


def _read(where: str, text: str, default: Any) -> Any:
    """Read a value of the type that a setting has: as option files have it, but that text needs no quotes."""
    kind = type(default)
    try:
        value = text if kind is str and text and not _QUOTED.fullmatch(text) else read_yaml(text)
    except ValueError as error:
        raise ValueError(f"{where}: found '{text}', expected a value like {default} ({error})") from error
    if kind is float and type(value) is int:
        value = float(str(value))  # of digits without end it is infinite, and not an error
    if type(value) is not kind:
        raise ValueError(f"{where}: found '{text}', expected a value like {default}")
    return value


def _written(value: Any) -> str:
    """Write a value so that it is read as the same; text in quotes only where it has to be."""
    if not isinstance(value, str) or re.fullmatch(r"""[^\s,"']([^,"'\n]*[^\s,"'])?""", value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
