"""Every repair, against the real basicsr: what fails without it works with it."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import basicsr
import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.prefetch_dataloader import CPUPrefetcher
from basicsr.models.base_model import BaseModel
from basicsr.utils import FileClient, get_root_logger, imfrombytes, make_exp_dirs
from basicsr.utils import logger as basicsr_logger
from basicsr.utils.dist_util import init_dist
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from basicsr.utils.options import ordered_yaml

import manet_basicsr
from manet_basicsr import compat
from manet_basicsr.utils.lmdb_handles import open_environment
from manet_basicsr.utils.process_group import read_slurm_environment

SIDES = {'tiny': 4, 'large': 320}


def write_noise(folder: Path, sides: dict[str, int], seed: int = 0) -> None:
    """Write images of random pixels, which PNG cannot compress."""
    random = np.random.default_rng(seed)
    folder.mkdir()
    for name, side in sides.items():
        cv2.imwrite(str(folder / f'{name}.png'), random.integers(0, 256, (side, side, 3), np.uint8))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """An LMDB made by BasicSR of a tiny image and larger ones after it."""
    write_noise(tmp_path / 'images', SIDES)
    make_lmdb_from_imgs(str(tmp_path / 'images'), f'{tmp_path}/set.lmdb', [f'{n}.png' for n in SIDES], list(SIDES))
    return tmp_path / 'set.lmdb'


def paired_options(database: Path, phase: str) -> dict[str, Any]:
    """The options of BasicSR's own paired dataset, with one LMDB as both of its sides."""
    return {
        'name': phase,
        'type': 'PairedImageDataset',
        'phase': phase,
        'scale': 1,
        'dataroot_gt': str(database),
        'dataroot_lq': str(database),
        'io_backend': {'type': 'lmdb'},
        'gt_size': 4,
        'use_hflip': False,
        'use_rot': False,
        'batch_size_per_gpu': 1,
        'num_worker_per_gpu': 2,
    }


# ------------------------------------------------------------------------------------------------------- importing


def test_torchvision_and_the_module_it_removed_are_importable() -> None:
    import torchvision
    from torchvision.transforms.functional import rgb_to_grayscale
    from torchvision.transforms.functional_tensor import rgb_to_grayscale as provided

    assert torchvision.__version__
    grey = torch.rand(3, 4, 4)
    assert torch.equal(provided(grey), rgb_to_grayscale(grey))


def test_repairs_of_imports_do_nothing_where_there_is_nothing_to_repair() -> None:
    assert not compat.define_torchvision_ops()  # torchvision is imported
    assert not compat.restore_functional_tensor()  # the module is there


def test_second_apply_changes_nothing() -> None:
    from basicsr.utils import file_client, misc

    before = (file_client.LmdbBackend, misc.make_exp_dirs, BaseModel.save_network, imfrombytes, get_root_logger)
    compat.apply()
    importlib.reload(manet_basicsr)
    after = (
        file_client.LmdbBackend,
        misc.make_exp_dirs,
        BaseModel.save_network,
        basicsr.utils.imfrombytes,
        basicsr.utils.get_root_logger,
    )
    assert all(one is other for one, other in zip(before, after, strict=True))


def test_repair_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Any]:
        raise OSError('no')

    monkeypatch.setattr(compat, '_applied', False)
    monkeypatch.setattr(compat, 'REPAIRS', [fail])
    for _ in range(2):
        with pytest.raises(OSError, match='no'):
            compat.apply()


def test_repaired_functions_reach_every_module_that_imported_them_by_name() -> None:
    import basicsr.data.paired_image_dataset as user
    import basicsr.models.base_model as models
    from basicsr.utils import img_util, logger

    assert user.imfrombytes is img_util.imfrombytes is imfrombytes
    assert models.get_root_logger is logger.get_root_logger is get_root_logger


# ------------------------------------------------------------------------------------------------------------ LMDB


