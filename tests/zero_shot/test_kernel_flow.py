"""The flow over kernels: there and back, the change of volumes, and that it learns what kernels are likely."""

from __future__ import annotations

import pytest
import torch

from manet_basicsr.degradation import anisotropic_gaussian_kernels
from manet_basicsr.zero_shot.kernel_flow import KernelFlow, trained_flow


def kernels_of(number: int, kernel_size: int = 11) -> torch.Tensor:
    variances = 0.5 + 3 * torch.rand(number, 2, generator=torch.Generator().manual_seed(0))
    return anisotropic_gaussian_kernels(variances, torch.zeros(number), kernel_size, 2)


def a_flow(taps: int, hidden: int = 5) -> KernelFlow:
    """A flow whose every part does something."""
    torch.manual_seed(0)
    flow = KernelFlow(taps, hidden, 0.5).double()
    for norm in flow.norms:
        torch.nn.init.normal_(norm.log_gamma, 0, 0.1)  # type: ignore[arg-type]
        torch.nn.init.normal_(norm.mean, 0, 0.1)  # type: ignore[arg-type]
    return flow.eval()


@pytest.mark.parametrize(
    ('side', 'hidden', 'size'), [(11, 15, 41_270), (15, 20, 98_900), (19, 25, 194_470), (21, 25, 236_070)]
)
def test_flows_have_the_papers_sizes(side: int, hidden: int, size: int) -> None:
    assert sum(parameter.numel() for parameter in KernelFlow(side**2, hidden, 0.1).parameters()) == size


def test_a_kernel_comes_back_from_its_latent() -> None:
    flow, kernels = a_flow(121), kernels_of(4).double()
    latents, _ = flow(kernels, torch.zeros_like(kernels))
    torch.testing.assert_close(flow.kernels(latents), kernels, atol=1e-7, rtol=0)
    assert (flow.kernels(torch.randn(3, 121, dtype=torch.float64)) >= 0).all()


def test_the_change_of_volumes_is_the_jacobian_s() -> None:
    flow = a_flow(9)
    kernel = torch.rand(1, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 4 + 0.05
    noise = torch.zeros_like(kernel)
    jacobian = torch.autograd.functional.jacobian(lambda k: flow(k, noise)[0][0], kernel)[:, 0]
    # The change is counted from the numbers in (0, 1) on, which are kernels divided by the largest tap.
    expected = torch.linalg.slogdet(jacobian * 0.5 / (1 - 2e-6)).logabsdet
    torch.testing.assert_close(flow(kernel, noise)[1][0], expected)


def test_training_makes_kernels_likely_and_happens_once() -> None:
    steps: list[tuple[int, int]] = []
    flow = trained_flow(2, 11, 60, lambda *pair: steps.append(pair))
    assert steps == [(done, 60) for done in range(1, 61)]
    assert trained_flow(2, 11, 60, lambda *pair: steps.append(pair)) is flow
    assert len(steps) == 60
    with torch.inference_mode():  # as an evaluation may be
        other = trained_flow(2, 11, 1, lambda *pair: None)
    kernels = kernels_of(50)
    noise = torch.rand(kernels.shape, generator=torch.Generator().manual_seed(0))
    losses = []
    for one in (flow, other):
        latents, change = one.train()(kernels, noise)  # with the statistics of these kernels
        losses.append((latents.square().sum(1) / 2 - change).mean().item())
        one.eval()
    assert losses[0] < losses[1]
