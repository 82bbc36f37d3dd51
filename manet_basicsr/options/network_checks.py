"""Checks of a network's options by building it without memory, and of the weights that are to go into it.

Tensors on torch's ``meta`` device have a shape and nothing else, so that a network of any size is built in
milliseconds, and loading a state dict into it finds whatever would not fit. Only this package's networks and some plain
ones of BasicSR are built: others may do anything at construction.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from manet_basicsr.archs.protocols import FieldEstimator, FieldGenerator
from manet_basicsr.options.dataset_checks import uses_kernels
from manet_basicsr.options.reading import Options
from manet_basicsr.options.resolving import PARTS, forget_pretrained, is_ours, model_class, without_weights
from manet_basicsr.weights import load_pretrained, resolve_weights, shipped_scale

_PLAIN = frozenset('RRDBNet EDSR MSRResNet RCAN SRVGGNetCompact RIDNet'.split())
# No network has more of anything; building one that long would take for ever.
_LARGEST = 2048
#: Networks whose parts are networks with sections of their own.
WITH_PARTS = ('BlindSRNet', 'IKCNet', 'SRSVDNet')
_WITH_KNOWN_CHANNELS = ('SVDegradationDataset', 'PairedImageDataset')
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    'int': (int, 'a whole number'),
    'float': ((int, float), 'a number'),
    'bool': (bool, 'true or false'),
}


def network_problems(network: Mapping[str, Any], where: str, options: Options) -> Iterator[str]:
    """List what is wrong with a network whose form was found right, with its weights, and with it beside the data.

    Args:
        network: A section ``network_*``.
        where: Its key.
        options: The whole options.
    """
    names = parts_of(network)
    parts = {f'{where}.{name}': network[name] for name in names} or {where: network}
    problems = [problem for key, part in parts.items() for problem in _argument_problems(part, key)]
    problems += [problem for key, part in parts.items() for problem in _scale_problems(part, key, options)]
    problems += [problem for key, part in parts.items() for problem in _channel_problems(part, key, options)]
    yield from problems
    if problems or not all(_may_be_built(part) for part in parts.values()):
        return
    built = {}
    for key, part in parts.items():
        try:
            built[key] = build_unloaded(part)
        except Exception as error:  # a wrong value is met wherever it is first used
            yield f'{key}: {_words(error)}'
        else:
            if part.get('pretrained') is not None:
                yield from _weight_problems(
                    built[key], part['pretrained'], part.get('param_key', 'params'), f'{key}.pretrained'
                )
    if len(built) < len(parts):
        return
    yield from _field_problems(built, options)
    try:
        whole = build_unloaded(network) if names else built[where]
    except Exception as error:
        yield f'{where}: {_words(error)}'
    else:
        yield from _start_problems(whole, where, options)
        yield from _tile_problems(whole, where, options)
        if where == 'network_g':
            yield from _model_problems(whole, options.get('model_type'), 'train' in options)
        elif where.startswith('train.') and (
            isinstance(whole, FieldEstimator) or not isinstance(whole, FieldGenerator)
        ):
            expected = 'a generator that is given kernels, such as SFTRRDBNet'
            yield f'{where}.type: found {network["type"]}, expected {expected}'


def parts_of(network: object) -> list[str]:
    """List which sections of a network's section are networks themselves, such as the generator of a blind one."""
    if not isinstance(network, dict) or network.get('type') not in WITH_PARTS:
        return []
    return [part for part in PARTS if part in network]


def _tile_problems(network: nn.Module, where: str, options: Options) -> Iterator[str]:
    """Check that images are not cut of which a network needs the whole."""
    tile = (options.get('val') or {}).get('tile')
    if tile is not None and getattr(network, 'needs_whole_image', False):
        yield (
            f'val.tile: found {tile!r}, expected ~: {where} is {type(network).__name__}, which finds one kernel for '
            'the whole image'
        )


def _model_problems(network: nn.Module, model_type: object, is_train: bool) -> Iterator[str]:
    """Check that a network can be called as its model calls it, and gives what that compares: kernels or images."""
    from basicsr.utils.registry import MODEL_REGISTRY

    from manet_basicsr.models.kernel_error_model import KernelErrorModel
    from manet_basicsr.models.kernel_l1_model import KernelL1Model

    if model_type != 'SRModel' and not is_ours(model_type):
        return
    model: Any = model_class(model_type)
    given: tuple[str, ...] = getattr(model, 'NETWORK_INPUTS', ('lq',))
    switches: tuple[str, ...] = getattr(model, 'NETWORK_SWITCHES', ()) if is_train else ()
    name = type(network).__name__
    try:
        inspect.signature(network.forward).bind(*given, **dict.fromkeys(switches, True))
    except TypeError as error:
        arguments = ' and '.join((*given, *switches))
        yield f'network_g: {name} does not fit model_type {model_type}, which gives it {arguments}: {error}'
        return
    trained_by = getattr(network, 'trained_by', None) if is_train else None
    if trained_by is not None and not issubclass(model, MODEL_REGISTRY.get(trained_by)):
        yield f'model_type: found {model_type}, expected {trained_by}, by which alone {name} learns'
    run_by, is_plugin = getattr(network, 'run_by', None), not type(network).__module__.startswith('manet_basicsr.')
    if issubclass(model, KernelErrorModel) != (run_by is not None) and not is_plugin:
        expected = 'a SRSVDNet' if run_by is None else f'model_type {run_by}'
        yield f'network_g: found {name} with model_type {model_type}, expected {expected}, which give and take errors'
    estimates, wanted = isinstance(network, FieldEstimator), issubclass(model, KernelL1Model)
    if not is_plugin and estimates != wanted:
        words = ('images', 'kernels')
        yield (
            f'network_g: {type(network).__name__} gives {words[estimates]}, expected {words[wanted]} for model_type '
            f'{model_type}'
        )


