"""The claims of the write-up, each with what would show it, and the verdict that results give.

A claim is judged by tests. A test compares two rows of the comparison, image by image, or looks at what
tools/peers_measure.py has measured. Nothing here measures anything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peers_rows import BY_NAME, MANET, MANET_STAGE_3, REDUCED, STUDIED, at_whole_budget

from manet_basicsr.evaluation.paired import (
    FEWEST_IMAGES,
    Difference,
    Verdict,
    all_of,
    exceeds,
    paired_difference,
    stays_within,
)
from manet_basicsr.evaluation.records import Row

#: Rows of an evaluation, by the name of the row of the comparison.
Results = Mapping[str, Sequence[Row]]
#: What was measured beside: differences image by image, or exact numbers, by name.
Measured = Mapping[str, Any]

VARIANT = ('type1', 'type2', 'type3', 'type4', 'type5')
INVARIANT = ('invariant',)
#: Of what takes minutes an image: the set that all solvers are fitted to.
FITTED = ('type4',)
_UNITS = {'psnr': 'dB', 'ssim': '', 'lr_psnr': 'dB LR'}


@dataclass(frozen=True)
class Outcome:
    """What a test gave.

    Attributes:
        words: What is tested.
        verdict: Of it.
        figure: The numbers, as text; '' where there are none.
        missing: Rows that are not there.
    """

    words: str
    verdict: Verdict
    figure: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inequality:
    """One row is better than another by more than a margin, on each of some sets.

    Args:
        first: Name of a row.
        second: Name of another.
        margin: That the difference exceeds; negative for ``at most so much worse``. Of times, the ratio.
        sets: Each must show it.
        metric: ``psnr``, ``ssim``, ``lr_psnr`` or ``seconds``, of which the ratio of geometric means is judged; on a
            CPU of the time on it, which other work of the machine does not add to.
        against: Set of the second row where it is another one.
        within: The claim is that the difference is smaller than the margin, whatever its sign.
    """

    first: str
    second: str
    margin: float = 0.0
    sets: tuple[str, ...] = VARIANT
    metric: str = 'psnr'
    against: str = ''
    within: bool = False

    @property
    def words(self) -> str:
        """Say what is tested."""
        sets = {VARIANT: 'types 1 to 5', (*INVARIANT, *VARIANT): 'invariant, types 1 to 5'}.get(
            self.sets, ', '.join(self.sets)
        )
        if self.metric == 'seconds':
            return f'seconds, {self.first} / {self.second} >= {self.margin:g}; {sets}'
        first, second = self.first, self.second
        if self.against:
            first, second, sets = f'{first} on {sets}', f'{second} on {self.against}', ''
        unit = _UNITS[self.metric]
        if self.within:
            return f'{unit} between {first} and {second} < {self.margin:g}; {sets}'.strip()
        add = f' {"+" if self.margin > 0 else "-"} {abs(self.margin):g} {unit}'.rstrip() if self.margin else ''
        measure = ' (LR PSNR)' if self.metric == 'lr_psnr' and not self.margin else ''
        return f'{first} > {second}{add}{measure}; {sets}'.removesuffix('; ')

    def at_whole_budget(self) -> Inequality:
        """Return the same of rows with the whole budget; of rows that need no training it is the same."""
        return dataclasses.replace(self, first=at_whole_budget(self.first), second=at_whole_budget(self.second))

    def judge(self, results: Results, measured: Measured, void: Sequence[str] = ()) -> Outcome:
        """Judge it by the results; open where a row is not there, and on sets that are ``void``."""
        missing = tuple(name for name in dict.fromkeys((self.first, self.second)) if not results.get(name))
        if missing:
            return Outcome(self.words, Verdict.OPEN, '', missing)
        is_time = self.metric == 'seconds'
        metric = self.metric
        if is_time:
            rows = [*results[self.first], *results[self.second]]
            if len({row['machine'] for row in rows}) > 1:
                return Outcome(self.words, Verdict.OPEN, 'measured on different machines')
            on_cpu = all(row.get('cpu_seconds') is not None for row in rows)
            metric = 'log10_cpu_seconds' if on_cpu else 'log10_seconds'
        verdicts, figures = [], []
        for name in self.sets:
            sets = (name, self.against) if self.against else name
            found = paired_difference(results[self.first], results[self.second], metric, sets)
            if found is None:
                verdicts.append(Verdict.OPEN)
                figures.append(f'{name}: no image in common')
                continue
            verdicts.append(Verdict.OPEN if name in void else self._verdict(found))
            value = f'{10**found.mean:,.0f}x' if is_time else str(found)
            few = f' (images: {found.images}, needed: {FEWEST_IMAGES})' if found.images < FEWEST_IMAGES else ''
            figures.append(f'{name}: {value}{few}')
        return Outcome(self.words, all_of(verdicts), '; '.join(figures))

    def _verdict(self, found: Difference) -> Verdict:
        if self.metric == 'seconds':
            return exceeds(found, math.log10(self.margin))
        return stays_within(found, self.margin) if self.within else exceeds(found, self.margin)


@dataclass(frozen=True)
class Measurement:
    """Something that was measured beside the evaluation exceeds a margin.

    Args:
        words: What is tested.
        key: Of the measured: a number, which is exact, or a list of differences, one an image.
        margin: What it exceeds.
        style: How a number is written.
    """

    words: str
    key: str
    margin: float
    style: str = '{:.2f}'

    def judge(self, results: Results, measured: Measured, void: Sequence[str] = ()) -> Outcome:
        """Judge it by what was measured; open where it was not."""
        value = measured.get(self.key)
        if value is None:
            return Outcome(self.words, Verdict.OPEN, '', (f'measurement {self.key}',))
        if isinstance(value, list):
            found = Difference.of(value)
            return Outcome(self.words, exceeds(found, self.margin), f'{found} (n = {found.images})')
        verdict = Verdict.HOLDS if value > self.margin else Verdict.REFUTED
        return Outcome(self.words, verdict, self.style.format(value))


Test = Inequality | Measurement


@dataclass(frozen=True)
class Claim:
    """A claim and its tests, all of which it needs.

    Args:
        number: As the list has it.
        sentence: The claim in our words.
        tests: What would show it.
        needs: What must hold for a comparison to say anything, such as that networks have learned at all; looked at on
            each set of the tests by itself.
    """

    number: str
    sentence: str
    tests: tuple[Test, ...]
    needs: Inequality | None = None

    def judge(self, results: Results, measured: Measured) -> tuple[Verdict, list[Outcome]]:
        """Judge it by its tests; a comparison stays open on sets where what it needs does not hold."""
        outcomes, void = [], []
        if self.needs is not None:
            sets = [name for test in self.tests if isinstance(test, Inequality) for name in test.sets]
            needed = dataclasses.replace(self.needs, sets=tuple(dict.fromkeys(sets)))
            each = {name: dataclasses.replace(needed, sets=(name,)) for name in needed.sets}
            void = [name for name, need in each.items() if need.judge(results, measured).verdict is not Verdict.HOLDS]
            outcome = needed.judge(results, measured)
            outcomes.append(dataclasses.replace(outcome, words=f'needed: {outcome.words}'))
        judged = [test.judge(results, measured, void) for test in self.tests]
        return all_of([outcome.verdict for outcome in judged]), outcomes + judged

    def at_whole_budget(self) -> Claim:
        """Return the same claim about rows with the whole budget, without tests of what has no such row.

        What was measured beside stays.
        """
        tests = [test.at_whole_budget() if isinstance(test, Inequality) else test for test in self.tests]
        there = tuple(
            test for test in tests if not isinstance(test, Inequality) or {test.first, test.second} <= set(BY_NAME)
        )
        return dataclasses.replace(self, tests=there, needs=self.needs and self.needs.at_whole_budget())


_HAS_LEARNED = Inequality(STUDIED, 'fixed', metric='lr_psnr')
CLAIMS = (
    Claim(
        '1', 'MANet is best on spatially variant blur, IKC second.',
        (
            Inequality(MANET, 'IKC'),
            *(Inequality('IKC', other) for other in ('RCAN (bicubic)', 'HAN (bicubic)')),
            *(Inequality('IKC', other, sets=FITTED) for other in ('DIP', 'KernelGAN+ZSSR', 'SRSVD')),
        ),
    ),
    Claim(
        '2', 'Networks trained without blur, RCAN and HAN, drop badly where there is blur.',
        tuple(
            test
            for name in ('RCAN (bicubic)', 'HAN (bicubic)')
            for test in (
                Inequality(name, name, 3, (REDUCED,), against='invariant'),
                Inequality('bicubic', name, -1),
            )
        ),
    ),
    Claim(
        '3', 'DIP is poor because it takes its kernel for granted.',
        (Inequality('IKC', 'DIP', sets=FITTED), Inequality('DIP (true kernel)', 'DIP', 1, FITTED)),
    ),
    Claim(
        '4', 'SRSVD handles variant blur, at a price.',
        (
            Inequality('SRSVD', 'fixed', sets=FITTED),
            Inequality('SRSVD', 'SRSVD (one kernel)', sets=FITTED),
            Inequality('SRSVD', MANET, 50, FITTED, 'seconds'),
        ),
    ),
    Claim(
        '5', 'What limits IKC is that it has one kernel an image.',
        (
            Inequality('mean', 'IKC', -0.1),
            Inequality('mean', 'IKC', 0.5, INVARIANT, within=True),
        ),
    ),
    Claim(
        '5a', 'One kernel an image, the mean of the true ones, costs the same generator quality where blur varies.',
        (Inequality('oracle', 'mean'),),
    ),
    Claim(
        '5b', 'With the kernels that MANet finds, that generator restores variant blur better than with that mean.',
        (Inequality(MANET, 'mean'),),
    ),
    Claim(
        '6', 'On invariant blur MANet is best, IKC second, KernelGAN about as good as HAN and DIP.',
        (
            Inequality(MANET, 'IKC', sets=INVARIANT),
            *(
                Inequality('IKC', name, sets=INVARIANT)
                for name in ('RCAN (bicubic)', 'HAN (bicubic)', 'DIP', 'KernelGAN+ZSSR')
            ),
            Inequality('KernelGAN+ZSSR', 'HAN (bicubic)', 0.5, INVARIANT, within=True),
            Inequality('KernelGAN+ZSSR', 'DIP', 0.5, INVARIANT, within=True),
        ),
    ),
    Claim(
        '7', 'A loss on the LR image alone does not train an estimator; a loss on kernels does.',
        (
            Inequality('fixed', 'LR image loss', sets=INVARIANT, metric='lr_psnr'),
            Inequality('kernel L1 loss', 'fixed', 3, INVARIANT, 'lr_psnr'),
        ),
        _HAS_LEARNED,
    ),
    Claim(
        '7a',
        'A loss on the image that a frozen generator makes with the kernels does train one.',
        (Inequality('indirect loss', 'fixed', 3, INVARIANT, 'lr_psnr'),),
        _HAS_LEARNED,
    ),
    Claim(
        '7b',
        'Crops of several kernels in training help where blur varies.',
        (Inequality('collage', STUDIED, metric='lr_psnr'),),
        _HAS_LEARNED,
    ),
    Claim(
        '8', 'A receptive field of 38x38 is worse than one of 22x22 where blur varies.',
        (Inequality(STUDIED, 'two blocks', metric='lr_psnr'),),
        _HAS_LEARNED,
    ),
    Claim(
        '9', 'More groups that modulate each other help.',
        (
            Inequality('split 4', STUDIED, sets=(*INVARIANT, *VARIANT), metric='lr_psnr'),
            Inequality(STUDIED, 'convolutions', sets=(*INVARIANT, *VARIANT), metric='lr_psnr'),
        ),
        _HAS_LEARNED,
    ),
    Claim(
        '10', 'Mutual affine convolutions save about 30 % of parameters and work, and are not worse.',
        (
            Measurement('parameters saved in MANet, % > 25', 'parameters_saved', 25, '{:.1f} %'),
            Measurement('multiply-adds saved in MANet, % > 25', 'macs_saved', 25, '{:.1f} %'),
            Measurement('CPU time saved in estimating, % > 0', 'time_saved', 0, '{:.0f} %'),
            Inequality(STUDIED, 'convolutions', -0.1, (*INVARIANT, *VARIANT), 'lr_psnr'),
        ),
        _HAS_LEARNED,
    ),
    Claim(
        '11', 'MANet finds kernels in a fraction of the time of IKC and KernelGAN.',
        (
            Measurement('seconds, kernels of IKC / kernels of MANet > 10', 'ikc_ratio', 10, '{:.1f}x'),
            Inequality('KernelGAN', MANET, 100, FITTED, 'seconds'),
        ),
    ),
    Claim(
        '12', 'MANet finds kernels from patches of 9x9 LR px.',
        tuple(
            Measurement(f'LR PSNR of MANet 0.1.0 above fixed, patches of {side}x{side}, dB > 0', f'patches_{side}', 0)
            for side in (9, 16, 22, 32)
        ),
    ),
    Claim(
        '13', 'Trained with noise and JPEG, kernels are still found under noise 15 and JPEG 70.',
        (Measurement('LR PSNR of real_x4 above fixed, dB > 2', 'noisy', 2),),
    ),
    Claim(
        'A', 'Kernels are needed at all: the same budget in a network without them is worth less.',
        (Inequality(MANET_STAGE_3, 'RCAN (our blur)', sets=(*INVARIANT, *VARIANT)),),
    ),
    Claim(
        'B', "Methods of one kernel fail in the estimate, not the assumption: the true ones' mean is 1 dB better.",
        tuple(
            Inequality('mean', name, 1, (*INVARIANT, *VARIANT) if name in ('IKC', 'DAN') else FITTED)
            for name in ('IKC', 'DAN', 'KernelGAN', 'KernelGAN+ZSSR', 'BSRDM')
        ),
    ),
)  # fmt: skip
#: Those of them that compare networks, at the whole budget.
WHOLE_CLAIMS = tuple(found for claim in CLAIMS if (found := claim.at_whole_budget()) != claim)
