"""Restoring one image by a solver, which learns from that image alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from manet_basicsr.data.alpha import enlarge_alpha
from manet_basicsr.restoration.arrays import batch_to_image, image_to_batch
from manet_basicsr.restoration.restoring import Restored, load_blind_network
from manet_basicsr.utils.device import pick_device
from manet_basicsr.utils.progress import percent_bar
from manet_basicsr.zero_shot import Solver, solve


def restore_by_solver(
    image: np.ndarray | Tensor,
    solver: Solver,
    scale: int = 4,
    *,
    device: str | torch.device | None = None,
    field_dtype: torch.dtype | None = torch.float32,
    progress: str | None = None,
) -> Restored:
    """Super-resolve an image by a solver, in one piece.

    Where the solver finds kernels alone, the generator that ships for ``scale`` restores with them. Alpha is resampled.

    Args:
        image: As for :func:`restore`; a batch has one image.
        solver: The solver.
        scale: Upsampling factor.
        device: Where to compute; None for CUDA where there is one, else the CPU.
        field_dtype: Type of the field that is returned; None to return none.
        progress: Label of a progress bar on standard error; None for no bar.

    Raises:
        FileNotFoundError: A generator is needed, and none ships for ``scale``.
        TypeError: The image is neither an array nor a tensor.
        ValueError: The image has another shape, type or range, or is too small, or the solver is not for this scale.
    """
    lq, alpha = image_to_batch(image)
    chosen = pick_device(device)
    solver.check(scale)
    network = None if solver.RESTORES else load_blind_network(None, scale).to(chosen)
    with percent_bar(progress) as tick:
        solution = solve(solver, lq.to(chosen), scale, tick=tick)
    sr, field = solution.sr, solution.field
    if network is not None and field is not None:
        with torch.inference_mode():
            sr = network.restore(lq.to(chosen), field).clamp(0, 1)
    if sr is None or not bool(sr.isfinite().all()):
        raise ValueError(f'{solver.name}: what it made is not finite; another seed may do better')
    if field is not None and field_dtype is not None:
        field = field.to('cpu', field_dtype).expand(-1, -1, *lq.shape[-2:]).contiguous()
    wanted = None if field_dtype is None else field
    larger_alpha = None if alpha is None else enlarge_alpha(alpha, scale)
    return Restored(batch_to_image(sr.cpu(), image, lq, larger_alpha), wanted)
