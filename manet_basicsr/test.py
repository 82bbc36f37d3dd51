"""BasicSR's face of testing: ``test_pipeline``, and the file that is started as ``python manet_basicsr/test.py``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

if __name__ == '__main__':
    # Started as a file, its own folder comes first on the path, and everything in it would be importable by itself.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    sys.argv.insert(1, 'test')
    sys.exit(importlib.import_module('manet_basicsr_commands').basicsr())

from os import path as osp
from typing import Any

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model
from basicsr.utils import get_env_info, get_root_logger, get_time_str
from basicsr.utils.options import dict2str

from manet_basicsr.options.checks import ignored_keys
from manet_basicsr.options.errors import problems_of
from manet_basicsr.options.reading import Options
from manet_basicsr.training.run_folder import locked_run, make_folders, wait_for_folders
from manet_basicsr.utils.errors import last_line


def test_pipeline(opt: Options) -> dict[str, dict[str, float]]:
    """Test as resolved options say.

    Args:
        opt: What :func:`manet_basicsr.options.resolving.resolve` gave.

    Returns:
        The mean of each metric for each set.

    Raises:
        OptionError: The options do not fit the data, the files or each other, or another test has this name.
    """
    torch.backends.cudnn.benchmark = True
    with locked_run(opt):
        if opt['rank'] == 0:
            make_folders(opt)
        wait_for_folders(opt)
        log_file = osp.join(opt['path']['log'], f'test_{opt["name"]}_{get_time_str()}.log')
        logger = get_root_logger(log_file=log_file)
        logger.info(get_env_info())
        logger.info(dict2str(opt))
        for note in ignored_keys(opt):
            logger.warning(note)
        try:
            return _test(opt)
        except Exception as error:
            logger.error(f'The test ended: {last_line(error)}')
            raise


def _test(opt: Options) -> dict[str, dict[str, float]]:
    logger = get_root_logger()
    loaders: dict[str, Any] = {}
    for section, dataset_opt in sorted(opt['datasets'].items()):
        with problems_of(f'datasets.{section}'):
            loader = build_dataloader(build_dataset(dataset_opt), dataset_opt)
        logger.info(f'Test images in {dataset_opt["name"]}: {len(loader.dataset)}')
        loaders[dataset_opt['name']] = loader
    with problems_of('model'):
        model = build_model(opt)
    results = {}
    for name, loader in loaders.items():
        logger.info(f'Testing {name}...')
        model.validation(loader, current_iter=opt['name'], tb_logger=None, save_img=opt['val']['save_img'])
        results[name] = dict(getattr(model, 'metric_results', {}))
    logger.info(f'Results are in {opt["path"]["results_root"]}')
    return results


test_pipeline.__test__ = False  # type: ignore[attr-defined]  # pytest: this is no test
