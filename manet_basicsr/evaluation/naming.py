"""From the words of a command to methods."""

from __future__ import annotations

import os
from collections.abc import Sequence

from manet_basicsr.evaluation.methods import BASELINES, Bicubic, GivenKernels, Method, Network, OptionFile
from manet_basicsr.evaluation.zero_shot import ZeroShot
from manet_basicsr.options.errors import OptionError
from manet_basicsr.options.shipped import option_files
from manet_basicsr.utils.messages import unknown_name
from manet_basicsr.weights import SHIPPED, find_address, is_address
from manet_basicsr.zero_shot import SOLVERS, build_solver, is_solver


def build_methods(
    words: Sequence[str],
    generators: Sequence[str] = (),
    *,
    budget: str = 'full',
) -> list[Method]:
    """Make the methods that a command names.

    Args:
        words: ``bicubic``, ``fixed``, ``mean``, ``oracle``; solvers such as ``dip`` or ``dip[steps=500]``; option
            files as ``FILE.yml``, or by the name of one that ships; weights that ship as ``weights://blind_x4``.
            ``NAME=`` before a file or weights names them; one name may be given to those of several scales.
        generators: Option files of the generators for ``fixed``, ``mean``, ``oracle`` and solvers that find kernels
            alone, one for each scale.
        budget: How much work solvers do: ``short`` or ``full``.

    Returns:
        The methods in the order given; several of one name for several scales.

    Raises:
        OptionError: A file cannot be read, a word is unknown, ``oracle`` has no generator, or one or a budget no use.
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
        elif is_solver(word):
            methods += _solvers(word, files, budget)
        else:
            methods.append(_network(word))
    if files and not any(isinstance(method, (GivenKernels, ZeroShot)) for method in methods):
        raise OptionError([f'generator: found {generators[0]}, but no method restores with it; leave it out'])
    if budget != 'full' and not any(isinstance(method, ZeroShot) for method in methods):
        raise OptionError([f'budget: found {budget}, but no method is a solver; leave it out'])
    return methods


def _network(word: str) -> Network:
    """Make the network of ``FILE.yml``, ``weights://NAME``, or ``NAME=`` one of them."""
    name, _, path = ('', '', word) if os.path.isfile(word) else word.rpartition('=')
    if not (path.endswith(('.yml', '.yaml')) or path in option_files() or is_address(path)):
        known = (*BASELINES, *sorted(SOLVERS))
        problem = unknown_name('method', word, known)
        raise OptionError([f'{problem}, an option file FILE.yml, or weights that ship, as weights://blind_x4'])
    file = OptionFile(path)
    return Network(name or (find_address(path).removeprefix(SHIPPED) if is_address(path) else file.name), file)


def _solvers(word: str, files: Sequence[OptionFile], budget: str) -> list[Method]:
    """Make a solver, one for each generator where it needs one."""
    try:
        solver = build_solver(word, budget)
    except ValueError as error:
        raise OptionError([str(error)]) from error
    if solver.RESTORES or not files:
        return [ZeroShot(solver)]
    return [ZeroShot(solver, file) for file in files]
