"""Gaussian blur that changes within a crop, for training: blocks with a random kernel each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import sample_kernel_parameters
from manet_basicsr.degradation.sampler import (
    FieldSampler,
    distinct_kernels,
    gaussian_kernels,
    lr_size,
    register_field,
)
from manet_basicsr.degradation.values import check_pair, check_variance_range


@register_field('collage')
@dataclass(frozen=True)
class CollageSampler(FieldSampler):
    """Blocks with sharp borders, each with a random kernel of its own.

    Height and width of the blocks are drawn for each image, and so is the offset of their grid. The kernel of every
    pixel has the distribution of ``invariant``: that of the paper's training, which shows a network the same kernels
    but never two of them at once.

    Args:
        variance: Smallest and largest variance in HR px^2.
        block_size: Smallest and largest side of the blocks in HR px, whole numbers.

    Raises:
        ValueError: If the range of variances is not ``0 < min <= max``, or that of sides not ``1 <= min <= max``.

    Examples:
        >>> sampler = CollageSampler((0.7, 10), block_size=(24, 96))
        >>> sampler.draw(96, 128, scale=4, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([1, 441, 24, 32])
    """

    variance: tuple[float, float]
    #: 6 to 24 LR px at x4; a MANet of one block a level sees 22.
    block_size: tuple[int, int] = (24, 96)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'variance', check_variance_range(self.variance))
        smallest, largest = check_pair('block_size', self.block_size)
        if not (1 <= smallest <= largest and smallest.is_integer() and largest.is_integer()):
            expected = '[min, max] of whole numbers with 1 <= min <= max (HR px)'
            raise ValueError(f'block_size must be {expected}, found {self.block_size!r}')
        object.__setattr__(self, 'block_size', (int(smallest), int(largest)))

    @property
    def varies(self) -> bool:
        return True

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        pixels = lr_size(height, width, scale)
        rows, columns = (self._blocks_of_pixels(count, scale, generator) for count in pixels)
        grid = int(rows[-1]) + 1, int(columns[-1]) + 1
        variances, angles = sample_kernel_parameters(grid[0] * grid[1], self.variance, generator)
        blocks = torch.cat([variances, angles[:, None]], dim=1).view(*grid, 3)
        # For each pixel rather than each block: the images of a batch have different blocks.
        return blocks[rows[:, None], columns]

    def _blocks_of_pixels(self, pixels: int, scale: int, generator: torch.Generator | None) -> Tensor:
        """Draw a division of a side into blocks and return the number of each LR pixel's block ``(pixels,)``."""
        smallest, largest = self.block_size
        side = int(torch.randint(smallest, largest + 1, (), generator=generator))
        offset = int(torch.randint(side, (), generator=generator))
        return (torch.arange(pixels) * scale + offset) // side

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        return distinct_kernels(gaussian_kernels, parameters, kernel_size, scale, alignment)

    def block(self, scale: int) -> int:
        return scale
