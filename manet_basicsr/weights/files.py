"""Reading files of network weights, and converting released files to BasicSR's form and back.

A released file is a bare state dict: stage 1 with every key under ``kernel_estimation.``, stage 2 the generator's keys,
stage 3 both. A BasicSR file holds state dicts under names, ``{'params': ..., 'params_ema': ...}``, and its stage-1
keys carry no prefix. A ``.safetensors`` file (of which the package safetensors reads and writes the format) is a bare
state dict, too.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from manet_basicsr.utils.files import atomic_path, refuse_existing
from manet_basicsr.utils.tensors import not_finite
from manet_basicsr.weights.shipped import is_within_blind, resolve_weights

Form = Literal['basicsr', 'released']

ESTIMATOR_PREFIX = 'kernel_estimation.'
"""What the estimator's keys begin with in released files, and in those of blind networks."""

_FORMS: dict[Form, str] = {'basicsr': 'a BasicSR file (state dicts under names)', 'released': 'a bare state dict'}
_SAVED_BY_TORCH = (b'PK', b'\x80')  # a zip archive, or a pickle as torch saved before 1.6
_ESTIMATOR_KEY = 'm_head.weight'
_GENERATOR_KEY = 'conv_first.weight'


def load_any_state_dict(address: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the state dict of a file of any form; of a BasicSR file the averaged weights, where it has them.

    What training programs wrap weights in serves, too: a state dict under another name (``state_dict``, ``model``) or
    deeper, keys that all begin with the name of an attribute (``netG.``), entries beside the weights (``epoch``).

    Args:
        address: As in :func:`resolve_weights`.

    Raises:
        FileNotFoundError: As in :func:`resolve_weights`.
        ValueError: The file cannot be read, holds no weights, NaN or infinity, or several networks.
    """
    content = _read(address)
    found = dict(_networks_in(content))
    averaged = [name for name in found if 'ema' in name.lower()]
    if len(averaged) == 1 or len(found) == 1:
        return _finite(found[(averaged or list(found))[0]], address)
    if found and 'params' not in content:
        raise ValueError(f'{address} holds several networks: {", ".join(found)}; save the one that is meant by itself')
    return _finite(_select(content, address, None if is_state_dict(content) else 'params_ema'), address)


def _networks_in(content: dict[Any, Any], name: str = '', depth: int = 3) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Find this package's networks in what a file holds: where, and their state dicts."""
    tensors = _tensors(content)
    begins = (
        key.removesuffix(last).removesuffix(ESTIMATOR_PREFIX)
        for key in tensors
        for last in (_ESTIMATOR_KEY, _GENERATOR_KEY)
        if key.endswith(last)
    )
    for prefix in dict.fromkeys(begin for begin in begins if begin == '' or begin.endswith('.')):
        if prefix.endswith('generator.') and not all(key.startswith(prefix) for key in tensors):
            continue  # what IKCNet or SRSVDNet restores with
        inner = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        yield f'{name}{prefix}'.rstrip('.') or 'weights', inner
    for key, value in content.items():
        if isinstance(value, dict) and depth:
            yield from _networks_in(value, f'{name}{key}.', depth - 1)


def load_state_dict_file(path: str | os.PathLike[str], param_key: str | None = 'params') -> dict[str, Tensor]:
    """Read a state dict from a file, as BasicSR does but with weights only: no code in the file is run.

    Args:
        path: The file; ``~`` is expanded.
        param_key: Name of the state dict in the file, or None where the file is a bare state dict. As in BasicSR,
            ``params`` stands in for a missing ``params_ema``.

    Returns:
        Tensors on the CPU, without what is no tensor; torch's prefixes of wrapped and compiled networks (``module.``,
        ``_orig_mod.``) are removed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, does not hold what ``param_key`` says, or holds NaN or infinity.
    """
    return _finite(_select(_read(path), path, param_key), path)


def _finite(state_dict: dict[str, Tensor], path: str | os.PathLike[str]) -> dict[str, Tensor]:
    if name := not_finite(state_dict):
        raise ValueError(f'{path}: {name} is not finite (NaN or infinite): damaged, or of a training that diverged')
    return state_dict


def load_pretrained(network: nn.Module, path: str | os.PathLike[str], param_key: str | None = 'params') -> None:
    """Load a file of weights into a network, strictly; the arguments are those of :func:`read_weights_for`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read or does not fit the network.
    """
    state_dict = read_weights_for(network, path, param_key)
    try:
        network.load_state_dict(state_dict)
    except RuntimeError as error:
        found = _misfit(state_dict, network.state_dict()) or textwrap.shorten(str(error), 500, placeholder=' ...')
        message = f'{path} (param_key {param_key!r}) does not fit the network {type(network).__name__}: {found}'
        raise ValueError(message) from error


def read_weights_for(
    network: nn.Module, path: str | os.PathLike[str], param_key: str | None = 'params'
) -> dict[str, Tensor]:
    """Read the weights that a file has for a network, whether they fit or not.

    A name that all keys begin with is no hindrance. An estimator or a generator may start from a whole blind network.

    Args:
        network: The network to fill.
        path: The file; ``~`` is expanded.
        param_key: As in :func:`load_state_dict_file`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read.
    """
    state_dict = _without_common_prefix(load_state_dict_file(path, param_key), network)
    expected = network.state_dict()
    if any(key.startswith(ESTIMATOR_PREFIX) for key in expected):
        return state_dict
    if _ESTIMATOR_KEY in expected:
        return estimator_of(state_dict) or state_dict
    # What remains of a blind network are the keys of its generator.
    return {key: value for key, value in state_dict.items() if not key.startswith(ESTIMATOR_PREFIX)}


def estimator_of(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the estimator out of the state dict of a blind network, under its own keys; empty where none is in it."""
    names = {key: key.removeprefix(ESTIMATOR_PREFIX) for key in state_dict if key.startswith(ESTIMATOR_PREFIX)}
    return {name: state_dict[key] for key, name in names.items()}


def _misfit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Say in which sizes and keys weights differ from a network: the first of each, and how many more."""
    sizes = [key for key in expected if key in found and found[key].shape != expected[key].shape]
    problems = []
    if sizes:
        there, here = ('x'.join(map(str, weights[sizes[0]].shape)) for weights in (found, expected))
        words = f'{sizes[0]} is {there} in the file and {here} in the network'
        problems.append(words + _and_more(sizes) + ' (give the sizes that the file was trained with)')
    if missing := [key for key in expected if key not in found]:
        problems.append(f'the file lacks {missing[0]}{_and_more(missing)}')
    if unknown := [key for key in found if key not in expected]:
        problems.append(f'the network has no {unknown[0]}{_and_more(unknown)}')
    return '; '.join(problems)


def _and_more(keys: list[str]) -> str:
    return f' and {len(keys) - 1} more' if len(keys) > 1 else ''


def _without_common_prefix(state_dict: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Remove what all keys begin with, such as ``netG.``, if that leaves the keys of the network."""
    expected = network.state_dict().keys()
    prefix = os.path.commonprefix(list(state_dict)).rpartition('.')[0]
    while prefix and not expected & state_dict.keys():
        short = {key.removeprefix(f'{prefix}.'): value for key, value in state_dict.items()}
        if expected & short.keys():
            return short
        prefix = prefix.rpartition('.')[0]
    return state_dict


def is_state_dict(content: object) -> bool:
    """Tell whether ``content`` is a state dict: named tensors, maybe beside other entries, and no state dict in it."""
    return bool(_tensors(content)) and not any(_tensors(value) for value in dict(content).values())  # type: ignore[call-overload]


def _tensors(content: object) -> dict[str, Tensor]:
    """Take the named tensors out of a dict; from their names what torch puts before those of wrapped networks."""
    if not isinstance(content, dict):
        return {}
    named = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if any('module.' in key for key in named):
        named.pop('n_averaged', None)  # of torch's AveragedModel
    # Of a network, or a part of it, that was compiled; then of DataParallel.
    return {re.sub(r'^(module\.)+', '', key.replace('_orig_mod.', '')): value.detach() for key, value in named.items()}


def detect_stage(state_dict: dict[str, Tensor]) -> int:
    """Tell by its keys which stage a state dict belongs to, in either form.

    Args:
        state_dict: Keys and tensors of one network.

    Returns:
        1 for the estimator, 2 for the generator, 3 for both.

    Raises:
        ValueError: If it is none of these.
    """
    bare_estimator = _ESTIMATOR_KEY in state_dict
    estimator = ESTIMATOR_PREFIX + _ESTIMATOR_KEY in state_dict
    generator = _GENERATOR_KEY in state_dict
    if estimator and generator:
        return 3
    if (estimator or bare_estimator) and not generator:
        return 1
    if generator and not bare_estimator:
        return 2
    raise ValueError(
        f'these are no weights of stage 1, 2 or 3: found {_listed(state_dict)}, expected {_ESTIMATOR_KEY} '
        f'(with or without {ESTIMATOR_PREFIX}), {_GENERATOR_KEY}, or both'
    )


def convert_state_dict(state_dict: dict[str, Tensor], form: Form) -> dict[str, Tensor]:
    """Give a state dict the keys of the released or of the BasicSR form; they differ in the prefix of stage 1 only.

    Args:
        state_dict: Keys and tensors of one network, in either form.
        form: The form to make.

    Returns:
        The same tensors under the keys of ``form``.

    Raises:
        ValueError: If the stage cannot be told.
    """
    if detect_stage(state_dict) != 1:
        return dict(state_dict)
    prefix = ESTIMATOR_PREFIX if form == 'released' else ''
    return {prefix + key.removeprefix(ESTIMATOR_PREFIX): value for key, value in state_dict.items()}


def convert_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    form: Form,
    param_key: str = 'params_ema',
    overwrite: bool = False,
) -> int:
    """Convert a released file of weights to BasicSR's form, or back.

    A target that ends in ``.safetensors`` is written as that, in the released form.

    Args:
        source: The file to read; ``~`` is expanded.
        target: The file to write: aside first, then renamed.
        form: The form to write; ``source`` has the other one.
        param_key: Which state dict of a BasicSR file becomes the released file; ``params`` stands in for a missing
            ``params_ema``.
        overwrite: Whether an existing ``target`` is replaced.

    Returns:
        The stage of the weights, 1, 2 or 3.

    Raises:
        FileNotFoundError: If ``source`` or the folder of ``target`` is missing.
        FileExistsError: If ``target`` exists and ``overwrite`` is not given.
        ValueError: If ``source`` is not of the other form, not of this package's networks, or not finite.
    """
    target = Path(os.path.expanduser(target))
    refuse_existing(target, overwrite=overwrite, switch='overwrite=True')
    if is_safetensors(target) and form == 'basicsr':
        raise ValueError(f"{target}: a .safetensors file is a bare state dict, expected the form 'released'")
    content = _read(source)
    if is_state_dict(content) == (form == 'released') and is_safetensors(source) == is_safetensors(target):
        found, other = _FORMS[form], _FORMS['basicsr' if form == 'released' else 'released']
        raise ValueError(f'{source} is {found}, expected {other}: nothing to convert to the form {form!r}')
    state_dict = _finite(_select(content, source, None if is_state_dict(content) else param_key), source)
    stage = detect_stage(state_dict)
    converted = convert_state_dict(state_dict, form)
    with atomic_path(target) as partial:
        if is_safetensors(target):
            _safetensors().torch.save_file({key: value.contiguous() for key, value in converted.items()}, partial)
        else:
            torch.save(converted if form == 'released' else {'params': converted}, partial)
    return stage


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Tell by its suffix whether a file is one of the package safetensors."""
    return os.fspath(path).lower().endswith('.safetensors')


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ValueError('.safetensors files need the package safetensors: pip install safetensors') from error
    return safetensors


def _load_tensors(file: Path) -> Any:
    if not is_safetensors(file):
        return torch.load(file, map_location='cpu', weights_only=True)
    safetensors = _safetensors()
    try:
        return safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error


def _read(path: str | os.PathLike[str]) -> dict[Any, Any]:
    file = resolve_weights(path)
    try:
        with file.open('rb') as opened:
            begins = opened.read(2)
    except OSError as error:
        raise ValueError(f'{path} cannot be read as weights: {error.strerror}') from error
    if not is_safetensors(file) and not begins.startswith(_SAVED_BY_TORCH):
        raise ValueError(f'{path} cannot be read as weights: torch saved no such file; expected .pth or .safetensors')
    try:
        content = _load_tensors(file)
    except Exception as error:  # torch reports damage as any of ten exception types
        if file.suffix == '.state':  # BasicSR's own have more in them than tensors
            raise ValueError(_words_on_state(file)) from error
        # torch's advice to load the file as a program is not ours.
        refused = str(error).partition('WeightsUnpickler error: ')[2].partition('Check the documentation')[0]
        reason = textwrap.shorten(refused or str(error), 200, placeholder=' ...') or type(error).__name__
        raise ValueError(f'{path} cannot be read as weights (nothing but tensors is read): {reason}') from error
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, expected a dict of weights')
    if {'optimizers', 'schedulers'} <= content.keys() and not any(_networks_in(content)):
        raise ValueError(_words_on_state(file))
    if is_within_blind(path):
        return {name: estimator_of(weights) for name, weights in content.items()}
    return content


def _words_on_state(file: Path) -> str:
    """Say what a training state is, and where the networks of its run lie."""
    models = Path(os.path.abspath(file)).parent.parent / 'models'
    networks = sorted(models.glob(f'*_{file.stem}.pth'))
    there = ', '.join(map(str, networks)) or f'net_g_{file.stem}.pth in the folder models beside training_states'
    return f'{file} is a training state, from which a run goes on: found no network in it, expected {there}'


def _select(content: dict[Any, Any], path: str | os.PathLike[str], param_key: str | None) -> dict[str, Tensor]:
    if param_key == 'params_ema' and param_key not in content and 'params' in content:
        param_key = 'params'
    if param_key is None:
        state_dict = content
    elif param_key in content:
        state_dict = content[param_key]
    elif is_state_dict(content):
        raise ValueError(f'{path} is a bare state dict, expected one under {param_key!r}; param_key: ~ reads it')
    else:
        raise ValueError(f'{path} holds {_listed(content)}, expected {param_key!r}; set param_key')
    tensors = _tensors(state_dict)
    if not tensors or (state_dict is content and not is_state_dict(content)):
        found = _listed(state_dict) if isinstance(state_dict, dict) else type(state_dict).__name__
        raise ValueError(f'{path} holds no state dict with param_key {param_key!r}: found {found}, expected tensors')
    return tensors


def _listed(content: dict[Any, Any]) -> str:
    names = [str(key) for key in content]
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '') if names else 'nothing'