def test_lmdb_of_a_tiny_image_first_holds_the_larger_ones_after_it(database: Path) -> None:
    # Ten times the first image would be 1 kB for 300 kB.
    client = FileClient('lmdb', db_paths=str(database))
    shapes = {name: imfrombytes(client.get(name)).shape for name in SIDES}
    assert shapes == {name: (side, side, 3) for name, side in SIDES.items()}
    assert (database / 'data.mdb').stat().st_size < 2**20  # a map of 1 TiB is no file of 1 TiB


def test_lmdb_map_size_may_still_be_given(tmp_path: Path) -> None:
    write_noise(tmp_path / 'images', {'one': 100})
    arguments = (str(tmp_path / 'images'), f'{tmp_path}/set.lmdb', ['one.png'], ['one'], 5000, 1, False, 40, 8192)
    with pytest.raises(lmdb.MapFullError):
        make_lmdb_from_imgs(*arguments)


def test_training_and_validation_read_one_lmdb_in_forked_workers(database: Path) -> None:
    train_opt, val_opt = paired_options(database, 'train'), paired_options(database, 'val')
    train, val = build_dataset(train_opt), build_dataset(val_opt)
    whole = [sample['gt'].shape[-1] for sample in build_dataloader(val, val_opt)]  # opens the handle that is inherited
    loader = build_dataloader(train, train_opt)
    assert loader.num_workers == 2
    for _ in range(2):
        crops = [sample['gt'] for sample in loader]
        assert [crop.shape for crop in crops] == [(1, 3, 4, 4)] * 2
    assert sorted(whole) == sorted(SIDES.values())
    assert [sample['gt'].shape[-1] for sample in build_dataloader(val, val_opt)] == whole