def _words(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__


def class_of(network: Mapping[str, Any]) -> type:
    """Return what is registered for a network's section."""
    from basicsr.utils.registry import ARCH_REGISTRY

    return ARCH_REGISTRY.get(network['type'])


def _may_be_built(network: Mapping[str, Any]) -> bool:
    return class_of(network).__module__.startswith('manet_basicsr.') or network['type'] in _PLAIN


class _NoInitialValues(TorchFunctionMode):
    """Skip drawing initial weights, which tensors without memory cannot hold and which takes most of the time."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        if function in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return arguments[0]
        return function(*arguments, **(keywords or {}))


def build_unloaded(network: Mapping[str, Any]) -> nn.Module:
    """Build a network on the meta device, without memory and without weights of files."""
    from basicsr.utils.registry import ARCH_REGISTRY

    with torch.device('meta'), _NoInitialValues():
        bare = without_weights(forget_pretrained(network))
        arguments = {key: value for key, value in bare.items() if key != 'type'}
        return ARCH_REGISTRY.get(network['type'])(**arguments)


def _argument_problems(network: Mapping[str, Any], where: str) -> Iterator[str]:
    """Check values against the annotations of the parameters that they are for."""
    if not _may_be_built(network):
        return
    for name, parameter in inspect.signature(class_of(network)).parameters.items():
        if name not in network:
            continue
        value = network[name]
        kind, expected = _KINDS.get(str(parameter.annotation), (object, ''))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and kind is not object):
            yield f'{where}.{name}: found {value!r}, expected {expected}'
        elif isinstance(value, (int, float)) and not abs(value) <= _LARGEST:
            yield f'{where}.{name}: found {value!r}, expected at most {_LARGEST}'


def _scale_problems(network: Mapping[str, Any], where: str, options: Options) -> Iterator[str]:
    """Check that a generator enlarges by the scale that the images are for."""
    parameters, given = inspect.signature(class_of(network)).parameters, options.get('scale')
    if given is None or not _may_be_built(network):
        return
    for name in {'scale', 'upscale'} & parameters.keys():  # the second in some of BasicSR's
        found = network.get(name, parameters[name].default)
        if found != given:
            yield f'{where}.{name}: found {found!r}, expected the scale {given!r} of the option file'


def _channel_problems(network: Mapping[str, Any], where: str, options: Options) -> Iterator[str]:
    """Check that a network takes and gives images of as many channels as the datasets'."""
    parameters = inspect.signature(class_of(network)).parameters
    for section, dataset in (options.get('datasets') or {}).items():
        if not isinstance(dataset, dict) or dataset.get('type') not in _WITH_KNOWN_CHANNELS:
            continue
        channels = 1 if dataset['type'] == 'PairedImageDataset' and dataset.get('color') == 'y' else 3
        for key in ('num_in_ch', 'num_out_ch'):
            found = network.get(key, parameters[key].default) if key in parameters else channels
            if isinstance(found, int) and found != channels:
                yield f'{where}.{key}: found {found}, expected {channels}, as the images of datasets.{section} have'
                return


def _field_problems(built: Mapping[str, nn.Module], options: Options) -> Iterator[str]:
    """Check that data have kernels of the size that the network estimates or takes, where they meet."""
    if not uses_kernels(options.get('model_type')):
        return
    for where, network in built.items():
        size = getattr(network, 'kernel_size', None)
        for section, dataset in (options.get('datasets') or {}).items():
            degradation = (dataset or {}).get('degradation')
            if not isinstance(size, int) or not isinstance(degradation, dict):
                continue
            found = degradation.get('kernel_size', 21)
            if found != size and isinstance(found, int) and found % 2:  # an even one is a problem of its own
                key = f'datasets.{section}.degradation.kernel_size'
                yield f'{key}: found {found!r}, expected {size}, as {where} has it'


def _start_problems(network: nn.Module, where: str, options: Options) -> Iterator[str]:
    """Check the weights that a run starts from, or tests."""
    paths = options.get('path') or {}
    label = where.removeprefix('network_')
    file = paths.get(f'pretrain_network_{label}')
    if file is not None and paths.get(f'strict_load_{label}', True) is True:
        param_key = paths.get(f'param_key_{label}', 'params')
        yield from _weight_problems(network, file, param_key, f'path.pretrain_network_{label}')
    shipped = shipped_scale(file) if isinstance(file, str) else None
    if shipped is not None and 'train' not in options and options.get('scale') not in (None, shipped):
        # Estimators of all scales have the same shapes: nothing else would tell. Training may well begin with another.
        yield f'path.pretrain_network_{label}: {file} is for x{shipped}, found scale: {options["scale"]}'


def _weight_problems(network: nn.Module, file: object, param_key: object, where: str) -> Iterator[str]:
    if not isinstance(file, str):
        return  # said already
    try:
        resolve_weights(file)
    except FileNotFoundError as error:
        if os.path.exists(os.path.expanduser(file)):  # a folder; what is missing is said already
            yield f'{where}: {error}'
        return
    if not isinstance(param_key, (str, type(None))):
        yield f'{where}: found param_key {param_key!r}, expected text or ~'
        return
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # nothing is copied into a network without memory: so it should be
        try:
            load_pretrained(network, file, param_key)
        except Exception as error:  # a hostile file may end anywhere
            yield f'{where}: {_words(error)}'
