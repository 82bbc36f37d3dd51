"""Training networks that find one kernel an image: IKC, whose generator is frozen, and DAN, trained as a whole."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from manet_basicsr.models.batches import Batch, need
from manet_basicsr.models.restoration_model import RestorationModel
from manet_basicsr.utils.errors import BadSampleError


def true_kernel(batch: Batch, purpose: str) -> Tensor:
    """Give the kernels (B, k*k, 1, 1) of a batch.

    Raises:
        BadSampleError: It has none, or several an image.
    """
    need(batch, 'kernel', purpose)
    kernel: Tensor = batch['kernel']
    if kernel.shape[-2:] != (1, 1):
        raise BadSampleError(
            f'{batch["lq_path"][0]}: {purpose} needs one kernel an image, found a field of {kernel.shape[-2]} x '
            f'{kernel.shape[-1]}; train on degradation.field {{type: invariant, ...}}'
        )
    return kernel


@MODEL_REGISTRY.register()
class IKCModel(RestorationModel):
    """Train and test an ``IKCNet`` (CVPR 2019): its predictor and corrector, by the codes of the true kernels.

    ``train.code_opt`` is a loss on kernel codes, summed over the prediction and every correction. The release makes a
    step of the optimizer after each correction; here there is one step a batch.
    """

    USES_KERNELS = True
    NETWORK_SWITCHES = ('as_codes',)
    TRAIN_KEYS = RestorationModel.TRAIN_KEYS - {'pixel_opt', 'perceptual_opt'} | {'code_opt'}
    LOSS_KEYS = ('code_opt',)

    def predict(self, net: nn.Module, batch: Batch) -> Tensor:
        """Give the codes (T + 1, B, L) of a batch."""
        codes: Tensor = net(batch['lq'], as_codes=True)
        return codes

    def compute_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compare the codes of prediction and corrections with the true one, in float32.

        Raises:
            BadSampleError: The batch has no kernels, or several an image.
        """
        network: Any = self.get_bare_model(self.net_g)
        with torch.autocast(output.device.type, enabled=False):
            true = network.generator.kernel_code(true_kernel(batch, 'a loss on codes')).flatten(1)
            losses = [self.losses['code'](code.float(), true.expand_as(code)) for code in output]
        return {'l_predicted': losses[0], 'l_corrected': torch.stack(losses[1:] or [0 * losses[0]]).sum()}


@MODEL_REGISTRY.register()
class DANModel(RestorationModel):
    """Train and test a ``DANNet`` as a whole (DAN, NeurIPS 2020): by its image and the kernel it estimates of it.

    Losses as those of RestorationModel, and ``train.kernel_opt`` on kernels; one of each kind is needed.
    """

    USES_KERNELS = True
    NETWORK_SWITCHES = ('with_field',)
    TRAIN_KEYS = RestorationModel.TRAIN_KEYS | {'kernel_opt'}
    LOSS_KEYS = (*RestorationModel.LOSS_KEYS, 'kernel_opt')
    LOSSES_NEEDED = (('kernel_opt',), RestorationModel.LOSS_KEYS)  # neither reaches all of the network

    def predict(self, net: nn.Module, batch: Batch) -> Any:
        """Give the SR images of a batch and the kernels (B, k*k, 1, 1) that are estimated of them."""
        return net(batch['lq'], with_field=True)

    def compute_losses(self, output: Any, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of what :meth:`predict` gave.

        Raises:
            BadSampleError: The batch has no kernels, several an image, or no HR image.
        """
        sr, field = output
        losses = super().compute_losses(sr, batch)
        if 'kernel' in self.losses:
            losses['l_kernel'] = self.losses['kernel'](field, true_kernel(batch, 'a loss on kernels'))
        return losses
