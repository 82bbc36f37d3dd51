"""Repairs that basicsr 1.4.2 needs on today's stack: one small function each, with why, and when it can go.

:func:`apply` runs them all; ``import manet_basicsr`` calls it before anything imports basicsr. Each repair looks first
and does nothing where the stack is fine.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

_applied = False


def define_torchvision_ops() -> bool:
    """Declare ``torchvision::nms`` and ``qnms`` where torchvision's compiled operators cannot load.

    A CUDA build of torchvision beside a CPU-only torch fails to import, because it registers shape functions for two
    operators that do not exist. BasicSR needs none of the compiled operators. Can go when torchvision guards those two
    registrations as it guards the others.

    Returns:
        Whether the operators had to be declared.
    """
    spec = importlib.util.find_spec('torchvision')
    if spec is None or spec.origin is None or 'torchvision' in sys.modules:
        return False
    for library in Path(spec.origin).parent.glob('_C*'):
        try:
            torch.ops.load_library(str(library))
            return False
        except OSError:
            continue
    box_arguments = 'Tensor dets, Tensor scores, float iou_threshold'
    for operator in ('nms', 'qnms'):
        torch.library.define(f'torchvision::{operator}', f'({box_arguments}) -> Tensor')
    return True


def restore_functional_tensor() -> bool:
    """Provide ``torchvision.transforms.functional_tensor``, which torchvision 0.17 removed and basicsr still imports.

    basicsr takes one function from it, ``rgb_to_grayscale``. Can go when basicsr imports it from
    ``torchvision.transforms.functional``.

    Returns:
        Whether the module had to be provided.
    """
    name = 'torchvision.transforms.functional_tensor'
    if name in sys.modules or importlib.util.find_spec(name) is not None:
        return False
    from torchvision.transforms.functional import rgb_to_grayscale

    module = ModuleType(name, 'Stand-in for the module that torchvision 0.17 removed.')
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[name] = module
    return True


def _rebind(module: str, name: str, replacement: Any) -> None:
    """Replace a function in the module that defines it and in every basicsr module that imported it by name."""
    original = getattr(importlib.import_module(module), name)
    for loaded_name, loaded in list(sys.modules.items()):
        if loaded_name.split('.')[0] == 'basicsr' and getattr(loaded, name, None) is original:
            setattr(loaded, name, replacement)


def share_lmdb_handles() -> None:
    """Let every reader of one LMDB in a process share one handle, and name a key that is not there.

    lmdb 2 refuses to open an environment twice: training and validation on one database crash, and so do forked
    workers. BasicSR hands the missing value of a missing key on to the image decoder. Can go when basicsr does both
    itself.
    """
    from basicsr.utils import file_client

    from manet_basicsr.utils.lmdb_handles import LmdbBackend

    file_client.BaseStorageBackend.register(LmdbBackend)
    file_client.LmdbBackend = LmdbBackend
    file_client.FileClient._backends['lmdb'] = LmdbBackend


def size_lmdb_maps() -> None:
    """Give ``make_lmdb_from_imgs`` a map that holds any set of images, not ten times the first one.

    The map is address space, not disk. Can go when basicsr grows the map or asks for as much.
    """
    from basicsr.utils import lmdb_util

    original = lmdb_util.make_lmdb_from_imgs
    signature = inspect.signature(original)

    @functools.wraps(original)
    def make_lmdb_from_imgs(*args: Any, **kwargs: Any) -> None:
        arguments = signature.bind(*args, **kwargs).arguments
        original(**{**arguments, 'map_size': arguments.get('map_size') or 2**40})

    _rebind('basicsr.utils.lmdb_util', 'make_lmdb_from_imgs', make_lmdb_from_imgs)


class _NamedBytes(bytes):
    """A file's content that knows where it is from."""

    name = ''


def refuse_broken_images() -> None:
    """Make ``imfrombytes`` say which bytes are no image, where OpenCV's ``None`` would fail somewhere later.

    OpenCV's own errors, for an image larger than it decodes, become the same, and headers that promise absurd sizes are
    refused before OpenCV sets aside memory for them. Can go when basicsr checks what ``cv2.imdecode`` returns.
    """
    from basicsr.utils import file_client, img_util

    from manet_basicsr.utils.errors import BadSampleError

    original = img_util.imfrombytes
    original_get = file_client.FileClient.get

    @functools.wraps(original_get)
    def get(self: Any, filepath: Any, client_key: str = 'default') -> Any:
        content = original_get(self, filepath, client_key)
        if isinstance(content, bytes):
            content = _NamedBytes(content)
            content.name = f'{filepath}: '
        return content

    def imfrombytes(content: bytes, flag: str = 'color', float32: bool = False) -> np.ndarray:
        from manet_basicsr.data.image_headers import check_declared_size  # its package wants all repairs first

        name = getattr(content, 'name', '')
        problem = f'{name}{len(content)} bytes that are no whole image in a format that OpenCV reads'
        try:
            check_declared_size(content)
            image = original(content, flag, False) if len(content) else None
        except ValueError as error:
            raise BadSampleError(f'{name}{error}') from error
        except cv2.error as error:
            raise BadSampleError(f'{problem}: {error.err}') from error
        if image is None:
            raise BadSampleError(problem)
        return image.astype(np.float32) / 255.0 if float32 else image

    file_client.FileClient.get = get
    _rebind('basicsr.utils.img_util', 'imfrombytes', imfrombytes)


