"""Testing a network on the sets of an option file, as BasicSR's test.py does."""

from __future__ import annotations

from os import path as osp
from typing import Any

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model
from basicsr.utils import get_env_info, get_root_logger, get_time_str, make_exp_dirs
from basicsr.utils.options import dict2str

from manet_basicsr.options.reading import Options, problems_of


def test_pipeline(opt: Options) -> dict[str, dict[str, float]]:
    """Test as resolved options say.

    Args:
        opt: What :func:`manet_basicsr.options.reading.resolve` gave.

    Returns:
        The mean of each metric for each set.

    Raises:
        OptionError: The options do not fit the data, the files or each other.
    """
    torch.backends.cudnn.benchmark = True
    make_exp_dirs(opt)
    if opt['dist']:
        torch.distributed.barrier()
    log_file = osp.join(opt['path']['log'], f'test_{opt["name"]}_{get_time_str()}.log')
    logger = get_root_logger(log_file=log_file)
    logger.info(get_env_info())
    logger.info(dict2str(opt))
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
