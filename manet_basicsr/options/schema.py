"""A JSON schema of option files, for editors, and a reference of their keys.

Both are made of what the checks look at: the signatures of registered classes, their docstrings, and :mod:`keys`. A
schema knows one value at a time; what depends on several, on files or on the machine, ``basicsr check`` finds.
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from manet_basicsr.options.keys import DATASET, DIST, LOADER, LOGGER, METRIC_INPUTS, PATH, TOP, TRAIN, VAL, Key
from manet_basicsr.options.network_checks import WITH_PARTS
from manet_basicsr.options.training_checks import optimizers, schedulers

Schema = dict[str, Any]

_JSON_TYPES: dict[Any, str] = {int: 'integer', float: 'number', bool: 'boolean', str: 'string', types.NoneType: 'null'}


def option_schema() -> Schema:
    """Make the JSON schema (draft 2020-12) of option files, for what is registered now."""
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

    from manet_basicsr.degradation import FIELD_TYPES
    from manet_basicsr.models.restoration_model import RestorationModel

    models = dict(iter(MODEL_REGISTRY))
    ours = {name: model for name, model in models.items() if issubclass(model, RestorationModel)}
    loss = {'anyOf': [{'type': 'null'}, _registered(dict(iter(LOSS_REGISTRY)))]}
    metric = _registered(dict(iter(METRIC_REGISTRY)), METRIC_INPUTS, {'better': {'enum': ['higher', 'lower']}})
    sections = {
        'path': _section(PATH),
        'logger': _section(LOGGER),
        'val': _section(VAL, metrics={'type': ['object', 'null'], 'additionalProperties': metric}),
        'dist_params': _section(DIST),
        'train': _section(
            TRAIN,
            optim_g=_registered(optimizers(), ('params',)),
            scheduler=_registered(schedulers(), ('optimizer', 'last_epoch')),
            **{key: loss for key in TRAIN if key.endswith('_opt')},
        ),
        'datasets': {'type': 'object', 'additionalProperties': _dataset(dict(iter(DATASET_REGISTRY)))},
        'model_type': {'enum': sorted(models)},
        'network_g': {'$ref': '#/$defs/network'},
    }
    network = _registered(dict(iter(ARCH_REGISTRY)))
    part = {'type': 'object', 'required': ['type']}
    network['allOf'] += [_when(name, {'properties': {'estimator': part, 'generator': part}}) for name in WITH_PARTS]
    closed = [
        {
            'if': {'properties': {'model_type': {'const': name}}, 'required': ['model_type']},
            'then': {
                'propertyNames': {'enum': sorted(TOP)},
                'properties': {
                    **{key: {'propertyNames': {'enum': sorted(keys)}} for key, keys in _CLOSED.items()},
                    'train': {'propertyNames': {'enum': sorted(model.TRAIN_KEYS)}},
                },
            },
        }
        for name, model in sorted(ours.items())
    ]
    return {
        '$schema': 'https://json-schema.org/draft/2020-12/schema',
        'title': 'Option file of manet_basicsr',
        **_section(TOP, **sections),
        'required': ['name', 'model_type', 'datasets', 'network_g'],
        'allOf': closed,
        '$defs': {'network': network, 'field': _registered(FIELD_TYPES)},
    }


#: Sections of our models' files that have no other keys.
_CLOSED = {'path': PATH, 'logger': LOGGER, 'val': VAL, 'dist_params': DIST}


def options_reference() -> str:
    """Describe, as Markdown, every key of an option file and the arguments of what this package registers."""
    from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY

    from manet_basicsr.degradation import FIELD_TYPES
    from manet_basicsr.degradation.pipeline import Degradation

    parts = ['# Options', _INTRODUCTION]
    tables = {
        'Top level': TOP,
        '`path`': PATH,
        '`datasets`, each section': LOADER,
        '`SVDegradationDataset` beside these': DATASET,
        '`train`': TRAIN,
        '`val`': VAL,
        '`logger`': LOGGER,
        '`dist_params`': DIST,
    }
    for title, keys in tables.items():
        rows = [f'| `{name}` | {_kinds_in_words(key.kinds)} | {key.words} |' for name, key in keys.items()]
        parts += [f'## {title}', '\n'.join(['| key | what it may be | what it does |', '|---|---|---|', *rows])]
    parts += ['## `degradation`', _arguments(Degradation, 'sampler')]
    registries: dict[str, Mapping[str, Any]] = {
        '`degradation.field`, by `type`': FIELD_TYPES,
        'Networks, by `type`': dict(iter(ARCH_REGISTRY)),
        'Losses, by `type`': dict(iter(LOSS_REGISTRY)),
        'Metrics, by `type`': dict(iter(METRIC_REGISTRY)),
        'Optimizers, by `type`': optimizers(),
    }
    for title, registry in registries.items():
        parts.append(f'## {title}')
        for name, registered in sorted(registry.items()):
            if registered.__module__.startswith('manet_basicsr.'):
                given = METRIC_INPUTS if title.startswith('Metrics') else ('params', 'num_buckets')
                first = ' '.join((inspect.getdoc(registered) or '').partition('\n\n')[0].split())
                parts += [f'### `{name}`', _plain(first), _arguments(registered, *given)]
    return '\n\n'.join(part for part in parts if part) + '\n'


_INTRODUCTION = """Every key of an option file; `~` is null. Generated: change the code, then run
`python tools/generate_reference.py`. `basicsr options schema` prints the same as a JSON schema, with which editors
complete and check option files; `basicsr check -opt FILE` finds what depends on several values, on files and on the
machine."""


def _section(keys: Mapping[str, Key], **known: Schema) -> Schema:
    properties = {name: {**_of_kinds(key.kinds), 'description': key.words} for name, key in keys.items()}
    for name, schema in known.items():
        properties[name] = {'description': keys[name].words, **schema}
    nullable = keys is not TOP
    return {'type': ['object', 'null'] if nullable else 'object', 'properties': properties}


def _of_kinds(kinds: str) -> Schema:
    words = kinds.split('|')
    values = [word.strip('"') for word in words if word.startswith('"')] + [False] * ('false' in words)
    named = [word for word in words if not word.startswith('"') and word != 'false']
    choices: list[Schema] = [{'type': named[0] if len(named) == 1 else named}] if named else []
    choices += [{'enum': values}] if values else []
    return choices[0] if len(choices) == 1 else {'anyOf': choices}


def _kinds_in_words(kinds: str) -> str:
    return ' or '.join(
        {'null': '`~`', 'object': 'section', 'array': 'list'}.get(word, word.strip('"')) for word in kinds.split('|')
    )


def _dataset(registered: Mapping[str, Any]) -> Schema:
    from manet_basicsr.degradation.pipeline import Degradation

    degradation = _arguments_schema(Degradation, ('sampler',))
    degradation['properties']['field'] = {'$ref': '#/$defs/field'}
    degradation['required'] = ['field']
    own = _section({**LOADER, **DATASET}, degradation=degradation)['properties']
    return {
        'type': 'object',
        'required': ['name', 'type'],
        'properties': {'type': {'enum': sorted(registered)}},
        'allOf': [_when('SVDegradationDataset', {'properties': own, 'propertyNames': {'enum': sorted(own)}})],
    }


def _registered(
    registry: Mapping[str, Any], given: Collection[str] = (), extra: Mapping[str, Schema] | None = None
) -> Schema:
    """Describe a section ``{type: NAME, argument: ...}`` by the signatures of what is registered."""
    cases = []
    for name, registered in sorted(registry.items()):
        arguments = _arguments_schema(registered, given)
        arguments['properties'] |= {'type': True, **(extra or {})}
        cases.append(_when(name, arguments))
    return {'type': 'object', 'required': ['type'], 'properties': {'type': {'enum': sorted(registry)}}, 'allOf': cases}


def _when(name: str, then: Schema) -> Schema:
    return {'if': {'properties': {'type': {'const': name}}, 'required': ['type']}, 'then': then}


def _parameters(registered: Callable[..., Any], given: Collection[str]) -> dict[str, inspect.Parameter]:
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(registered).parameters.items()
    return {name: one for name, one in parameters if name not in given and one.kind not in variable}


def _arguments_schema(registered: Callable[..., Any], given: Collection[str]) -> Schema:
    parameters = _parameters(registered, given)
    hints = _hints(registered)
    words = _descriptions(registered)
    properties = {}
    for name in parameters:
        properties[name] = _of_annotation(hints.get(name, Any))
        if name in words:
            properties[name] = {**properties[name], 'description': words[name]}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in inspect.signature(registered).parameters.values())
    return {
        'properties': properties,
        'required': [name for name, parameter in parameters.items() if parameter.default is parameter.empty],
        **({} if takes_all else {'additionalProperties': False}),
    }


def _hints(registered: Callable[..., Any]) -> dict[str, Any]:
    function = registered.__init__ if inspect.isclass(registered) else registered
    try:
        return typing.get_type_hints(function)
    except Exception:  # of somebody else's code, whose names need not be importable
        return {}


def _of_annotation(annotation: Any) -> Schema:
    """Describe what YAML may hold for an annotated argument; {} for anything."""
    if annotation in _JSON_TYPES:
        return {'type': _JSON_TYPES[annotation]}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        choices = [_of_annotation(argument) for argument in arguments]
        return {} if {} in choices else {'anyOf': choices}
    if origin is typing.Literal:
        return {'enum': list(arguments)}
    if origin is tuple and Ellipsis not in arguments:
        items = _of_annotation(arguments[0])
        return {'type': 'array', 'items': items, 'minItems': len(arguments), 'maxItems': len(arguments)}
    if origin in (list, tuple, Sequence):
        return {'type': 'array'}
    return {'type': 'object'} if origin in (dict, Mapping) else {}


def _descriptions(registered: Callable[..., Any]) -> dict[str, str]:
    """Read the arguments' descriptions off a docstring of Google's style."""
    doc = inspect.getdoc(registered) or ''
    match = re.search(r'^Args:\n((?:[ ]{4}.*\n?|\n)+)', doc, re.MULTILINE)
    if match is None:
        return {}
    found = re.findall(r'^ {4}(\w+): ((?:.*\n?)(?: {8}.*\n?)*)', match[1], re.MULTILINE)
    return {name: _plain(' '.join(words.split())) for name, words in found}


def _plain(words: str) -> str:
    return re.sub(r':\w+:`~?([^`]+)`', r'`\1`', words).replace('``', '`')


def _arguments(registered: Callable[..., Any], *given: str) -> str:
    """Make a table of arguments: name, default, description."""
    words = _descriptions(registered)
    rows = []
    for name, parameter in _parameters(registered, given).items():
        default = 'required' if parameter.default is parameter.empty else f'`{_yaml(parameter.default)}`'
        rows.append(f'| `{name}` | {default} | {words.get(name, "")} |')
    return '\n'.join(['| key | default | what it does |', '|---|---|---|', *rows]) if rows else ''


def _yaml(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: '~', True: 'true', False: 'false'}[value]
    return str(list(value)) if isinstance(value, tuple) else str(value)
