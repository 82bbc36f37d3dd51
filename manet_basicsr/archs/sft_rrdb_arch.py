"""The kernel-conditioned generator: RRDB blocks with spatial feature transforms."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from basicsr.archs.rrdbnet_arch import ResidualDenseBlock
from basicsr.utils.registry import ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from manet_basicsr.archs.kernel_code import KernelCodeNet, alignment_of_basis
from manet_basicsr.weights import ESTIMATOR_PREFIX

RESIDUAL_SCALE = 0.2
# Of the length of any kernel in the old basis in the new one; one for another scale or alignment keeps 0.01 to 0.3.
_LEAST_KEPT = 0.9
SFT_WIDTH = 32


class SFTLayer(nn.Module):
    """Modulate features by the kernel code, ``feature * sigmoid(mul) + add`` (SFT-GAN, CVPR 2018).

    ``mul`` and ``add`` are each conv3x3 -> LeakyReLU 0.2 -> conv3x3 of the concatenated feature and code.

    Args:
        num_feat: Channels of the feature.
        code_length: Channels of the kernel code.
    """

    def __init__(self, num_feat: int, code_length: int) -> None:
        super().__init__()
        self.mul_conv1 = nn.Conv2d(num_feat + code_length, SFT_WIDTH, 3, 1, 1)
        self.mul_conv2 = nn.Conv2d(SFT_WIDTH, num_feat, 3, 1, 1)
        self.add_conv1 = nn.Conv2d(num_feat + code_length, SFT_WIDTH, 3, 1, 1)
        self.add_conv2 = nn.Conv2d(SFT_WIDTH, num_feat, 3, 1, 1)
        self.lrelu = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, feature: Tensor, code: Tensor) -> Tensor:
        """Map ``feature`` (B, num_feat, h, w) to the same shape, given ``code`` (B, code_length, h, w)."""
        conditioned = torch.cat((feature, code), dim=1)
        mul = torch.sigmoid(self.mul_conv2(self.lrelu(self.mul_conv1(conditioned))))
        add = self.add_conv2(self.lrelu(self.add_conv1(conditioned)))
        return torch.addcmul(add, feature, mul)


class SFTRRDB(nn.Module):
    """Residual-in-residual block: a spatial feature transform, then three residual dense blocks.

    Args:
        num_feat: Channels of the feature.
        num_grow_ch: Growth of the residual dense blocks.
        code_length: Channels of the kernel code.
    """

    def __init__(self, num_feat: int, num_grow_ch: int, code_length: int) -> None:
        super().__init__()
        self.SFT = SFTLayer(num_feat, code_length)
        self.RDB1 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.RDB2 = ResidualDenseBlock(num_feat, num_grow_ch)
        self.RDB3 = ResidualDenseBlock(num_feat, num_grow_ch)

    def forward(self, feature: Tensor, code: Tensor) -> Tensor:
        """Map ``feature`` (B, num_feat, h, w) to the same shape, given ``code`` (B, code_length, h, w)."""
        residual = self.RDB3(self.RDB2(self.RDB1(self.SFT(feature, code))))
        return residual * RESIDUAL_SCALE + feature


@ARCH_REGISTRY.register()
class SFTRRDBNet(KernelCodeNet):
    """Super-resolve an LR image whose kernel field is known (MANet, ICCV 2021).

    The field enters as kernel code, its projection on a PCA basis. The basis is the buffer ``pca_matrix``
    (1, kernel_size^2, code_length, 1, 1): a constant of the construction until a state dict replaces it.

    Args:
        num_in_ch: Channels of the LR image.
        num_out_ch: Channels of the SR image.
        scale: Upsampling factor, at least 1.
        num_feat: Width of the trunk.
        num_block: RRDB blocks, at least 1.
        num_grow_ch: Growth of the residual dense blocks.
        kernel_size: Side of the kernels, in HR pixels.
        code_length: Length of the kernel code.
        pca_path: File with the PCA basis; None takes the one shipped for (scale, kernel_size, code_length).
        pca_matrix: The basis itself, a tensor (kernel_size^2, code_length), instead of a file.

    Raises:
        ValueError: If ``scale`` or ``num_block`` is below 1, the basis has another shape or is given twice, or none is
            shipped for these sizes: ``scripts/compute_pca.py`` makes one.
        FileNotFoundError: If ``pca_path`` does not exist.
    """

    output_layers = ('upsampler.0',)

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 10,
        num_grow_ch: int = 32,
        kernel_size: int = 21,
        code_length: int = 15,
        pca_path: str | None = None,
        pca_matrix: Tensor | None = None,
    ) -> None:
        super().__init__(scale, kernel_size, code_length, pca_path, pca_matrix)
        if num_block < 1:
            raise ValueError(f'num_block is {num_block}, expected at least 1')
        self.num_feat = num_feat
        # For restoring within a limit of memory: measured on the CPU, rounded up.
        self.floats_per_pixel = math.ceil(1.5 * kernel_size**2 + 16 * num_feat + 3 * num_out_ch * scale**2)
        self.conv_first = nn.Conv2d(num_in_ch, num_feat, 3, 1, 1)
        self.RRDB_trunk = nn.ModuleList(SFTRRDB(num_feat, num_grow_ch, code_length) for _ in range(num_block))
        self.trunk_conv = nn.Conv2d(num_feat, num_feat, 3, 1, 1)
        self.upsampler = nn.Sequential(
            nn.Conv2d(num_feat, num_out_ch * scale**2, 3, 1, 1),
            nn.PixelShuffle(scale),
        )

    def forward(self, lq: Tensor, field: Tensor) -> Tensor:
        """Super-resolve an LR image.

        Args:
            lq: (B, num_in_ch, h, w), values in [0, 1].
            field: Its kernel field, (B, kernel_size^2, h, w) or, for invariant blur, (B, kernel_size^2, 1, 1); a batch
                of 1 serves all images.

        Returns:
            (B, num_out_ch, scale * h, scale * w), values about [0, 1], not clipped.

        Raises:
            ValueError: If the field does not fit the image or the network's kernel size.
        """
        return self.upsampler(self.features(lq, field))

    def features(self, lq: Tensor, field: Tensor) -> Tensor:
        """Give what the SR image is made of, (B, num_feat, h, w); the arguments are those of :meth:`forward`."""
        self.check_field(lq, field)
        first = self.conv_first(lq)
        code = self.kernel_code(field).to(first.dtype).expand(first.shape[0], -1, *first.shape[-2:])
        feature = first
        for block in self.RRDB_trunk:
            feature = block(feature, code)
        return first + self.trunk_conv(feature)


def image_of(weight: Tensor) -> tuple[int, int]:
    """Tell the channels of a generator's image and its scale, by the weight of its last layer."""
    shuffled = len(weight)
    # 3 s^2 channels are shuffled to a colour image, s^2 to a grey one; no number is both.
    channels = 3 if shuffled % 3 == 0 and math.isqrt(shuffled // 3) ** 2 == shuffled // 3 else 1
    return channels, math.isqrt(shuffled // channels)


def change_kernel_basis(state_dict: Mapping[str, Tensor], basis: Tensor) -> dict[str, Tensor]:
    """Give the weights of a generator that takes the code of another PCA basis and does what it did.

    Where a layer took ``B' k``, it takes ``(B' A) (A' k)``: the same for every kernel in the span of the new basis A.
    So a generator goes on from what it has learned when it is to take other kinds of kernels.

    Args:
        state_dict: Of an :class:`SFTRRDBNet`, or a blind network with one; not changed.
        basis: The new basis (kernel_size^2, code_length), orthonormal columns.

    Returns:
        A state dict of the same keys; ``pca_matrix`` is the new basis.

    Raises:
        ValueError: It is not the state dict of such a network, or the basis is for another kernel size, scale or
            alignment, or too short.
    """
    old_in_new = _basis_for(state_dict, basis).T @ basis.double()
    if basis.shape[1] < len(old_in_new) or torch.linalg.svdvals(old_in_new)[-1] < _LEAST_KEPT:
        raise ValueError(
            'the basis has not all kernels that the weights were trained with, expected one for their scale and '
            'alignment and as long as theirs or longer'
        )
    return _with_code(state_dict, old_in_new, basis)


def change_scale(state_dict: Mapping[str, Tensor], scale: int, basis: Tensor) -> dict[str, Tensor]:
    """Give the weights of a generator for another scale that does nearly what it did, to be trained on.

    The last layer makes s x s pixels of each LR pixel: its filters are interpolated where those of the new scale lie.
    A kernel is stretched by old scale / new scale, so that it blurs the LR image as much as it would at the new one.
    Both are meant for going down: of a larger scale, the weights know nothing of the finer pixels.

    Args:
        state_dict: Of an :class:`SFTRRDBNet`, or a blind network with one; not changed.
        scale: The new scale.
        basis: A basis for it, (kernel_size^2, code_length), ``centered``.

    Returns:
        The state dict of the generator alone: an estimator tells the kernels of its own scale.

    Raises:
        ValueError: It is not the state dict of such a network, the scale is below 1, the basis is for another kernel
            size, or one of the bases is not ``centered``.
    """
    kept = {key: weight for key, weight in state_dict.items() if not key.startswith(ESTIMATOR_PREFIX)}
    old_basis = _basis_for(kept, basis)
    if 'upsampler.0.weight' not in kept:
        raise ValueError('these weights have no upsampler.0.weight, expected those of an SFTRRDBNet')
    channels, old = image_of(kept['upsampler.0.weight'])
    if scale < 1:
        raise ValueError(f'scale is {scale}, expected at least 1')
    for words, tested, of_scale in (('weights', old_basis, old), ('basis', basis, scale)):
        if alignment_of_basis(tested, of_scale) != 'centered':
            raise ValueError(f'the kernels of the {words} are not those of x{of_scale} in the alignment centered')
    for key in ('upsampler.0.weight', 'upsampler.0.bias'):
        weight = kept[key].float().view(channels, old, old, -1).permute(0, 3, 1, 2)
        weight = F.interpolate(weight, size=(scale, scale), mode='bilinear', align_corners=False)
        kept[key] = weight.permute(0, 2, 3, 1).reshape(-1, *kept[key].shape[1:]).to(kept[key].dtype)
    stretch = _stretch(math.isqrt(len(basis)), old, scale)
    return _with_code(kept, old_basis.T @ torch.kron(stretch, stretch) @ basis.double(), basis)


def _stretch(side: int, old: int, new: int) -> Tensor:
    """Give the matrix that resamples the rows of a ``centered`` kernel of a scale on the HR pixels of another."""
    taps, ratio = torch.arange(side, dtype=torch.float64), new / old
    middle_old, middle_new = (side // 2 + (scale - 1) / 2 for scale in (old, new))
    places = middle_new + (taps - middle_old) * ratio
    return (1 - (places[:, None] - taps).abs()).clamp_min(0) * ratio


def _basis_for(state_dict: Mapping[str, Tensor], basis: Tensor) -> Tensor:
    """Give the basis of a generator, (kernel_size^2, code_length), for kernels of as many taps as another has."""
    old = state_dict.get('pca_matrix')
    if old is None:
        raise ValueError('these weights have no pca_matrix, expected those of an SFTRRDBNet')
    if basis.shape[0] != old.shape[1]:
        raise ValueError(f'the basis is for kernels of {basis.shape[0]} taps, the weights for {old.shape[1]}')
    return old.flatten(2)[0].double()


def _with_code(state_dict: Mapping[str, Tensor], old_of_new: Tensor, basis: Tensor) -> dict[str, Tensor]:
    """Give weights that take the code of a new basis: the matrix makes the old code of it."""
    changed, length = dict(state_dict), len(old_of_new)
    for key, weight in state_dict.items():
        if key.endswith(('.SFT.mul_conv1.weight', '.SFT.add_conv1.weight')):
            feature, code = weight.split((weight.shape[1] - length, length), dim=1)
            code = torch.einsum('oiyx,ij->ojyx', code.double(), old_of_new).to(weight.dtype)
            changed[key] = torch.cat([feature, code], dim=1)
    old = state_dict['pca_matrix']
    changed['pca_matrix'] = basis.to(old).view(1, *basis.shape, 1, 1)
    return changed
