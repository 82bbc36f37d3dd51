"""What a loader gives a model, and what the model needs of it."""

from __future__ import annotations

import os
from typing import Any

from manet_basicsr.utils.errors import BadSampleError

Batch = dict[str, Any]


def sampling_grid(dataset: Any) -> str:
    """Tell the grid of a set's LR images: ``centered`` or ``published``, ``unknown`` for real ones."""
    manifest, degradation = getattr(dataset, 'manifest', None), dataset.opt.get('degradation')
    if manifest is not None:
        return str(manifest.alignment)
    return str(degradation.get('alignment', 'centered')) if degradation else 'unknown'


def image_name(batch: Batch, dataset_opt: dict[str, Any]) -> str:
    """Name the first image of a batch: its place in its folder or LMDB with ``_`` for ``/``, without suffix.

    Subfolders may hold images of one name.

    Args:
        batch: What the loader of the set gave.
        dataset_opt: Options of the set, which tell the folder.
    """
    path: str = batch['lq_path'][0]  # of a file, or a key of an LMDB
    for key in ('dataroot_lq', 'dataroot_gt'):
        folder = os.path.join(dataset_opt.get(key) or '', '')
        if folder and path.startswith(folder):
            path = path.removeprefix(folder)
            break
    else:
        if os.path.isfile(batch.get('gt_path', [path])[0]):
            path = os.path.basename(path)
    return os.path.splitext(path)[0].strip('/').replace('/', '_')


def need(batch: Batch, key: str, purpose: str) -> None:
    """Check that a dataset gives what is needed of it.

    Raises:
        BadSampleError: It does not.
    """
    if key not in batch:
        paths = batch.get('lq_path') or ['a sample']
        raise BadSampleError(f"{paths[0]}: its dataset gives no '{key}', which {purpose} needs")
