"""Checks of weights that must be there: of what a training does not train, and of what is tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manet_basicsr.archs.kernel_code import KernelCodeNet, alignment_of_basis
from manet_basicsr.degradation.pca import load_pca_basis
from manet_basicsr.options.dataset_checks import uses_kernels
from manet_basicsr.options.network_checks import build_unloaded, class_of, parts_of
from manet_basicsr.options.reading import Options

#: Parts that are never trained, and a switch that says whether they are.
_FROZEN = {
    'BlindSRNet': ('estimator', 'freeze_estimator'),
    'IKCNet': ('generator', None),
    'SRSVDNet': ('generator', None),
}


def beginning_problems(options: Options) -> Iterator[str]:
    """List what is wrong with the beginning of a training that does not go on from a state.

    Args:
        options: Options whose network was found right.
    """
    network, paths = options['network_g'], options.get('path') or {}
    if paths.get('pretrain_network_g') is not None:
        return  # weights of the whole, with their basis
    frozen, switch = _FROZEN.get(network['type'], ('', None))
    part = network.get(frozen)
    if isinstance(part, dict) and part.get('pretrained') is None and network.get(switch, True):
        yield f'network_g.{frozen}.pretrained: missing; this part is not trained, and would keep its random weights'
    if not uses_kernels(options.get('model_type')):
        return
    sections = {f'network_g.{name}': network[name] for name in parts_of(network)} or {'network_g': network}
    for where, section in sections.items():
        if section.get('pretrained') is None:
            yield from _basis_problems(section, where, options)


def untrained_problems(options: Options) -> Iterator[str]:
    """List what is wrong with testing a network: that it has no weights, and would be tested with random ones.

    Those of plugins are taken as they are: they may need none, or load them by themselves.
    """
    from basicsr.utils.registry import ARCH_REGISTRY

    network, paths = options.get('network_g'), options.get('path') or {}
    if not isinstance(network, dict) or paths.get('pretrain_network_g') is not None:
        return
    kind = dict(iter(ARCH_REGISTRY)).get(network.get('type'))
    if getattr(kind, '__module__', '').split('.')[0] not in ('basicsr', 'manet_basicsr'):
        return
    parts = [network[name] or {} for name in parts_of(network)]
    # IKCNet and SRSVDNet have more than their generator, which comes in no other file.
    if network['type'] != 'BlindSRNet' or any(part.get('pretrained') is None for part in parts):
        yield 'path.pretrain_network_g: missing, expected the weights that are tested'


def _basis_problems(section: Mapping[str, Any], where: str, options: Options) -> Iterator[str]:
    """Check that kernels of the data lie on the grid of the basis on which the network projects them."""
    if not issubclass(class_of(section), KernelCodeNet):
        return  # nor built: others may do anything at construction
    network: Any = build_unloaded(section)
    length = network.pca_matrix.shape[2]
    basis = load_pca_basis(network.scale, network.kernel_size, length, section.get('pca_path'))
    found = alignment_of_basis(basis, network.scale)
    for name, dataset in (options.get('datasets') or {}).items():
        degradation = (dataset or {}).get('degradation')
        given = degradation.get('alignment', 'centered') if isinstance(degradation, dict) else found
        if network.scale > 1 and given in ('centered', 'published') and 'unknown' != found != given:
            file = section.get('pca_path') or 'that ships'
            yield (
                f'datasets.{name}.degradation.alignment: found {given}, expected {found}, as the kernels of the PCA '
                f'basis {file} of {where}.pca_path'
            )
