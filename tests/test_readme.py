"""What README and the pages below docs/ say can be run runs, and what they link to exists."""

from __future__ import annotations

import argparse
import importlib
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import yaml
from basicsr.utils.registry import ARCH_REGISTRY

from manet_basicsr.commands.arguments import read_arguments
from manet_basicsr.commands.basicsr import main
from manet_basicsr.degradation import FIELD_TYPES
from manet_basicsr.options.checks import find_problems
from manet_basicsr.options.shipped import option_files
from manet_basicsr.train import train_pipeline
from tests import shortened

ROOT = shortened.ROOT
DOCS = sorted((ROOT / 'docs').glob('*.md'))
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *DOCS]
README = PAGES[0].read_text(encoding='utf-8')
#: Commands that the package installs, and their modules.
ENTRY_POINTS = {'basicsr': 'basicsr', 'manet-restore': 'restore', 'manet-explore': 'explore'}


class Block(NamedTuple):
    """A block of code of a page; ``excuse`` says why it is not run."""

    page: str
    language: str
    text: str
    excuse: str


def blocks(language: str, page: str = '') -> list[Block]:
    """Give the blocks of a language, of all pages or of one."""
    pattern = re.compile(r'^(?:<!-- not run: (.+) -->\n)?```(\S+)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
    every = [
        Block(file.name, match[2], match[3], match[1] or '')
        for file in PAGES
        for match in pattern.finditer(file.read_text(encoding='utf-8'))
    ]
    return [block for block in every if block.language == language and page in ('', block.page)]


def commands(block: Block) -> list[list[str]]:
    """Give the commands of a block in words, without comments and settings of the environment."""
    lines = [shlex.split(line, comments=True) for line in block.text.replace('\\\n', ' ').splitlines()]
    return [[word for word in words if not re.match(r'[A-Z_]+=', word)] for words in lines if words]


# The walks of CONTRIBUTING.md begin with the name of a file; test_contributing.py runs them.
SNIPPETS = [block for block in blocks('python') if not block.text.startswith('# ')]
COMMANDS = [(block.page, words) for block in blocks('bash') if not block.excuse for words in commands(block)]


class ParsedError(Exception):
    """Raised where a command has understood its arguments and would begin to work."""


@pytest.fixture
def only_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every command stop once it has parsed its arguments."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        raise ParsedError(parse(parser, *args, **kwargs))

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parse_and_stop)


def test_readme_is_short_and_begins_with_the_two_commands() -> None:
    assert len(README.split()) <= 900
    assert [words[:2] for words in commands(blocks('bash', 'README.md')[0])] == [['make', 'demo'], ['make', 'test']]
    assert 'make test' in (ROOT / '.ci/run').read_text()


