"""The device to compute on."""

from __future__ import annotations

import pytest
import torch

from manet_basicsr.utils.device import fast_half_precision, pick_device


def test_a_device_that_is_there_is_picked() -> None:
    for name in ('cpu', 'cpu:0', torch.device('cpu')):
        assert pick_device(name).type == 'cpu'
    assert pick_device().type == ('cuda' if torch.cuda.is_available() else 'cpu')


@pytest.mark.parametrize('name', ['gpu', 'mps', 'xpu', 'meta', 'hip', 'vulkan', 'cpu:1', 'cuda:-1', ''])
def test_a_device_that_the_networks_do_not_run_on_is_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=f"^device '{name}' is not one of cpu, cuda, cuda:0 ") as caught:
        pick_device(name)
    assert '\n' not in str(caught.value)


def test_a_cuda_device_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert pick_device() == torch.device('cpu')
    with pytest.raises(ValueError, match="device 'cuda:1': there is no CUDA device here; try cpu"):
        pick_device('cuda:1')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    assert pick_device('cuda:0') == torch.device('cuda:0')
    with pytest.raises(ValueError, match="device 'cuda:9': the last CUDA device here is cuda:0"):
        pick_device('cuda:9')


def test_half_precision_is_fast_where_the_device_has_instructions_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast_half_precision(torch.device('cuda')) == torch.float16
    for amx, avx, expected in ((False, False, None), (True, False, torch.bfloat16), (False, True, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda avx=avx: avx)
        assert fast_half_precision(torch.device('cpu')) == expected