def initialize_processes_anywhere() -> None:
    """Let ``--launcher`` work without a GPU, and leave the start method of workers alone.

    basicsr divides by the number of GPUs, asks for nccl always, and switches to ``spawn``, with which every worker
    imports everything again. ``nccl`` in an option file means gloo where there is no GPU. Can go when basicsr chooses
    the backend by the device.
    """

    def init_dist(launcher: str, backend: str | None = None, port: int | None = None, **kwargs: Any) -> None:
        if launcher == 'slurm':
            _read_slurm_environment(port)
        elif launcher != 'pytorch':
            raise ValueError(f"launcher '{launcher}' is not one of pytorch, slurm")
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', os.environ['RANK'])) % torch.cuda.device_count())
        if backend in (None, 'nccl'):
            backend = 'nccl' if torch.cuda.is_available() else 'gloo'
        torch.distributed.init_process_group(backend, **kwargs)

    _rebind('basicsr.utils.dist_util', 'init_dist', init_dist)


def _read_slurm_environment(port: int | None) -> None:
    """Translate Slurm's variables into those that torch reads."""
    environment = os.environ
    hosts = subprocess.run(
        ['scontrol', 'show', 'hostnames', environment['SLURM_NODELIST']], capture_output=True, text=True, check=True
    )
    environment['MASTER_ADDR'] = hosts.stdout.split()[0]
    if port is not None:
        environment['MASTER_PORT'] = str(port)
    environment.setdefault('MASTER_PORT', '29500')
    environment['RANK'] = environment['SLURM_PROCID']
    environment['WORLD_SIZE'] = environment['SLURM_NTASKS']
    environment['LOCAL_RANK'] = environment.get('SLURM_LOCALID', '0')


def wrap_models_anywhere() -> None:
    """Wrap networks for distributed training on a CPU too, where a CUDA device id is an error.

    Can go when ``BaseModel.model_to_device`` asks for the device first.
    """
    from basicsr.models.base_model import BaseModel

    original = BaseModel.model_to_device

    def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if not self.opt['dist'] or self.device.type == 'cuda':
            return original(self, net)
        unused = self.opt.get('find_unused_parameters', False)
        return torch.nn.parallel.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    BaseModel.model_to_device = model_to_device


def write_checkpoints_whole() -> None:
    """Write networks and training states aside and rename them, and let an error stop the run.

    basicsr writes them in place, so that a kill loses the old and the new one, and swallows errors. The state is
    written after its networks: where there is a state, they are whole. Can go when basicsr renames what it has written.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils.dist_util import master_only

    from manet_basicsr.training.checkpoints import network_state, save_atomically, training_state

    def save_network(
        self: Any, net: Any, net_label: str, current_iter: int, param_key: str | list[str] = 'params'
    ) -> None:
        networks = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        content = {
            key: network_state(self.get_bare_model(network)) for key, network in zip(keys, networks, strict=True)
        }
        iteration = 'latest' if current_iter == -1 else current_iter
        save_atomically(content, os.path.join(self.opt['path']['models'], f'{net_label}_{iteration}.pth'))

    def save_training_state(self: Any, epoch: int, current_iter: int) -> None:
        if current_iter != -1:
            path = os.path.join(self.opt['path']['training_states'], f'{current_iter}.state')
            save_atomically(training_state(self, epoch, current_iter), path)

    BaseModel.save_network = master_only(save_network)
    BaseModel.save_training_state = master_only(save_training_state)


def read_options_safely() -> None:
    """Read option files with a safe YAML loader and ``--force_yml`` without ``exec`` and ``eval``.

    Can go when basicsr does.
    """
    from basicsr.utils import options as basicsr_options

    from manet_basicsr.commands.arguments import parse_options
    from manet_basicsr.options.reading import OptionLoader

    original = basicsr_options.ordered_yaml

    def ordered_yaml() -> tuple[type, type]:
        return OptionLoader, original()[1]

    _rebind('basicsr.utils.options', 'ordered_yaml', ordered_yaml)
    _rebind('basicsr.utils.options', 'parse_options', parse_options)


def make_only_folders() -> None:
    """Make folders for the keys of ``path`` that are folders; basicsr makes one for every key that it does not know.

    Can go when ``make_exp_dirs`` lists its folders.
    """
    from basicsr.utils import misc
    from basicsr.utils.dist_util import master_only

    def make_exp_dirs(opt: dict[str, Any]) -> None:
        root = opt['path']['experiments_root' if opt['is_train'] else 'results_root']
        misc.mkdir_and_rename(root)
        for key in ('models', 'training_states', 'log', 'visualization'):
            if opt['path'].get(key):
                os.makedirs(opt['path'][key], exist_ok=True)

    _rebind('basicsr.utils.misc', 'make_exp_dirs', master_only(make_exp_dirs))


class _LogFile(logging.FileHandler):
    """A log file on a disk that may be full: that is said once, in a line, and does not end the run."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            print(f'basicsr: warning: cannot write {self.baseFilename}: {error.strerror}', file=sys.stderr)


