"""The passes of a training step as a CUDA graph: recorded once, then repeated without Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from manet_basicsr.models.batches import Batch
from manet_basicsr.options.errors import OptionError
from manet_basicsr.utils.errors import first_line

#: Passes before recording: in them libraries choose their algorithms and modules make what they keep.
_WARM_UP = 3
#: Forms of batches that are recorded, such as one kernel a crop and one a pixel; each keeps its memory.
_MOST_FORMS = 4
_Form = tuple[tuple[str, torch.Size, torch.dtype], ...]


@dataclass(frozen=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    batch: Batch
    losses: dict[str, Tensor]
    gradients: list[Tensor | None]


class StepGraph:
    """Forward and backward pass of a training step, repeated as a CUDA graph.

    Small networks leave a GPU waiting for Python, which starts their thousand kernels one by one. A graph starts them
    all at once; they are the same kernels on the same numbers. Batches of a form that is not among the first four are
    computed without one.

    Args:
        passes: Makes the gradients of a batch, from nothing, and returns its losses. It must not wait for the device: a
            number that is read, or a tensor that is sent, cannot be recorded.
        net: What is trained, in one process, on one GPU.

    Raises:
        OptionError: The network is spread over several.
    """

    def __init__(self, passes: Callable[[Batch], dict[str, Tensor]], net: nn.Module) -> None:
        if isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            raise OptionError(['train.compile: found graph with several processes or GPUs, expected one of each'])
        self._passes = passes
        self._parameters = list(net.parameters())
        self._buffers = list(net.buffers())
        self._recorded: dict[_Form, _Recorded] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Give the parameters their gradients of a batch, and return its losses.

        Args:
            batch: Tensors, all on the GPU, by their names, and what else belongs to it.

        Raises:
            OptionError: The passes cannot be recorded.
        """
        tensors = {key: value for key, value in batch.items() if torch.is_tensor(value)}
        form = tuple((key, value.shape, value.dtype) for key, value in tensors.items())
        if form not in self._recorded and len(self._recorded) == _MOST_FORMS:
            return self._passes(batch)
        if form not in self._recorded:
            self._recorded[form] = self._record(batch)
        recorded = self._recorded[form]
        for key, value in tensors.items():
            recorded.batch[key].copy_(value)
        recorded.graph.replay()
        for parameter, gradient in zip(self._parameters, recorded.gradients, strict=True):
            parameter.grad = gradient
        # The next replay writes where these are.
        return {name: loss.clone() for name, loss in recorded.losses.items()}

    def _warm_up(self, batch: Batch) -> None:
        """Let passes make what is made once; random numbers and running averages are then as before."""
        kept = [buffer.clone() for buffer in self._buffers]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.random.fork_rng([torch.cuda.current_device()]), torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                self._passes(batch)
        torch.cuda.current_stream().wait_stream(aside)
        for buffer, value in zip(self._buffers, kept, strict=True):
            buffer.copy_(value)

    def _record(self, batch: Batch) -> _Recorded:
        held = {key: value.clone() if torch.is_tensor(value) else value for key, value in batch.items()}
        self._warm_up(held)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, which pin memory, may go on meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode='thread_local'):
                losses = self._passes(held)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            # What the end of a recording raises says only that something went wrong in it.
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None
            reason = first_line(error.__context__ or error)
            problem = f'found graph, but a step cannot be recorded ({reason})'
            expected = 'expected a network and losses that do not wait for the device; false is without'
            raise OptionError([f'train.compile: {problem}, {expected}']) from error
        return _Recorded(graph, held, losses, [parameter.grad for parameter in self._parameters])
