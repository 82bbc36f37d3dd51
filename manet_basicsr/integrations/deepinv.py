"""MANet for deepinv: spatially variant blur as a linear operator, and its kernels estimated from the measurement.

physics = SpatiallyVariantBlur(scale=4)
physics.update(**KernelFieldEstimator()(y))
x = physics.A_dagger(y)
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

import manet_basicsr  # noqa: F401  (repairs the stack before deepinv imports torchvision)
from manet_basicsr.archs.blind_sr_arch import BlindSRNet
from manet_basicsr.archs.loading import load_network
from manet_basicsr.archs.protocols import FieldEstimator
from manet_basicsr.degradation.blur import blur_downsample
from manet_basicsr.weights import SHIPPED

try:
    from deepinv.physics import LinearPhysics
except ImportError as error:
    raise ImportError(f'deepinv cannot be imported ({error}); pip install .[deepinv] in the clone') from error


class SpatiallyVariantBlur(LinearPhysics):
    """Blur with a kernel for each LR pixel, and downsampling: ``y = A(x)`` is :func:`blur_downsample`.

    ``y[b, c, i, j] = sum over (u, v) of field[b, (u, v), i, j] x[b, c, s i + u - k//2, s j + v - k//2]``, with border
    pixels repeated outside; the adjoint adds ``field[b, (u, v), i, j] y[b, c, i, j]`` back at those places.

    Args:
        field: Kernel field ``(B, k*k, h, w)`` or ``(B, k*k, 1, 1)``, or None to give it later, with
            ``physics.update(field=...)`` or in each call.
        scale: Downsampling factor s.
        size: Height and width of x where they are no multiples of the scale, for the adjoint; None for s times y.
        **kwargs: deepinv's own, such as ``noise_model``, ``max_iter``, ``device``.

    Raises:
        ValueError: On use: there is no field, or as :func:`blur_downsample` does.
    """

    def __init__(
        self, field: Tensor | None = None, scale: int = 4, size: tuple[int, int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.size = size
        self.register_buffer('field', field)
        self.to(kwargs.get('device', 'cpu'))

    def A(self, x: Tensor, field: Tensor | None = None, **kwargs: Any) -> Tensor:  # noqa: N802  (deepinv's name)
        """Blur and downsample (B, C, H, W) to (B, C, H//s, W//s); a field that is given is kept."""
        return blur_downsample(x, self._field(field, kwargs), self.scale)

    def A_adjoint(self, y: Tensor, field: Tensor | None = None, **kwargs: Any) -> Tensor:  # noqa: N802
        """Apply the transpose to (B, C, h, w), which gives (B, C, s h, s w); a field that is given is kept."""
        size = self.size or (y.shape[2] * self.scale, y.shape[3] * self.scale)
        adjoint: Tensor = _Adjoint.apply(y, self._field(field, kwargs), self.scale, size)
        return adjoint

    def _field(self, field: Tensor | None, kwargs: dict[str, Any]) -> Tensor:
        self.update_parameters(field=field, **kwargs)
        if self.field is None:
            raise ValueError('the blur has no kernels: give physics.update(field=...), or field= in the call')
        known: Tensor = self.field
        return known


class _Adjoint(torch.autograd.Function):
    """The transpose of the blur, whose own transpose is the blur; it gives no gradients of the field."""

    @staticmethod
    def forward(ctx: FunctionCtx, y: Tensor, field: Tensor, scale: int, size: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(field)
        ctx.scale = scale  # type: ignore[attr-defined]
        with torch.inference_mode(False), torch.enable_grad():
            # What was made in inference mode is not kept for a backward pass; a copy made here is.
            kept = field.clone() if field.is_inference() else field.detach()
            x = y.new_zeros(*y.shape[:2], *size, requires_grad=True)
            blurred = blur_downsample(x, kept, scale)
            return torch.autograd.grad(blurred, x, y.to(blurred.dtype))[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (field,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return blur_downsample(grad, field, ctx.scale), None, None, None  # type: ignore[attr-defined]


class KernelFieldEstimator(nn.Module):
    """Estimate the parameters of :class:`SpatiallyVariantBlur` from a measurement, as deepinv's own estimators do.

    Args:
        weights: A file of weights of stage 1 or 3, ``weights://NAME``, or such a network; None for the estimator that
            ships for ``scale``.
        scale: Which shipped weights to take.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is of another network.
    """

    def __init__(self, weights: str | os.PathLike[str] | nn.Module | None = None, scale: int = 4) -> None:
        super().__init__()
        given = f'{SHIPPED}manet_x{scale}' if weights is None else weights
        network = given if isinstance(given, nn.Module) else load_network(given)
        estimator = network.kernel_estimation if isinstance(network, BlindSRNet) else network
        if not isinstance(estimator, FieldEstimator):
            raise ValueError(f'{weights}: found {type(network).__name__}, expected a network that estimates kernels')
        self.estimator = estimator

    def forward(self, y: Tensor) -> dict[str, Tensor]:
        """Estimate the field of (B, C, h, w), values in [0, 1]: the argument of ``physics.update``."""
        return {'field': self.estimator(y)}
