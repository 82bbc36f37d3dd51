"""What ``auto`` chooses, by what the machine has."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.utils import get_root_logger
from torch import nn

from manet_basicsr.models import speed

CPU, CUDA = torch.device('cpu'), torch.device('cuda')


@pytest.mark.parametrize('amx', [True, False])
def test_channels_last_follows_amx(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx, raising=False)
    chosen = speed.choose_channels_last('auto', CPU)
    assert chosen.value is amx
    assert 'AMX' in chosen.reason


@pytest.mark.parametrize(('capability', 'expected'), [((9, 0), True), ((7, 0), True), ((6, 1), False)])
def test_channels_last_follows_tensor_cores(
    capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    assert speed.choose_channels_last('auto', CUDA).value is expected


@pytest.mark.parametrize('setting', [True, False])
def test_what_is_said_is_done(setting: bool) -> None:
    assert speed.choose_channels_last(setting, CPU).value is setting
    assert speed.choose_compile(setting, CPU).value is setting
    assert speed.choose_compile('reduce-overhead', CUDA).value == 'reduce-overhead'


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match="found 'yes', expected true, false or auto"):
        speed.choose_channels_last('yes', CPU)


@pytest.mark.parametrize('problem', ['', 'no Triton'])
def test_compile_is_chosen_where_it_works(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, 'why_not_compiled', lambda device: problem)
    monkeypatch.setattr(speed, 'fast_half_precision', lambda device: torch.bfloat16)
    for device in (CPU, CUDA):
        value, reason = speed.choose_compile('auto', device)
        assert value is not bool(problem)
        assert problem in reason


def test_a_slow_cpu_does_not_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, 'fast_half_precision', lambda device: None)
    assert speed.choose_compile('auto', CPU) == (False, 'a CPU without bf16')
    assert speed.choose_compile(True, CPU).value is True


@pytest.mark.slow
def test_a_compiler_that_does_not_work_is_found_out(tmp_path: Path) -> None:
    compiler = tmp_path / 'c++'
    compiler.write_text('#!/bin/sh\necho "fatal error: Python.h: No such file" >&2\nexit 1\n')
    compiler.chmod(0o755)
    program = 'import torch; from manet_basicsr.models import speed; '
    program += 'speed.fast_half_precision = lambda device: torch.bfloat16; '
    program += "print(speed.choose_compile('auto', torch.device('cpu')))"
    environment = {**os.environ, 'CXX': str(compiler), 'TORCHINDUCTOR_CACHE_DIR': str(tmp_path / 'cache')}
    command = [sys.executable, '-c', program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 'value=False' in result.stdout and 'torch.compile does not work here: ' in result.stdout


def test_only_convolutions_change_their_layout() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Linear(4, 8))
    network.register_parameter('basis', nn.Parameter(torch.zeros(1, 9, 3, 1, 1)))
    speed.to_channels_last(network)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert network.basis.shape == (1, 9, 3, 1, 1)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith('linux'), reason="glibc's allocator")
def test_freed_memory_is_used_again() -> None:
    """A second tensor of one size costs page faults only where the first one's memory was given back."""
    program = """
import resource, sys, torch
from manet_basicsr.models.speed import keep_freed_memory
if sys.argv[1] == 'keep':
    assert '1,024 MiB' in keep_freed_memory()
for _ in range(3):
    torch.ones(9 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    torch.ones(9 * 2**20)  # 36 MiB, 9,216 pages: more than glibc keeps by itself
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = [
        int(subprocess.run([sys.executable, '-c', program, word], capture_output=True, text=True, check=True).stdout)
        for word in ('keep', 'return')
    ]
    assert faults[0] < 500
    assert faults[1] > 18_000


def test_what_was_chosen_is_logged_with_its_reason_and_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: True)
    monkeypatch.setattr(speed, 'keep_freed_memory', lambda: None)  # of this process, which goes on
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    compiled: list[Any] = []
    network = nn.Sequential(nn.Conv2d(4, 8, 3))
    monkeypatch.setattr(network, 'compile', lambda mode: compiled.append(mode))
    with caplog.at_level(logging.INFO, 'basicsr'):
        assert not speed.prepare_for_training(network, {'compile': False, 'amp': 'bf16'}, CPU)
        assert speed.prepare_for_training(network, {'channels_last': False, 'compile': 'reduce-overhead'}, CPU)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert compiled == ['reduce-overhead']
    assert 'channels_last: true (a CPU with AMX); compile: false (as train.compile says)' in caplog.text


def test_bf16_without_instructions_for_it_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(speed, 'keep_freed_memory', lambda: None)
    monkeypatch.setattr(speed, 'fast_half_precision', lambda device: None)
    monkeypatch.setattr(get_root_logger(), 'propagate', True)
    with caplog.at_level(logging.INFO, 'basicsr'):
        speed.prepare_for_training(nn.Conv2d(1, 1, 1), {'compile': False, 'amp': 'bf16'}, CPU)
    assert 'amp: bf16 is slow on this CPU' in caplog.text