@pytest.mark.parametrize('snippet', SNIPPETS, ids=[block.page for block in SNIPPETS])
def test_python_snippets_print_what_they_say(
    snippet: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        exec(compile(snippet.text, snippet.page, 'exec'), {})
    finally:
        ARCH_REGISTRY._obj_map.pop('BilinearWithField', None)
    expected = re.findall(r'^print\(.*\)  # (.*)$', snippet.text, re.MULTILINE)
    assert capsys.readouterr().out.split('\n')[-len(expected) - 1 : -1] == expected


@pytest.mark.parametrize(('page', 'words'), COMMANDS, ids=[f'{page}-{" ".join(words)}' for page, words in COMMANDS])
@pytest.mark.usefixtures('only_parse')
def test_commands_exist_and_understand_their_arguments(
    page: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if words[0] == 'make':
        assert f'\n{words[-1]}: ' in (ROOT / 'Makefile').read_text()
        return
    if 'manet_basicsr' in words:  # started by python, torchrun or srun
        words = ['basicsr', *words[words.index('manet_basicsr') + 1 :]]
    with pytest.raises(ParsedError) as parsed:
        if words[0] == 'python':
            monkeypatch.syspath_prepend(str((ROOT / words[1]).parent))
            monkeypatch.setattr(sys, 'argv', words[1:])
            runpy.run_path(str(ROOT / words[1]), run_name='__main__')
        else:
            assert words[0] in ENTRY_POINTS, f'{page}: mark a block that cannot be run with <!-- not run: why -->'
            importlib.import_module(f'manet_basicsr.commands.{ENTRY_POINTS[words[0]]}').main(words[1:])
    options = parsed.value.args[0]
    if getattr(options, 'opt', 'FILE') != 'FILE':
        monkeypatch.chdir(ROOT)
        read = read_arguments(options)
        problems = find_problems(read, is_train='train' in read)
        assert [problem for problem in problems if ' does not exist' not in problem] == []  # data, weights
    assert set(getattr(options, 'names', ())) <= set(option_files())


def test_the_commands_that_prepare_data_make_what_the_option_files_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ('DIV2K/DIV2K_train_HR/0001.png', 'Flickr2K/Flickr2K_HR/000001.png', 'Set5/baby.png'):
        Path(name).parent.mkdir(parents=True)
        cv2.imwrite(name, np.zeros((480, 720, 3), np.uint8))
    for words in commands(blocks('bash', 'train.md')[0]):
        assert main([*words[1:], '--workers', '1']) == 0, words
    counts = {file.name: len((file / 'meta_info.txt').read_text().splitlines()) for file in Path('datasets').iterdir()}
    assert counts == {'DIV2K.lmdb': 2, 'DF2K.lmdb': 4, 'Set5.lmdb': 1}
    named = {
        section['dataroot_gt']
        for name in ('MANet_stage1', 'SFTRRDB_stage2', 'BlindSR_stage3')
        for section in yaml.safe_load(shortened.option_file('train', name, 4).read_text())['datasets'].values()
    }
    assert named == {f'datasets/{name}' for name in counts}


def test_yaml_is_yaml() -> None:
    assert all(isinstance(yaml.safe_load(block.text), dict) for block in blocks('yaml'))


def test_the_stock_model_trains_on_our_dataset(photos: Path, tmp_path: Path) -> None:
    (block,) = blocks('yaml', 'mixing.md')
    change = yaml.safe_load(block.text)
    change['network_g'].update(num_feat=8, num_block=1)
    file = shortened.option_file('train', 'BlindSR_stage3', 4)
    entries = [entry for entry in shortened.train_entries('BlindSR_stage3', photos) if 'network_g' not in entry]
    entries += [f'{key}={yaml.safe_dump(value, default_flow_style=True).strip()}' for key, value in change.items()]
    entries[-2:] = [entry.removesuffix('\n...') for entry in entries[-2:]]
    opt = shortened.resolved(file, entries, tmp_path)
    assert (opt['model_type'], opt['network_g']['type']) == ('SRModel', 'RRDBNet')
    train_pipeline(opt, str(file))
    assert (tmp_path / 'experiments' / file.stem / 'models/net_g_latest.pth').is_file()


def _anchors(page: Path) -> set[str]:
    """Give the names that GitHub and Sphinx give the headings of a page."""
    text = re.sub(r'^```.*?^```$', '', page.read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r'^#+ (.*)$', text, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', [*PAGES, ROOT / 'CHANGELOG.md'], ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for link in re.findall(r'\]\(([^)]+)\)', page.read_text(encoding='utf-8')):
        if link.startswith(('http:', 'https:')):
            continue
        name, _, anchor = link.partition('#')
        target = page.parent / name if name else page
        assert target.exists(), f'{page.name}: {link}'
        assert not anchor or anchor in _anchors(target), f'{page.name}: {link}'


def test_the_index_names_every_page() -> None:
    toctrees = re.findall(r'^```{toctree}\n(.*?)^```$', (ROOT / 'docs/index.md').read_text(), re.MULTILINE | re.DOTALL)
    named = [line for tree in toctrees for line in tree.splitlines() if line and not line.startswith(':')]
    assert sorted([*named, 'index']) == sorted(page.stem for page in DOCS)


def test_the_blur_zoo_has_every_field_and_the_pictures_that_its_script_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    zoo = importlib.import_module('blur_zoo')
    rows = re.findall(r'^\| `\{type: (\w+).*\(blur/(\w+)\.png\) \|$', (ROOT / 'docs/blur.md').read_text(), re.MULTILINE)
    ours = {name for name, sampler in FIELD_TYPES.items() if sampler.__module__.startswith('manet_basicsr.')}
    assert {field for field, _ in rows} == ours
    assert {picture: field for field, picture in rows} == {name: field['type'] for name, field in zoo.FIELDS.items()}
    assert {file.stem for file in (ROOT / 'docs/blur').iterdir()} == set(zoo.FIELDS)
    for name in zoo.FIELDS:
        saved, drawn = cv2.imread(str(ROOT / f'docs/blur/{name}.png')), zoo.draw(name)
        assert saved.shape == drawn.shape, name
        # Another machine may round a tap to the next of 256 colours.
        assert np.abs(saved.astype(float) - drawn).mean() < 0.5, f'{name}: run tools/blur_zoo.py'
