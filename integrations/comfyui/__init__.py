"""MANet as nodes of ComfyUI: restore images, and look at the kernels that blurred them.

Copy this folder to ComfyUI's ``custom_nodes`` (as ``manet_basicsr_nodes``, say) and install the package in ComfyUI's
Python: ``pip install .`` in the clone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from manet_basicsr.archs.loading import load_network
from manet_basicsr.restoration.precision import PRECISIONS
from manet_basicsr.restoration.restoring import SMALLEST_TILE, TILE, estimate_field, restore
from manet_basicsr.visualization.pictures import kernels_over_image
from manet_basicsr.weights import SHIPPED

_WEIGHTS = (
    'STRING',
    {'default': f'{SHIPPED}real_x4', 'tooltip': 'file of weights of a blind network, or one that ships'},
)
_TILE = ('INT', {'default': TILE, 'min': SMALLEST_TILE, 'max': 4096, 'step': 16, 'tooltip': 'side in pixels'})


def _planes(image: Tensor) -> Tensor:
    """Turn ComfyUI's images (B, h, w, 3 or 4) into (B, 3, h, w) in [0, 1]; alpha is dropped."""
    return image[..., :3].movedim(-1, 1).float().clamp(0, 1)


class MANetRestore:
    """Super-resolve images with the blur kernels that are found behind each of their pixels."""

    CATEGORY = 'image/upscaling'
    FUNCTION = 'restore'
    RETURN_TYPES = ('IMAGE',)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  (ComfyUI's name)
        """Say what ComfyUI asks the user for."""
        return {
            'required': {'image': ('IMAGE',), 'weights': _WEIGHTS},
            'optional': {'tile': _TILE, 'precision': (list(PRECISIONS), {'default': 'auto'})},
        }

    def restore(self, image: Tensor, weights: str, tile: int = TILE, precision: str = 'auto') -> tuple[Tensor]:
        """Restore images (B, h, w, 3) to (B, s h, s w, 3), one after the other."""
        restored = [
            restore(one[None], weights, tile=tile, precision=precision, field_dtype=None).image
            for one in _planes(image)
        ]
        return (torch.cat(restored).movedim(1, -1).cpu().float(),)


class MANetKernels:
    """Draw the kernels that are found behind the pixels of images over these images."""

    CATEGORY = 'image/analysis'
    FUNCTION = 'draw'
    RETURN_TYPES = ('IMAGE',)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  (ComfyUI's name)
        """Say what ComfyUI asks the user for."""
        across = ('INT', {'default': 12, 'min': 1, 'max': 64, 'tooltip': 'kernels along the longer side'})
        return {'required': {'image': ('IMAGE',), 'weights': _WEIGHTS}, 'optional': {'across': across, 'tile': _TILE}}

    def draw(self, image: Tensor, weights: str, across: int = 12, tile: int = TILE) -> tuple[Tensor]:
        """Draw a picture (B, H, W, 3) of the kernels of images (B, h, w, 3)."""
        estimator = _estimator(weights)
        pictures = []
        for one in _planes(image):
            field = estimate_field(one[None], estimator, tile=tile)[0]
            levels = (one.movedim(0, -1).flip(-1) * 255).round().byte().cpu().numpy()  # BGR, as OpenCV draws
            drawn = kernels_over_image(levels, field, across)
            pictures.append(torch.from_numpy(drawn[..., ::-1].copy()).float() / 255)
        return (torch.stack(pictures),)


def _estimator(weights: str) -> Any:
    network = load_network(weights)
    return getattr(network, 'kernel_estimation', network)


NODE_CLASS_MAPPINGS = {'MANetRestore': MANetRestore, 'MANetKernels': MANetKernels}
NODE_DISPLAY_NAME_MAPPINGS = {'MANetRestore': 'MANet: restore', 'MANetKernels': 'MANet: kernels'}
