"""Image formation and the mutual affine convolution straight from the paper's formulas, in float64 and plain loops.

Slow, without torch and without the package, so that a mistake there cannot hide here. ``data_files/fidelity.npz`` has
what it makes of one image; ``python -m tests.plain_reference`` writes that file anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / 'data_files/fidelity.npz'
SIZE = 48, 96
KERNEL_SIZE = 21
SCALES = (2, 3, 4)
ALIGNMENTS = ('centered', 'published')
#: Two invariant kernels, variances in HR px² and angle, and the paper's spatially variant test types without chance.
INVARIANT = {'round': (3.0, 3.0, 0.0), 'turned': (6.0, 1.0, math.pi / 4)}
VARIANT = (1, 2, 3, 4)
CASES: list[str | int] = [*INVARIANT, *VARIANT]
#: Edge of the blocks of the variant types that share a kernel, in HR px.
BLOCK = 40


def gaussian(
    l1: float, l2: float, angle: float, scale: int, alignment: str, kernel_size: int = KERNEL_SIZE
) -> np.ndarray:
    """The anisotropic Gaussian exp(-v' C^-1 v / 2), tap by tap.

    It is drawn ``kernel_size - scale + 1`` wide and stands in the upper left corner (published) or, turned by half a
    turn, in the lower right one (centered).
    """
    cos, sin = math.cos(angle), math.sin(angle)
    a, b, c = l1 * cos**2 + l2 * sin**2, (l1 - l2) * cos * sin, l1 * sin**2 + l2 * cos**2
    size = kernel_size - scale + 1
    kernel = np.zeros((kernel_size, kernel_size))
    for row in range(size):
        for column in range(size):
            x, y = column - (size - 1) / 2, row - (size - 1) / 2
            kernel[row, column] = math.exp(-(c * x * x - 2 * b * x * y + a * y * y) / (a * c - b * b) / 2)
    kernel[kernel < np.finfo(np.float64).eps * kernel.max()] = 0
    kernel /= kernel.sum()
    return kernel if alignment == 'published' else kernel[::-1, ::-1]


def variant_parameters(kind: int, row: int, column: int, rows: int, columns: int, scale: int) -> list[float]:
    """Variances and angle of one block of a spatially variant test type (but 5, which is drawn)."""
    a, b, r, c = 2.325 * scale, 0.175 * scale, row / rows, column / columns
    return {
        1: [a + b, a * r + b, 0],
        2: [a * c + b, a * r + b, 0],
        3: [a + b, b, math.pi * r],
        4: [a * c + b, a * r + b, math.pi * r],
        6: [a + b, b, math.pi / 4 if (row + column) % 2 == 0 else 3 * math.pi / 4],
    }[kind]


def field_of(case: str | int, scale: int, alignment: str) -> np.ndarray:
    """The kernel behind each LR pixel, ``(h, w, k, k)``: that of the HR position (s i, s j)."""
    height, width = SIZE
    rows, columns = math.ceil(height / BLOCK), math.ceil(width / BLOCK)

    def kernel_of_block(row: int, column: int) -> np.ndarray:
        if isinstance(case, str):
            l1, l2, angle = INVARIANT[case]
        else:
            l1, l2, angle = variant_parameters(case, row, column, rows, columns, scale)
        return gaussian(l1, l2, angle, scale, alignment)

    blocks = [[kernel_of_block(row, column) for column in range(columns)] for row in range(rows)]
    return np.array([[blocks[i // BLOCK][j // BLOCK] for j in range(0, width, scale)] for i in range(0, height, scale)])


def lr_levels(hr: np.ndarray, field: np.ndarray, scale: int) -> np.ndarray:
    """The LR image before rounding, in levels of 8 bits: each pixel the products of its kernel and the HR patch."""
    half = field.shape[-1] // 2
    padded = np.pad(hr.astype(np.float64), ((half, half), (half, half), (0, 0)), mode='edge')
    levels = np.zeros((*field.shape[:2], 3))
    for i in range(field.shape[0]):
        for j in range(field.shape[1]):
            patch = padded[scale * i : scale * i + 2 * half + 1, scale * j : scale * j + 2 * half + 1]
            levels[i, j] = (patch * field[i, j, :, :, None]).sum((0, 1))
    return levels


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A convolution of ``(C, h, w)`` at stride 1 with zeros around, output channel by output channel."""
    edge = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (edge, edge), (edge, edge)))
    out = np.empty((len(weight), *x.shape[1:]))
    for channel in range(len(weight)):
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                patch = padded[:, i : i + 2 * edge + 1, j : j + 2 * edge + 1]
                out[channel, i, j] = (patch * weight[channel]).sum() + bias[channel]
    return out


