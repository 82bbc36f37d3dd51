"""The loop of an evaluation: every image of every condition by every method that fits it, each scored once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from basicsr.metrics.psnr_ssim import calculate_psnr, calculate_ssim
from basicsr.utils import tensor2img

from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset
from manet_basicsr.degradation.kernel_files import kernel_files, paths_of
from manet_basicsr.evaluation.conditions import Condition
from manet_basicsr.evaluation.methods import Method, Prediction
from manet_basicsr.evaluation.records import METRICS, RecordFile, Row, row_key
from manet_basicsr.metrics import calculate_kernel_psnr, calculate_lr_psnr, calculate_lr_ssim
from manet_basicsr.options.errors import OptionError
from manet_basicsr.utils.device import cpu_name
from manet_basicsr.utils.errors import first_line

#: Changed whenever the same configuration would be scored differently.
SCORING_VERSION = 1
Progress = Callable[[Iterator[Any], int], Iterator[Any]]
#: Tells of a method, a condition and the name of a sample whether the one is scored on the other.
Wanted = Callable[[Method, Condition, str], bool]


@dataclass(frozen=True)
class Failure:
    """An image that a method could not be scored on."""

    method: str
    condition: Condition
    sample: str
    error: str

    def __str__(self) -> str:
        place = self.condition
        where = f'{place.image_set} {place.blur} x{place.scale} {place.alignment} {place.corruption}'
        return f'{self.sample} ({where}), {self.method}: {self.error}'


@dataclass
class Evaluation:
    """What an evaluation gave.

    Attributes:
        rows: One for each image, method and condition, in the order of the plan.
        expected: How many there would be without failures, by condition and method.
        failures: What could not be scored.
    """

    rows: list[Row] = field(default_factory=list)
    expected: dict[tuple[Condition, str], int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def machine() -> dict[str, str]:
    """Say what times and memory, and the last digits of networks, depend on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f'cpu ({cpu_name()})'
    return {'device': device, 'threads': str(torch.get_num_threads()), 'torch': torch.__version__}


class _OpenCondition:
    """A condition with its dataset, and the keys of its rows."""

    def __init__(self, condition: Condition, limit: int | None, images: dict[str, Any]) -> None:
        self.condition = condition
        self.dataset: SVDegradationDataset = condition.open()
        # Images are opened once for all conditions of theirs: each opening holds on to an open file.
        self.dataset.images = images.setdefault(condition.images, self.dataset.images)
        copies = len(self.dataset) // len(self.dataset.images.names)
        self.size = len(self.dataset) if limit is None else min(len(self.dataset), limit * copies)

    def sample_name(self, index: int) -> str:
        return f'{self.dataset.gt_name(index)}{self.dataset.lq_suffix(index)}'

    @property
    def labels(self) -> tuple[str, ...]:
        """What tables group and label rows by: a row of another name would be found under the wrong one."""
        condition = self.condition
        return condition.image_set, condition.blur, condition.corruption

    @cached_property
    def description(self) -> dict[str, Any]:
        """What the degraded images depend on, besides the HR images."""
        options = self.condition.dataset_options()
        contents = [_checksum_of_kernels(path) for path in paths_of(options['degradation']['field'])]
        return {'scale': self.condition.scale, 'degradation': options['degradation'], 'bank': contents or None}


def _checksum_of_kernels(path: str) -> str:
    digest = hashlib.sha256()
    for file in kernel_files(path):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


