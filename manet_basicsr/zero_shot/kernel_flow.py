"""A normalising flow over kernels: a latent vector stands for a kernel, and every vector for a likely one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from manet_basicsr.degradation import anisotropic_gaussian_kernels, sample_kernel_parameters, training_variance_range
from manet_basicsr.zero_shot.solver import Tick

_COUPLINGS = 5
_ALPHA = 1e-6
_LEVELS = 720
_BATCH = 100
_MARGIN = 0.01


class _Coupling(nn.Module):
    """Masked affine coupling ``u = m x + (1 - m) (x - t(m x)) exp(-log s(m x))``."""

    mask: Tensor

    def __init__(self, taps: int, hidden: int, first: int) -> None:
        super().__init__()
        self.register_buffer('mask', ((torch.arange(taps) + first) % 2).float())
        self.log_scale = _layers(taps, hidden, nn.Tanh)
        self.shift = _layers(taps, hidden, nn.ReLU)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept = x * self.mask
        log_scale, shift = (part(kept) * (1 - self.mask) for part in (self.log_scale, self.shift))
        return kept + (1 - self.mask) * (x - shift) * (-log_scale).exp(), -log_scale.sum(1)

    def inverse(self, u: Tensor) -> Tensor:
        kept = u * self.mask
        log_scale, shift = (part(kept) * (1 - self.mask) for part in (self.log_scale, self.shift))
        return kept + (1 - self.mask) * (u * log_scale.exp() + shift)


def _layers(taps: int, hidden: int, nonlinearity: Callable[[], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(taps, hidden),
        nonlinearity(),
        nn.Linear(hidden, hidden),
        nonlinearity(),
        nn.Linear(hidden, taps),
    )


class _InvertibleNorm(nn.Module):
    """Batch normalisation that can be undone: with running statistics, which training moves."""

    mean: Tensor
    variance: Tensor

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.log_gamma = nn.Parameter(torch.zeros(taps))
        self.beta = nn.Parameter(torch.zeros(taps))
        self.register_buffer('mean', torch.zeros(taps))
        self.register_buffer('variance', torch.ones(taps))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = x.mean(0), x.var(0, correction=0)
            self.mean.lerp_(mean.detach(), 0.1)
            self.variance.lerp_(variance.detach(), 0.1)
        log_size = self.log_gamma - (variance + 1e-5).log() / 2
        return (x - mean) * log_size.exp() + self.beta, log_size.sum().expand(len(x))

    def inverse(self, u: Tensor) -> Tensor:
        return (u - self.beta) * (-self.log_gamma).exp() * (self.variance + 1e-5).sqrt() + self.mean


class KernelFlow(nn.Module):
    """Map Gaussian kernels to a normal distribution, and back (flow-based kernel prior, CVPR 2021).

    A kernel is divided by a number above its largest tap, and mapped from (0, 1) to the line by a logit.

    Args:
        taps: Number of taps, k*k.
        hidden: Width of the layers.
        largest: The number above the largest tap of all.
    """

    largest: Tensor

    def __init__(self, taps: int, hidden: int, largest: float) -> None:
        super().__init__()
        self.register_buffer('largest', torch.tensor(largest))
        self.couplings = nn.ModuleList(_Coupling(taps, hidden, number % 2) for number in range(_COUPLINGS))
        self.norms = nn.ModuleList(_InvertibleNorm(taps) for _ in range(_COUPLINGS))

    def forward(self, kernels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Give the latents (N, k*k) of kernels and the logarithm of how much volumes change (N,).

        Args:
            kernels: (N, k*k), each summing to 1.
            noise: Of that shape, uniform in [0, 1): a kernel in a computer has steps, a density has none.
        """
        y = _ALPHA + (1 - 2 * _ALPHA) * (kernels / self.largest + noise / _LEVELS).clamp(0, 1)
        x = y.logit()
        change = -(y.log() + (1 - y).log()).sum(1)
        for coupling, norm in zip(self.couplings, self.norms, strict=True):
            for part in (coupling, norm):
                x, more = part(x)
                change = change + more
        return x, change

    def kernels(self, latents: Tensor) -> Tensor:
        """Give the kernels (N, k*k) of latents (N, k*k), each divided by its sum."""
        x = latents
        for coupling, norm in zip(reversed(self.couplings), reversed(self.norms), strict=True):
            for part in (norm, coupling):
                x = part.inverse(x)  # type: ignore[operator]
        taps = ((x.sigmoid() - _ALPHA) / (1 - 2 * _ALPHA)).clamp(min=0) * self.largest
        return taps / taps.sum(1, keepdim=True)


_TRAINED: dict[tuple[int, int, int], KernelFlow] = {}


def trained_flow(scale: int, kernel_size: int, steps: int, tick: Tick) -> KernelFlow:
    """Train a flow on the kernels that the package trains on; the same at every call, and once a process.

    Args:
        scale: Downsampling factor.
        kernel_size: Side k of the kernels.
        steps: Of Adam, each on 100 kernels. The rate is halved at 40, 50 ... 90 per cent of them.
        tick: Called after each step, if there are any: a flow is trained once.

    Returns:
        The flow, in evaluation mode, its parameters frozen.
    """
    key = scale, kernel_size, steps
    if key not in _TRAINED:
        _TRAINED[key] = _train(scale, kernel_size, steps, tick)
    return _TRAINED[key]


def _train(scale: int, kernel_size: int, steps: int, tick: Tick) -> KernelFlow:
    generator = torch.Generator().manual_seed(0)
    low, high = training_variance_range(scale)
    narrowest = anisotropic_gaussian_kernels(torch.full((1, 2), low), torch.zeros(1), kernel_size, scale)
    hidden = min(5 * (scale + 1), 25)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.default_generator.manual_seed(0)  # and not those of GPUs, which is not taken back
        flow = KernelFlow(kernel_size**2, hidden, float(narrowest.max()) + _MARGIN)
        optimizer = torch.optim.Adam(flow.parameters(), 1e-4, weight_decay=1e-6)
        milestones = [steps * tenth // 10 for tenth in range(4, 10)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.5)
        for step in range(steps):
            parameters = sample_kernel_parameters(_BATCH, (low, high), generator)
            kernels = anisotropic_gaussian_kernels(*parameters, kernel_size, scale)
            optimizer.zero_grad(set_to_none=True)
            latents, change = flow(kernels, torch.rand(kernels.shape, generator=generator))
            (latents.square().sum(1) / 2 - change).mean().backward()
            optimizer.step()
            schedule.step()
            tick(step + 1, steps)
    return flow.eval().requires_grad_(False)