def test_two_test_sets_read_one_lmdb_by_different_spellings(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(database.parent)
    clients = [FileClient('lmdb', db_paths=path) for path in (str(database), 'set.lmdb', database)]
    assert len({client.get('tiny') for client in clients}) == 1


def test_lmdb_that_was_replaced_on_disk_is_read_anew(database: Path, tmp_path: Path) -> None:
    client = FileClient('lmdb', db_paths=str(database))
    old = client.get('tiny')
    write_noise(tmp_path / 'other', {'tiny': 4, 'new': 5}, seed=1)
    shutil.rmtree(database)
    make_lmdb_from_imgs(str(tmp_path / 'other'), str(database), ['tiny.png', 'new.png'], ['tiny', 'new'])
    assert client.get('tiny') != old
    assert imfrombytes(client.get('new')).shape == (5, 5, 3)


def test_lmdb_client_can_be_pickled(database: Path) -> None:
    client = FileClient('lmdb', db_paths=[str(database)], client_keys=['lq'])
    copy = pickle.loads(pickle.dumps(client))
    assert copy.get('tiny', 'lq') == client.get('tiny', 'lq')


@pytest.mark.parametrize('key', ['missing', '', 'x' * 600])
def test_missing_lmdb_key_is_named_with_its_database(database: Path, key: str) -> None:
    client = FileClient('lmdb', db_paths=str(database))
    with pytest.raises(KeyError) as raised:
        client.get(key)
    assert f"'{key}'" in raised.value.args[0] and str(database) in raised.value.args[0]


def test_lmdb_client_refuses_what_it_cannot_do(database: Path) -> None:
    with pytest.raises(ValueError, match='readonly'):
        FileClient('lmdb', db_paths=str(database), readonly=False)
    with pytest.raises(ValueError, match='2 client_keys for 1 db_paths'):
        FileClient('lmdb', db_paths=str(database), client_keys=['a', 'b'])
    with pytest.raises(KeyError, match="'gt' is not one of default"):
        FileClient('lmdb', db_paths=str(database)).get('tiny', 'gt')
    with pytest.raises(FileNotFoundError, match='no data.mdb'):
        FileClient('lmdb', db_paths=str(database / 'nowhere'))
    with pytest.raises(NotImplementedError):
        FileClient('lmdb', db_paths=str(database)).get_text('tiny')


# ---------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.bmp', '.webp'])
@pytest.mark.parametrize('kept', [0, 0.1, 0.5, 0.95])
def test_truncated_image_is_refused(suffix: str, kept: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    content = cv2.imencode(suffix, image)[1].tobytes()
    assert imfrombytes(content).shape == image.shape
    with pytest.raises(ValueError, match='bytes that are no whole image'):
        imfrombytes(content[: int(kept * len(content))], float32=True)


def test_image_larger_than_the_decoder_allows_is_refused() -> None:
    with pytest.raises(ValueError, match='its header says 60000x60000 px, expected at most'):
        imfrombytes(b'P6\n60000 60000\n255\n' + bytes(100))


def test_whole_image_is_read_as_before() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    content = cv2.imencode('.png', image)[1].tobytes()
    assert np.array_equal(imfrombytes(content), image)
    unit = imfrombytes(memoryview(content), 'unchanged', float32=True)
    assert unit.dtype == np.float32
    assert np.array_equal(unit, image.astype(np.float32) / 255)
    assert imfrombytes(content, 'grayscale').shape == (5, 7)


# --------------------------------------------------------------------------------------------------- several processes


@pytest.fixture
def one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Distributed training of a single process, on the CPU, meeting at a file."""
    monkeypatch.setenv('RANK', '0')
    init_dist('pytorch', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(torch.cuda.is_available(), reason='for machines without a GPU')
def test_processes_without_a_gpu_use_gloo_and_the_default_start_method(one_process: None) -> None:
    assert torch.distributed.get_backend() == 'gloo'
    assert multiprocessing.get_start_method(allow_none=True) != 'spawn'


@pytest.mark.skipif(torch.cuda.is_available(), reason='for machines without a GPU')
def test_nccl_of_an_option_file_becomes_gloo_without_a_gpu(tmp_path: Path) -> None:
    init_dist('pytorch', backend='nccl', port=29500, init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        assert torch.distributed.get_backend() == 'gloo'
    finally:
        torch.distributed.destroy_process_group()


def test_unknown_launcher_is_refused() -> None:
    with pytest.raises(ValueError, match="'mpi' is not one of pytorch, slurm"):
        init_dist('mpi')


def test_slurm_variables_are_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$1 $2 $3" = "show hostnames node[7-8]" ] && printf "node7\\nnode8\\n"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    given = {'SLURM_NODELIST': 'node[7-8]', 'SLURM_PROCID': '3', 'SLURM_NTASKS': '4', 'SLURM_LOCALID': '1'}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    expected = {'MASTER_ADDR': 'node7', 'MASTER_PORT': '29501', 'RANK': '3', 'WORLD_SIZE': '4', 'LOCAL_RANK': '1'}
    for name in expected:
        monkeypatch.setenv(name, '')  # so that they are put back
    read_slurm_environment(29501)
    assert {name: os.environ[name] for name in expected} == expected
    scontrol.write_text('#!/bin/sh\necho "Invalid hostlist: node[7-" >&2; exit 1\n')
    with pytest.raises(ValueError, match=r'scontrol show hostnames node\[7-8\] failed: Invalid hostlist: node\[7-$'):
        read_slurm_environment(29501)


def bare_model(**options: Any) -> BaseModel:
    """Make BasicSR's base model for the CPU."""
    return BaseModel({'num_gpu': 0, 'is_train': True, 'dist': False, **options})


def test_networks_are_wrapped_for_distributed_training_on_a_cpu(one_process: None) -> None:
    model = bare_model(dist=True)
    network = model.model_to_device(torch.nn.Linear(2, 1))
    assert isinstance(network, torch.nn.parallel.DistributedDataParallel)
    network(torch.ones(1, 2)).sum().backward()
    assert model.get_bare_model(network).weight.grad.tolist() == [[1.0, 1.0]]


def test_networks_of_one_process_are_not_wrapped() -> None:
    network = torch.nn.Linear(2, 1)
    assert bare_model().model_to_device(network) is network


# ----------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture
def saving_model(tmp_path: Path) -> BaseModel:
    """A model with a network, an optimizer and a scheduler, that saves to a temporary folder."""
    (tmp_path / 'models').mkdir()
    (tmp_path / 'training_states').mkdir()
    model = bare_model(
        path={'models': str(tmp_path / 'models'), 'training_states': str(tmp_path / 'training_states')},
        train={'scheduler': {'type': 'MultiStepLR', 'milestones': [2, 4, 4]}},
    )
    model.network = torch.nn.Linear(2, 1)
    model.optimizers = [torch.optim.Adam(model.network.parameters())]
    model.setup_schedulers()
    return model


def test_saved_files_have_the_form_of_basicsr(saving_model: BaseModel, tmp_path: Path) -> None:
    network = torch.nn.DataParallel(saving_model.network)
    saving_model.save_network([network, saving_model.network], 'net_g', 5, ['params', 'params_ema'])
    saving_model.save_network(saving_model.network, 'net_g', -1)
    saving_model.save_training_state(1, 5)
    saving_model.save_training_state(-1, -1)  # the end of a training has no state
    content = torch.load(tmp_path / 'models/net_g_5.pth', weights_only=True)
    assert {key: list(part) for key, part in content.items()} == {
        'params': ['weight', 'bias'],
        'params_ema': ['weight', 'bias'],
    }
    assert sorted(path.name for path in (tmp_path / 'models').iterdir()) == ['net_g_5.pth', 'net_g_latest.pth']
    assert [path.name for path in (tmp_path / 'training_states').iterdir()] == ['5.state']
    saving_model.resume_training(torch.load(tmp_path / 'training_states/5.state', weights_only=True))


@pytest.mark.parametrize('kind', ['network', 'state'])
def test_save_that_fails_in_the_middle_raises_and_leaves_the_old_file(
    saving_model: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def save() -> None:
        if kind == 'network':
            saving_model.save_network(saving_model.network, 'net_g', 5)
        else:
            saving_model.save_training_state(1, 5)

    save()
    (file,) = [path for folder in ('models', 'training_states') for path in (tmp_path / folder).iterdir()]
    before = file.read_bytes()

    def half(content: Any, path: Path) -> None:
        Path(path).write_bytes(before[: len(before) // 2])
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', half)
    with pytest.raises(OSError, match='No space left'):
        save()
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_kill_in_the_middle_of_a_save_leaves_the_old_file(saving_model: BaseModel, tmp_path: Path) -> None:
    saving_model.save_network(saving_model.network, 'net_g', 5)
    file = tmp_path / 'models/net_g_5.pth'
    before = file.read_bytes()
    process = os.fork()
    if process == 0:  # a copy of this process that dies while it writes

        def die(content: Any, path: Path) -> None:
            Path(path).write_bytes(before[: len(before) // 2])
            os.kill(os.getpid(), 9)

        torch.save = die  # type: ignore[assignment]
        saving_model.save_network(saving_model.network, 'net_g', 5)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == 9
    assert file.read_bytes() == before


# --------------------------------------------------------------------------------------------------- learning rate


@pytest.mark.parametrize(
    ('warmup_iter', 'milestones', 'expected'),
    [
        (-1, [3], [2, 2, 2, 1, 1, 1]),
        (2, [], [1, 2, 2, 2, 2, 2]),
        (4, [], [0.5, 1, 1.5, 2, 2, 2]),
        (4, [2], [0.5, 1, 1.5, 1, 1, 1]),  # in iteration 3, halved once the warm-up is over
        (4, [4], [0.5, 1, 1.5, 2, 1, 1]),
    ],
)
@pytest.mark.parametrize('resumed_at', [None, 2, 4])
def test_warm_up_ends_at_the_scheduled_learning_rate(
    warmup_iter: int, milestones: list[int], expected: list[float], resumed_at: int | None
) -> None:
    def new_model() -> BaseModel:
        scheduler = {'type': 'MultiStepLR', 'milestones': milestones, 'gamma': 0.5}
        model = bare_model(train={'scheduler': scheduler})
        model.optimizers = [torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)]
        model.setup_schedulers()
        return model

    model, rates = new_model(), []
    for iteration in range(1, 7):
        model.optimizers[0].step()
        model.update_learning_rate(iteration, warmup_iter=warmup_iter)
        rates += model.get_current_learning_rate()
        if iteration == resumed_at:
            kept = {name: [each.state_dict() for each in getattr(model, name)] for name in ('optimizers', 'schedulers')}
            model = new_model()
            model.resume_training(kept)
    assert rates == pytest.approx([1e-4 * rate for rate in expected], rel=1e-12)


# --------------------------------------------------------------------------------------------------- options, folders


def test_option_files_of_basicsr_are_read_without_running_code(tmp_path: Path) -> None:
    import yaml

    witness = tmp_path / 'witness'
    with pytest.raises(yaml.YAMLError, match='could not determine a constructor'):
        yaml.load(f'a: !!python/object/apply:os.mkdir ["{witness}"]', Loader=ordered_yaml()[0])
    assert not witness.exists()
    assert yaml.load('lr: 1e-4', Loader=ordered_yaml()[0]) == {'lr': 1e-4}


def test_parse_options_of_basicsr_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from basicsr import train
    from basicsr.utils import options

    from manet_basicsr.commands.arguments import parse_options
    from manet_basicsr.options.errors import OptionError

    assert train.parse_options is options.parse_options is parse_options
    witness = tmp_path / 'witness'
    (tmp_path / 'options.yml').write_text('name: x\nvalue: 1\n')
    code = f'__import__("os").mkdir("{witness}")'
    entries = [f'value={code}', f'value=[{code}]', f'value"]=1;{code};opt["value=1']
    for entry in entries:
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(tmp_path / 'options.yml'), '--force_yml', entry])
        with pytest.raises(OptionError):
            options.parse_options(str(tmp_path))
    assert not witness.exists()


@pytest.mark.parametrize('is_train', [True, False])
def test_only_folders_are_made_of_the_keys_of_path(tmp_path: Path, is_train: bool) -> None:
    root = tmp_path / 'run'
    path = {
        'experiments_root': str(root),
        'results_root': str(root),
        'log': str(root),
        'visualization': str(root / 'visualization'),
        'ignore_resume_networks': 'network_d',
        'unknown_to_basicsr': str(tmp_path / 'no_folder'),
    }
    if is_train:
        path.update(models=str(root / 'models'), training_states=str(root / 'training_states'))
    make_exp_dirs({'is_train': is_train, 'path': path})
    expected = {'visualization', 'models', 'training_states'} if is_train else {'visualization'}
    assert {folder.name for folder in root.iterdir()} == expected
    assert [folder.name for folder in tmp_path.iterdir()] == ['run']


def test_run_of_the_same_name_moves_the_old_folder_aside(tmp_path: Path) -> None:
    opt = {'is_train': False, 'path': {'results_root': str(tmp_path / 'run'), 'log': str(tmp_path / 'run')}}
    make_exp_dirs(opt)
    (tmp_path / 'run/result').touch()
    make_exp_dirs(opt)
    assert not (tmp_path / 'run/result').exists()
    assert len(list(tmp_path.glob('run_archived_*/result'))) == 1


# ---------------------------------------------------------------------------------------------------------- logging


@pytest.fixture
def logger_name() -> Iterator[str]:
    """A logger of a test's own, which leaves no trace."""
    yield 'basicsr_of_a_test'
    logger = logging.getLogger('basicsr_of_a_test')
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    basicsr_logger.initialized_logger.pop('basicsr_of_a_test', None)


def test_two_runs_of_one_process_log_into_their_own_files(tmp_path: Path, logger_name: str) -> None:
    get_root_logger(logger_name).info('before the first run')
    for run in ('first', 'second'):
        get_root_logger(logger_name, log_file=str(tmp_path / f'{run}.log')).info(f'in the {run}')
        get_root_logger(logger_name).info('without naming the file')
    for run in ('first', 'second'):
        lines = (tmp_path / f'{run}.log').read_text().splitlines()
        assert [line.partition('INFO: ')[2] for line in lines] == [f'in the {run}', 'without naming the file']


def test_handlers_of_others_stay_with_the_logger(tmp_path: Path, logger_name: str) -> None:
    logger = get_root_logger(logger_name, log_file=str(tmp_path / 'first.log'))
    theirs = logging.FileHandler(tmp_path / 'theirs.log')
    logger.addHandler(theirs)
    get_root_logger(logger_name, log_file=str(tmp_path / 'second.log')).info('hello')
    assert 'hello' in (tmp_path / 'theirs.log').read_text()
    assert 'hello' not in (tmp_path / 'first.log').read_text()


# -------------------------------------------------------------------------------------------------------- prefetching


class Broken(torch.utils.data.Dataset):
    """Two samples and then a damaged one."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 2:
            raise ValueError('damaged image')
        return index


@pytest.mark.timeout(20)  # it would wait for ever
@pytest.mark.parametrize('workers', [0, 1])
def test_error_behind_prefetch_mode_cpu_reaches_the_training(workers: int) -> None:
    opt = {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': workers, 'prefetch_mode': 'cpu'}
    prefetcher = CPUPrefetcher(build_dataloader(Broken(), opt, sampler=torch.utils.data.SequentialSampler(Broken())))
    assert [int(prefetcher.next()), int(prefetcher.next())] == [0, 1]
    with pytest.raises(ValueError, match='damaged image'):
        prefetcher.next()


# ------------------------------------------------------------------------------------- other versions and forks

LOOK_AT_UNREPAIRED = """
import sys, types
package = types.ModuleType('manet_basicsr')
package.__path__ = [sys.argv[1]]
sys.modules['manet_basicsr'] = package  # without the repairs that its import makes
from manet_basicsr import compat
compat.define_torchvision_ops()
compat.restore_functional_tensor()
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the installed basicsr as a later version, which processes that a test starts import instead."""
    folder = tmp_path / 'clone/basicsr'
    shutil.copytree(Path(basicsr.__file__).parent, folder, ignore=shutil.ignore_patterns('__pycache__'))
    (folder / 'version.py').write_text("__version__ = '1.4.3'\n__gitsha__ = 'unknown'\n")
    return folder


def change(file: Path, old: str, new: str) -> None:
    """Change one place of a file."""
    text = file.read_text(encoding='utf-8')
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding='utf-8')


def run_with(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with a copy of basicsr."""
    paths = [str(clone.parent), str(Path(manet_basicsr.__file__).parents[1])]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    command = [sys.executable, '-P', *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_repairs_ask_for_no_version(clone: Path) -> None:
    script = (
        'import manet_basicsr, basicsr\n'
        'from basicsr.models.base_model import BaseModel\n'
        'from basicsr.utils import file_client, misc\n'
        'print(basicsr.__version__, BaseModel.save_network.__module__, BaseModel.save_training_state.__module__)\n'
        'print(file_client.LmdbBackend.__module__, misc.make_exp_dirs.__module__)\n'
    )
    done = run_with(clone, '-c', script)
    repaired = (
        '1.4.3 manet_basicsr.compat manet_basicsr.compat\nmanet_basicsr.utils.lmdb_handles manet_basicsr.compat\n'
    )
    assert done.stdout == repaired, done.stderr


@pytest.mark.slow
def test_what_cannot_be_repaired_is_refused_in_a_line(clone: Path) -> None:
    change(
        clone / 'models/base_model.py', "current_iter, param_key='params'):", "current_iter, key='params', note=''):"
    )
    change(
        clone / 'data/prefetch_dataloader.py', 'self.generator = generator', 'self.generator = self.items = generator'
    )
    change(clone / 'data/prefetch_dataloader.py', 'for item in self.generator', 'for item in self.items')
    expected = (
        f'found basicsr 1.4.3 in {clone}, which cannot be repaired: '
        'basicsr.models.base_model.BaseModel.save_network takes (self, net, net_label, current_iter, key, note), '
        'not (self, net, net_label, current_iter, param_key); '
        'basicsr.data.prefetch_dataloader.PrefetchGenerator.run does not use generator. '
        'Install: pip install --no-build-isolation basicsr==1.4.2 '
        '(Python 3.13 and newer: python tools/install_basicsr.py)\n'
    )
    command = run_with(clone, '-m', 'manet_basicsr', 'check', '-opt', 'any.yml')
    assert (command.returncode, command.stdout, command.stderr) == (1, '', f'basicsr: error: {expected}')
    module = run_with(clone, '-c', 'import manet_basicsr')
    assert module.stderr.endswith(f'\nmanet_basicsr.utils.repairs.UnsupportedBasicSRError: {expected}')


@pytest.mark.slow
def test_clone_that_is_not_set_up_is_refused_in_a_line(clone: Path) -> None:
    (clone / 'version.py').unlink()  # BasicSR's setup.py makes it
    command = run_with(clone, '-m', 'manet_basicsr', 'check', '-opt', 'any.yml')
    assert command.returncode == 1
    (line,) = command.stderr.splitlines()
    reason = "No module named 'basicsr.version'"
    assert line.startswith(
        f'basicsr: error: found basicsr in {clone}, which cannot be repaired: {reason}. Install: pip'
    )


@pytest.mark.slow
def test_every_function_that_is_replaced_is_looked_at_first(clone: Path) -> None:
    script = (
        LOOK_AT_UNREPAIRED + 'changes = compat._find_changes()\n'
        'missed = []\n'
        'for owner, name, _ in changes:\n'
        '    original = getattr(owner, name)\n'
        '    if not isinstance(original, (type, dict)):\n'
        '        setattr(owner, name, lambda of_another_kind: None)\n'
        '        try:\n'
        '            compat._find_changes()\n'
        '            missed.append(name)\n'
        '        except ImportError as error:\n'
        "            assert f'{name} takes (of_another_kind), not' in str(error), error\n"
        '        setattr(owner, name, original)\n'
        'print(bool(changes), missed)\n'
    )
    done = run_with(clone, '-c', script, str(Path(manet_basicsr.__file__).parent))
    assert done.stdout == 'True []\n', done.stderr


@pytest.mark.slow
def test_what_is_sound_already_is_left_alone(clone: Path) -> None:
    change(clone / 'models/base_model.py', 'device_ids=[torch.cuda.current_device()]', 'device_ids=None')
    run = """
        try:
            for item in self.generator:
                self.queue.put(item)
        except Exception as error:
            self.queue.put(error)
"""
    change(
        clone / 'data/prefetch_dataloader.py',
        '\n        for item in self.generator:\n            self.queue.put(item)\n',
        run,
    )
    script = LOOK_AT_UNREPAIRED + "print(*sorted(change.name for change in compat._find_changes()), sep='\\n')"
    done = run_with(clone, '-c', script, str(Path(manet_basicsr.__file__).parent))
    names = done.stdout.splitlines()
    assert 'save_network' in names, done.stderr
    assert not {'model_to_device', 'run', '__next__'} & set(names)


# ------------------------------------------------------------------------------------------------- a fresh interpreter


def test_plugin_is_importable_before_basicsr_in_a_fresh_interpreter() -> None:
    script = (
        'import importlib.util, sys\n'
        'from manet_basicsr import compat\n'
        'import torch, torchvision, basicsr\n'
        'from basicsr.utils.registry import ARCH_REGISTRY\n'
        "assert 'MANet' in ARCH_REGISTRY\n"
        "assert torch.multiprocessing.get_start_method(allow_none=True) in (None, 'fork', 'forkserver')\n"
        "provided = sys.modules['torchvision.transforms.functional_tensor']\n"
        'assert provided.rgb_to_grayscale\n'
    )
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_open_lmdb_is_one_handle_for_basicsr_and_for_us(database: Path) -> None:
    client = FileClient('lmdb', db_paths=str(database))
    with open_environment(database).begin() as transaction:
        assert transaction.get(b'tiny') == client.get('tiny')
