"""KernelGAN: the kernel whose reduction of an image looks, patch by patch, like the image itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from manet_basicsr.degradation.resizing import BicubicSampler
from manet_basicsr.degradation.single_kernel import field_of_kernel
from manet_basicsr.zero_shot.patch_sampling import crop_at, crop_corners, halved
from manet_basicsr.zero_shot.solver import Problem, Solution, Solver, register_solver

#: Sides of the generator's layers; they compose to one kernel of 13x13 taps.
_LAYERS = (7, 5, 3, 1, 1, 1)
_SIDE = sum(_LAYERS) - len(_LAYERS) + 1
_CENTRE = _SIDE // 2 + 0.5
_LARGEST_CROP = 64
#: A half of it is reduced to 8 px, that is, more than one patch, which batch normalisation needs.
_LEAST_SIDE = 2 * _SIDE + 2


class LinearGenerator(nn.Module):
    """Reduce an image by 2 by six convolutions without bias or nonlinearity, each colour alone: one kernel.

    Six layers learn better than one. They are applied as the kernel that they compose to, which is the same map with
    the same gradients, for a seventh of the work.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [1, *[width] * (len(_LAYERS) - 1), 1]
        pairs = zip(widths, widths[1:], _LAYERS, strict=False)
        self.layers = nn.ParameterList(torch.empty(outer, inner, side, side) for inner, outer, side in pairs)
        for weight in self.layers:
            nn.init.xavier_normal_(weight, 0.1)

    def kernel(self) -> Tensor:
        """Give the kernel (13, 13) that the layers compose to, to be cross-correlated."""
        first, *others = self.layers
        kernel = first.transpose(0, 1)
        for weight in others:
            kernel = F.conv2d(kernel, weight.flip(2, 3), padding=weight.shape[-1] - 1)
        return kernel[0, 0]

    def forward(self, image: Tensor) -> Tensor:
        """Reduce ``image`` (B, C, h, w) to (B, C, (h - 13) // 2 + 1, (w - 13) // 2 + 1)."""
        return reduce_by(image, self.kernel())


def reduce_by(image: Tensor, kernel: Tensor) -> Tensor:
    """Cross-correlate each channel with a kernel (k, k), without padding, and keep every second pixel."""
    planes = image.flatten(0, 1)[:, None]
    return F.conv2d(planes, kernel[None, None], stride=2).unflatten(0, image.shape[:2])[:, :, 0]


class PatchDiscriminator(nn.Sequential):
    """Tell of each 7x7 patch of an image (B, 3, h, w) whether it is real: (B, 1, h - 6, w - 6) in [0, 1]."""

    def __init__(self, width: int = 64) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, width, 7)]
        for _ in range(5):
            layers += [nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(width, 1, 1))
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_normal_(layer.weight, 0.1)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
                spectral_norm(layer)
            elif isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1, 0.02)
        super().__init__(*layers, nn.Sigmoid())


class _KernelLoss:
    """What a kernel should be beside deceiving: near bicubic at first, of sum 1, inside its taps, centred and sparse.

    Args:
        device: Of the kernels.
    """

    def __init__(self, device: torch.device) -> None:
        axis = torch.arange(_SIDE, device=device)
        line = (-((axis - (_SIDE - 1) / 2) ** 2) / (2 * 13.0**2)).exp()
        window = torch.outer(line, line)
        self.margin = 30 * (1 - window / window.max())
        self.margin[2:-2, 2:-2] = 0
        taps = BicubicSampler.profile((torch.arange(8, device=device) - 3.5) / 2) / 2  # of a reduction by 2
        self.bicubic = torch.outer(taps, taps)
        self.axis = axis.float()
        self.weight_bicubic, self.weight_centre, self.weight_sparse = 5.0, 0.0, 0.0
        self.close = 0
        self.iteration = 0

    def __call__(self, kernel: Tensor, image: Tensor, reduced: Tensor) -> Tensor:
        """Give the loss of a kernel that reduced an image, and weigh its terms for the next iteration."""
        error = F.mse_loss(reduced, reduce_by(image[..., 3:-3, 3:-3], self.bicubic))
        rows, columns = kernel.sum(1), kernel.sum(0)
        centre = torch.stack([rows @ self.axis, columns @ self.axis]) / kernel.sum()
        loss = self.weight_bicubic * error
        loss = loss + 0.5 * (1 - kernel.sum()).abs() + 0.5 * (kernel * self.margin).abs().mean()
        if self.weight_centre:
            loss = loss + self.weight_centre * (centre - _CENTRE).square().mean()
            loss = loss + self.weight_sparse * (kernel.abs() + 1e-8).pow(0.2).mean()
        self._weigh(float(error.detach()))
        return loss

    def _weigh(self, error: float) -> None:
        self.iteration += 1
        if self.close < 3:
            self.close = self.close + 1 if error < 0.4 else 0
        if self.close == 3 and self.iteration % 200 == 0:
            self.weight_bicubic = max(self.weight_bicubic / 100, 5e-6)
            if self.weight_bicubic < 5e-3:
                self.weight_centre, self.weight_sparse = 1.0, 5.0


