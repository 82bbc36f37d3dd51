"""Models, registered in BasicSR's registry: what trains and tests a network."""

from manet_basicsr.models.kernel_conditioned_sr_model import KernelConditionedSRModel
from manet_basicsr.models.kernel_error_model import KernelErrorModel
from manet_basicsr.models.kernel_l1_model import KernelL1Model
from manet_basicsr.models.restoration_model import RestorationModel
from manet_basicsr.models.single_kernel_models import DANModel, IKCModel

__all__ = ['DANModel', 'IKCModel', 'KernelConditionedSRModel', 'KernelErrorModel', 'KernelL1Model', 'RestorationModel']
