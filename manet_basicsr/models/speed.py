"""What ``auto`` means for ``train.channels_last`` and ``train.compile``, and how a training keeps its freed memory.

Each choice comes with its reason, which the log shows: the same option file runs on machines that gain from different
things.
"""

from __future__ import annotations

import textwrap
from functools import cache
from typing import Any, NamedTuple

import torch
from basicsr.utils import get_root_logger
from torch import nn

from manet_basicsr.utils.device import cpu_has, fast_half_precision, to_channels_last
from manet_basicsr.utils.errors import first_line
from manet_basicsr.utils.memory import glibc

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt
_KEPT_AT_MOST = 2**30  # bytes; more freed memory than this at the end of the heap goes back to the system
#: The setting of ``train.compile`` with which a step is recorded as a CUDA graph, without a compiler.
GRAPH = 'graph'
_TENSOR_CORES = (7, 0)  # the first compute capability that has them


class Choice(NamedTuple):
    """What was chosen, and why."""

    value: bool | str
    reason: str


def prepare_for_training(net: nn.Module, train_opt: dict[str, Any], device: torch.device) -> bool | str:
    """Bring a network into the form in which it trains fastest here, and log what was chosen and why.

    Args:
        net: The network, changed in place: compiled otherwise, it would be saved under other keys.
        train_opt: The section ``train``; ``channels_last`` and ``compile`` are ``auto`` where they are missing.
        device: Where it will train.

    Returns:
        Whether it is compiled and with which mode of torch.compile; ``graph`` where it is not, but steps are recorded.
    """
    log = get_root_logger().info
    layout = choose_channels_last(train_opt.get('channels_last', 'auto'), device)
    compiling = choose_compile(train_opt.get('compile', 'auto'), device)
    log(f'channels_last: {_words(layout)}; compile: {_words(compiling)}')
    if train_opt.get('amp') == 'bf16' and device.type == 'cpu' and fast_half_precision(device) is None:
        log('amp: bf16 is slow on this CPU, which has no instructions for it; train.amp: ~ computes in float32')
    if device.type == 'cpu' and (kept := keep_freed_memory()):
        log(kept)
    if layout.value:
        to_channels_last(net)
    if compiling.value not in (False, GRAPH):
        net.compile(mode=None if compiling.value is True else compiling.value)
    return compiling.value


def _words(choice: Choice) -> str:
    return f'{str(choice.value).lower()} ({choice.reason})'


def choose_channels_last(setting: bool | str, device: torch.device) -> Choice:
    """Decide on the memory format of the convolutions.

    Args:
        setting: ``train.channels_last``: true, false or ``auto``.
        device: Where the network is.

    Returns:
        With ``auto`` true where convolutions run on tensor cores or AMX, which want it; elsewhere it gains 1 to 3 %.

    Raises:
        ValueError: The setting is another word.
    """
    if isinstance(setting, bool):
        return Choice(setting, 'as train.channels_last says')
    if setting != 'auto':
        raise ValueError(f"train.channels_last: found '{setting}', expected true, false or auto")
    if device.type == 'cuda':
        capability = torch.cuda.get_device_capability(device)
        return Choice(capability >= _TENSOR_CORES, f'CUDA capability {capability[0]}.{capability[1]}')
    if device.type == 'cpu':
        return Choice(True, 'a CPU with AMX') if cpu_has('amx_tile') else Choice(False, 'a CPU without AMX')
    return Choice(False, f'nothing is known of {device.type}')


def choose_compile(setting: bool | str | None, device: torch.device) -> Choice:
    """Decide whether the network is compiled.

    Args:
        setting: ``train.compile``: true, false, ``auto``, ``graph``, or a mode of torch.compile such as
            ``reduce-overhead``.
        device: Where the network is.

    Returns:
        With ``auto`` true where compiling works, which needs a C++ compiler, or Triton on CUDA; but false on a CPU that
        is slow in bf16, where convolutions are nearly all of the time: compiled, stage 1 was no faster there and stage
        2 a third slower. A mode as it is.
    """
    if setting == GRAPH and device.type != 'cuda':
        return Choice(False, 'a CUDA graph needs a GPU')
    if setting != 'auto':
        return Choice(setting or False, 'as train.compile says')
    if device.type == 'cpu' and fast_half_precision(device) is None:
        return Choice(False, 'a CPU without bf16')
    problem = why_not_compiled(device)
    if problem:
        return Choice(False, f'torch.compile does not work here: {problem}')
    return Choice(True, 'torch.compile works here; the first iteration takes a minute or more')


@cache
def why_not_compiled(device: torch.device) -> str:
    """Compile something small, and return what went wrong, in a line, or ''.

    A compiler that is there need not work: headers, libraries or Triton may be missing, or a folder not be writable.
    """
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.zeros(8, device=device))
    except Exception as error:  # whatever a compiler, Triton or torch does
        return textwrap.shorten(first_line(error), 200, placeholder=' ...')
    return ''


def keep_freed_memory() -> str | None:
    """Let this process reuse the memory it frees, instead of returning it and having each page cleared anew.

    An iteration allocates and frees the same large tensors again and again; by default glibc gives each of them back to
    the system. At most 1 GiB is kept beside what is in use. Restoring does the opposite, to stay within a bound.

    Returns:
        A line for the log, or None where the allocator is not glibc's.
    """
    if (library := glibc()) is None:
        return None
    library.mallopt(_M_MMAP_MAX, 0)  # a mapping of its own, which tensors above 32 MiB always get, is never kept
    library.mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_MOST)
    return f'Up to {_KEPT_AT_MOST // 2**20:,d} MiB of freed memory are kept for the next iterations.'
