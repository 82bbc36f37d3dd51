"""Fields made of blocks, and options that become samplers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import manet_basicsr.degradation
from manet_basicsr.degradation import (
    FIELD_TYPES,
    FieldSampler,
    anisotropic_gaussian_kernels,
    block_field,
    build_field_sampler,
    protocol_parameters,
    register_field,
    smooth_parameters,
)
from manet_basicsr.degradation.sampler import distinct_kernels, gaussian_kernels

TYPES = (
    'bank, bicubic, collage, defocus, fixed, generalized, invariant, lanczos, mixture, motion, plateau, protocol, '
    'psf_grid, smooth'
)


def kernel_of(parameters: torch.Tensor, scale: int, alignment: str = 'centered') -> torch.Tensor:
    return anisotropic_gaussian_kernels(parameters[None, :2], parameters[2:], 21, scale, alignment)[0]


@pytest.mark.parametrize('alignment', ['centered', 'published'])
@pytest.mark.parametrize(('height', 'width', 'scale'), [(90, 121, 3), (80, 81, 4), (42, 40, 2), (45, 50, 1)])
def test_each_lr_pixel_has_the_kernel_of_the_block_its_hr_position_lies_in(
    height: int, width: int, scale: int, alignment: str
) -> None:
    parameters = protocol_parameters(4, height, width, scale)
    field = block_field(parameters, height, width, scale, alignment=alignment)
    assert field.shape == (1, 441, height // scale, width // scale)
    for i in (0, height // scale // 2, height // scale - 1):
        for j in (0, width // scale // 2, width // scale - 1):
            expected = kernel_of(parameters[scale * i // 40, scale * j // 40], scale, alignment)
            torch.testing.assert_close(field[0, :, i, j], expected, atol=1e-7, rtol=0)  # float32 rounding of a tap


def test_a_single_kernel_gives_an_invariant_field() -> None:
    parameters = torch.tensor([[[6, 1, 0.5]]])
    field = block_field(parameters, 100, 90, 3)
    assert field.shape == (1, 441, 1, 1)
    torch.testing.assert_close(field[0, :, 0, 0], kernel_of(parameters[0, 0], 3))


def test_blocks_of_one_lr_pixel_give_each_its_own_kernel(generator: torch.Generator) -> None:
    parameters = smooth_parameters(20, 30, 2, (1, 5), 10, generator)
    field = block_field(parameters, 20, 30, 2, block=2)
    assert field.shape == (1, 441, 10, 15)
    torch.testing.assert_close(field[0, :, 7, 3], kernel_of(parameters[7, 3], 2), atol=1e-7, rtol=0)


def test_many_kernels_made_in_pieces_are_those_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = protocol_parameters(5, 200, 200, 4)
    whole = block_field(parameters, 200, 200, 4)
    monkeypatch.setattr('manet_basicsr.degradation.sampler._KERNELS_AT_ONCE', 7)
    torch.testing.assert_close(block_field(parameters, 200, 200, 4), whole, atol=1e-7, rtol=0)


def test_fields_have_gradients_with_respect_to_their_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('manet_basicsr.degradation.sampler._KERNELS_AT_ONCE', 3)
    parameters = protocol_parameters(5, 80, 80, 4).double().requires_grad_()
    field = block_field(parameters, 80, 80, 4)
    torch.testing.assert_close(field, block_field(parameters.detach(), 80, 80, 4).to(field), atol=1e-6, rtol=0)
    field[0, :, 3, 14].square().sum().backward()
    assert parameters.grad is not None
    assert parameters.grad[0, 1].abs().min() > 0  # of its block, and of no other
    assert parameters.grad[1].abs().max() == parameters.grad[0, 0].abs().max() == 0


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        (torch.ones(3, 2), r'shape \(rows, cols, 3\) or \(B, rows, cols, 3\), found \(3, 2\)'),
        (torch.ones(2, 3, 3), '2 x 3 blocks of 40 px do not cover an image of 100 x 100 px'),
        (-torch.ones(3, 3, 3), 'positive'),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block_field(parameters, 100, 100, 4)


@pytest.mark.parametrize(('size', 'scale'), [((3, 50), 4), ((50, 0), 1), ((50, 50), 0)])
def test_an_image_without_lr_pixels_is_refused(size: tuple[int, int], scale: int) -> None:
    with pytest.raises(ValueError, match='no LR pixel|scale must be'):
        block_field(torch.ones(2, 2, 3), *size, scale)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'type': 'invariante', 'variance': [1, 2]},
            f"degradation.field 'invariante' is not one of {TYPES}; did you mean 'invariant'?",
        ),
        ({'type': 3}, f'degradation.field 3 is not one of {TYPES}'),
        ({'variance': [1, 2]}, f"degradation.field lacks the key 'type', one of {TYPES}"),
        (
            {'type': 'invariant', 'varience': [1, 2]},
            "degradation.field (type invariant): key 'varience' is not one of type, variance; did you mean 'variance'?",
        ),
        ({'type': 'fixed'}, "degradation.field (type fixed) lacks the key 'variances'"),
    ],
)
def test_wrong_options_give_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        build_field_sampler(options)
    assert str(error.value) == message


def test_options_that_are_no_mapping_are_refused() -> None:
    with pytest.raises(ValueError, match="degradation.field must be keys and values .* found 'invariant'"):
        build_field_sampler('invariant')  # type: ignore[arg-type]


def test_a_file_in_the_folder_is_all_that_a_new_blur_needs() -> None:
    """Every module of the folder is imported with the package; a name is taken once."""
    files = Path(manet_basicsr.degradation.__file__).parent.glob('*.py')
    registered = {name for file in files for name in re.findall(r"^@register_field\('(\w+)'\)", file.read_text(), re.M)}
    assert set(FIELD_TYPES) == registered

    @dataclass(frozen=True)
    class Twice(FieldSampler):
        pass

    with pytest.raises(ValueError, match="field type 'motion' is registered twice: MotionSampler, Twice"):
        register_field('motion')(Twice)


def test_kernels_of_equal_parameters_are_made_once() -> None:
    made: list[int] = []

    def make(parameters: torch.Tensor, *grid: Any) -> torch.Tensor:
        made.append(len(parameters))
        return gaussian_kernels(parameters, *grid)

    drawn = torch.rand(7, 3, generator=torch.Generator().manual_seed(0)) + 1
    parameters = drawn[torch.arange(50) % 7]
    found = distinct_kernels(make, parameters, 21, 4, 'centered')
    assert made == [7]
    assert torch.equal(found, gaussian_kernels(parameters, 21, 4, 'centered'))
    # The bits of these two rows have one number: a step of the second is a million and three steps of the first.
    bits = parameters[:2].view(torch.int32).clone()
    bits[1] = bits[0] + torch.tensor([1_000_003, -1, 0], dtype=torch.int32)
    collided = bits.view(torch.float32)
    assert torch.equal(
        distinct_kernels(make, collided, 21, 4, 'centered'), gaussian_kernels(collided, 21, 4, 'centered')
    )
    assert made == [7, 2]
