"""The methods that are compared: bicubic, option files with weights, and generators with kernels that are given."""

from __future__ import annotations

import copy
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from manet_basicsr.archs.protocols import BlindNetwork, FieldEstimator, FieldGenerator
from manet_basicsr.data.alpha import enlarge
from manet_basicsr.degradation.gaussian import fixed_field
from manet_basicsr.evaluation.conditions import Condition
from manet_basicsr.evaluation.measure import Cost, measured
from manet_basicsr.options.beginning_checks import untrained_problems
from manet_basicsr.options.checks import check
from manet_basicsr.options.errors import OptionError, named, problems_of
from manet_basicsr.options.plugins import import_plugins
from manet_basicsr.options.reading import Options, load_options
from manet_basicsr.options.resolving import forget_pretrained, resolve, run_folder
from manet_basicsr.options.shipped import find_option_file, option_files
from manet_basicsr.utils.messages import unknown_name
from manet_basicsr.weights import find_address, is_address, resolve_weights

#: Methods that need no option file, or only a generator's.
BASELINES = ('bicubic', 'fixed', 'mean', 'oracle')
#: Sections of an option file that do not change what a network gives.
_WITHOUT_EFFECT = ('name', 'datasets', 'num_gpu', 'train', 'logger', 'dist_params', 'manual_seed')
_VAL_WITHOUT_EFFECT = ('metrics', 'save_img', 'pbar', 'suffix', 'val_freq')


@dataclass(frozen=True)
class Prediction:
    """What a method makes of an LR image.

    Attributes:
        sr: ``(1, 3, H, W)``, or None for an estimator of kernels.
        field: Kernel field ``(1, k*k, h, w)`` or ``(1, k*k, 1, 1)``, or None where a method knows of none.
        cost: Time and memory of making it.
    """

    sr: Tensor | None
    field: Tensor | None
    cost: Cost


class Method(ABC):
    """A way to restore images or to estimate kernels.

    Attributes:
        name: As tables show it.
    """

    name: str

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """Give everything that decides what the method makes of an image, checksums of weights included."""

    def fits(self, condition: Condition) -> bool:
        """Tell whether the method was made for such images."""
        return True

    def load(self, condition: Condition) -> None:  # noqa: B027  (not every method has something to load)
        """Build the networks that :meth:`predict` needs, once; any condition that fits will do.

        Raises:
            OptionError: They cannot be built, or weights do not fit.
        """

    @abstractmethod
    def predict(self, sample: Mapping[str, Any], condition: Condition) -> Prediction:
        """Restore a sample of the condition's dataset."""


def bicubic_upsample(lq: Tensor, scale: int, alignment: str) -> Tensor:
    """Enlarge an image ``(3, h, w)`` in [0, 1] as :func:`enlarge` does arrays."""
    enlarged = enlarge(lq.permute(1, 2, 0).cpu().numpy(), scale, alignment)
    return torch.from_numpy(np.ascontiguousarray(enlarged.transpose(2, 0, 1)))


class Bicubic(Method):
    """Bicubic interpolation."""

    name = 'bicubic'

    def fingerprint(self) -> Mapping[str, Any]:
        return {'method': 'bicubic', 'opencv': cv2.__version__}

    def predict(self, sample: Mapping[str, Any], condition: Condition) -> Prediction:
        with measured(torch.device('cpu')) as cost:
            sr = bicubic_upsample(sample['lq'], condition.scale, condition.alignment)
        return Prediction(sr[None], None, cost)


