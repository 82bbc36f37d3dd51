"""Terms of an energy on images: structural similarity, sparse gradients, local means."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ssim(first: Tensor, second: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Compute the mean structural similarity of images in [0, 1]; differentiable.

    Args:
        first: ``(B, C, h, w)``.
        second: Of the same shape.
        window: Side of the Gaussian window; no larger than the images.
        sigma: Its standard deviation in px.

    Returns:
        A scalar, 1 for equal images.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    window = min(window, *first.shape[-2:])
    axis = torch.arange(window, device=first.device) - (window - 1) / 2
    line = (-(axis**2) / (2 * sigma**2)).softmax(0)
    weight = torch.outer(line, line).to(first.dtype)[None, None]

    def mean(image: Tensor) -> Tensor:
        return F.conv2d(image.flatten(0, 1)[:, None], weight)

    mean1, mean2 = mean(first), mean(second)
    variance1, variance2 = mean(first**2) - mean1**2, mean(second**2) - mean2**2
    covariance = mean(first * second) - mean1 * mean2
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    return (similarity / ((mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2))).mean()


def sparse_gradients(image: Tensor, exponent: float) -> Tensor:
    """Sum ``|difference|^exponent`` over the four neighbours up, up-left, left and down-left.

    Args:
        image: ``(B, C, H, W)``.
        exponent: Below 1 the prior is sparse: few large differences cost less than many small ones.

    Returns:
        A scalar.
    """
    differences = (
        image[..., 1:, :] - image[..., :-1, :],
        image[..., 1:, 1:] - image[..., :-1, :-1],
        image[..., :, 1:] - image[..., :, :-1],
        image[..., :-1, 1:] - image[..., 1:, :-1],
    )
    # The slope of a power below 1 is infinite at 0.
    return torch.stack([(part.abs() + 1e-8).pow(exponent).sum() for part in differences]).sum()


def local_mean(image: Tensor, window: int) -> Tensor:
    """Average over a window about each pixel, mirrored at the border; an odd window, no larger than the image."""
    half = min(window // 2, (min(image.shape[-2:]) - 1) // 2)
    return F.avg_pool2d(F.pad(image, [half] * 4, mode='reflect'), 2 * half + 1, 1)
