"""The whole degradation of an HR image, as the ``degradation`` section of a dataset describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from manet_basicsr.degradation.blur import blur_downsample
from manet_basicsr.degradation.corruption import add_gaussian_noise, jpeg_compress, quantize
from manet_basicsr.degradation.jpeg import jpeg_compress_batch
from manet_basicsr.degradation.kernels import ALIGNMENTS
from manet_basicsr.degradation.sampler import FieldSampler, build_field_sampler
from manet_basicsr.degradation.values import check_number, check_range
from manet_basicsr.utils.messages import unknown_name


@dataclass(frozen=True)
class Degradation:
    """LR = quantize(jpeg(blur_downsample(HR) + noise)), with a kernel field, noise and quality drawn for each image.

    Args:
        sampler: What draws the kernel field; ``field`` in an option file.
        kernel_size: Side of the kernels in taps, odd.
        alignment: ``centered`` or ``published``.
        noise: Range of the standard deviation of Gaussian noise, on the 0..255 scale, drawn uniformly.
        jpeg: Range of JPEG quality 1..100, drawn uniformly from the whole numbers; ``None`` for no JPEG.
        shot_noise: Range of the standard deviation that the noise of light has where the image is white, on the 0..255
            scale, drawn uniformly; its square grows in proportion to the image.
        clean: Share of the images that get neither noise nor JPEG.
        uncompressed: Share of the other images that get no JPEG, as of a camera's raw files.

    Raises:
        ValueError: An argument is out of its range.
    """

    sampler: FieldSampler
    kernel_size: int = 21
    alignment: str = 'centered'
    noise: tuple[float, float] = (0.0, 0.0)
    jpeg: tuple[float, float] | None = None
    shot_noise: tuple[float, float] = (0.0, 0.0)
    clean: float = 0.0
    uncompressed: float = 0.0

    def __post_init__(self) -> None:
        size = self.kernel_size
        if not isinstance(size, int) or isinstance(size, bool) or size < 1 or size % 2 == 0:
            raise ValueError(f'kernel_size: found {size!r}, expected an odd number of taps')
        if self.alignment not in ALIGNMENTS:
            raise ValueError(unknown_name('alignment', self.alignment, ALIGNMENTS))
        object.__setattr__(self, 'noise', check_range('noise', self.noise, 0, 255))
        object.__setattr__(self, 'shot_noise', check_range('shot_noise', self.shot_noise, 0, 255))
        for name in ('clean', 'uncompressed'):
            share = check_number(name, getattr(self, name))
            if not 0 <= share <= 1:
                raise ValueError(f'{name}: found {share:g}, expected a share within 0..1')
            object.__setattr__(self, name, share)
        if self.jpeg is not None:
            qualities = check_range('jpeg', self.jpeg, 1, 100)
            if not all(quality.is_integer() for quality in qualities):
                raise ValueError(f'jpeg: found {self.jpeg!r}, expected whole numbers')
            object.__setattr__(self, 'jpeg', qualities)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Degradation:
        """Build it from a ``degradation`` section, which is not changed.

        Raises:
            ValueError: A key is unknown or missing, or a value out of its range; the message begins with
                ``degradation``.
        """
        known = ['field', *(member.name for member in fields(cls) if member.name != 'sampler')]
        for key in options:
            if key not in known:
                raise ValueError(unknown_name('degradation key', key, known))
        if 'field' not in options:
            example = '{type: invariant, variance: [0.7, 10]}'
            raise ValueError(f'degradation.field: missing, expected a section such as {example}')
        sampler = build_field_sampler(options['field'])
        others = {key: value for key, value in options.items() if key != 'field'}
        try:
            return cls(sampler, **others)
        except ValueError as error:
            raise ValueError(f'degradation.{error}') from error

    def draw_parameters(self, height: int, width: int, scale: int, generator: torch.Generator) -> Tensor:
        """Draw the parameters ``(rows, cols, P)`` of the kernel field of an image of ``height x width`` HR px."""
        return self.sampler.parameters(height, width, scale=scale, generator=generator)

    def make_field(self, parameters: Tensor, height: int, width: int, scale: int) -> Tensor:
        """Make the kernel field of which the parameters were drawn, as :func:`block_field` does."""
        return self.sampler.make(
            parameters, height, width, scale=scale, kernel_size=self.kernel_size, alignment=self.alignment
        )

    def degrade(self, hr: Tensor, field: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Degrade an image with a given field.

        Args:
            hr: ``(3, H, W)`` in [0, 1], H and W multiples of ``scale``.
            field: ``(1, k*k, h, w)`` or ``(1, k*k, 1, 1)``.
            scale: Downsampling factor.
            generator: Draws noise and quality.

        Returns:
            ``(3, h, w)`` in [0, 1], rounded to 8 bit.
        """
        lr = blur_downsample(hr[None], field, scale)[0]
        levels = self.draw_noise_levels(generator)
        if levels is not None and max(levels) > 0:
            sigma, shot = levels
            lr = add_gaussian_noise(lr, sigma, generator, shot)
        if levels is not None and (quality := self._draw_quality(generator)):
            lr = jpeg_compress(lr, quality)
        return quantize(lr).contiguous()  # JPEG leaves the channels last

    def draw_noise_levels(self, generator: torch.Generator) -> tuple[float, float] | None:
        """Draw the standard deviations of an image's noise and shot noise, 0..255; None for an image left clean."""
        # What is not asked for draws nothing, so that older option files give the same images.
        if self.clean > 0 and float(torch.rand((), generator=generator)) < self.clean:
            return None
        sigma = _drawn(self.noise, generator)
        return sigma, _drawn(self.shot_noise, generator) if self.shot_noise[1] > 0 else 0.0

    def _draw_quality(self, generator: torch.Generator) -> int:
        """Draw the quality of JPEG compression; 0 where there is none."""
        if self.jpeg is None or (
            self.uncompressed > 0 and float(torch.rand((), generator=generator)) < self.uncompressed
        ):
            return 0
        return int(torch.randint(int(self.jpeg[0]), int(self.jpeg[1]) + 1, (), generator=generator))

    def draw_levels(self, generator: torch.Generator) -> tuple[float, float, int]:
        """Draw what an image of a batch is corrupted by: the two levels of noise, and the quality, 0 for no JPEG."""
        levels = self.draw_noise_levels(generator)
        return (0.0, 0.0, 0) if levels is None else (*levels, self._draw_quality(generator))

    def degrade_batch(
        self, hr: Tensor, parameters: Sequence[Tensor], levels: Tensor, scale: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Degrade a batch on the device it is on, without waiting for that device.

        Args:
            hr: ``(B, 3, H, W)`` in [0, 1], H and W multiples of ``scale``.
            parameters: For each image what :meth:`draw_parameters` drew, ``(rows, columns, P)``, on the CPU.
            levels: ``(B, 3)``, what :meth:`draw_levels` drew for each image, on the device of the images.
            scale: Downsampling factor.
            generator: Draws the noise, on the device of the images.

        Returns:
            LR images ``(B, 3, h, w)`` in [0, 1], rounded to 8 bit, and the field ``(B, k*k, h, w)`` or
            ``(B, k*k, 1, 1)``.
        """
        grid: dict[str, Any] = {'scale': scale, 'kernel_size': self.kernel_size, 'alignment': self.alignment}
        field = self.sampler.make_batch(parameters, *hr.shape[2:], **grid, device=hr.device)
        lr = blur_downsample(hr, field, scale)
        if self.noise[1] > 0 or self.shot_noise[1] > 0:
            lr = add_gaussian_noise(lr, levels[:, 0], generator, levels[:, 1] if self.shot_noise[1] > 0 else 0.0)
        return quantize(lr) if self.jpeg is None else jpeg_compress_batch(lr, levels[:, 2]), field


def _drawn(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * float(torch.rand((), generator=generator))
