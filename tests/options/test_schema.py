"""The JSON schema and the reference of option files."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from basicsr.utils.registry import MODEL_REGISTRY

from manet_basicsr.commands.basicsr import main
from manet_basicsr.data import SVDegradationDataset
from manet_basicsr.models.restoration_model import RestorationModel
from manet_basicsr.options import keys
from manet_basicsr.options.reading import load_options
from manet_basicsr.options.schema import option_schema, options_reference
from manet_basicsr.options.shipped import option_files
from tests.shortened import ROOT

FILES = option_files()


@pytest.fixture(scope='module')
def validator() -> Any:
    jsonschema = pytest.importorskip('jsonschema', reason='jsonschema is not installed')
    schema = option_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize('name', FILES)
def test_every_shipped_option_file_is_valid(validator: Any, name: str) -> None:
    assert [error.message for error in validator.iter_errors(load_options(FILES[name]))] == []


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('name', 3, "3 is not of type 'string'"),
        ('model_typo', 'x', "'model_typo' is not one of"),
        ('model_type', 'KernelL2Model', "'KernelL2Model' is not one of"),
        ('network_g.num_feats', 64, "'num_feats' was unexpected"),
        ('network_g.num_feat', 'wide', "'wide' is not of type 'integer'"),
        ('datasets.train.gt_sizes', 64, "'gt_sizes' is not one of"),
        ('datasets.train.degradation.noise', [0], '[0] is too short'),
        ('datasets.train.degradation.field.type', 'gauss', "'gauss' is not one of"),
        ('datasets.train.degradation.field.period', 40, "'period' was unexpected"),
        ('train.amp', 'fp8', "'fp8' is not valid under any of the given schemas"),
        ('train.optim_g.rate', 1, "'rate' was unexpected"),
        ('train.scheduler.type', 'Steps', "'Steps' is not one of"),
        ('val.metrics.kernel_psnr.better', 'more', "'more' is not one of"),
        ('logger.print_frequency', 10, "'print_frequency' is not one of"),
    ],
)
def test_what_is_wrong_is_found_where_it_stands(validator: Any, key: str, value: object, message: str) -> None:
    options = copy.deepcopy(load_options(FILES['train_MANet_stage1_x4']))
    *sections, last = key.split('.')
    section = options
    for name in sections:
        section = section[name]
    section[last] = value
    (error,) = validator.iter_errors(options)
    found = [error, *(error.context or [])]
    assert any(message in one.message for one in found), [one.message for one in found]
    assert list(error.absolute_path)[: len(sections)] == sections


def test_the_keys_are_those_that_the_code_reads() -> None:
    ours = [model for _, model in MODEL_REGISTRY if issubclass(model, RestorationModel)]
    assert {key for model in ours for key in model.TRAIN_KEYS} == keys.TRAIN.keys()
    assert keys.DATASET.keys() == SVDegradationDataset.KEYS


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['options', 'schema']) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(option_schema()))


def test_the_reference_is_what_the_code_says() -> None:
    text = options_reference()
    assert (ROOT / 'docs/OPTIONS.md').read_text(encoding='utf-8') == text, 'run tools/generate_reference.py'
    for words in (
        '| `on_nonfinite` | stop or skip | at NaN or infinity in a loss or the gradients |',
        '| `variance` | required | Smallest and largest variance in HR px^2. |',
        '| `block_size` | `[24, 96]` | Smallest and largest side of the blocks in HR px, whole numbers. |',
        '### `MANet`',
    ):
        assert words in text
    # What this package registers has its arguments described.
    assert [line for line in text.splitlines() if line.endswith(' |  |')] == []
