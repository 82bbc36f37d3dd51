"""Blurring with a kernel field and downsampling: the linear part of the image formation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def blur_downsample(hr: Tensor, field: Tensor, scale: int) -> Tensor:
    """Blur an image with the kernel behind each LR pixel and keep every s-th pixel.

    ``lr[b, c, i, j] = sum over (y, x) of field[b, (y, x), i, j] * hr[b, c, s i + y - k//2, s j + x - k//2]``, that is
    cross-correlation, with the border pixels repeated outside the image. Only what is kept is computed, so memory grows
    with the LR grid. Differentiable once in both arguments. Half-precision inputs are summed in float32, and autocast
    does not reach in here, because a degradation is data and not a layer.

    Args:
        hr: ``(B, C, H, W)`` images, floating point.
        field: Kernel field ``(B, k*k, H//s, W//s)``, k odd; with a batch of 1 all images share it, and with a grid of
            ``1 x 1`` all pixels share the kernel.
        scale: Downsampling factor s, at least 1; a remainder of H or W modulo s at the bottom or right is blurred in,
            but gives no LR pixel.

    Returns:
        LR images ``(B, C, H//s, W//s)`` of the type that hr and field promote to.

    Raises:
        ValueError: If a type, the number of taps, the batch or the grid of the field does not fit.

    Source: MANet (ICCV 2021), equation 1; the padding and the phase of the sampling are those of the authors' release.

    Examples:
        A box of 3x3 taps on an edge:

        >>> hr = torch.zeros(1, 1, 2, 8)
        >>> hr[..., 4:] = 1
        >>> box = torch.full((1, 9, 1, 1), 1 / 9)
        >>> blur_downsample(hr, box, scale=2)
        tensor([[[[0.0000, 0.0000, 0.6667, 1.0000]]]])
    """
    kernel_size = _check_shapes(hr, field, scale)
    if field.stride()[2:] == (0, 0) and not field.requires_grad:  # one kernel, expanded to all pixels
        field = field[..., :1, :1]
    dtype = torch.promote_types(hr.dtype, field.dtype)
    invariant = field.shape[2:] == (1, 1)
    # On CUDA a float32 convolution may run in TF32, with three digits.
    sum_dtype = torch.promote_types(dtype, torch.float64 if invariant and hr.is_cuda else torch.float32)
    with torch.autocast(hr.device.type, enabled=False):
        padded = F.pad(hr.to(sum_dtype), [kernel_size // 2] * 4, mode='replicate')
        blur = _blur_invariant if invariant else _blur_variant
        return blur(padded, field, kernel_size, scale).to(dtype)


def _check_shapes(hr: Tensor, field: Tensor, scale: int) -> int:
    """Give the kernel size, or refuse what does not fit together."""
    if scale < 1:
        raise ValueError(f'scale must be at least 1, found {scale}')
    if hr.ndim != 4 or field.ndim != 4:
        raise ValueError(f'hr and field must have 4 dimensions, found {tuple(hr.shape)} and {tuple(field.shape)}')
    if not (hr.is_floating_point() and field.is_floating_point()):
        raise ValueError(f'hr and field must be floating point, found {hr.dtype} and {field.dtype}')
    height, width = hr.shape[2] // scale, hr.shape[3] // scale
    if height < 1 or width < 1:
        raise ValueError(f'an image of {hr.shape[2]} x {hr.shape[3]} has no LR pixel at scale {scale}')
    kernel_size = math.isqrt(field.shape[1])
    if kernel_size**2 != field.shape[1] or kernel_size % 2 == 0:
        raise ValueError(f'the field must have k*k taps with k odd, found {field.shape[1]}')
    if field.shape[0] not in (1, hr.shape[0]):
        raise ValueError(f'the field must have a batch of 1 or {hr.shape[0]}, found {field.shape[0]}')
    if tuple(field.shape[2:]) not in ((1, 1), (height, width)):
        raise ValueError(
            f'the field must have a grid of 1 x 1 or {height} x {width} (HR {hr.shape[2]} x {hr.shape[3]} at scale '
            f'{scale}), found {field.shape[2]} x {field.shape[3]}'
        )
    return kernel_size


def _blur_invariant(padded: Tensor, field: Tensor, kernel_size: int, scale: int) -> Tensor:
    """Blur each image with its one kernel: a strided convolution with one group for each image and channel."""
    batch, channels = padded.shape[:2]
    weight = field.to(padded.dtype).reshape(-1, 1, 1, kernel_size, kernel_size).expand(batch, channels, -1, -1, -1)
    planes = padded.reshape(1, batch * channels, *padded.shape[2:])
    lr = F.conv2d(planes, weight.flatten(0, 1), stride=scale, groups=batch * channels)
    height, width = ((side - kernel_size + 1) // scale for side in padded.shape[2:])
    return lr[..., :height, :width].view(batch, channels, height, width)


def _blur_variant(padded: Tensor, field: Tensor, kernel_size: int, scale: int) -> Tensor:
    """Blur each LR pixel with its own kernel: a running sum over the taps."""
    batch, channels, height, width = padded.shape
    # Each tap reads every s-th pixel; with the s*s phases of the image side by side it reads whole rows instead.
    even = F.pad(padded, (0, -width % scale, 0, -height % scale))
    rows, columns = (side // scale for side in even.shape[2:])
    phases = F.pixel_unshuffle(even, scale).view(batch, channels, scale, scale, rows, columns)
    lr: Tensor = _TapSum.apply(phases, field, kernel_size)
    return lr


def _windows(phases: Tensor, grid: torch.Size) -> Tensor:
    """Give views (B, C, s, s, k/s, k/s, h, w): what the taps of each phase read."""
    return phases.unfold(4, grid[0], 1).unfold(5, grid[1], 1)


def _tap_pixels(phases: Tensor, kernel_size: int, grid: torch.Size) -> Iterator[Tensor]:
    """Give for each tap of the kernel in turn the view (B, C, h, w) of the pixels it reads."""
    scale, windows = phases.shape[2], _windows(phases, grid)
    for y in range(kernel_size):
        # Unbound a row at a time: indexing 441 times takes longer than the sums of a small image.
        row = [columns.unbind(2) for columns in windows[:, :, y % scale, :, y // scale].unbind(2)]
        yield from (row[x % scale][x // scale] for x in range(kernel_size))


def _sum_rows(lr: Tensor, phases: Tensor, field: Tensor, kernel_size: int) -> Tensor:
    """Add what the taps read to ``lr``, a row of taps at a time: on an accelerator each operation has its price."""
    scale, windows = phases.shape[2], _windows(phases, lr.shape[2:])
    for y, weights in enumerate(field.unflatten(1, (kernel_size, kernel_size)).unbind(1)):
        # Phases within places: the order of the taps.
        row = windows[:, :, y % scale, :, y // scale].transpose(2, 3).flatten(2, 3)[:, :, :kernel_size]
        lr += (row * weights[:, None]).sum(2)
    return lr


class _TapSum(torch.autograd.Function):
    """Sum ``field[:, tap] * pixels(tap)`` over the taps.

    Written by hand because autograd would keep one image-sized gradient for each of the k*k slices.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, phases: Tensor, field: Tensor, kernel_size: int) -> Tensor:
        ctx.save_for_backward(phases, field)
        ctx.kernel_size = kernel_size  # type: ignore[attr-defined]
        grid = field.shape[2:]
        lr = phases.new_zeros(*phases.shape[:2], *grid)
        if phases.device.type != 'cpu':
            return _sum_rows(lr, phases, field, kernel_size)
        for weight, pixels in zip(field.unsqueeze(2).unbind(1), _tap_pixels(phases, kernel_size, grid), strict=True):
            lr.addcmul_(weight.to(lr.dtype), pixels)
        return lr

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_lr: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        phases, field = ctx.saved_tensors  # type: ignore[attr-defined]
        kernel_size, grid = ctx.kernel_size, field.shape[2:]  # type: ignore[attr-defined]
        wants_phases, wants_field, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        grad_phases = torch.zeros_like(phases) if wants_phases else None
        grad_field = torch.empty_like(field) if wants_field else None
        summed = (0, 1) if field.shape[0] == 1 else (1,)
        if grad_phases is not None:
            grad_pixels = _tap_pixels(grad_phases, kernel_size, grid)
            for weight, grad in zip(field.unsqueeze(2).unbind(1), grad_pixels, strict=True):
                grad.addcmul_(weight.to(grad_lr.dtype), grad_lr)
        if grad_field is not None:
            for tap, pixels in enumerate(_tap_pixels(phases, kernel_size, grid)):
                grad_field[:, tap] = (grad_lr * pixels).sum(summed)
        return grad_phases, grad_field, None
