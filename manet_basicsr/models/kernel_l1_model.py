"""Stage 1: train a kernel estimator with the L1 loss on kernels."""

from __future__ import annotations

import os

import torch
from basicsr.utils import tensor2img
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from manet_basicsr.data.field_files import save_field
from manet_basicsr.degradation import blur_downsample
from manet_basicsr.models.restoration_model import Batch, RestorationModel
from manet_basicsr.utils.files import atomic_path
from manet_basicsr.visualization.pictures import kernels_over_image, write_image


@MODEL_REGISTRY.register()
class KernelL1Model(RestorationModel):
    """Train and test an estimator ``lq -> field`` against the true kernels (MANet, stage 1).

    ``train.kernel_opt`` is the loss on kernels, taken on the LR grid; ``train.lr_image_opt`` a loss on the clean LR
    image that the estimated kernels make out of the HR image (alone it fails, as the paper shows).
    """

    TRAIN_KEYS = RestorationModel.TRAIN_KEYS - {'pixel_opt', 'perceptual_opt'} | {'kernel_opt', 'lr_image_opt'}
    LOSS_KEYS = ('kernel_opt', 'lr_image_opt')

    def compute_losses(self, output: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of a field (B, k*k, h, w), in float32 whatever the precision of the network."""
        losses = {}
        with torch.autocast(output.device.type, enabled=False):
            field = output.float()
            if 'kernel' in self.losses:
                losses['l_kernel'] = self.losses['kernel'](field, batch['kernel'])
            if 'lr_image' in self.losses:
                clean = blur_downsample(batch['gt'], batch['kernel'], self.opt['scale'])
                estimated = blur_downsample(batch['gt'], field, self.opt['scale'])
                losses['l_lr_image'] = self.losses['lr_image'](estimated, clean)
        return losses

    def evaluate(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Estimate the kernel field of a batch."""
        return {'field': self.estimate_field(net, batch['lq'])}

    def save_visuals(self, stem: str) -> None:
        """Save the field (``.npz``) and a picture of its kernels over the LR image (``.png``)."""
        field = self.result['field'][0]
        os.makedirs(os.path.dirname(stem), exist_ok=True)
        degradation = self.dataset_opt.get('degradation')
        alignment = degradation.get('alignment', 'centered') if degradation else 'unknown'
        save_field(f'{stem}.npz', field, scale=self.opt.get('scale', 1), alignment=alignment)
        picture = kernels_over_image(tensor2img(self.batch['lq']), field)
        with atomic_path(f'{stem}.png') as temporary:
            write_image(temporary, picture)
