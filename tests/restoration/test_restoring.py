"""Restoring arrays and tensors."""

from __future__ import annotations

import copy
import io
import math
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import manet_basicsr
from manet_basicsr.archs import BlindSRNet, MANet
from manet_basicsr.archs.protocols import output_layers
from manet_basicsr.data.alpha import flatten_on_white
from manet_basicsr.degradation import blur_downsample, build_field_sampler
from manet_basicsr.restoration import precision, restoring
from manet_basicsr.restoration.arrays import image_to_batch
from manet_basicsr.restoration.restoring import estimate_field, load_blind_network, memory_of_tile, restore
from manet_basicsr.weights import shipped as weights
from manet_basicsr.weights import shipped_weights
from tests.small_networks import FIELD_GENERATORS, blind_network, blind_weights


@pytest.fixture(scope='module')
def network() -> BlindSRNet:
    return blind_network(2)


@pytest.fixture(scope='module')
def photo(photos: Path) -> np.ndarray:
    """A photograph, RGB uint8, of a size that is no multiple of anything."""
    return np.ascontiguousarray(cv2.imread(str(photos / 'chelsea.png'))[:51, :70, ::-1])


def once(network: BlindSRNet, image: np.ndarray) -> tuple[Tensor, Tensor]:
    """The image and the field that the network gives in one pass."""
    lq = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    with torch.no_grad():
        return network(lq).clamp(0, 1), network.estimate(lq)


