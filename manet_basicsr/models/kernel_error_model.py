"""Training a network that tells by what a wrong kernel has changed an image."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from manet_basicsr.degradation.gaussian import fixed_field
from manet_basicsr.models.batches import Batch
from manet_basicsr.models.restoration_model import RestorationModel
from manet_basicsr.models.single_kernel_models import true_kernel

#: How much the error of a wrong kernel counts, and that of the true one, which is none.
_WRONG, _TRUE = 0.9, 0.1


@MODEL_REGISTRY.register()
class KernelErrorModel(RestorationModel):
    """Train a ``SRSVDNet``: the error that it predicts for a wrong kernel, and none for the true one.

    The wrong kernel of an image is the true one of another in the batch, or in its part where ``train.accumulate`` cuts
    it: each has at least two. ``train.pixel_opt`` compares errors.

    It is tested as what it can do alone: the image is restored with the kernel in the middle of the training range, and
    the predicted error is taken off.
    """

    USES_KERNELS = True
    TRAIN_KEYS = RestorationModel.TRAIN_KEYS - {'perceptual_opt'}
    LOSS_KEYS = ('pixel_opt',)
    NETWORK_INPUTS = ('lq', 'kernel')
    LEAST_IMAGES = 2

    def predict(self, net: nn.Module, batch: Batch) -> Any:
        """Restore a batch with true and wrong kernels, and predict the errors of both.

        Raises:
            BadSampleError: The batch has no kernels, or several an image.
            ValueError: It is of a single image.
        """
        kernel = true_kernel(batch, 'a network of kernel errors')
        if len(kernel) < self.LEAST_IMAGES:
            raise ValueError('found one image in a batch, or part of it, expected 2: a wrong kernel is that of another')
        lq, wrong = batch['lq'], kernel.roll(1, 0)
        # Both in one pass: processes exchange gradients after a pass.
        sr, error = net(torch.cat((lq, lq)), torch.cat((kernel, wrong)))
        return sr.chunk(2), error.chunk(2)

    def compute_losses(self, output: Any, batch: Batch) -> dict[str, Tensor]:
        """Compare predicted errors with what they are."""
        (right, other), (none, error) = output
        loss = self.losses['pixel']
        return {
            'l_wrong': _WRONG * loss(error, (other - right).detach()),
            'l_true': _TRUE * loss(none, torch.zeros_like(none)),
        }

    def evaluate(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Restore a batch with a fixed kernel, and take the predicted error off."""

        def restore(lq: Tensor, field: Tensor) -> Tensor:
            sr, error = net(lq, field.expand(len(lq), -1, -1, -1))
            return sr - error

        network: Any = net
        field = fixed_field(network.scale, network.kernel_size, network.generator.grid).to(batch['lq'].device)
        return {'sr': self._restore(restore, batch['lq'], field)}
