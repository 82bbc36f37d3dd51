"""Stage 2: train a generator that is given the true kernels."""

from __future__ import annotations

from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from manet_basicsr.models.batches import Batch
from manet_basicsr.models.restoration_model import RestorationModel
from manet_basicsr.utils.errors import BadSampleError


@MODEL_REGISTRY.register()
class KernelConditionedSRModel(RestorationModel):
    """Train and test a generator ``(lq, field) -> sr`` with the true kernel field (MANet, stage 2)."""

    USES_KERNELS = True
    NETWORK_INPUTS = ('lq', 'kernel')

    def predict(self, net: nn.Module, batch: Batch) -> Tensor:
        """Restore a batch with its true kernel field."""
        if 'kernel' not in batch:
            raise BadSampleError(
                f'{batch["lq_path"][0]}: a generator that is given true kernels needs a set with kernels '
                '(degradation, or a manifest under kernels); for images without them use BlindSRNet, stage 3'
            )
        return net(batch['lq'], batch['kernel'])
