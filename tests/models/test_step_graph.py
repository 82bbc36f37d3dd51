"""Steps that are recorded as CUDA graphs: what they compute on a GPU, and the bookkeeping about them anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.models import build_model
from torch import Tensor, nn

from manet_basicsr.models import step_graph
from manet_basicsr.models.step_graph import StepGraph
from manet_basicsr.options.errors import OptionError
from tests import shortened

_fork_rng = torch.random.fork_rng
_JOBS = (*shortened.JOBS, *shortened.PEER_JOBS)
_WAYS = {
    'bf16': ['train:amp=bf16', 'train:channels_last=true'],
    'fp16': ['train:amp=fp16', 'train:optim_g={type: Muon, lr: 0.01, adam_lr: 1e-4}'],
    'parts': ['train:amp=~', 'train:accumulate=2', 'train:ema_decay=0.9'],
}
_LR_IMAGE = 'train:lr_image_opt={type: L1Loss, loss_weight: 1.0}'
_CASES = [
    *(pytest.param(job, _WAYS['bf16'], id=f'{job}-bf16') for job in _JOBS),
    pytest.param('MANet_stage1', [*_WAYS['bf16'], _LR_IMAGE], id='MANet_stage1-LR image'),
    *(pytest.param('SFTRRDB_stage2', _WAYS[way], id=f'SFTRRDB_stage2-{way}') for way in ('fp16', 'parts')),
]


def batch_of(number: int, images: int = 4, side: int = 12) -> dict[str, Any]:
    draws = torch.Generator().manual_seed(number)
    kernel = torch.rand(images, 441, 1, 1, generator=draws)
    batch: dict[str, Any] = {
        'lq': torch.rand(images, 3, side, side, generator=draws),
        'gt': torch.rand(images, 3, 4 * side, 4 * side, generator=draws),
        'kernel': kernel / kernel.sum(1, keepdim=True),
    }
    return {**batch, 'lq_path': ['noise'] * images, 'gt_path': ['noise'] * images}


def weights_of(net: nn.Module) -> Tensor:
    """All weights in one vector, whatever their memory format is."""
    return torch.cat([weight.detach().reshape(-1) for weight in net.parameters()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize(('job', 'way'), _CASES)
def test_a_recorded_step_learns_what_another_does(job: str, way: list[str], photos: Path, tmp_path: Path) -> None:
    file = shortened.option_file('train', job, 4)
    learned = []
    for setting in ('false', 'graph'):
        entries = [*shortened.train_entries(job, photos), 'num_gpu=1', *way, f'train:compile={setting}']
        opt = shortened.resolved(file, entries, tmp_path)
        torch.manual_seed(0)
        model = build_model(opt)
        start = weights_of(model.net_g)
        losses = []
        for number in (1, 2, 3, 4):
            # The third is of another form.
            model.feed_data(batch_of(number, side=16 if number == 3 else 12))
            model.optimize_parameters(number)
            losses += [float(loss) for loss in model.loss_dict.values()]
        learned.append((losses, weights_of(model.net_g) - start))
    (plain_losses, plain), (recorded_losses, recorded) = learned
    assert recorded_losses == pytest.approx(plain_losses, rel=0.02, abs=1e-4)
    # A GPU adds in any order; Adam makes whole steps of the smallest gradients.
    assert float((plain - recorded).norm() / plain.norm()) < 0.3


class _Graph:
    """A graph that computes when it is replayed, into the tensors that were there when it was recorded."""

    def __init__(self) -> None:
        self.owner: Any = None

    def replay(self) -> None:
        owner: Any = self.owner
        (recorded,) = (one for one in owner._recorded.values() if one.graph is self)
        losses = owner._passes(recorded.batch)
        for name, loss in recorded.losses.items():
            loss.copy_(losses[name])
        for parameter, held in zip(owner._parameters, recorded.gradients, strict=True):
            if held is not None:
                held.copy_(parameter.grad)
            parameter.grad = None


@pytest.fixture
def without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def wait_stream(self, _: Any) -> None:
            pass

    monkeypatch.setattr(torch.cuda, 'graph_pool_handle', lambda: None)
    monkeypatch.setattr(torch.cuda, 'Stream', Stream)
    monkeypatch.setattr(torch.cuda, 'current_stream', Stream)
    monkeypatch.setattr(torch.cuda, 'stream', lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(torch.random, 'fork_rng', lambda devices: _fork_rng([]))
    monkeypatch.setattr(torch.cuda, 'CUDAGraph', _Graph)
    monkeypatch.setattr(torch.cuda, 'graph', lambda graph, **_: nullcontext())


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(2.0))
        self.unused = nn.Parameter(torch.tensor(1.0))


def passes_of(net: _Line) -> Any:
    def passes(batch: dict[str, Any]) -> dict[str, Tensor]:
        net.zero_grad(set_to_none=True)
        loss = (net.slope * batch['lq']).sum()
        loss.backward()
        return {'l_pix': loss.detach()}

    return passes


@pytest.mark.usefixtures('without_gpu')
def test_each_batch_has_its_own_losses_and_gradients() -> None:
    net = _Line()
    graph = StepGraph(passes_of(net), net)
    given = [torch.full((size,), value) for size, value in ((2, 1.0), (2, 3.0), (3, 1.0), (2, 5.0))]
    found = []
    for lq in given:
        losses = _called(graph, {'lq': lq, 'lq_path': ['a']})
        found.append(losses['l_pix'])
        assert float(net.slope.grad) == float(lq.sum())  # type: ignore[arg-type]
        assert net.unused.grad is None
    assert [float(loss) for loss in found] == [2 * float(lq.sum()) for lq in given]
    assert len(graph._recorded) == 2


@pytest.mark.usefixtures('without_gpu')
def test_what_warms_up_leaves_no_trace_in_averages_and_random_numbers() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    calls = []

    def passes(batch: dict[str, Any]) -> dict[str, Tensor]:
        calls.append(torch.get_rng_state())
        return {'l_pix': net(batch['lq']).sum().detach()}

    graph, start = StepGraph(passes, net), torch.get_rng_state()
    graph._warm_up({'lq': torch.rand(4, 3, generator=torch.Generator().manual_seed(0))})
    assert len(calls) == step_graph._WARM_UP and not torch.equal(calls[1], start)
    assert torch.equal(torch.get_rng_state(), start)
    assert net[1].running_mean.tolist() == [0, 0, 0] and net[1].num_batches_tracked == 0


@pytest.mark.usefixtures('without_gpu')
def test_after_four_forms_batches_are_computed_without_a_graph() -> None:
    net = _Line()
    graph = StepGraph(passes_of(net), net)
    for size in range(1, 8):
        losses = _called(graph, {'lq': torch.ones(size)})
        assert float(losses['l_pix']) == 2 * size and float(net.slope.grad) == size  # type: ignore[arg-type]
    assert len(graph._recorded) == step_graph._MOST_FORMS


def _called(graph: StepGraph, batch: dict[str, Any]) -> dict[str, Tensor]:
    watched: Any = graph
    record = watched._record

    def recorded(held: dict[str, Any]) -> Any:
        made = record(held)
        made.graph.owner = graph
        return made

    watched._record = recorded
    try:
        return graph(batch)
    finally:
        watched._record = record


@contextmanager
def _broken_recording(*_: Any, **__: Any) -> Iterator[None]:
    try:
        yield
    finally:
        raise RuntimeError('operation failed due to a previous error during capture')


@pytest.mark.usefixtures('without_gpu')
def test_memory_that_runs_out_while_recording_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'graph', _broken_recording)
    calls = []

    def passes(batch: dict[str, Any]) -> dict[str, Tensor]:
        calls.append(batch)
        if len(calls) > step_graph._WARM_UP:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')
        return {}

    with pytest.raises(torch.OutOfMemoryError, match='2 GiB'):
        StepGraph(passes, _Line())({'lq': torch.ones(1)})


@pytest.mark.usefixtures('without_gpu')
def test_what_cannot_be_recorded_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'graph', _broken_recording)
    net, calls = _Line(), []

    def passes(batch: dict[str, Any]) -> dict[str, Tensor]:
        calls.append(batch)
        if len(calls) > step_graph._WARM_UP:
            raise RuntimeError('operation not permitted when stream is capturing\nand more')
        return {}

    with pytest.raises(OptionError) as raised:
        StepGraph(passes, net)({'lq': torch.ones(1)})
    assert str(raised.value).splitlines() == [
        'train.compile: found graph, but a step cannot be recorded (operation not permitted when stream is capturing), '
        'expected a network and losses that do not wait for the device; false is without'
    ]


def test_several_gpus_are_refused() -> None:
    with pytest.raises(OptionError, match='found graph with several processes or GPUs'):
        StepGraph(lambda batch: {}, nn.DataParallel(_Line()))


def test_without_a_gpu_nothing_is_recorded(photos: Path, tmp_path: Path) -> None:
    entries = [*shortened.train_entries('SFTRRDB_stage2', photos), 'num_gpu=0', 'train:compile=graph']
    model = build_model(shortened.resolved(shortened.option_file('train', 'SFTRRDB_stage2', 4), entries, tmp_path))
    model.feed_data(batch_of(1))
    model.optimize_parameters(1)
    assert not isinstance(model._passes, StepGraph) and model.loss_dict
