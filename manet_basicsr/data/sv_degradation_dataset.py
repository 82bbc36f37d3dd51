"""The dataset of images degraded by spatially variant kernels."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch.utils.data import Dataset

from manet_basicsr.data.image_cache import CachedImages
from manet_basicsr.data.images import BadSampleError, ImageFolder, ImageLmdb, image_to_tensor, open_images
from manet_basicsr.data.manifest import read_manifest
from manet_basicsr.data.on_host import OnHost
from manet_basicsr.data.sampling import SampleIndex, sample_generator
from manet_basicsr.degradation import FixedSampler, invariant_protocol_parameters
from manet_basicsr.degradation.kernels import check_kernel_grid
from manet_basicsr.degradation.pipeline import Degradation
from manet_basicsr.utils.memory import memory_size
from manet_basicsr.utils.messages import unknown_name

PHASES = ('train', 'val', 'test')
#: Where images are degraded: by the loader's workers, or a batch at a time on the model's device.
DEGRADE_ON = ('loader', 'device')
#: What becomes of a training sample whose image is damaged or too small.
ON_BAD_SAMPLE = ('raise', 'skip')
# So many in a row are no accident.
_MOST_REPLACED = 100
# Stands in for a field where other keys are checked.
_ANY_FIELD = {'type': 'fixed', 'variances': [1, 1], 'angle': 0}


def _nine_fields(scale: int) -> list[FixedSampler]:
    """Give the fixed fields of the invariant protocol, in the order of the suffixes ``_k0`` .. ``_k8``."""
    rows = invariant_protocol_parameters(scale).tolist()
    return [FixedSampler(variances=(first, second), angle=angle) for first, second, angle in rows]


def _is_invariant_protocol(degradation: Mapping[str, Any]) -> bool:
    field = degradation.get('field')
    return isinstance(field, Mapping) and field.get('type') == 'protocol' and field.get('kind') == 0


def _build_degradations(options: Mapping[str, Any], scale: int) -> list[Degradation]:
    """Build the degradations that each image gets: one, or for protocol kind 0 the nine invariant kernels."""
    if not _is_invariant_protocol(options):
        return [Degradation.from_options(options)]
    unknown = set(options['field']) - {'type', 'kind'}
    if unknown:
        raise ValueError(f"degradation.field: unknown key '{unknown.pop()}', expected type, kind")
    first, *others = _nine_fields(scale)
    begin = {'type': 'fixed', 'variances': list(first.variances), 'angle': first.angle}
    degradation = Degradation.from_options({**options, 'field': begin})
    return [degradation, *(dataclasses.replace(degradation, sampler=field) for field in others)]


@DATASET_REGISTRY.register()
class SVDegradationDataset(Dataset[dict[str, Any]]):
    """Images with the kernel fields behind them: degraded on the fly, from a test set on disk, or real LR images.

    What a sample is made of follows from the keys given:

    - ``dataroot_gt`` and ``degradation``: HR images are degraded as drawn. In training, crops of ``gt_size``, flipped
      and turned before the kernel is drawn; otherwise whole images, with draws that depend on the index alone.
    - ``dataroot_gt``, ``dataroot_lq`` and ``kernels`` (a manifest of make_testset.py): LR files with their true
      kernels; without ``kernels``, pairs of the same name.
    - ``dataroot_lq``: real LR images.

    A sample has ``lq`` (3, h, w) and, where they are known, ``gt`` (3, H, W) and ``kernel`` (k*k, 1, 1) or (k*k, h, w);
    float32, images RGB in [0, 1]; and ``lq_path``, ``gt_path``. With ``degrade_on: device``, which is for training, it
    has what RestorationModel makes these of instead (see :meth:`crop_sample`).

    With ``on_bad_sample: skip``, also for training, the next image stands in for one that is damaged or too small, with
    the same draws, so that a run stays the same for any number of workers; :meth:`bad_samples` counts them.

    Args:
        opt: BasicSR's keys of a dataset (``phase``, ``scale``, ``dataroot_gt``, ``dataroot_lq``, ``io_backend``,
            ``meta_info_file``, ``gt_size``, ``use_hflip``, ``use_rot``), ``degradation``, ``degrade_on``,
            ``on_bad_sample``, ``cache`` (memory for decoded images, such as ``4G``, for training) and ``kernels``. A
            dataroot that ends in ``.lmdb`` is an LMDB.

    Raises:
        ValueError: The keys do not fit together, or one has a wrong value.
        FileNotFoundError: A folder, database or manifest does not exist.
    """

    #: Keys of the options beside those that every BasicSR dataset and loader has.
    KEYS = frozenset(
        'dataroot_gt dataroot_lq io_backend meta_info_file gt_size use_hflip use_rot degradation degrade_on '
        'on_bad_sample cache kernels'.split()
    )

    def __init__(self, opt: dict[str, Any]) -> None:
        self.check(opt)
        self.opt = opt
        self.scale: int = opt['scale']
        self.is_train = opt['phase'] == 'train'
        self.degrades_on_device = opt.get('degrade_on') == 'device'
        images, self.gt_images = self.open_sets(opt)
        self.images = CachedImages(images, memory_size(opt['cache'])) if opt.get('cache') else images
        self.manifest = read_manifest(opt['kernels']) if opt.get('kernels') else None
        self.degradations = [] if opt.get('dataroot_lq') else _build_degradations(opt['degradation'], self.scale)
        self._check_pairs()
        self.skips_bad_samples = opt.get('on_bad_sample') == 'skip'
        # A mark for each sample, in memory that a loader's workers share: marking twice does no harm.
        self._bad = torch.zeros(len(self) if self.skips_bad_samples else 0, dtype=torch.bool).share_memory_()

    @staticmethod
    def open_sets(opt: Mapping[str, Any]) -> tuple[ImageFolder | ImageLmdb, ImageFolder | ImageLmdb | None]:
        """Open the images that are counted (LR images, or HR images to degrade), and the HR images of known LR images.

        Raises:
            ValueError: There are none.
            FileNotFoundError: A folder, database or list of images does not exist.
        """
        backend = opt.get('io_backend') or {}
        as_lmdb = {'lmdb': backend.get('type') == 'lmdb', 'readahead': backend.get('readahead', False)}
        gt_root, lq_root = opt.get('dataroot_gt'), opt.get('dataroot_lq')
        images = open_images(lq_root or opt['dataroot_gt'], opt.get('meta_info_file'), **as_lmdb)
        return images, open_images(gt_root, **as_lmdb) if lq_root and gt_root else None

    @classmethod
    def check(cls, opt: Mapping[str, Any]) -> None:
        """Check the options without opening images; files of kernels are read.

        Raises:
            ValueError: The keys do not fit together, or have wrong values; with every problem.
        """
        found = list(cls.problems(opt))
        if found:
            raise ValueError('; '.join(found))

    @staticmethod
    def problems(opt: Mapping[str, Any]) -> Iterator[str]:
        """List everything wrong with the options, without opening images."""
        scale, phase = opt.get('scale'), opt.get('phase')
        if phase not in PHASES:
            yield f'phase: found {phase!r}, expected one of {", ".join(PHASES)}'
        scale_known = isinstance(scale, int) and not isinstance(scale, bool) and scale >= 1
        if not scale_known:
            yield f'scale: found {scale!r}, expected a whole number of at least 1'
        for key in ('dataroot_gt', 'dataroot_lq', 'meta_info_file', 'kernels'):
            if opt.get(key) is not None and not isinstance(opt[key], (str, os.PathLike)):
                yield f'{key}: found {opt[key]!r}, expected one path'
        backend = opt.get('io_backend')
        if backend is not None and (not isinstance(backend, Mapping) or backend.get('type') not in ('disk', 'lmdb')):
            yield f'io_backend: found {backend!r}, expected {{type: disk}} or {{type: lmdb}}'
        gt_root, lq_root, degradation = opt.get('dataroot_gt'), opt.get('dataroot_lq'), opt.get('degradation')
        if not gt_root and not lq_root:
            yield 'dataroot_gt: missing; expected dataroot_gt, dataroot_lq or both'
        if degradation is not None and lq_root:
            yield 'degradation: given beside dataroot_lq, whose images are already degraded; remove one'
        elif degradation is not None and not isinstance(degradation, Mapping):
            yield f'degradation: found {degradation!r}, expected a section'
        elif degradation is not None and scale_known:
            yield from _degradation_problems(degradation, int(scale or 0))
        elif degradation is None and gt_root and not lq_root:
            yield 'degradation: missing; dataroot_gt alone needs it'
        if opt.get('kernels') and not (gt_root and lq_root):
            yield 'kernels: a manifest needs both dataroot_gt and dataroot_lq'
        yield from _choice_of_training_problems(opt, 'degrade_on', DEGRADE_ON)
        yield from _choice_of_training_problems(opt, 'on_bad_sample', ON_BAD_SAMPLE)
        yield from _cache_problems(opt)
        if phase == 'train' and scale_known:
            yield from _training_problems(opt, int(scale or 0))

    def _check_pairs(self) -> None:
        """Check that each LR image has its entry in the manifest and its HR image."""
        if self.manifest is not None:
            self.manifest.check_scale(self.scale, self.opt['kernels'])
            for name in self.images.names:
                if name not in self.manifest.images:
                    raise ValueError(f"{self.images.describe(name)}: '{name}' is not in {self.opt['kernels']}")
        if self.gt_images is not None:
            known = set(self.gt_images.names)
            for name in self.images.names:
                gt_name = self._gt_name_of_lq(name)
                if gt_name not in known:
                    raise ValueError(f"{self.images.describe(name)}: no image '{gt_name}' in {self.gt_images.root}")

    def _gt_name_of_lq(self, lq_name: str) -> str:
        return self.manifest.images[lq_name].gt if self.manifest is not None else lq_name

    def __len__(self) -> int:
        return len(self.images.names) * max(1, len(self.degradations))

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f'sample {index} of {len(self)}')
        if not self.skips_bad_samples:
            return self._sample(index)
        attempts = min(len(self), _MOST_REPLACED)
        for step in range(attempts):
            other = (int(index) + step) % len(self)
            try:
                return self._sample(SampleIndex(other, index.seed) if isinstance(index, SampleIndex) else other)
            except BadSampleError as error:
                self._bad[other] = True
                last = error
        raise BadSampleError(f'{attempts} samples in a row are bad, the last one: {last}') from last

    def _sample(self, index: int) -> dict[str, Any]:
        if not self.degradations:
            return self._read_sample(self.images.names[index])
        if self.is_train:
            generator = sample_generator(index, random_without_seed=True)
            if self.degrades_on_device:
                return self.crop_sample(index, generator)
            return self.degrade_sample(index, generator)[0]
        return self.degrade_sample(index, sample_generator(int(index)))[0]

    def bad_samples(self) -> list[int]:
        """List the samples that this process and its workers replaced so far, with ``on_bad_sample: skip``."""
        return self._bad.nonzero()[:, 0].tolist()

    def describe_bad_sample(self, index: int) -> str:
        """Say what is wrong with a sample, by reading it again."""
        try:
            self._sample(SampleIndex(index, 0))
        except BadSampleError as error:
            return str(error)
        return f'{self.images.describe(self.gt_name(index))}: can be read by now'

    def _read_sample(self, name: str) -> dict[str, Any]:
        """Read an LR image, and its HR image and kernels where they are known."""
        lq = image_to_tensor(self.images.read(name))
        sample: dict[str, Any] = {'lq': lq, 'lq_path': self.images.path(name)}
        if self.gt_images is None:
            return sample
        height, width = (side * self.scale for side in lq.shape[1:])
        gt_name = self._gt_name_of_lq(name)
        gt = image_to_tensor(self.gt_images.read(gt_name))
        if gt.shape[1] // self.scale != lq.shape[1] or gt.shape[2] // self.scale != lq.shape[2]:
            raise BadSampleError(
                f'{self.images.describe(name)} has {lq.shape[2]}x{lq.shape[1]} px, '
                f'{self.gt_images.describe(gt_name)} {gt.shape[2]}x{gt.shape[1]}: expected the scale {self.scale}'
            )
        sample.update(gt=gt[:, :height, :width], gt_path=self.gt_images.path(gt_name))
        if self.manifest is not None:
            try:
                sample['kernel'] = self.manifest.field(name, height, width)[0]
            except ValueError as error:
                raise BadSampleError(f"{self.opt['kernels']}, '{name}': {error}") from error
        return sample

    def gt_name(self, index: int) -> str:
        """Give the name of the HR image that a sample is degraded from."""
        return self.images.names[int(index) // len(self.degradations)]

    def lq_suffix(self, index: int) -> str:
        """Give what the name of a degraded sample has behind that of its HR image: ``_k0`` .. ``_k8``, or nothing."""
        return f'_k{int(index) % len(self.degradations)}' if len(self.degradations) > 1 else ''

    def degrade_sample(self, index: int, generator: torch.Generator) -> tuple[dict[str, Any], torch.Tensor]:
        """Read an HR image and degrade it.

        Args:
            index: Of the sample.
            generator: Draws crop, kernels, noise and quality.

        Returns:
            The sample, and the parameters ``(rows, cols, P)`` that its field was made of.

        Raises:
            BadSampleError: The image is damaged or too small.
        """
        degradation = self.degradations[int(index) % len(self.degradations)]
        path = self.images.path(self.gt_name(index))
        gt = self._read_gt(self.gt_name(index), generator)
        parameters = degradation.draw_parameters(gt.shape[1], gt.shape[2], self.scale, generator)
        field = degradation.make_field(parameters, gt.shape[1], gt.shape[2], self.scale)
        lq = degradation.degrade(gt, field, self.scale, generator)
        stem, suffix = os.path.splitext(path)
        lq_path = f'{stem}{self.lq_suffix(index)}{suffix}'
        return {'gt': gt, 'lq': lq, 'kernel': field[0], 'gt_path': path, 'lq_path': lq_path}, parameters

    def crop_sample(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Read a training crop and draw how to degrade it, which is left to the device.

        Args:
            index: Of the sample.
            generator: Draws crop, kernels and noise level, the same as for :meth:`degrade_sample`.

        Returns:
            ``gt_uint8`` (3, H, W); ``kernel_parameters`` (rows, cols, P), as :class:`OnHost` as another image's may
            have another shape; ``levels`` (3,) of noise and JPEG; and ``noise_seed`` (1,). Collation and
            prefetching leave parameters and seed on the host, where they are needed.

        Raises:
            BadSampleError: The image is damaged or too small, or has more than 8 bits.
        """
        name = self.gt_name(index)
        crop = self._read_crop(name, generator)
        if crop.dtype != np.uint8:
            raise BadSampleError(f'{self.images.describe(name)}: 16-bit images need degrade_on: loader')
        degradation = self.degradations[0]
        parameters = degradation.draw_parameters(crop.shape[0], crop.shape[1], self.scale, generator)
        path = self.images.path(name)
        return {
            'gt_uint8': torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))),
            'kernel_parameters': OnHost(parameters),
            'levels': torch.tensor(degradation.draw_levels(generator)),
            'noise_seed': OnHost(torch.randint(2**62, (1,), generator=generator)),
            'gt_path': path,
            'lq_path': path,
        }

    def _read_crop(self, name: str, generator: torch.Generator) -> np.ndarray:
        return self.images.read(name, lambda image: self._crop(image, name, generator))

    def _read_gt(self, name: str, generator: torch.Generator) -> torch.Tensor:
        """Read an HR image: in training a random crop of it, otherwise the whole, cut to a multiple of the scale."""
        if self.is_train:
            return image_to_tensor(self._read_crop(name, generator))
        gt = image_to_tensor(self.images.read(name))
        height, width = (side // self.scale * self.scale for side in gt.shape[1:])
        if min(height, width) == 0:
            found = f'{gt.shape[2]}x{gt.shape[1]} px'
            raise BadSampleError(f'{self.images.describe(name)}: {found} is smaller than the scale {self.scale}')
        return gt[:, :height, :width].contiguous()

    def _crop(self, image: np.ndarray, name: str, generator: torch.Generator) -> np.ndarray:
        """Cut a random square of ``gt_size`` px, flipped and turned as the options allow."""
        size = self.opt['gt_size']
        height, width = image.shape[:2]
        if min(height, width) < size:
            raise BadSampleError(f'{self.images.describe(name)}: {width}x{height} px is smaller than gt_size {size}')
        draw = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        top, left = int(draw[0] * (height - size + 1)), int(draw[1] * (width - size + 1))
        crop = image[top : top + size, left : left + size]
        if self.opt.get('use_hflip') and draw[2] < 0.5:
            crop = crop[:, ::-1]
        if self.opt.get('use_rot') and draw[3] < 0.5:  # as in BasicSR, rotation is a flip and a transposition
            crop = crop[::-1]
        if self.opt.get('use_rot') and draw[4] < 0.5:
            crop = crop.transpose(1, 0, 2)
        return crop


def _degradation_problems(options: Mapping[str, Any], scale: int) -> Iterator[str]:
    """List everything wrong with a ``degradation`` section: each key by itself, then all together."""
    parts: list[dict[str, Any]] = [{'field': options['field']} if 'field' in options else {}]
    parts += [{'field': _ANY_FIELD, key: value} for key, value in options.items() if key != 'field']
    found = False
    for part in parts:
        try:
            _build_degradations(part, scale)
        except (ValueError, TypeError, OverflowError) as error:
            yield str(error)
            found = True
    if found:
        return
    degradation = _build_degradations(options, scale)[0]
    try:
        check_kernel_grid(degradation.kernel_size, scale, degradation.alignment)
    except ValueError as error:
        yield f'degradation.{error}'
        return
    try:
        degradation.sampler.check(degradation.kernel_size, scale)
    except ValueError as error:
        yield f'degradation.field.{error}'


def _choice_of_training_problems(opt: Mapping[str, Any], key: str, choices: tuple[str, str]) -> Iterator[str]:
    """Check a key that names one of two things to do, the second in training only."""
    default, other = choices
    value = opt.get(key, default)
    if value not in choices:
        yield unknown_name(key, value, choices)
    elif value == other and opt.get('phase') != 'train':
        yield f'{key}: {other} is for training, expected {default}'


def _cache_problems(opt: Mapping[str, Any]) -> Iterator[str]:
    if opt.get('cache') is None:
        return
    try:
        memory_size(opt['cache'])
    except ValueError as error:
        yield f'cache: {error}'
    if opt.get('phase') != 'train':
        yield f'cache: found {opt["cache"]}, expected none: images are read once where nothing is trained'


def _training_problems(opt: Mapping[str, Any], scale: int) -> Iterator[str]:
    if not opt.get('dataroot_gt') or opt.get('dataroot_lq'):
        yield 'dataroot_gt: training degrades HR images on the fly, expected this and degradation, no dataroot_lq'
    size = opt.get('gt_size')
    if not isinstance(size, int) or size < 1 or size % scale:
        yield f'gt_size: found {size!r}, expected HR px, a multiple of the scale {scale}'
    if isinstance(opt.get('degradation'), Mapping) and _is_invariant_protocol(opt['degradation']):
        instead = '{type: invariant, variance: [0.7, 10]}'
        yield f'degradation.field: protocol kind 0 is for tests, expected for training such as {instead}'