def log_into_own_file() -> None:
    """Let each run in a process log into its own file, also where something asked for the logger before.

    basicsr's ``get_root_logger`` ignores ``log_file`` from the second call on. Can go when it does not.
    """
    from basicsr.utils import logger as basicsr_logger

    original = basicsr_logger.get_root_logger
    files: dict[str, logging.FileHandler] = {}

    def get_root_logger(
        logger_name: str = 'basicsr', log_level: int = logging.INFO, log_file: str | None = None
    ) -> logging.Logger:
        logger = original(logger_name, log_level)
        rank, _ = basicsr_logger.get_dist_info()
        if log_file is None or rank != 0:
            return logger
        logger.setLevel(log_level)
        if logger_name in files:
            logger.removeHandler(files[logger_name])
            files[logger_name].close()
        file_handler = files[logger_name] = _LogFile(log_file, 'w', encoding='utf-8')
        file_handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s: %(message)s'))
        logger.addHandler(file_handler)
        return logger

    _rebind('basicsr.utils.logger', 'get_root_logger', get_root_logger)


def raise_prefetching_errors() -> None:
    """Hand an error of the thread behind ``prefetch_mode: cpu`` on to the training, which waits for ever otherwise.

    Can go when basicsr's ``PrefetchGenerator`` does.
    """
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    original = PrefetchGenerator.__next__

    def run(self: Any) -> None:
        try:
            for item in self.generator:
                self.queue.put(item)
        except Exception as error:
            self.queue.put(_PrefetchingError(error))
        self.queue.put(None)

    def following(self: Any) -> Any:
        item = original(self)
        if isinstance(item, _PrefetchingError):
            raise item.error
        return item

    PrefetchGenerator.run = run
    PrefetchGenerator.__next__ = following


class _PrefetchingError(NamedTuple):
    error: Exception


def apply() -> None:
    """Apply every repair that this stack needs; a second call does nothing."""
    global _applied
    if _applied:
        return
    define_torchvision_ops()
    restore_functional_tensor()
    if importlib.import_module('basicsr').__version__ == '1.4.2':
        _repair_basicsr()
    _applied = True


def _repair_basicsr() -> None:
    """Apply the repairs that are written against the code of basicsr 1.4.2."""
    share_lmdb_handles()
    size_lmdb_maps()
    refuse_broken_images()
    initialize_processes_anywhere()
    wrap_models_anywhere()
    write_checkpoints_whole()
    read_options_safely()
    make_only_folders()
    log_into_own_file()
    raise_prefetching_errors()
    warm_up_to_the_end()
    average_and_store_whole()


def warm_up_to_the_end() -> None:
    """Let warm-up end at the scheduled learning rate, and keep a milestone that falls into it.

    ``MultiStepRestartLR`` multiplies the rate that the optimizer has, which warm-up has overwritten: training goes on
    with the last of the warm-up, (W - 1) / W of what the options say. Can go when basicsr keeps both apart.
    """
    from basicsr.models.base_model import BaseModel

    original = BaseModel.update_learning_rate

    def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
        if 1 < current_iter <= warmup_iter:
            self._set_lr([scheduler.get_last_lr() for scheduler in self.schedulers])
        original(self, current_iter, warmup_iter)

    BaseModel.update_learning_rate = update_learning_rate


def average_and_store_whole() -> None:
    """Let averaged networks follow buffers, and write images and read weights as the rest of this package does.

    basicsr averages parameters only; its ``imwrite`` ends the process at a name that is not UTF-8; its ``load_network``
    runs what is in a file and reads no ``.safetensors``. Can go when it does none of these.
    """
    from basicsr.models.base_model import BaseModel

    from manet_basicsr.utils import replacements

    BaseModel.model_ema = replacements.with_buffers(BaseModel.model_ema)
    BaseModel.load_network = replacements.load_network
    _rebind('basicsr.utils.img_util', 'imwrite', replacements.write_image)
