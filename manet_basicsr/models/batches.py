"""What a loader gives a model, and what the model needs of it."""

from __future__ import annotations

from typing import Any

from manet_basicsr.utils.errors import BadSampleError

Batch = dict[str, Any]


def need(batch: Batch, key: str, purpose: str) -> None:
    """Check that a dataset gives what is needed of it.

    Raises:
        BadSampleError: It does not.
    """
    if key not in batch:
        paths = batch.get('lq_path') or ['a sample']
        raise BadSampleError(f"{paths[0]}: its dataset gives no '{key}', which {purpose} needs")