def test_a_small_image_is_restored_as_in_one_pass(network: BlindSRNet, photo: np.ndarray) -> None:
    sr, field = once(network, photo)
    restored = manet_basicsr.restore(photo, network)
    assert isinstance(restored, manet_basicsr.Restored)
    assert restored.image.shape == (102, 140, 3) and restored.image.dtype == np.uint8
    assert restored.field is not None and restored.field.dtype == torch.float32
    torch.testing.assert_close(restored.field, field, rtol=1e-5, atol=1e-8)  # padded by other means
    expected = sr[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(restored.image - expected).max() < 0.51
    assert restored.image.std() > 1  # not a flat image, which any order of pixels would pass


def test_tensors_come_back_as_tensors_of_their_shape_and_type(network: BlindSRNet, photo: np.ndarray) -> None:
    sr, field = once(network, photo)
    lq = image_to_batch(photo)[0]
    torch.testing.assert_close(restore(lq, network).image, sr, rtol=0, atol=1e-5)
    torch.testing.assert_close(restore(lq[0], network).image, sr[0], rtol=0, atol=1e-5)
    pair = restore(torch.cat([lq, lq.flip(3)]).half(), network)
    assert pair.image.shape == (2, 3, 102, 140) and pair.image.dtype == torch.float16
    assert pair.field is not None and pair.field.shape == (2, 441, 51, 70)


def test_tiles_give_the_same_field_and_nearly_the_same_image(network: BlindSRNet, photo: np.ndarray) -> None:
    sr, field = once(network, photo)
    tiled = restore(image_to_batch(photo)[0], network, tile=24)
    assert tiled.field is not None
    # rounding in another order of summation
    torch.testing.assert_close(tiled.field, field, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(tiled.image, sr, rtol=0, atol=1e-4)  # one block reaches less far than tiles overlap


def test_without_the_field_the_image_is_the_same(network: BlindSRNet, photo: np.ndarray) -> None:
    for tile in (24, 256):
        bare = restore(photo, network, tile=tile, field_dtype=None)
        assert bare.field is None
        whole = restore(photo, network, tile=tile)
        assert np.abs(bare.image.astype(int) - whole.image).max() <= 1  # rounding of a half


def test_a_field_may_be_half_precision(network: BlindSRNet, photo: np.ndarray) -> None:
    field = restore(photo, network, field_dtype=torch.float16).field
    assert field is not None and field.dtype == torch.float16
    torch.testing.assert_close(field.float(), once(network, photo)[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(('dtype', 'largest'), [(np.uint16, 65535), (np.float32, 1), (np.float64, 1)])
def test_depth_and_range_are_kept(network: BlindSRNet, photo: np.ndarray, dtype: Any, largest: int) -> None:
    image = (photo.astype(np.float64) / 255 * largest).astype(dtype)
    restored = restore(image, network).image
    assert restored.dtype == dtype
    expected = once(network, photo)[0][0].permute(1, 2, 0).numpy() * largest
    assert np.abs(restored.astype(np.float64) - expected).max() <= (2 if dtype == np.uint16 else 1e-5)


def test_grey_comes_back_grey(network: BlindSRNet, photo: np.ndarray) -> None:
    grey = photo[..., 1]
    restored = restore(grey, network).image
    colour = restore(np.repeat(grey[..., None], 3, axis=2), network).image.astype(float)
    assert restored.shape == (102, 140) and restored.dtype == np.uint8
    assert np.abs(restored - colour @ [0.299, 0.587, 0.114]).max() < 1.1  # rounded before and after


def test_alpha_is_resampled_on_the_same_grid_and_does_not_touch_the_colours(
    network: BlindSRNet, photo: np.ndarray
) -> None:
    alpha = np.ones(photo.shape[:2], np.uint8)  # nearly invisible; colours that nobody sees are filled
    alpha[20:40, 30:60] = 255
    restored = restore(np.dstack([photo, alpha]), network).image
    assert np.array_equal(restored[..., :3], restore(photo, network).image)
    half = restored[..., 3] >= 128
    assert np.array_equal(half, np.kron(alpha, np.ones((2, 2))) >= 128)  # the edge lies where it lay


def test_half_precision_is_close(network: BlindSRNet, photo: np.ndarray) -> None:
    exact, rough = (restore(photo, network, precision=each, device='cpu') for each in ('float32', 'bf16'))
    assert rough.field is not None and rough.field.dtype == torch.float32
    torch.testing.assert_close(rough.field.sum(1), torch.ones(1, *photo.shape[:2]))
    difference = np.abs(exact.image.astype(int) - rough.image)
    assert 0 < difference.max() <= 12  # bfloat16 has 8 bits


@pytest.mark.parametrize('precision', ['bf16', 'float16'])
def test_half_precision_keeps_the_values_of_16_bits(network: BlindSRNet, precision: str) -> None:
    bright = copy.deepcopy(network)
    bright.generator.upsampler[0].weight.data.mul_(0.1)
    bright.generator.upsampler[0].bias.data.fill_(0.75)
    ramp = np.linspace(0.2, 0.8, 40 * 40, dtype=np.float32).reshape(40, 40)
    image = np.dstack([ramp, ramp.T, ramp[::-1]])
    exact = restore(image, bright).image
    rough = restore(image, bright, precision=precision, device='cpu').image
    assert 0 < np.abs(rough - exact).max() < 0.01
    assert np.array_equal(restore(image, bright).image, exact)  # the network computes as before
    # bfloat16 has 128 steps between 0.5 and 1
    assert len(np.unique((rough * 65535).round())) > 0.5 * len(np.unique((exact * 65535).round())) > 1000


@pytest.mark.parametrize('kind', FIELD_GENERATORS)
def test_half_precision_ends_in_float32_with_any_generator(kind: str) -> None:
    torch.manual_seed(0)
    network = BlindSRNet({'type': 'MANet', 'num_feat': 8}, {'type': kind, 'scale': 2, **FIELD_GENERATORS[kind]}).eval()
    ramp = np.linspace(0.3, 0.7, 24 * 24, dtype=np.float32).reshape(24, 24, 1).repeat(3, 2)
    exact = restore(ramp, network, device='cpu', precision='float32').image
    for half in ('bf16', 'float16'):
        assert np.abs(restore(ramp, network, device='cpu', precision=half).image - exact).max() < 0.02
    named = output_layers(network.generator)
    precision.prepare_for_half_precision(network.kernel_estimation, network.generator)
    ran: dict[str, torch.dtype] = {}
    for name, layer in network.generator.named_modules():
        if isinstance(layer, nn.Conv2d):
            plain = name.removesuffix('.layer')
            layer.register_forward_hook(lambda _layer, _given, made, name=plain: ran.update({name: made.dtype}))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        sr = network.generator(torch.rand(1, 3, 8, 8), torch.full((1, 441, 1, 1), 1 / 441))
    assert sr.dtype == torch.float32
    assert list(ran)[-1] in named  # what ran last
    assert {name for name, dtype in ran.items() if dtype == torch.float32} == set(named)


def test_a_generator_that_names_no_output_layer_ends_in_the_convolution_defined_last() -> None:
    generator = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 1), nn.PixelShuffle(2))
    precision.prepare_for_half_precision(MANet(num_feat=8), generator)
    assert isinstance(generator[0], nn.Conv2d)
    with torch.autocast('cpu', torch.bfloat16):
        assert generator(torch.rand(1, 3, 4, 4)).dtype == torch.float32


def test_the_precision_follows_the_device_where_it_may(
    network: BlindSRNet, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = photo[:16, :16]
    images = {each: restore(small, network, precision=each, device='cpu').image for each in ('float32', 'bf16')}
    assert not np.array_equal(images['float32'], images['bf16'])
    for native in (False, True):
        monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda native=native: native)
        monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: False)
        found = restore(small, network, precision='auto', device='cpu').image
        assert np.array_equal(found, images['bf16' if native else 'float32'])
    assert np.array_equal(restore(small, network, device='cpu').image, images['bf16'])  # auto is the default
    with pytest.raises(ValueError, match="precision 'float' .*did you mean 'float32'"):
        restore(small, network, precision='float')


def test_where_half_precision_overflows_only_who_asked_for_it_is_told(
    photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = blind_network(2)
    network.get_parameter('generator.trunk_conv.weight').data.mul_(1e7)
    network.get_parameter('generator.upsampler.0.weight').data.mul_(1e-7)
    exact = restore(photo, network, precision='float32', device='cpu')
    monkeypatch.setattr(precision, 'fast_half_precision', lambda device: torch.float16)
    restored = restore(photo, network, device='cpu')
    assert np.array_equal(restored.image, exact.image)
    assert restored.field is not None and exact.field is not None and torch.equal(restored.field, exact.field)
    with pytest.raises(ValueError, match='torch.float16 does not reach as far'):
        restore(photo, network, precision='float16', device='cpu')


@pytest.mark.parametrize('name', [name for name in shipped_weights() if name.startswith('blind')])
@pytest.mark.parametrize('half', ['bf16', 'float16'])
def test_half_precision_is_good_enough_to_be_the_default_with_shipped_weights(
    name: str, half: str, photos: Path
) -> None:
    """Less than 0.03 dB, and half a level of 8 bit on average, with the blur that the weights are for."""
    scale = int(name[-1])
    hr = torch.from_numpy(cv2.imread(str(photos / 'chelsea.png'))[60:220, 120:312, ::-1].copy())
    height, width = (side // scale * scale for side in hr.shape[:2])
    hr = hr.permute(2, 0, 1)[None, :, :height, :width] / 255
    generator = torch.Generator().manual_seed(0)
    sampler = build_field_sampler({'type': 'smooth', 'variance': [0.175 * scale, 2.5 * scale], 'period': 96})
    field = sampler.draw(*hr.shape[-2:], scale=scale, generator=generator)
    lq = (blur_downsample(hr, field, scale=scale) * 255).round() / 255
    exact, rough = (
        (restore(lq, f'weights://{name}', precision=each, device='cpu', field_dtype=None).image * 255).round()
        for each in ('float32', half)
    )
    errors = [(image - hr * 255).square().mean() for image in (exact, rough)]
    assert abs(10 * torch.log10(errors[0] / errors[1])) < 0.03
    assert 0 < (exact - rough).abs().mean() < 0.5


@pytest.mark.parametrize('scale', [1, 2, 3, 4])
def test_weights_given_know_their_scale(tmp_path: Path, photo: np.ndarray, scale: int) -> None:
    restored = restore(photo[:20, :24], blind_weights(tmp_path, scale))
    assert restored.image.shape == (20 * scale, 24 * scale, 3)


def modes(network: nn.Module) -> list[bool]:
    return [module.training for module in network.modules()]


def test_the_network_is_left_as_it_was_module_by_module(photo: np.ndarray) -> None:
    network = blind_network(2).train()
    network.kernel_estimation.train()
    network.generator.RRDB_trunk[0].eval()
    before, weights_before = modes(network), {name: id(value) for name, value in network.named_parameters()}
    restore(photo[:16, :16], network)
    estimate_field(photo[:16, :16], network.kernel_estimation)
    assert modes(network) == before and len(set(before)) == 2
    assert {name: id(value) for name, value in network.named_parameters()} == weights_before
    assert network.generator.conv_first.weight.requires_grad
    network.generator(torch.rand(1, 3, 8, 8), torch.full((1, 441, 1, 1), 1 / 441)).sum().backward()


def test_threads_share_a_network_that_is_being_trained(photo: np.ndarray) -> None:
    network = blind_network(2).train()
    network.generator.RRDB_trunk[0].eval()
    before = modes(network)
    images = [np.ascontiguousarray(photo[:16, : 16 + width]) for width in range(6)]
    expected = [restore(image, network).image for image in images]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda image: restore(image, network).image, images * 3))
    assert all(np.array_equal(image, expected[number % 6]) for number, image in enumerate(found))
    assert modes(network) == before


def test_what_comes_back_are_ordinary_tensors(network: BlindSRNet, photo: np.ndarray) -> None:
    for inference in (False, True):
        with torch.inference_mode(inference):
            lq = image_to_batch(photo[:16, :16])[0] + 0
        restored = restore(lq, network)
        assert restored.field is not None
        assert not restored.image.is_inference() and not restored.field.is_inference()
        restored.image.clamp_(0.1, 0.9).requires_grad_()
        nn.Conv2d(3, 1, 3)(restored.image).sum().backward()
        restored.field.mul_(2)


@pytest.mark.parametrize('part', ['kernel_estimation', 'generator'])
@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_damaged_weights_are_named_and_nothing_is_returned(photo: np.ndarray, part: str, value: float) -> None:
    network = blind_network(2)
    name = 'm_tail.bias' if part == 'kernel_estimation' else 'trunk_conv.bias'
    network.get_parameter(f'{part}.{name}').data[3] = value
    what = 'the estimated kernels are' if part == 'kernel_estimation' else 'the restored image is'
    expected = rf'{what} not finite \(NaN or infinite\): the weights are damaged \({name} of'
    for image, options in ((photo, {'tile': 24}), (photo[:16, :16], {'field_dtype': None})):
        with pytest.raises(ValueError, match=expected):
            restore(image, network, **options)
    if part == 'kernel_estimation':
        with pytest.raises(ValueError, match=expected):
            estimate_field(photo, network.kernel_estimation, tile=24)


def test_an_overflow_is_told_from_damaged_weights(photo: np.ndarray) -> None:
    network = blind_network(2)
    network.get_parameter('generator.trunk_conv.weight').data.fill_(3e38)
    with pytest.raises(ValueError, match='torch.bfloat16 does not reach as far .*; restore in float32'):
        restore(photo, network, precision='bf16', device='cpu')
    with pytest.raises(ValueError, match='the weights of SFTRRDBNet make the numbers grow without bound'):
        restore(photo, network)


def disk(hidden: str) -> np.ndarray:
    """A white disk with a soft rim on nothing, under which some colour is hidden."""
    rows, columns = np.mgrid[:48, :48] - 23.5
    alpha = ((16.5 - np.hypot(rows, columns)).clip(0, 1) * 255).round().astype(np.uint8)
    pixels = np.dstack([np.full((48, 48, 3), 255, np.uint8), alpha])
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    pixels[alpha == 0, :3] = noise[alpha == 0] if hidden == 'noise' else 0
    return pixels


@pytest.mark.parametrize('hidden', ['black', 'noise'])
def test_hidden_colours_leave_no_rim(hidden: str) -> None:
    restored = restore(disk(hidden), load_blind_network()).image
    assert restored.shape == (192, 192, 4)
    assert flatten_on_white(restored).min() >= 250
    channels = restored[..., :3].astype(int)
    assert np.ptp(channels, axis=2).max() == 0  # what is visible is grey, and so stays grey


def test_alpha_goes_along_with_the_image_of_published_weights(network: BlindSRNet) -> None:
    published = copy.deepcopy(network)
    basis = published.generator.pca_matrix
    published.generator.pca_matrix = basis.view(21, 21, 15).flip(0, 1).reshape(basis.shape)
    alpha = np.zeros((20, 24), np.uint8)
    alpha[8:12, 10:16] = 255
    image = np.dstack([np.zeros((20, 24, 3), np.uint8), alpha])
    usual, moved = restore(image, network).image[..., 3], restore(image, published).image[..., 3]
    assert usual.max() == 255
    assert np.array_equal(moved[:-1, :-1], usual[1:, 1:])  # s - 1 px further up and left


@pytest.mark.parametrize('size', [(1, 1), (8, 8), (14, 12), (15, 15), (16, 15), (15, 16), (17, 3)])
def test_small_images_are_restored_within_a_limit_of_memory(network: BlindSRNet, size: tuple[int, int]) -> None:
    restored = restore(np.zeros((*size, 3), np.uint8), network, max_memory=8 * 2**30)
    assert restored.image.shape == (2 * size[0], 2 * size[1], 3)


@pytest.mark.parametrize('dtype', ['>u2', '<u2', '>f4', '>f8', 'u4', 'g', 'f2'])
def test_any_byte_order_and_width_of_numbers_is_taken(network: BlindSRNet, photo: np.ndarray, dtype: str) -> None:
    small = np.dstack([photo[:16, :16], np.arange(256, dtype=np.uint8).reshape(16, 16)])
    largest = 1 if np.dtype(dtype).kind == 'f' else np.iinfo(dtype).max
    restored = restore((small / 255 * largest).astype(dtype), network).image
    assert restored.dtype == np.dtype(dtype)
    expected = restore((small / 255).astype(np.float64), network).image
    # float16 has 11 bits
    assert np.abs(restored.astype(np.float64) / largest - expected).max() < (2e-3 if dtype == 'f2' else 1e-4)


def test_white_stays_white_in_32_bits(network: BlindSRNet) -> None:
    bright = copy.deepcopy(network)
    bright.generator.upsampler[0].weight.data.zero_()
    bright.generator.upsampler[0].bias.data.fill_(2)
    for channels in ((), (3,), (4,)):
        white = np.full((8, 8, *channels), 2**32 - 1, np.uint32)
        assert (restore(white, bright).image == 2**32 - 1).all()


def test_unusual_arrays_are_taken(network: BlindSRNet, photo: np.ndarray) -> None:
    small = np.ascontiguousarray(photo[:16, :20])
    expected = restore(small, network).image
    planes = np.ascontiguousarray(small.transpose(2, 0, 1), np.float32) / 255
    planes.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = restore(planes.transpose(1, 2, 0), network).image
    assert np.abs(found * 255 - expected).max() < 0.51
    assert np.array_equal(restore(np.repeat(small, 2, axis=1)[:, ::2], network).image, expected)
    assert restore(np.ma.masked_array(small, small > 200), network).image.shape == expected.shape


@pytest.mark.parametrize('alpha', [math.nan, 255.0, -1.0])
def test_alpha_that_is_out_of_range_is_refused(network: BlindSRNet, photo: np.ndarray, alpha: float) -> None:
    image = np.dstack([photo / 255, np.full(photo.shape[:2], alpha)])
    with pytest.raises(ValueError, match=r'found alpha from .*, expected .* in \[0, 1\]'):
        restore(image, network)


@pytest.mark.parametrize('field_dtype', [None, torch.float16])
def test_progress_counts_the_pixels_of_the_image(
    network: BlindSRNet, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, field_dtype: torch.dtype | None
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, 'stderr', Terminal())
    monkeypatch.setenv('TQDM_MININTERVAL', '0')
    restore(photo, network, tile=24, field_dtype=field_dtype, progress='cat')
    drawn = sys.stderr.getvalue()
    assert 'cat:   0%' in drawn and '/3.57k [' in drawn and 'px/s]' in drawn  # 51 x 70


def test_progress_needs_no_standard_error(
    network: BlindSRNet, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, 'stderr', None)
    assert restore(photo[:16, :16], network, progress='cat').image.shape == (32, 32, 3)


def test_without_shipped_weights_the_remedy_is_told(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights.resources, 'files', lambda name: Path('/nowhere'))
    with pytest.raises(
        FileNotFoundError, match=r'^no weights ship with this version yet; for x4.* give its file as weights'
    ):
        restore(photo)


def test_an_estimator_alone_does_not_restore(photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match='found a MANet, expected a BlindSRNet'):
        restore(photo, MANet(num_feat=8))


def test_networks_that_do_not_say_what_tiles_need_are_named(network: BlindSRNet, photo: np.ndarray) -> None:
    foreign = copy.deepcopy(network)
    del foreign.generator.floats_per_pixel
    with pytest.raises(ValueError, match='SFTRRDBNet has no attribute floats_per_pixel: images cannot be restored'):
        restore(photo, foreign)
    with pytest.raises(ValueError, match='SFTRRDBNet has no attribute halo, size_multiple.*: it is no estimator'):
        estimate_field(photo, network.generator)
    with pytest.raises(ValueError, match=r'field_dtype is torch.uint8, expected a floating point type'):
        restore(photo, network, field_dtype=torch.uint8)


def test_grey_stays_grey_however_it_is_stored(network: BlindSRNet, photo: np.ndarray) -> None:
    grey = np.ascontiguousarray(photo[..., 0])
    expected = restore(grey, network).image
    for alpha in ([], [np.full_like(grey, 200)]):
        found = restore(np.dstack([grey, grey, grey, *alpha]), network).image
        assert all(np.array_equal(found[..., channel], expected) for channel in range(3))


def test_what_is_no_image_is_told_how_to_become_one(network: BlindSRNet, photo: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r'found a str, expected an array or a tensor; .*read_photograph\(path\)'):
        restore('photo.jpg', network)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r'found a Image, expected an array or a tensor; np.asarray makes one'):
        restore(Image.fromarray(photo), network)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('image', 'words'),
    [
        (np.zeros((8, 8, 2), np.uint8), r'shape \(8, 8, 2\)'),
        (np.zeros((8, 8, 3), np.int64), 'type int64'),
        (np.zeros((0, 8, 3), np.uint8), r'shape \(0, 8, 3\)'),
        (np.full((8, 8, 3), 200.0), r'values from 200 to 200, expected .* in \[0, 1\]'),
        (np.full((8, 8, 3), np.nan), 'values from nan'),
        (torch.zeros(8, 8, 3), r'tensor of shape \(8, 8, 3\)'),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), 'uint8, expected'),
    ],
)
def test_what_is_no_image_is_refused(network: BlindSRNet, image: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        restore(image, network)


def test_too_little_memory_is_told_with_what_is_needed(network: BlindSRNet, photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r'a 70x51 image needs about \d\.\d GiB .* without its kernels it needs less'):
        restore(photo, network, max_memory=10_000_000)
    with pytest.raises(ValueError, match='tile must be at least 16'):
        restore(photo, network, tile=8)


def test_the_smallest_tile_is_tried_whatever_the_size_of_the_image(
    network: BlindSRNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    lq = torch.rand(1, 3, 20, 20)
    settings = {'device': torch.device('cuda'), 'tile': 250, 'field_dtype': None}
    limit = restoring.memory_of_tile(network, 16)
    assert restoring._fitting_tile(network, lq, max_memory=limit, **settings) == 16  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='even in the smallest tiles'):
        restoring._fitting_tile(network, lq, max_memory=limit - 1, **settings)  # type: ignore[arg-type]


MEASURE = """
import resource, sys
import numpy as np, torch
from manet_basicsr.restoration.restoring import load_blind_network, restore
torch.set_num_threads(1)
network = load_blind_network(sys.argv[2])
image = np.random.default_rng(0).integers(0, 256, (int(sys.argv[3]), 130, 3), dtype=np.uint8)
restore(image[:16, :16], network)
begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
limit = begun + int(sys.argv[1])
restore(image, network, field_dtype=None, max_memory=limit)
print(limit - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.parametrize('small', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_memory_stays_below_the_limit(small: bool, tmp_path: Path) -> None:
    """Tiles of several shapes, after which glibc would keep more than the limit allows (measured: 334 MB)."""
    file = blind_weights(tmp_path) if small else 'weights://blind_x4'
    room, height = (150_000_000, 120) if small else (200_000_000, 600)
    assert memory_of_tile(load_blind_network(file), 120) > room  # so the limit makes tiles smaller
    root = Path(__file__).parents[2]
    command = [sys.executable, '-c', MEASURE, str(room), str(file), str(height)]
    left = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout
    assert int(left) >= 0


@pytest.mark.parametrize('level', [0, 255])
def test_an_alpha_of_one_level_stays_what_it_is(network: BlindSRNet, photo: np.ndarray, level: int) -> None:
    image = np.dstack([photo, np.full(photo.shape[:2], level, np.uint8)])
    for alpha in ('resample', 'restore'):
        assert (restore(image, network, alpha=alpha).image[..., 3] == level).all()


def test_an_unknown_way_with_alpha_is_one_line() -> None:
    with pytest.raises(ValueError, match="alpha 'keep' is not one of resample, restore"):
        restore(np.zeros((8, 8, 4), np.uint8), blind_network(), alpha='keep')


# ------------------------------------------------------------------------------------------------------ smaller scales


@pytest.mark.parametrize('kind', ['grey', 'colour', 'alpha', 'float', 'uint32', 'tensor'])
@pytest.mark.parametrize('scale', [1, 1.5, 2.26, 4])
def test_a_result_has_any_scale_up_to_that_of_the_weights(photo: np.ndarray, kind: str, scale: float) -> None:
    network, pixels = blind_network(4), photo[:21, :26]
    images: dict[str, Any] = {
        'grey': pixels[..., 0],
        'colour': pixels,
        'alpha': np.dstack([pixels, pixels[..., 0]]),
        'float': pixels / np.float32(255),
        'uint32': pixels.astype(np.uint32) << 24,
        'tensor': torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255,
    }
    image = images[kind]
    found, usual = restore(image, network, scale, precision='float32'), restore(image, network, precision='float32')
    torch.testing.assert_close(found.field, usual.field, rtol=0, atol=0)
    size = (int(21 * scale + 0.5), int(26 * scale + 0.5))
    assert (found.image.shape[-2:] if kind == 'tensor' else found.image.shape[:2]) == size
    assert found.image.dtype == usual.image.dtype
    # Reduced as Pillow reduces, which is antialiased, too.
    if kind == 'colour':
        expected = Image.fromarray(usual.image).resize(size[::-1], Image.Resampling.BICUBIC)
        # Pillow rounds to levels of 8 bit before, after the rows and after the columns.
        lost = np.abs(found.image.astype(int) - np.asarray(expected))
        assert lost.max() <= 5 and lost.mean() < 1
    if kind == 'alpha' and scale == 1:
        np.testing.assert_array_equal(found.image[..., 3], pixels[..., 0])


def test_weights_of_scale_1_sharpen_without_reducing(tmp_path: Path, photo: np.ndarray) -> None:
    weights = blind_weights(tmp_path, 1)
    np.testing.assert_array_equal(restore(photo[:20, :24], weights, 1).image, restore(photo[:20, :24], weights).image)


@pytest.mark.parametrize('scale', [0.5, 2.01, float('nan'), float('inf'), 0, -1])
def test_a_scale_that_the_weights_cannot_give_is_refused(photo: np.ndarray, scale: float) -> None:
    with pytest.raises(ValueError, match='found scale .*, expected 1 to 2, the scale of the weights'):
        restore(photo[:20, :24], blind_network(2), scale)


def test_of_the_weights_that_ship_the_least_that_reach_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load(weights: object) -> BlindSRNet:
        asked.append(weights)
        return blind_network(4)

    monkeypatch.setattr(weights, 'shipped_weights', lambda: ['blind_x2', 'blind_x4', 'manet_x3'])
    monkeypatch.setattr(restoring, 'load_blind_network', load)
    for scale in (None, 1, 1.5, 2, 2.5, 4):
        restoring.network_for(None, scale)
    assert asked == [f'weights://blind_x{scale}' for scale in (4, 2, 2, 2, 4, 4)]


def test_a_scale_beyond_what_ships_is_refused() -> None:
    for scale in (8, 4.5, 0.5, -1, float('inf'), float('nan')):
        with pytest.raises(ValueError, match=f'found scale {scale:g}, expected 1 to 4 with the weights that ship'):
            restore(np.zeros((8, 8, 3), np.uint8), scale=scale)
    with pytest.raises(FileNotFoundError, match='that restore, this version ships only blind_[^m]*; for x5, train'):
        restoring.load_blind_network(None, 5)


@pytest.mark.parametrize('weights', ['weights://real_x1', 'weights://real_x4'])
def test_a_row_of_pixels_is_as_bright_as_it_was(weights: str) -> None:
    row = np.full((1, 50, 3), 113, np.uint8)
    for image in (row, row.transpose(1, 0, 2)):
        made = restore(image, weights)
        scale = int(weights[-1])
        assert made.image.shape == (image.shape[0] * scale, image.shape[1] * scale, 3)
        assert made.field is not None and made.field.shape == (1, 441, *image.shape[:2])
        assert abs(made.image.astype(float).mean() - 113) < 4


def test_a_mildly_blurred_image_is_sharpened_without_enlarging(photos: Path) -> None:
    sharp = cv2.imread(str(photos / 'astronaut.png'))[40:136, 180:276, ::-1]
    blurred = np.rint(cv2.GaussianBlur(sharp.astype(np.float32), (13, 13), 1.0)).astype(np.uint8)
    made = [restore(blurred, weights, scale=1).image for weights in ('weights://blind_x4', None)]
    clean, default, before = (
        np.square(image[8:-8, 8:-8].astype(float) - sharp[8:-8, 8:-8]).mean() for image in (*made, blurred)
    )
    assert clean < 0.8 * before  # 1 dB
    assert default < before  # those for photographs also take the grain
