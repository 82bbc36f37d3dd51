"""Functions that take the place of BasicSR's: averaging with buffers, making and writing images, reading weights."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch

from manet_basicsr.utils.files import atomic_path
from manet_basicsr.utils.tensors import not_finite


@torch.no_grad()
def model_ema(self: Any, decay: float = 0.999) -> None:
    """Move the EMA weights towards the trained ones, all at once: one by one costs a kernel launch or two each."""
    network = self.get_bare_model(self.net_g)
    trained, averages = dict(network.named_parameters()), dict(self.net_g_ema.named_parameters())
    update = torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    update(list(averages.values()), [trained[name] for name in averages], 0)
    buffers = dict(network.named_buffers())
    for name, buffer in self.net_g_ema.named_buffers():  # such as running means, which are no weights
        buffer.copy_(buffers[name])


def finite_only(tensor2img: Callable[..., Any]) -> Callable[..., Any]:
    """Let an image that is not finite be an error: as integers, NaN would be black."""

    @functools.wraps(tensor2img)
    def converted(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if not_finite(tensor) is not None:
            raise ValueError('the restored image is not finite (NaN or infinite)')
        return tensor2img(tensor, *args, **kwargs)

    return converted


def write_image(
    img: np.ndarray, file_path: str | os.PathLike[str], params: list[int] | None = None, auto_mkdir: bool = True
) -> bool:
    """Write an image under any name, whole or not at all.

    Args:
        img: ``(h, w)`` or ``(h, w, 3)``, uint8 or uint16, BGR.
        file_path: The file; its suffix is its format.
        params: OpenCV's, for the encoder.
        auto_mkdir: Whether to make its folder.

    Returns:
        True.

    Raises:
        OSError: It cannot be encoded or written; the message names it and says why.
    """
    if auto_mkdir:
        os.makedirs(os.path.dirname(os.path.abspath(file_path)), exist_ok=True)
    try:
        encoded, content = cv2.imencode(os.path.splitext(file_path)[1], img, params or [])
    except cv2.error as error:
        raise OSError(f'{file_path}: cannot encode an image of shape {img.shape}: {error.err}') from error
    if not encoded:
        raise OSError(f'{file_path}: cannot encode an image of shape {img.shape}')
    with atomic_path(file_path, sync=False) as temporary:
        temporary.write_bytes(content.tobytes())
    return True


def load_network(
    self: Any, net: torch.nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
) -> None:
    """Read weights of every form of file into a network of a BasicSR model, strictly or as far as they fit.

    Args:
        self: The model.
        net: The network, wrapped or not.
        load_path: As in :func:`manet_basicsr.weights.resolve_weights`.
        strict: Whether keys and shapes must be the network's; else what does not fit is logged and left out.
        param_key: As in :func:`manet_basicsr.weights.files.load_state_dict_file`.

    Raises:
        ValueError: The file cannot be read, does not hold what ``param_key`` says, or does not fit.
    """
    from basicsr.utils import get_root_logger

    from manet_basicsr.weights import files

    network = self.get_bare_model(net)
    if strict:
        files.load_pretrained(network, load_path, param_key)
    else:
        expected = network.state_dict()
        found = files.read_weights_for(network, load_path, param_key)
        fitting = {key: value for key, value in found.items() if _fits(value, expected.get(key))}
        left_out = sorted(found.keys() - fitting.keys()), sorted(expected.keys() - fitting.keys())
        for keys, words in zip(left_out, ('of the file left out', 'of the network as they were'), strict=True):
            if keys:
                get_root_logger().warning(f'{load_path}: {len(keys)} {words}: {", ".join(keys)}')
        network.load_state_dict(fitting, strict=False)
    get_root_logger().info(f'Loaded {load_path}, param key: {param_key}.')


def _fits(found: torch.Tensor, expected: torch.Tensor | None) -> bool:
    return expected is not None and found.shape == expected.shape
