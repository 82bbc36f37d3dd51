"""Repairs that BasicSR 1.4.2 needs on today's stack: one small function each, with why, and when it can go.

:func:`apply` runs them all; ``import manet_basicsr`` calls it before anything imports basicsr. No version is asked for:
forks and clones come under the same name. Each repair looks at the code itself, returns the changes that it needs, none
where all is fine, and says so where it does not fit. Changes are made when all repairs fit; else the import is refused.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from manet_basicsr.utils.repairs import Change, UnfitError, look, make_changes, names_in, refusal
from manet_basicsr.utils.torchvision_import import define_torchvision_ops, restore_functional_tensor

_applied = False


def share_lmdb_handles() -> list[Change]:
    """Let every reader of one LMDB in a process share one handle, and name a key that is not there.

    lmdb 2 refuses to open an environment twice: training and validation on one database crash, and so do forked
    workers. BasicSR hands the missing value of a missing key on to the image decoder. Can go when basicsr does both
    itself.
    """
    from basicsr.utils import file_client

    from manet_basicsr.utils.lmdb_handles import LmdbBackend

    parameters = 'self db_paths client_keys readonly lock readahead kwargs'
    look(file_client.LmdbBackend, '__init__', parameters, uses='open')
    look(file_client.LmdbBackend, 'get', 'self filepath client_key')
    backends = file_client.FileClient._backends
    return [
        Change(file_client, 'LmdbBackend', LmdbBackend),
        Change(file_client.FileClient, '_backends', {**backends, 'lmdb': LmdbBackend}),
    ]


def size_lmdb_maps() -> list[Change]:
    """Give ``make_lmdb_from_imgs`` a map that holds any set of images, not ten times the first one.

    The map is address space, not disk. Can go when basicsr grows the map or asks for as much.
    """
    from basicsr.utils import lmdb_util

    parameters = 'data_path lmdb_path img_path_list keys batch compress_level multiprocessing_read n_thread map_size'
    original = look(lmdb_util, 'make_lmdb_from_imgs', parameters)
    signature = inspect.signature(original)

    @functools.wraps(original)
    def make_lmdb_from_imgs(*args: Any, **kwargs: Any) -> None:
        arguments = signature.bind(*args, **kwargs).arguments
        original(**{**arguments, 'map_size': arguments.get('map_size') or 2**40})

    return [Change(lmdb_util, 'make_lmdb_from_imgs', make_lmdb_from_imgs)]


class _NamedBytes(bytes):
    """A file's content that knows where it is from."""

    name = ''


def refuse_broken_images() -> list[Change]:
    """Make ``imfrombytes`` say which bytes are no image, where OpenCV's ``None`` would fail somewhere later.

    OpenCV's own errors, for an image larger than it decodes, become the same, and headers that promise absurd sizes are
    refused before OpenCV sets aside memory for them. Can go when basicsr checks what ``cv2.imdecode`` returns.
    """
    from basicsr.utils import file_client, img_util

    from manet_basicsr.utils.errors import BadSampleError

    original = look(img_util, 'imfrombytes', 'content flag float32', uses='imdecode')
    original_get = look(file_client.FileClient, 'get', 'self filepath client_key')

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

    return [Change(file_client.FileClient, 'get', get), Change(img_util, 'imfrombytes', imfrombytes)]


def initialize_processes_anywhere() -> list[Change]:
    """Let ``--launcher`` work without a GPU, and leave the start method of workers alone.

    basicsr divides by the number of GPUs, asks for nccl always, and switches to ``spawn``, with which every worker
    imports everything again. ``nccl`` in an option file means gloo where there is no GPU. Can go when basicsr chooses
    the backend by the device.
    """
    from basicsr.utils import dist_util

    from manet_basicsr.utils.process_group import init_dist

    look(dist_util, 'init_dist', 'launcher backend kwargs')
    return [Change(dist_util, 'init_dist', init_dist)]


