"""What happens to an LR image after blurring and downsampling: noise, JPEG compression, 8-bit rounding."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor


def add_gaussian_noise(
    lq: Tensor, sigma: float | Tensor, generator: torch.Generator | None = None, shot: float | Tensor = 0.0
) -> Tensor:
    """Add Gaussian noise, ``clip(lq + sqrt(sigma^2 + shot^2 lq) / 255 * n, 0, 1)`` with n ~ N(0, 1).

    Args:
        lq: Images in [0, 1], ``(C, h, w)`` or ``(B, C, h, w)``.
        sigma: Standard deviation on the 0..255 scale, at least 0: one number, or ``(B,)`` for one level per image.
        generator: Source of randomness, on the device of the images; torch's global one when None.
        shot: Standard deviation of the noise of light itself where the image is white, likewise; its square grows in
            proportion to the image.

    Returns:
        Noisy images in [0, 1] of the same shape and type.

    Raises:
        ValueError: If sigma or shot has a wrong shape, or (as a number or on the CPU) is negative.

    Source: MANet (ICCV 2021), section 4.4: sigma ~ U(0, 15) in training, 15 in the test. The noise of light is that of
    photon counts, by their normal approximation.
    """
    sigma, shot = _level('sigma', sigma, lq), _level('shot', shot, lq)
    deviation = sigma / 255
    if isinstance(shot, Tensor) or shot > 0:
        deviation = (sigma**2 + shot**2 * lq.clamp(min=0)).sqrt() / 255
    noise = torch.randn(lq.shape, generator=generator, device=lq.device, dtype=lq.dtype)
    return (lq + deviation * noise).clamp(0, 1)


def _level(name: str, level: float | Tensor, lq: Tensor) -> float | Tensor:
    """Check a level of noise and shape it for multiplication with the images."""
    if isinstance(level, Tensor) and level.ndim:
        if lq.ndim != 4 or level.shape != lq.shape[:1]:
            raise ValueError(
                f'{name} must be a number or have one value per image, found {tuple(level.shape)} for images '
                f'{tuple(lq.shape)}'
            )
        level = level.to(lq).view(-1, 1, 1, 1)
    # On an accelerator this look at the values would make the host wait in every batch.
    on_host = not isinstance(level, Tensor) or level.device.type == 'cpu'
    if on_host and not bool(torch.as_tensor(level >= 0).all()):
        raise ValueError(f'{name} must be at least 0 (0..255 scale), found {torch.as_tensor(level).min().item():g}')
    return level


def quantize(lq: Tensor) -> Tensor:
    """Round images to 8 bit, ``round(255 lq) / 255``, halves to even, after clipping to [0, 1].

    Args:
        lq: Images of any shape, floating point.

    Returns:
        Images on the 256 levels of [0, 1], of the same shape and type.
    """
    return (lq.clamp(0, 1) * 255).round() / 255


def jpeg_compress(lq: Tensor, quality: int) -> Tensor:
    """Pass images through JPEG compression by OpenCV (4:2:0 chroma).

    The images are *rounded* to 8 bit before encoding. (The authors' release truncates, which darkens them by half a
    level.)

    Args:
        lq: RGB images in [0, 1], ``(3, h, w)`` or ``(B, 3, h, w)``.
        quality: JPEG quality, 1 to 100.

    Returns:
        Images on the 256 levels of [0, 1], of the same shape, type and device; without gradient.

    Raises:
        ValueError: If the images do not have three channels, or the quality is out of range.
    """
    if lq.ndim not in (3, 4) or lq.shape[-3] != 3:
        raise ValueError(f'JPEG images must have shape (3, h, w) or (B, 3, h, w), found {tuple(lq.shape)}')
    if not 1 <= quality <= 100:
        raise ValueError(f'JPEG quality must be 1 to 100, found {quality}')
    if lq.ndim == 4:
        return torch.stack([jpeg_compress(image, quality) for image in lq])
    rgb = (quantize(lq.detach()) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    # OpenCV takes BGR; with the channels swapped the luma would weigh blue as red.
    _, encoded = cv2.imencode('.jpg', np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    bgr = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    decoded = torch.from_numpy(np.ascontiguousarray(bgr[..., ::-1])).permute(2, 0, 1)
    return (decoded.to(lq.device, torch.float32) / 255).to(lq.dtype)
