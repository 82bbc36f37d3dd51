"""What methods are evaluated under: images, blur, scale, sampling grid and corruption."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as member
from itertools import product
from pathlib import Path
from typing import Any

from manet_basicsr.data.sv_degradation_dataset import SVDegradationDataset
from manet_basicsr.degradation.sampler import build_field_sampler
from manet_basicsr.degradation.sets import PAPER_SETS, SETS, fields_of, parse_corruption
from manet_basicsr.utils.yaml_reading import read_yaml


def _name_of(images: str) -> str:
    """Name a set of images: as their folder or LMDB, whatever the way to it."""
    return Path(os.path.abspath(images)).stem


@dataclass(frozen=True)
class Condition:
    """One cell of the evaluation: an image set, degraded in one way.

    Args:
        images: Folder or LMDB of HR images.
        blur: Name of the kind of blur, as tables show it.
        field: The ``degradation.field`` of an option file that stands for it.
        scale: Downsampling factor.
        alignment: ``centered`` or ``published``.
        corruption: ``clean``, ``noise15``, ``jpeg70``, ``noise15+jpeg70`` and the like.
        kernel_size: Side of the kernels in taps.
    """

    images: str
    blur: str
    field: Mapping[str, Any] = member(hash=False)
    scale: int
    alignment: str = 'centered'
    corruption: str = 'clean'
    kernel_size: int = 21

    @property
    def image_set(self) -> str:
        """Name of the images: that of their folder or LMDB."""
        return _name_of(self.images)

    @property
    def varies(self) -> bool:
        """Whether the kernels of an image may differ."""
        is_invariant_protocol = self.field.get('type') == 'protocol' and self.field.get('kind') == 0
        return not is_invariant_protocol and build_field_sampler(self.field).varies

    def dataset_options(self) -> dict[str, Any]:
        """Give the dataset section of an option file that stands for this condition."""
        noise, jpeg = parse_corruption(self.corruption)
        return {
            'name': f'{self.image_set}_{self.blur}',
            'type': 'SVDegradationDataset',
            'dataroot_gt': self.images,
            'degradation': {
                'kernel_size': self.kernel_size,
                'alignment': self.alignment,
                'field': dict(self.field),
                'noise': noise,
                'jpeg': jpeg,
            },
        }

    def open(self) -> SVDegradationDataset:
        """Open the images as ``basicsr test`` would."""
        return SVDegradationDataset({**self.dataset_options(), 'phase': 'test', 'scale': self.scale})


def parse_fields(entries: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read further sets, each given as ``NAME={type: ..., ...}``.

    Raises:
        ValueError: An entry is no such text, or two sets have one name.
    """
    fields = {}
    for entry in entries:
        name, separator, text = entry.partition('=')
        try:
            field = read_yaml(text)
        except ValueError as error:
            raise ValueError(f"field: found '{entry}', which is no YAML ({error})") from error
        if not separator or not name or not isinstance(field, dict):
            raise ValueError(f"field: found '{entry}', expected NAME={{type: ..., ...}}")
        if name in fields or name in SETS:
            raise ValueError(f"field: the name '{name}' is taken by another set; give another one")
        fields[name] = field
    return fields


def plan_conditions(
    images: Sequence[str | os.PathLike[str]],
    *,
    sets: Sequence[str] = PAPER_SETS,
    scales: Sequence[int] = (4,),
    alignments: Sequence[str] = ('centered',),
    corruptions: Sequence[str] = ('clean',),
    kernel_size: int = 21,
    more_fields: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Condition]:
    """Give every combination of what is asked for, and check it.

    Args:
        images: Folders or LMDBs of HR images.
        sets: Some of :data:`manet_basicsr.degradation.sets.SETS`.
        scales: Downsampling factors.
        alignments: Sampling grids.
        corruptions: As :func:`parse_corruption` reads them.
        kernel_size: Side of the kernels in taps.
        more_fields: Further kinds of blur by name, as ``degradation.field`` of an option file has them.

    Raises:
        ValueError: A name is unknown, a value out of its range, or two image sets have one name.
        FileNotFoundError: There are no such images.
    """
    roots = [os.fspath(root).rstrip('/') for root in images]
    conditions = []
    asked = product(roots, scales, alignments, corruptions)
    for root, scale, alignment, corruption in dict.fromkeys(asked):  # what is asked for twice is done once
        conditions += [
            Condition(root, blur, field, scale, alignment, corruption, kernel_size)
            for blur, field in fields_of(sets, scale, more_fields).items()
        ]
    names = [_name_of(root) for root in dict.fromkeys(roots)]
    if len(set(names)) < len(names):
        raise ValueError(f'images: found two sets of one name in {", ".join(roots)}; rename one')
    for condition in conditions:
        if not os.path.exists(condition.images):
            raise FileNotFoundError(f'{condition.images} does not exist')
        SVDegradationDataset.check({**condition.dataset_options(), 'phase': 'test', 'scale': condition.scale})
    return conditions