class OptionFile:
    """A BasicSR option file with weights, of training or of testing.

    A file of training stands for what it trains and not for what it begins with: the weights are those of its
    experiment, ``experiments/NAME/models/net_g_latest.pth`` or where ``path.experiments_root`` says.

    Args:
        path: The file, the name of one that ships, or the address of weights that ship: the file of their test.

    Raises:
        OptionError: It cannot be read or has no scale, or there are no such weights.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import_plugins()  # the file may name what they register
        self.path = find_option_file(_test_file_of(str(path)) if is_address(str(path)) else path)
        self.options = load_options(self.path)
        self.scale = self.options.get('scale')
        if not isinstance(self.scale, int):
            raise OptionError([f'{self.path}: scale: missing'])
        self._fill_in()
        problems = list(untrained_problems(self.options))
        if problems:
            raise OptionError([f'{self.path}: {problem}' for problem in problems])

    @property
    def name(self) -> str:
        return str(self.options.get('name'))

    def _fill_in(self) -> None:
        """Set the weights that follow from a training's name, and forget those that a whole file replaces."""
        paths = self.options['path'] = dict(self.options.get('path') or {})
        if 'train' in self.options:  # what it starts from is not what it makes
            folder = run_folder(self.options, '', is_train=True)
            paths['pretrain_network_g'] = os.path.join(folder, 'models', 'net_g_latest.pth')
            ema = (self.options['train'] or {}).get('ema_decay')
            paths['param_key_g'] = 'params_ema' if ema else 'params'
        network = self.options.get('network_g')
        if paths.get('pretrain_network_g') is not None and isinstance(network, dict):
            self.options['network_g'] = forget_pretrained(network)

    def alignments(self) -> set[str]:
        """Give the sampling grids of the file's datasets; none if it does not say."""
        sections = (self.options.get('datasets') or {}).values()
        degradations = [(section or {}).get('degradation') for section in sections if isinstance(section, Mapping)]
        return {part.get('alignment', 'centered') for part in degradations if isinstance(part, Mapping)}

    def fingerprint(self) -> dict[str, Any]:
        """Give what decides the network's output, with a checksum of each file of weights."""
        effective = {key: value for key, value in self.options.items() if key not in _WITHOUT_EFFECT}
        effective['val'] = {
            key: value for key, value in (effective.get('val') or {}).items() if key not in _VAL_WITHOUT_EFFECT
        }
        device = 'cpu' if self.options.get('num_gpu') == 0 or not torch.cuda.is_available() else 'cuda'
        return {
            'options': effective,
            'device': device,
            'weights': {path: _checksum(path) for path in _files_in(effective)},
        }

    def resolved(self, condition: Condition) -> Options:
        """Resolve the options as ``basicsr test`` does, on the images of a condition.

        Raises:
            OptionError: With every problem found.
        """
        options = copy.deepcopy(self.options)
        options['datasets'] = {'test': condition.dataset_options()}
        # What is for training alone, such as compilation, is of no use here.
        options.update({key: None for key in ('train', 'logger') if key in options})
        with named(f'{self.path}: '):
            check(options, is_train=False)
            return resolve(options, root_path=os.getcwd(), is_train=False)

    def fits(self, condition: Condition) -> bool:
        """Tell whether the network is for the scale and, where the file says, the sampling grid of a condition."""
        grids = self.alignments()
        return condition.scale == self.scale and (not grids or condition.alignment in grids)

    def build(self, condition: Condition) -> Any:
        """Build the model that ``basicsr test`` would build, with its weights.

        Raises:
            OptionError: It cannot be built, or the weights do not fit.
        """
        from basicsr.models import build_model

        options = self.resolved(condition)
        with problems_of(self.path):
            return build_model(options)


def _test_file_of(weights: str) -> Path:
    """Find the option file of a test that names weights which ship."""
    address, known = find_address(weights), []
    for name, file in option_files().items():
        if name.startswith('test_'):
            known.append(load_options(file)['path']['pretrain_network_g'])
            if known[-1] == address:
                return file
    raise OptionError([unknown_name('weights', weights, [one for one in known if one and is_address(one)])])


def _files_in(section: Any, key: str = '') -> Iterator[str]:
    """Find the paths of weights and bases in options."""
    if isinstance(section, Mapping):
        for name, value in section.items():
            yield from _files_in(value, str(name))
    elif isinstance(section, str) and (key.startswith('pretrain') or key == 'pca_path'):
        yield section


def _checksum(path: str) -> str:
    try:
        file = resolve_weights(path) if is_address(path) else Path(os.path.expanduser(path))
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise OptionError([f'{path}: cannot read weights ({error.strerror or error})']) from error


