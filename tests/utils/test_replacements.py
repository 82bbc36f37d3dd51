"""What takes the place of functions of BasicSR: averaged networks, images under any name, weights of every form."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import imwrite, tensor2img
from torch import nn

import manet_basicsr.compat  # noqa: F401


def test_an_averaged_network_follows_the_buffers_of_the_trained_one() -> None:
    model = BaseModel({'num_gpu': 0, 'is_train': True})
    model.net_g, model.net_g_ema = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    model.net_g(torch.rand(4, 3, 8, 8) + 5)
    model.model_ema(0.999)
    for name, buffer in model.net_g.named_buffers():
        assert torch.equal(dict(model.net_g_ema.named_buffers())[name], buffer)
    assert model.net_g.running_mean.min() > 0.1


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_an_image_that_is_not_finite_does_not_become_a_black_one(value: float) -> None:
    image = torch.rand(1, 3, 4, 5)
    assert tensor2img(image).shape == (4, 5, 3)
    image[0, 1, 2, 3] = value
    for given in (image, [image]):
        with pytest.raises(ValueError, match='the restored image is not finite'):
            tensor2img(given)


def test_an_image_is_written_under_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b'/M\xfcller.png')
    imwrite(np.zeros((4, 4, 3), np.uint8), path)
    assert os.listdir(os.fsencode(tmp_path)) == [b'M\xfcller.png']


def test_an_image_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / 'a.png').mkdir()
    with pytest.raises(OSError, match=r'cannot write .*a\.png: Is a directory'):
        imwrite(np.zeros((4, 4, 3), np.uint8), str(tmp_path / 'a.png'))


def test_weights_of_every_form_load_without_strictness_too(tmp_path: Path) -> None:
    safetensors = pytest.importorskip('safetensors.torch')
    model = BaseModel({'num_gpu': 0, 'is_train': False})
    saved = {'weight': torch.ones(2, 3), 'bias': torch.ones(2), 'other': torch.ones(1)}
    safetensors.save_file(saved, tmp_path / 'w.safetensors')
    torch.save({'params': saved}, tmp_path / 'w.pth')
    for name, key in (('w.safetensors', None), ('w.pth', 'params')):
        network = nn.Linear(3, 2)
        model.load_network(network, str(tmp_path / name), False, key)
        assert torch.equal(network.weight, saved['weight'])
    wider = nn.Linear(4, 2)
    before = wider.weight.clone()
    model.load_network(wider, str(tmp_path / 'w.pth'), False)
    assert torch.equal(wider.weight, before) and torch.equal(wider.bias, saved['bias'])
    with pytest.raises(ValueError, match="expected 'params_of_others'; set param_key"):
        model.load_network(nn.Linear(3, 2), str(tmp_path / 'w.pth'), False, 'params_of_others')
