"""What README says can be run runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from basicsr.utils.registry import ARCH_REGISTRY

from manet_basicsr.train import train_pipeline
from tests import shortened

TEXT = (shortened.ROOT / 'README.md').read_text()


def blocks(language: str) -> list[str]:
    """Give README's code blocks of a language."""
    return re.findall(rf'^```{language}\n(.*?)^```$', TEXT, re.MULTILINE | re.DOTALL)


COMMANDS = [shlex.split(line, comments=True) for block in blocks('bash') for line in block.splitlines()]
SNIPPETS = [block for block in blocks('python') if 'load_field' not in block]


@pytest.mark.parametrize('snippet', SNIPPETS)
def test_python_snippets_print_what_they_say(snippet: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        exec(compile(snippet, 'README.md', 'exec'), {})
    finally:
        ARCH_REGISTRY._obj_map.pop('BilinearWithField', None)
    expected = re.findall(r'^print\(.*\)  # (.*)$', snippet, re.MULTILINE)
    assert capsys.readouterr().out.split('\n')[-len(expected) - 1 : -1] == expected


def test_the_stock_model_trains_on_our_dataset(photos: Path, tmp_path: Path) -> None:
    (block,) = (block for block in blocks('yaml') if 'model_type' in block)
    change = yaml.safe_load(block)
    change['network_g'].update(num_feat=8, num_block=1)
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    entries = [entry for entry in shortened.train_entries('BlindSR_stage3', photos) if 'network_g' not in entry]
    entries += [f'{key}={yaml.safe_dump(value, default_flow_style=True).strip()}' for key, value in change.items()]
    entries[-2:] = [entry.removesuffix('\n...') for entry in entries[-2:]]
    opt = shortened.resolved(file, entries, tmp_path)
    assert (opt['model_type'], opt['network_g']['type']) == ('SRModel', 'RRDBNet')
    train_pipeline(opt, str(file))
    assert (tmp_path / 'experiments' / file.stem / 'models/net_g_latest.pth').is_file()


def test_commands_name_files_and_make_targets_that_exist() -> None:
    makefile = (shortened.ROOT / 'Makefile').read_text()
    files = {word for words in COMMANDS for word in words if re.match(r'(options|scripts)/', word)}
    assert len(files) >= 8
    assert all((shortened.ROOT / file).is_file() for file in files)
    targets = {words[-1] for words in COMMANDS if words and words[0] == 'make'}
    assert all(f'\n{target}: ' in makefile for target in targets)


def test_links_and_pictures_lead_somewhere() -> None:
    local = [link for link in re.findall(r'\]\(([^)]+)\)', TEXT) if not link.startswith('http')]
    assert local
    assert all((shortened.ROOT / link).exists() for link in local)


def test_the_test_command_is_the_one_that_ci_runs() -> None:
    assert ['make', 'test'] in COMMANDS
    assert 'make test' in (shortened.ROOT / '.ci/run').read_text()