def estimate_half(problem: Problem, iterations: int) -> Tensor:
    """Find the kernel (13, 13) of a reduction by 2, not negative and summing to 1.

    Raises:
        ValueError: The image is too small to take crops of.
    """
    lq = problem.lq
    shorter = min(lq.shape[-2:])
    if shorter < _LEAST_SIDE:
        height, width = lq.shape[-2:]
        raise ValueError(f'an image of {height} x {width} px is too small, expected at least {_LEAST_SIDE} a side')
    side = min(_LARGEST_CROP, shorter // 2 * 2)
    small = (side - _SIDE) // 2 + 1
    with problem.seeded():
        generator, discriminator = LinearGenerator().to(lq.device), PatchDiscriminator().to(lq.device)
    large_corners = crop_corners(halved(lq), side, iterations, problem.generator, lq.shape[-2:])
    small_corners = crop_corners(lq, small, iterations, problem.generator)
    optimizers = [torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, discriminator)]
    schedules = [torch.optim.lr_scheduler.StepLR(optimizer, 750, 0.1) for optimizer in optimizers]
    kernel_loss = _KernelLoss(lq.device)
    image = 2 * lq - 1
    for step in range(iterations):
        crop = crop_at(image, large_corners[step], side)
        real = crop_at(image, small_corners[step], small)
        kernel = generator.kernel()
        fake = reduce_by(crop, kernel)
        optimizers[0].zero_grad(set_to_none=True)
        verdict = discriminator(fake)
        ((verdict - 1).abs().mean() + kernel_loss(kernel, crop, fake)).backward()
        optimizers[0].step()
        optimizers[1].zero_grad(set_to_none=True)
        # On the release's scales: the noise of the fake is half of that of the real.
        noisy = fake.detach() + problem.normal(*fake.shape) / 255
        on_real = discriminator(real + problem.normal(*real.shape) * 2 / 255)
        ((on_real - 1).abs().mean() / 2 + discriminator(noisy).abs().mean() / 2).backward()
        optimizers[1].step()
        for schedule in schedules:
            schedule.step()
        problem.tick(step + 1, iterations)
    return sharpened(generator.kernel().detach())


def sharpened(kernel: Tensor) -> Tensor:
    """Take three quarters of the 41st largest tap off all, and divide by the sum."""
    level = 0.75 * kernel.flatten().sort(descending=True).values[40]
    taps = (kernel - level).clamp(min=0)
    return taps / taps.sum()


def doubled(kernel: Tensor) -> Tensor:
    """Give the kernel of reducing twice by a kernel (n, n): ``k[m] = sum of k2[r] k2[m - 2 r]``, (3n - 2, 3n - 2)."""
    side = len(kernel)
    apart = kernel.new_zeros(2 * side - 1, 2 * side - 1)
    apart[::2, ::2] = kernel
    return F.conv2d(apart[None, None], kernel.flip(0, 1)[None, None], padding=side - 1)[0, 0]


def kernel_field(kernel: Tensor, scale: int, kernel_size: int) -> Tensor:
    """Lay the kernel of a reduction by 2 on the field (1, k*k, 1, 1) of a scale of 2 or 4.

    A doubled kernel has 37x37 taps; where the field's cut more than 1 % off it, a warning tells.
    """
    whole = kernel if scale == 2 else doubled(kernel)
    return field_of_kernel(whole, scale, kernel_size).to(kernel.device)


@register_solver
@dataclass(frozen=True)
class KernelGAN(Solver):
    """Find the kernel of an image by a GAN on its patches; it restores nothing.

    A linear generator reduces the image by 2 and a discriminator tells its patches from those of the image. At x4 the
    kernel is that of reducing twice. As the release, but that the bicubic term compares each colour with itself (there
    with the sum of all), and that images below 84 px are cropped to what they have.

    Args:
        seed: Another seed gives another result, often a rather different one.
        iterations: Of both networks.

    Source: Bell-Kligler, Shocher and Irani, "Blind super-resolution kernel estimation using an internal-GAN", NeurIPS
    2019.
    """

    word: ClassVar[str] = 'kernelgan'
    LEAST: ClassVar[Mapping[str, int]] = {'iterations': 1}
    SCALES: ClassVar[tuple[int, ...] | None] = (2, 4)
    RESTORES: ClassVar[bool] = False

    iterations: int = 3000

    def solve(self, problem: Problem) -> Solution:
        kernel = estimate_half(problem, self.iterations)
        return Solution(None, kernel_field(kernel, problem.scale, problem.kernel_size))
