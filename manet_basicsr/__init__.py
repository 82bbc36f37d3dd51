"""MANet (mutual affine network, ICCV 2021) as a plugin for BasicSR: importing it registers everything."""

from manet_basicsr import compat

compat.apply()

from manet_basicsr import archs, data, losses, metrics, models  # noqa: E402  (after the repairs)
from manet_basicsr.data.field_files import load_field  # noqa: E402
from manet_basicsr.restoration.restoring import Restored, restore  # noqa: E402

__version__ = '0.1.0'

__all__ = [
    'Restored',
    '__version__',
    'archs',
    'compat',
    'data',
    'load_field',
    'losses',
    'metrics',
    'models',
    'restore',
]
