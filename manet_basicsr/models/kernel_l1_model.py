"""Stage 1: train a kernel estimator with the L1 loss on kernels."""

from __future__ import annotations

import os
from typing import Protocol, runtime_checkable

import torch
from basicsr.utils import imwrite, tensor2img
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from manet_basicsr.data.field_files import save_field
from manet_basicsr.degradation import blur_downsample
from manet_basicsr.losses import IndirectLoss
from manet_basicsr.models.batches import Batch, need
from manet_basicsr.models.restoration_model import RestorationModel
from manet_basicsr.visualization.pictures import kernels_over_image


@runtime_checkable
class LogitEstimator(Protocol):
    """An estimator of fields that gives its logits: ``net(lq, as_logits=True)``."""

    def field_of_logits(self, logits: Tensor) -> Tensor:
        """Make the kernel field (B, k*k, h, w) of logits of that shape."""


@MODEL_REGISTRY.register()
class KernelL1Model(RestorationModel):
    """Train and test an estimator ``lq -> field`` against the true kernels (MANet, stage 1).

    ``train.kernel_opt`` is the loss on kernels, taken on the LR grid; ``train.lr_image_opt`` a loss on the clean LR
    image that the estimated kernels make out of the HR image (the paper found that it fails alone);
    ``train.indirect_opt`` an :class:`IndirectLoss`, on the image that a frozen generator makes with them.
    """

    USES_KERNELS = True
    LOSS_KEYS = ('kernel_opt', 'lr_image_opt', 'indirect_opt')
    TRAIN_KEYS = RestorationModel.TRAIN_KEYS - {'pixel_opt', 'perceptual_opt'} | {*LOSS_KEYS}

    def init_training_settings(self) -> None:
        """Set up what RestorationModel does; the losses take logits where the network gives them."""
        super().init_training_settings()
        indirect = self.losses.get('indirect')
        if not isinstance(indirect, IndirectLoss | None):
            raise ValueError(f'train.indirect_opt.type: found {type(indirect).__name__}, expected IndirectLoss')
        network = self.get_bare_model(self.net_g)
        takes_logits = hasattr(self.losses.get('kernel'), 'from_logits')
        self.logit_network = network if takes_logits and isinstance(network, LogitEstimator) else None

    def predict(self, net: nn.Module, batch: Batch) -> Tensor:
        """Estimate the field of a batch, or its logits where the kernel loss takes them."""
        field: Tensor = net(batch['lq']) if self.logit_network is None else net(batch['lq'], as_logits=True)
        return field

    def compute_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of what :meth:`predict` gave, in float32 whatever the precision of the network.

        Raises:
            BadSampleError: The batch has no kernels, or no HR image for a loss on images.
        """
        need(batch, 'kernel', 'a loss on kernels')
        if 'lr_image' in self.losses:
            need(batch, 'gt', 'a loss on images')
        losses = {}
        with torch.autocast(output.device.type, enabled=False):
            if 'kernel' in self.losses:
                loss = self.losses['kernel']
                as_logits = self.logit_network is not None
                losses['l_kernel'] = (loss.from_logits if as_logits else loss)(output, batch['kernel'])
            if 'lr_image' in self.losses:
                clean = blur_downsample(batch['gt'], batch['kernel'], self.opt['scale'])
                # The field is made again in the backward pass: kept, it would be the largest tensor of the step.
                estimated = checkpoint(
                    self._lr_images, output, batch['gt'], use_reentrant=False, preserve_rng_state=False
                )
                losses['l_lr_image'] = self.losses['lr_image'](estimated, clean)
        if 'indirect' in self.losses:  # in the precision of networks: there is one in it
            losses['l_indirect'] = self.losses['indirect'](self._field(output), batch['kernel'], batch['lq'])
        return losses

    def _lr_images(self, output: Tensor, gt: Tensor) -> Tensor:
        return blur_downsample(gt, self._field(output), self.opt['scale'])

    def _field(self, output: Tensor) -> Tensor:
        return output.float() if self.logit_network is None else self.logit_network.field_of_logits(output)

    def evaluate(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Estimate the kernel field of a batch."""
        return {'field': self.estimate_field(net, batch['lq'])}

    def save_visuals(self, stem: str) -> None:
        """Save the field (``.npz``) and a picture of its kernels over the LR image (``.png``)."""
        field = self.result['field'][0]
        os.makedirs(os.path.dirname(stem), exist_ok=True)
        save_field(f'{stem}.npz', field, scale=self.opt.get('scale', 1), alignment=self.alignment)
        picture = kernels_over_image(tensor2img(self.batch['lq']), field)
        imwrite(picture, f'{stem}.png')