def wrap_models_anywhere() -> list[Change]:
    """Wrap networks for distributed training on a CPU too, where a CUDA device id is an error.

    Can go when ``BaseModel.model_to_device`` asks for the device first.
    """
    from basicsr.models.base_model import BaseModel

    original = look(BaseModel, 'model_to_device', 'self net')
    if 'current_device' not in names_in(original):
        return []

    def model_to_device(self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if not self.opt['dist'] or self.device.type == 'cuda':
            return original(self, net)
        unused = self.opt.get('find_unused_parameters', False)
        return torch.nn.parallel.DistributedDataParallel(net.to(self.device), find_unused_parameters=unused)

    return [Change(BaseModel, 'model_to_device', model_to_device)]


def write_checkpoints_whole() -> list[Change]:
    """Write networks and training states aside and rename them, and let an error stop the run.

    basicsr writes them in place, so that a kill loses the old and the new one, and swallows errors. The state is
    written after its networks: where there is a state, they are whole. Can go when basicsr renames what it has written.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils.dist_util import master_only

    from manet_basicsr.training.checkpoints import network_state, save_atomically, training_state

    look(BaseModel, 'save_network', 'self net net_label current_iter param_key', uses='save')
    look(BaseModel, 'save_training_state', 'self epoch current_iter', uses='save')

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

    return [
        Change(BaseModel, 'save_network', master_only(save_network)),
        Change(BaseModel, 'save_training_state', master_only(save_training_state)),
    ]


def read_options_safely() -> list[Change]:
    """Read option files with a safe YAML loader and ``--force_yml`` without ``exec`` and ``eval``.

    Can go when basicsr does.
    """
    from basicsr.utils import options as basicsr_options

    from manet_basicsr.commands.arguments import parse_options
    from manet_basicsr.utils.yaml_reading import OptionLoader

    original = look(basicsr_options, 'ordered_yaml', '')
    look(basicsr_options, 'parse_options', 'root_path is_train')

    def ordered_yaml() -> tuple[type, type]:
        return OptionLoader, original()[1]

    return [
        Change(basicsr_options, 'ordered_yaml', ordered_yaml),
        Change(basicsr_options, 'parse_options', parse_options),
    ]


def make_only_folders() -> list[Change]:
    """Make folders for the keys of ``path`` that are folders; basicsr makes one for every key that it does not know.

    Can go when ``make_exp_dirs`` lists its folders.
    """
    from basicsr.utils import misc
    from basicsr.utils.dist_util import master_only

    look(misc, 'make_exp_dirs', 'opt', uses='makedirs')

    def make_exp_dirs(opt: dict[str, Any]) -> None:
        root = opt['path']['experiments_root' if opt['is_train'] else 'results_root']
        misc.mkdir_and_rename(root)
        for key in ('models', 'training_states', 'log', 'visualization'):
            if opt['path'].get(key):
                os.makedirs(opt['path'][key], exist_ok=True)

    return [Change(misc, 'make_exp_dirs', master_only(make_exp_dirs))]


def log_into_own_file() -> list[Change]:
    """Let each run in a process log into its own file, also where something asked for the logger before.

    basicsr's ``get_root_logger`` ignores ``log_file`` from the second call on. Can go when it does not.
    """
    from basicsr.utils import logger as basicsr_logger

    from manet_basicsr.utils.log_files import give_each_run_its_file

    original = look(basicsr_logger, 'get_root_logger', 'logger_name log_level log_file')
    return [Change(basicsr_logger, 'get_root_logger', give_each_run_its_file(original))]


def raise_prefetching_errors() -> list[Change]:
    """Hand an error of the thread behind ``prefetch_mode: cpu`` on to the training, which waits for ever otherwise.

    Can go when basicsr's ``PrefetchGenerator`` does.
    """
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    if {'Exception', 'BaseException'} & names_in(look(PrefetchGenerator, 'run', 'self', uses='generator queue put')):
        return []
    original = look(PrefetchGenerator, '__next__', 'self')

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

    return [Change(PrefetchGenerator, 'run', run), Change(PrefetchGenerator, '__next__', following)]


class _PrefetchingError(NamedTuple):
    error: Exception


def warm_up_to_the_end() -> list[Change]:
    """Let warm-up end at the scheduled learning rate, and keep a milestone that falls into it.

    ``MultiStepRestartLR`` multiplies the rate that the optimizer has, which warm-up has overwritten: training goes on
    with the last of the warm-up, (W - 1) / W of what the options say. Can go when basicsr keeps both apart.
    """
    from basicsr.models.base_model import BaseModel

    original = look(BaseModel, 'update_learning_rate', 'self current_iter warmup_iter', uses='schedulers step _set_lr')

    @functools.wraps(original)
    def update_learning_rate(self: Any, current_iter: int, warmup_iter: int = -1) -> None:
        if 1 < current_iter <= warmup_iter:
            self._set_lr([scheduler.get_last_lr() for scheduler in self.schedulers])
        original(self, current_iter, warmup_iter)

    return [Change(BaseModel, 'update_learning_rate', update_learning_rate)]


def average_and_store_whole() -> list[Change]:
    """Let averaged networks follow buffers, and write images and read weights as the rest of this package does.

    basicsr averages parameters only; its ``tensor2img`` makes NaN black; its ``imwrite`` ends the process at a name
    that is not UTF-8; its ``load_network`` runs what is in a file and reads no ``.safetensors``. Can go when it does
    none of these.
    """
    from basicsr.models.base_model import BaseModel
    from basicsr.utils import img_util

    from manet_basicsr.utils import replacements

    look(BaseModel, 'model_ema', 'self decay', uses='named_parameters')
    look(BaseModel, 'load_network', 'self net load_path strict param_key', uses='load')
    look(img_util, 'imwrite', 'img file_path params auto_mkdir', uses='imwrite')
    tensor2img = look(img_util, 'tensor2img', 'tensor rgb2bgr out_type min_max')
    return [
        Change(img_util, 'tensor2img', replacements.finite_only(tensor2img)),
        Change(BaseModel, 'model_ema', replacements.model_ema),
        Change(BaseModel, 'load_network', replacements.load_network),
        Change(img_util, 'imwrite', replacements.write_image),
    ]


#: The repairs of basicsr. No two of them may replace the same function.
REPAIRS: list[Callable[[], list[Change]]] = [
    share_lmdb_handles,
    size_lmdb_maps,
    refuse_broken_images,
    initialize_processes_anywhere,
    wrap_models_anywhere,
    write_checkpoints_whole,
    read_options_safely,
    make_only_folders,
    log_into_own_file,
    raise_prefetching_errors,
    warm_up_to_the_end,
    average_and_store_whole,
]


def apply() -> None:
    """Apply every repair that this stack needs; a second call does nothing.

    Raises:
        UnsupportedBasicSRError: A repair does not fit the basicsr that is installed. None was made then.
        SystemExit: The same, where one of this package's commands runs: its message is all that is printed.
    """
    global _applied
    if _applied:
        return
    define_torchvision_ops()
    restore_functional_tensor()
    make_changes(_find_changes())
    _applied = True


def _find_changes() -> list[Change]:
    changes: list[Change] = []
    problems: list[str] = []
    for repair in REPAIRS:
        try:
            changes += repair()
        except UnfitError as error:
            problems.append(str(error))
        except ImportError as error:
            if (error.name or '').partition('.')[0] != 'basicsr':
                raise
            problems.append(str(error))
    if problems:
        raise refusal(problems)
    return changes