class _ImageChecksums:
    """Checksums of HR images' pixels, each read once; an image that cannot be read has none."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def __call__(self, dataset: SVDegradationDataset, name: str) -> str:
        place = (dataset.images.root, name)
        if place not in self._known:
            try:
                pixels = dataset.images.read(name)
                self._known[place] = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
            except ValueError:
                self._known[place] = 'unreadable'
        return self._known[place]


def evaluate(
    conditions: Sequence[Condition],
    methods: Sequence[Method],
    record_path: Path,
    *,
    limit: int | None = None,
    wanted: Wanted = lambda method, condition, sample: True,
    progress: Progress = lambda steps, total: steps,
) -> Evaluation:
    """Score every image of every condition by every method that fits it, except where the record has it already.

    Each image is degraded once for all methods. A row is found again by a hash of all it depends on: the image's
    pixels, its number in the set, the degradation, the method with the checksums of its weights, the machine and the
    version of this package. A failure does not end the evaluation, and is tried again the next time.

    Args:
        conditions: What to evaluate under.
        methods: What to evaluate.
        record_path: The record, made if missing.
        limit: Images of each set to evaluate; None for all.
        wanted: Leaves out samples of a method, such as most of those of a slow one; their numbers, of which random
            draws depend, stay.
        progress: Wraps the iteration over the images, given with their number.

    Returns:
        The rows, old and new, and the failures.

    Raises:
        OptionError: A method cannot be built, or fits none of the conditions.
        ValueError: The record is damaged, in use or cannot be written, there are no images, or the limit is below 1.
        FileNotFoundError: There are no such images.
    """
    if limit is not None and limit < 1:
        raise ValueError(f'limit: found {limit}, expected at least 1 image of each set, or none for all')
    images: dict[str, Any] = {}
    opened = [_OpenCondition(condition, limit, images) for condition in conditions]
    fingerprints = [(method, {'name': method.name, **method.fingerprint()}) for method in methods]
    for name in {method.name for method in methods}:
        namesakes = [method for method in methods if method.name == name]
        if not any(method.fits(condition) for method in namesakes for condition in conditions):
            made_for = 'another scale or alignment, or one kernel an image'
            raise OptionError([f'{name}: fits none of the conditions; it is for {made_for}'])
        if any(sum(method.fits(condition) for method in namesakes) > 1 for condition in conditions):
            raise OptionError([f'{name}: two methods of this name fit one condition; give one another: NAME=FILE.yml'])
    result = Evaluation()
    with RecordFile(record_path) as record:
        steps = _plan(opened, fingerprints, wanted, result)
        known = record.rows
        missing = ((place, index, [(m, key) for m, key in todo if key not in known]) for place, index, todo in steps)
        pending = [step for step in missing if step[2]]
        for place, _, todo in pending:
            for method, _ in todo:
                method.load(place.condition)
        for place, index, todo in progress(iter(pending), len(pending)):
            result.failures += _score_sample(place, index, todo, record)
        result.rows = [record.rows[key] for _, _, todo in steps for _, key in todo if key in record.rows]
    return result


#: A sample of a condition, by its number, and the methods to score on it with the keys of their rows.
_Step = tuple[_OpenCondition, int, list[tuple[Method, str]]]


def _plan(
    opened: Sequence[_OpenCondition],
    fingerprints: Sequence[tuple[Method, dict[str, Any]]],
    wanted: Wanted,
    result: Evaluation,
) -> list[_Step]:
    """List what is to be scored, and note in the result how many rows of each condition and method there should be."""
    checksums, surroundings = _ImageChecksums(), {**machine(), 'version': _version(), 'scoring': SCORING_VERSION}
    steps: list[_Step] = []
    for place in opened:
        fitting = [(method, words) for method, words in fingerprints if method.fits(place.condition)]
        counts = dict.fromkeys([method.name for method, _ in fitting], 0)
        for index in range(place.size):
            name = place.sample_name(index)
            todo = [(method, words) for method, words in fitting if wanted(method, place.condition, name)]
            if not todo:
                continue
            checksum = checksums(place.dataset, place.dataset.gt_name(index))
            parts = (place.labels, place.description, checksum, name, index, surroundings)
            steps.append((place, index, [(method, row_key(words, *parts)) for method, words in todo]))
            counts.update({method.name: counts[method.name] + 1 for method, _ in todo})
        result.expected.update({(place.condition, name): count for name, count in counts.items() if count})
    return steps


def _version() -> str:
    from manet_basicsr import __version__

    return __version__


def _score_sample(
    place: _OpenCondition, index: int, todo: Sequence[tuple[Method, str]], record: RecordFile
) -> list[Failure]:
    """Degrade one image and score it by each method."""
    name, failures = place.sample_name(index), []
    try:
        sample = place.dataset[index]
    except (ValueError, OSError) as error:
        return [Failure(method.name, place.condition, name, str(error)) for method, _ in todo]
    for method, key in todo:
        try:
            prediction = method.predict(sample, place.condition)
            scores = score_sample(sample, prediction, place.condition.scale)
        except Exception as error:  # one image of one method, whatever is wrong with it, must not cost the others
            failures.append(Failure(method.name, place.condition, name, first_line(error)))
        else:
            record.append(_row(key, method, place.condition, name, scores))
    return failures


def _row(key: str, method: Method, condition: Condition, sample: str, scores: Row) -> Row:
    return {
        'key': key,
        'images': condition.image_set,
        'set': condition.blur,
        'scale': condition.scale,
        'alignment': condition.alignment,
        'corruption': condition.corruption,
        'method': method.name,
        'sample': sample,
        **scores,
    }


def score_sample(sample: Row, prediction: Prediction, scale: int) -> Row:
    """Score a prediction as the validation of RestorationModel does: 8-bit images on Y, with a border of ``scale``."""
    scores: Row = dict.fromkeys(METRICS)
    cost = prediction.cost
    scores.update(seconds=cost.seconds, cpu_seconds=cost.cpu_seconds, peak_mib=cost.peak_mib)
    if prediction.sr is not None:
        pair = tensor2img(prediction.sr), tensor2img(sample['gt'])
        scores['psnr'] = float(calculate_psnr(*pair, crop_border=scale, test_y_channel=True))
        scores['ssim'] = float(calculate_ssim(*pair, crop_border=scale, test_y_channel=True))
    if prediction.field is not None:
        known = {'field': prediction.field.cpu(), 'field_gt': sample['kernel']}
        scores['kernel_psnr'] = calculate_kernel_psnr(**known)
        scores['lr_psnr'] = calculate_lr_psnr(**known, gt=sample['gt'], scale=scale)
        scores['lr_ssim'] = calculate_lr_ssim(**known, gt=sample['gt'], scale=scale)
    broken = [metric for metric in METRICS if isinstance(scores[metric], float) and math.isnan(scores[metric])]
    if broken:
        raise ValueError(f'{", ".join(broken)}: not a number')
    return scores
