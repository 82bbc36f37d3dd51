"""From the words of a command to methods."""

from __future__ import annotations

from collections.abc import Sequence

from manet_basicsr.evaluation.methods import BASELINES, Bicubic, GivenKernels, Method, Network, OptionFile
from manet_basicsr.evaluation.zero_shot import ZeroShot
from manet_basicsr.options.errors import OptionError
from manet_basicsr.utils.messages import unknown_name
from manet_basicsr.zero_shot import SOLVERS, build_solver, is_solver


def build_methods(
    words: Sequence[str],
    generators: Sequence[str] = (),
    *,
    budget: str = 'full',
) -> list[Method]:
    """Make the methods that a command names.

    Args:
        words: ``bicubic``, ``fixed``, ``mean``, ``oracle``; solvers such as ``dip`` or ``dip[steps=500]``; or option
            files as ``FILE.yml`` or ``NAME=FILE.yml``; one name may be given to files of several scales.
        generators: Option files of the generators for ``fixed``, ``mean``, ``oracle`` and solvers that find kernels
            alone, one for each scale.
        budget: How much work solvers do: ``short`` or ``full``.

    Returns:
        The methods in the order given; several of one name for several scales.

    Raises:
        OptionError: A file cannot be read, a word is unknown, or ``oracle`` has no generator.
    """
    files = [OptionFile(path) for path in generators]
    methods: list[Method] = []
    for word in words:
        if word == 'bicubic':
            methods.append(Bicubic())
        elif word in BASELINES:
            if word == 'oracle' and not files:
                raise OptionError(['oracle: needs a generator, by its option file with weights'])
            methods += [GivenKernels(word, file) for file in files] or [GivenKernels(word, None)]
        elif word.endswith(('.yml', '.yaml')):
            name, _, path = word.rpartition('=')
            file = OptionFile(path)
            methods.append(Network(name or file.name, file))
        elif is_solver(word):
            methods += _solvers(word, files, budget)
        else:
            known = (*BASELINES, *sorted(SOLVERS))
            raise OptionError([unknown_name('method', word, known) + ' and no option file FILE.yml'])
    return methods


def _solvers(word: str, files: Sequence[OptionFile], budget: str) -> list[Method]:
    """Make a solver, one for each generator where it needs one."""
    try:
        solver = build_solver(word, budget)
    except ValueError as error:
        raise OptionError([str(error)]) from error
    if solver.RESTORES or not files:
        return [ZeroShot(solver)]
    return [ZeroShot(solver, file) for file in files]