def maconv(state: dict[str, np.ndarray], x: np.ndarray, sizes: list[int]) -> np.ndarray:
    """The mutual affine convolution: each group is scaled and shifted by what the other groups say, then convolved."""
    outputs = []
    for index, size in enumerate(sizes):
        start = sum(sizes[:index])
        own, others = x[start : start + size], np.concatenate((x[:start], x[start + size :]))
        hidden = np.maximum(convolve(others, state[f'fc{index}.0.weight'], state[f'fc{index}.0.bias']), 0)
        affine = convolve(hidden, state[f'fc{index}.2.weight'], state[f'fc{index}.2.bias'])
        modulated = own / (1 + np.exp(-affine[:size])) + affine[size:]
        outputs.append(convolve(modulated, state[f'conv{index}.weight'], state[f'conv{index}.bias']))
    return np.concatenate(outputs)


def maconv_state(random: np.random.Generator, sizes: list[int], reduction: int = 2) -> dict[str, np.ndarray]:
    """Weights of a mutual affine convolution that keeps the number of channels."""

    def layer(name: str, outputs: int, inputs: int, size: int) -> Iterator[tuple[str, np.ndarray]]:
        yield f'{name}.weight', random.normal(size=(outputs, inputs, size, size))
        yield f'{name}.bias', random.normal(size=outputs)

    state: dict[str, np.ndarray] = {}
    for index, size in enumerate(sizes):
        others = sum(sizes) - size
        state.update(layer(f'fc{index}.0', others // reduction, others, 1))
        state.update(layer(f'fc{index}.2', 2 * size, others // reduction, 1))
        state.update(layer(f'conv{index}', size, size, 3))
    return state


def image(random: np.random.Generator) -> np.ndarray:
    """An image with a slope, waves, edges and grain, ``(H, W, 3)`` uint8."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = 60 * np.sin(x / 5 + y**2 / 150)[..., None] * [1, 0.7, -0.5]
    edges = 50.0 * ((x // 17 + y // 11) % 2)[..., None] * [1, -1, 1]
    return (x[..., None] + 70 + waves + edges + random.normal(0, 8, (*SIZE, 3))).clip(0, 255).round().astype(np.uint8)


def main() -> None:
    """Write the file."""
    random = np.random.default_rng(2021)
    arrays: dict[str, np.ndarray] = {'hr': image(random)}
    for scale in SCALES:
        for alignment in ALIGNMENTS:
            for name, parameters in INVARIANT.items():
                arrays[f'x{scale}_{alignment}_{name}_kernel'] = gaussian(*parameters, scale, alignment)
            for case in CASES:
                levels = lr_levels(arrays['hr'], field_of(case, scale, alignment), scale)
                arrays[f'x{scale}_{alignment}_{case}_lr'] = levels.round().clip(0, 255).astype(np.uint8)
    sizes = [2, 2, 2, 4]  # 10 channels in 4 groups: 10 / 4 is rounded to even, the last group has the rest
    arrays['maconv_x'] = random.normal(size=(10, 5, 6))
    state = maconv_state(random, sizes)
    arrays.update({f'maconv_{key}': value for key, value in state.items()})
    arrays['maconv_y'] = maconv(state, arrays['maconv_x'], sizes)
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, allow_pickle=False, **arrays)


if __name__ == '__main__':
    main()
