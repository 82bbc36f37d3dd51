"""Names of files that are no UTF-8, as old archives and cameras leave them: no work ends in them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from manet_basicsr.commands import basicsr, explore
from manet_basicsr.options.reading import load_options
from manet_basicsr.visualization.curves import read_results
from tests import shortened
from tests.small_networks import blind_weights

NAME = os.fsdecode(b'M\xfcller')
ESCAPED = 'M\\udcfcller'


@pytest.fixture(autouse=True)
def here(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of such a name with a photograph in another one."""
    folder = tmp_path / NAME
    (folder / NAME).mkdir(parents=True)
    shutil.copy(photos / 'coffee.png', folder / NAME / f'{NAME}.png')
    monkeypatch.chdir(folder)
    return folder


def test_a_page_of_such_an_image_is_written() -> None:
    blind_weights(Path())
    assert explore.main([f'{NAME}/{NAME}.png', '--degrade', '1']) == 0
    page = Path(f'{NAME}_kernels.html').read_text(encoding='utf-8')
    assert f'{ESCAPED}.png' in page


def test_an_evaluation_on_such_a_folder_has_its_tables() -> None:
    arguments = ['evaluate', 'out', '--images', NAME, '--sets', 'type1', '--methods', 'bicubic']
    assert basicsr.main(arguments) == 0
    (row,) = read_results(Path('out/results.csv'))
    assert row['images'] == ESCAPED and ESCAPED in Path('out/results.md').read_text(encoding='utf-8')


def test_a_run_in_such_a_folder_from_such_a_file_is_resumed(capfd: pytest.CaptureFixture[str]) -> None:
    file = f'{NAME}.yml'
    shutil.copy(shortened.option_file('train', 'MANet_stage1', 4), file)
    shutil.copytree(NAME, 'hr')
    short: dict[str, Any] = {'every': 1, 'total_iter': 1}
    entries = [*shortened.train_entries('MANet_stage1', Path('hr'), **short), 'name=run', 'val:save_img=true']
    words = ['train', '-opt', file, '--auto_resume', '--force_yml', *entries]
    assert basicsr.main(words) == 0
    assert basicsr.main([*words, 'train:total_iter=2']) == 0
    run = Path('experiments/run')
    assert load_options(run / file) == load_options(file)
    assert (run / 'visualization').is_dir()
    logs = ''.join(path.read_text(encoding='utf-8') for path in run.glob('train_*.log'))
    assert 'Resuming training from iter: 1.' in logs and ESCAPED in logs
    assert 'Logging error' not in capfd.readouterr().err
