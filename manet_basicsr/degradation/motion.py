"""Motion blur: kernels that a point of light leaves while the camera or an object moves during the exposure."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from manet_basicsr.degradation.kernels import check_kernel_grid, place_kernels
from manet_basicsr.degradation.sampler import FieldSampler, lr_size, register_field
from manet_basicsr.degradation.values import check_number, check_radius, check_radius_range, uniform
from manet_basicsr.utils.messages import unknown_name

TRAJECTORIES = ('camera', 'object')
#: Positions at which a path is sampled, equally spaced in time.
PATH_POINTS = 32
_INERTIA = 0.9


def random_paths(num: int, trajectory: str, generator: torch.Generator | None = None) -> Tensor:
    """Draw paths of unit size: their centre of mass is the origin, and their farthest point has distance 1.

    ``camera`` is the shake of a hand, a random walk of the velocity with inertia; ``object`` a straight or slightly
    bent passage at nearly constant speed.

    Args:
        num: Number N of paths.
        trajectory: ``camera`` or ``object``.
        generator: Source of randomness on the CPU; torch's global one when None.

    Returns:
        ``(N, PATH_POINTS, 2)`` positions (x, y), x to the right and y down, float32.
    """
    if trajectory == 'camera':
        steps = torch.arange(PATH_POINTS)
        lags = (steps[:, None] - steps).clamp(min=0)
        # Position = sum of velocities, velocity = decaying sum of pushes.
        response = ((1 - _INERTIA ** (lags + 1)) / (1 - _INERTIA)) * (steps[:, None] >= steps)
        paths = response @ torch.randn(num, PATH_POINTS, 2, generator=generator)
    else:
        draws = torch.rand(num, 2, generator=generator)
        angle, bend = 2 * math.pi * draws[:, :1], draws[:, 1:] - 0.5
        time = torch.linspace(-1, 1, PATH_POINTS)
        along, across = time.expand(num, -1), bend * time**2
        paths = torch.stack(
            [along * angle.cos() - across * angle.sin(), along * angle.sin() + across * angle.cos()], dim=2
        )
    paths = paths - paths.mean(1, keepdim=True)
    return paths / paths.norm(dim=2).amax(1).clamp(min=1e-6)[:, None, None]


def motion_kernels(paths: Tensor, variance: float, kernel_size: int, scale: int, alignment: str) -> Tensor:
    """Draw the kernel of each path: a Gaussian dragged along it, ``sum over t of N(v; path(t), variance)``.

    Every point of the path weighs the same, and the centre of mass is exactly the middle, also where the Gaussian is so
    narrow that it falls between the taps: at x1 one of 0.175 px^2 would move kernels by up to 0.09 px. Moving them back
    leaves their variances within 0.15 px^2 of those of path and Gaussian; at x2 (0.35 px^2) within 0.01.

    Args:
        paths: ``(N, points, 2)`` positions (x, y) in HR px, whose centre of mass is the origin.
        variance: Of the Gaussian, in HR px^2: what blurs the image without motion.
        kernel_size: Side k of the kernels in taps.
        scale: Downsampling factor.
        alignment: ``centered`` or ``published``.

    Returns:
        ``(N, k*k)`` kernels, each summing to 1, on the device of the paths.
    """
    check_kernel_grid(kernel_size, scale, alignment)
    with torch.autocast(paths.device.type, enabled=False):  # a degradation is data and not a layer
        return _kernels_of_paths(paths, variance, kernel_size, scale, alignment)


def _kernels_of_paths(paths: Tensor, variance: float, kernel_size: int, scale: int, alignment: str) -> Tensor:
    size = kernel_size - scale + 1
    axis = torch.arange(size, device=paths.device) - (size - 1) / 2
    # A Gaussian is the product of one in x and one in y.
    profiles = ((paths[..., None] - axis).square() / (-2 * variance)).softmax(3)
    kernels = profiles[:, :, 1].transpose(1, 2) @ profiles[:, :, 0] / paths.shape[1]
    x, y = kernels.sum(1) @ axis, kernels.sum(2) @ axis
    # To the middle by linear interpolation between taps, which keeps the mean exactly.
    offsets = axis[:, None] - axis
    across, down = ((1 - (offsets + centre[:, None, None]).abs()).clamp(min=0) for centre in (x, y))
    return place_kernels(down @ kernels @ across.transpose(1, 2), scale, alignment)


def roll_paths(height: int, width: int, scale: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw how each LR pixel moves while a shaking camera also rolls about a random point of the image.

    ``path(p, t) = T(t) + r(t) J (p - centre) / R``, with R the distance of the farthest corner and J a quarter turn.

    Args:
        height: HR height in px.
        width: HR width in px.
        scale: Downsampling factor.
        generator: Source of randomness on the CPU; torch's global one when None.

    Returns:
        ``(height // scale, width // scale, PATH_POINTS, 2)`` paths that go at most 1 from their centre of mass.
    """
    share, down, across = torch.rand(3, generator=generator).tolist()
    translation, roll = random_paths(2, 'camera', generator)
    rows = torch.arange(height // scale) * scale - down * height
    columns = torch.arange(width // scale) * scale - across * width
    farthest = math.hypot(max(down, 1 - down) * height, max(across, 1 - across) * width)
    y, x = torch.meshgrid(rows / farthest, columns / farthest, indexing='ij')
    turned = torch.stack([-y, x], dim=2)[:, :, None]
    share = 0.2 + 0.4 * share  # of the translation; more would leave the kernels nearly the same everywhere
    return share * translation + (1 - share) * turned * roll[:, :1]


def passing_object_paths(height: int, width: int, scale: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw how each LR pixel moves while an elliptical object passes in front of a still scene.

    Args:
        height: HR height in px.
        width: HR width in px.
        scale: Downsampling factor.
        generator: Source of randomness on the CPU; torch's global one when None.

    Returns:
        ``(height // scale, width // scale, PATH_POINTS, 2)``: the object's path inside it, which goes at most 1 from
        its centre of mass, and 0 outside.
    """
    draws = torch.rand(4, generator=generator).tolist()
    path = random_paths(1, 'object', generator)[0]
    y = (torch.arange(height // scale) * scale / height - draws[0]) / (0.15 + 0.35 * draws[2])
    x = (torch.arange(width // scale) * scale / width - draws[1]) / (0.15 + 0.35 * draws[3])
    inside = y[:, None].square() + x.square() < 1
    return inside[:, :, None, None] * path


@register_field('motion')
@dataclass(frozen=True)
class MotionSampler(FieldSampler):
    """Motion blur: a Gaussian dragged along the path of the camera or of an object during the exposure.

    Invariant, every image has one path. Variant, a ``camera`` also rolls about a point of the image, so that the path
    changes smoothly from pixel to pixel, and an ``object`` passes in front of a still scene.

    Args:
        radius: Smallest and largest distance in HR px of a path's farthest point from its centre of mass.
        trajectory: ``camera`` (a shaking hand) or ``object`` (a straight or slightly bent passage).
        variant: Whether the kernels change over the image.
        variance: Of the Gaussian, in HR px^2.

    Raises:
        ValueError: If the range is not ``0 < min <= max``, or a value out of its range.

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> MotionSampler((1.5, 6)).draw(96, 128, scale=4, generator=generator).shape
        torch.Size([1, 441, 1, 1])
        >>> MotionSampler((1.5, 6), variant=True).draw(96, 128, scale=4, generator=generator).shape
        torch.Size([1, 441, 24, 32])
    """

    radius: tuple[float, float]
    trajectory: str = 'camera'
    variant: bool = False
    variance: float = 0.7

    def __post_init__(self) -> None:
        object.__setattr__(self, 'radius', check_radius_range(self.radius))
        object.__setattr__(self, 'variance', check_number('variance', self.variance))
        if self.trajectory not in TRAJECTORIES:
            raise ValueError(unknown_name('trajectory', self.trajectory, TRAJECTORIES))
        if not isinstance(self.variant, bool):
            raise ValueError(f'variant must be true or false, found {self.variant!r}')
        if self.variance <= 0:
            raise ValueError(f'variance must be positive (HR px^2), found {self.variance:g}')

    @property
    def varies(self) -> bool:
        return self.variant

    def check(self, kernel_size: int, scale: int) -> None:
        # Two standard deviations of the stroke: what is cut off beyond does not move the centre of mass.
        largest = (kernel_size - scale) / 2 - 2 * math.sqrt(self.variance)
        if largest <= 0:
            raise ValueError(
                f'variance must be below {((kernel_size - scale) / 4) ** 2:.2f} HR px^2 (kernel_size {kernel_size}, '
                f'scale {scale}), found {self.variance:g}'
            )
        check_radius(self.radius[1], largest, kernel_size, scale)

    def parameters(self, height: int, width: int, *, scale: int, generator: torch.Generator | None = None) -> Tensor:
        lr_height, lr_width = lr_size(height, width, scale)
        radius = uniform(self.radius, (), generator)
        if not self.variant:
            return radius * random_paths(1, self.trajectory, generator).view(1, 1, -1)
        paths = roll_paths if self.trajectory == 'camera' else passing_object_paths
        return radius * paths(height, width, scale, generator).reshape(lr_height, lr_width, -1)

    def kernels(self, parameters: Tensor, kernel_size: int, scale: int, alignment: str) -> Tensor:
        return motion_kernels(parameters.view(-1, PATH_POINTS, 2), self.variance, kernel_size, scale, alignment)

    def block(self, scale: int) -> int:
        return scale