class MethodOfFile(Method):
    """A method that runs the model of an option file, or works without one.

    Args:
        name: As tables show it.
        file: The option file, or None.
    """

    def __init__(self, name: str, file: OptionFile | None) -> None:
        self.name, self.file = name, file
        self._model: Any = None
        self._is_warm = False

    def fits(self, condition: Condition) -> bool:
        return self.file is None or self.file.fits(condition)

    def load(self, condition: Condition) -> None:
        if self._model is None and self.file is not None:
            self._model = self.file.build(condition)

    def fingerprint(self) -> Mapping[str, Any]:
        return {'method': self.name, 'generator': None if self.file is None else self.file.fingerprint()}

    def _check_generator(self) -> None:
        """Refuse a network that restores nothing with given kernels.

        Raises:
            OptionError: It is one.
        """
        if self.file is None:
            return
        network = self._model.get_bare_model(self._model.net_g)
        restores = isinstance(network, FieldGenerator) and not isinstance(network, FieldEstimator)
        if not (isinstance(network, BlindNetwork) or restores):
            found = f'found a {type(network).__name__}'
            raise OptionError(
                [f'{self.file.path}: {found}, expected a generator that takes kernels, or a blind network']
            )

    def _generator(self) -> Any:
        """Return what restores, given LR image and kernels; of a blind network the part that does. None without."""
        network = None if self._model is None else self._model.get_bare_model(self._model.net_g).eval()
        return network.restore if isinstance(network, BlindNetwork) else network


class Network(MethodOfFile):
    """A network of an option file, run by the model that ``basicsr test`` would build.

    Its first image is run twice, and the second run measured: the first one sets a device up.

    Args:
        name: As tables show it.
        file: The option file.
    """

    file: OptionFile

    def fingerprint(self) -> Mapping[str, Any]:
        return {'method': 'network', **self.file.fingerprint()}

    def predict(self, sample: Mapping[str, Any], condition: Condition) -> Prediction:
        self.load(condition)
        self._model.feed_data(default_collate([dict(sample)]))
        if not self._is_warm:
            self._model.test()
            self._is_warm = True
        with measured(self._model.device) as cost:
            self._model.test()
        result = getattr(self._model, 'result', None)
        if result is None:  # a stock model
            result = {'sr': self._model.get_current_visuals()['result']}
        return Prediction(result.get('sr'), result.get('field'), cost)


class GivenKernels(MethodOfFile):
    """A generator that is told the kernels; without a generator, only what these kernels are worth.

    ``oracle`` is told the true field; ``mean`` one kernel, the mean of the true field, which is what a method that
    assumes invariant blur could at best know; ``fixed`` the isotropic kernel in the middle of the training range.

    Args:
        kernels: ``oracle``, ``mean`` or ``fixed``.
        file: Option file of a generator, or of a blind network that has one.
        name: As tables show it; ``kernels`` unless there are several generators.
    """

    def __init__(self, kernels: str, file: OptionFile | None, name: str = '') -> None:
        super().__init__(name or kernels, file)
        self.kernels = kernels

    def fingerprint(self) -> Mapping[str, Any]:
        return {**super().fingerprint(), 'method': self.kernels}

    def load(self, condition: Condition) -> None:
        super().load(condition)
        self._check_generator()

    def predict(self, sample: Mapping[str, Any], condition: Condition) -> Prediction:
        self.load(condition)
        device = torch.device('cpu') if self._model is None else self._model.device
        lq, true = sample['lq'][None].to(device), sample['kernel'][None].to(device)
        restore = self._generator()
        if restore is not None and not self._is_warm:
            with torch.inference_mode():
                restore(lq, self._field(true, condition).to(device))
            self._is_warm = True
        with measured(device) as cost, torch.inference_mode():
            field = self._field(true, condition).to(device)
            sr = None if restore is None else restore(lq, field)
        return Prediction(sr, field, cost)

    def _field(self, true: Tensor, condition: Condition) -> Tensor:
        if self.kernels == 'oracle':
            return true
        if self.kernels == 'mean':
            return true.mean((2, 3), keepdim=True)
        return fixed_field(condition.scale, condition.kernel_size, condition.alignment)
