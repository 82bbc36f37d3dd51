"""What tiling, restoring, exporting and exploring ask of a network, beside that it is called.

A network of one's own that has these attributes serves wherever those of this package do.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class FieldEstimator(Protocol):
    """A network that estimates the kernel field (B, k*k, h, w) of an LR image (B, C, h, w).

    Attributes:
        halo: LR pixels at each side that the kernel of a pixel depends on.
        size_multiple: It pads its input to a multiple of this at the bottom and the right, by repeating the edge.
        kernel_size: Side k of the kernels, in HR pixels.
        scale: Scale that it was trained for; None where it does not know, since its weights fit any.
        floats_per_pixel: Numbers that one pass holds at its peak for each LR pixel, rounded up.
    """

    halo: int
    size_multiple: int
    kernel_size: int
    scale: int | None
    floats_per_pixel: int

    def __call__(self, lq: Tensor, /) -> Tensor:
        """Estimate the field."""
        ...


@runtime_checkable
class FieldGenerator(Protocol):
    """A network that super-resolves an LR image (B, C, h, w), given its kernel field (B, k*k, h, w) or (B, k*k, 1, 1).

    Attributes:
        scale: Upsampling factor.
        kernel_size: Side k of the kernels, in HR pixels.
        floats_per_pixel: Numbers that one pass holds at its peak for each LR pixel, rounded up.

    One whose output is not made by the convolution that it defines last has the attribute ``output_layers``, too: see
    :func:`output_layers`.
    """

    scale: int
    kernel_size: int
    floats_per_pixel: int

    def __call__(self, lq: Tensor, field: Tensor, /) -> Tensor:
        """Super-resolve the image."""
        ...


@runtime_checkable
class BlindNetwork(Protocol):
    """A network that super-resolves an LR image (B, C, h, w) by way of its kernel field.

    One whose field depends on the whole image has the attribute ``needs_whole_image``, True.
    """

    def estimate(self, lq: Tensor) -> Tensor:
        """Estimate the kernel field (B, k*k, h, w) or (B, k*k, 1, 1)."""
        ...

    def restore(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve the image with a given field."""
        ...


def output_layers(network: nn.Module) -> list[str]:
    """List the layers that make the output of a network or of its parts, by their names in it.

    A network names them, by its own names, in the attribute ``output_layers``. That of one which does not is known by
    the order of definition alone, and the list is empty.
    """
    return [
        f'{part}.{name}' if part else name
        for part, module in network.named_modules()
        for name in getattr(module, 'output_layers', ())
    ]


def missing_attributes(network: object, protocol: type[FieldEstimator] | type[FieldGenerator]) -> str:
    """Say which attributes of a protocol a network lacks, such as ``Sequential has no attribute halo``; else ''."""
    names: dict[str, Any] = protocol.__annotations__
    missing = [name for name in names if not hasattr(network, name)]
    return f'{type(network).__name__} has no attribute {", ".join(missing)}' if missing else ''
