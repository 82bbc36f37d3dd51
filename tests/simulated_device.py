"""A GPU that is not there: devices, types and shapes of tensors on it are computed, their numbers are not.

torch lets a program name an accelerator of its own. One of CUDA's name would need CUDA's library, so this one is called
otherwise: what the package does for CUDA alone is not reached here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from basicsr.models.base_model import BaseModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

from manet_basicsr.weights import files

_NAME = 'simulated'
DEVICE = torch.device('privateuseone:0')  # what it is called before it has its name
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_kept: list[torch.library.Library] = []  # what is registered ends with its library


class WaitsForDeviceError(AssertionError):
    """The program waits until the device has computed a number."""


class NoWaiting(TorchDispatchMode):
    """Fails where numbers are copied from the device; torch's simulation itself fails where one decides something."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in _COPIES:
            return result
        into = func is torch.ops.aten.copy_.default
        source = args[1] if into else args[0]
        waits = not ((kwargs or {}).get('non_blocking') or (into and len(args) > 2 and args[2]))
        if source.device.type == DEVICE.type and result.device.type == 'cpu':
            raise WaitsForDeviceError(f'{tuple(source.shape)} are copied from the device')
        if source.device.type == 'cpu' and result.device.type == DEVICE.type and waits:
            raise WaitsForDeviceError(f'{tuple(source.shape)} are copied to the device, without non_blocking')
        return result


@contextmanager
def simulated_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Tensor], Tensor]]:
    """Let BasicSR's models live on :data:`DEVICE`; yields what makes a tensor of the host, too, a simulated one."""
    _register()
    original = BaseModel.__init__

    def init(model: BaseModel, opt: dict[str, Any]) -> None:
        original(model, opt)
        model.device = DEVICE

    monkeypatch.setattr(BaseModel, '__init__', init)
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """``Module._apply``, which for simulated tensors exchanges them in a way that fails."""
        for child in module.children() if recurse else ():
            apply(child, change)
        with torch.no_grad():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    changed = change(mode.from_tensor(parameter))
                    module._parameters[name] = nn.Parameter(changed, parameter.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = change(mode.from_tensor(buffer))
        return module

    monkeypatch.setattr(nn.Module, '_apply', apply)
    # Adam counts its steps on the host, where reading a number costs nothing.
    monkeypatch.setattr(importlib.import_module('torch.optim.adam'), '_get_value', lambda value: 1.0)
    # Weights of files are looked at on the host; here they have no numbers.
    monkeypatch.setattr(files, 'not_finite', lambda content: None)
    monkeypatch.setattr(torch, 'Generator', lambda device=None, make=torch.Generator: make())
    with mode:
        yield mode.from_tensor


@cache
def _register() -> None:
    backend_registration._setup_privateuseone_for_python_backend(_NAME)
    getattr(torch, _NAME).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    casts = torch.library.Library('_', 'IMPL', 'AutocastPrivateUse1')
    casts.fallback(torch.library.fallthrough_kernel)  # half precision may be asked for, and is float32
    _kept.append(casts)
