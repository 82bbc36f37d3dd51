"""MANet for spandrel, and so for every program that loads its networks with it.

Importing this module registers blind networks (stage 3) with spandrel's main registry:

    import manet_basicsr.integrations.spandrel
    from spandrel import ModelLoader

    model = ModelLoader().load_from_file('blind_x4.pth')
"""

from __future__ import annotations

from typing import Any

import manet_basicsr  # noqa: F401  (repairs the stack before spandrel imports torchvision)
from manet_basicsr.archs.blind_sr_arch import BlindSRNet
from manet_basicsr.archs.loading import alignment_of, generator_options, network_of
from manet_basicsr.weights import ESTIMATOR_PREFIX

try:
    from spandrel import (
        MAIN_REGISTRY,
        Architecture,
        ArchSupport,
        ImageModelDescriptor,
        ModelTiling,
        SizeRequirements,
    )
    from spandrel.util import KeyCondition
except ImportError as error:
    raise ImportError(f'spandrel cannot be imported ({error}); pip install .[spandrel] in the clone') from error


class MANetArchitecture(Architecture[BlindSRNet]):
    """Blind super-resolution with MANet and SFTRRDBNet, told by the keys of its state dict."""

    def __init__(self) -> None:
        super().__init__(
            id='MANet',
            detect=KeyCondition.has_all(
                f'{ESTIMATOR_PREFIX}m_head.weight', 'RRDB_trunk.0.RDB1.conv1.weight', 'upsampler.0.weight'
            ),
        )

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[BlindSRNet]:
        """Build the network of a state dict and load it; its sizes are read off the shapes.

        Raises:
            ValueError: It lacks weights, or its sizes do not fit together.
        """
        try:
            network = network_of(state_dict)
        except KeyError as error:
            raise ValueError(f'a MANet without the weights {error}') from error
        assert isinstance(network, BlindSRNet)
        sizes = generator_options(state_dict)
        descriptor = ImageModelDescriptor(
            network.eval(),
            state_dict,
            architecture=self,
            purpose='SR' if network.scale > 1 else 'Restoration',
            tags=[f'{sizes["num_feat"]}nf', f'{sizes["num_block"]}nb', f'{sizes["kernel_size"]}k'],
            supports_half=True,
            supports_bfloat16=True,
            scale=network.scale,
            input_channels=sizes['num_in_ch'],
            output_channels=sizes['num_out_ch'],
            # The estimator pads what it needs itself.
            size_requirements=SizeRequirements(),
            tiling=ModelTiling.SUPPORTED,
        )
        if alignment_of(network) == 'published':
            descriptor.tags.append('published grid')  # images come out displaced by s - 1 px
        return descriptor


MAIN_REGISTRY.add(ArchSupport.from_architecture(MANetArchitecture()), ignore_duplicates=True)
