"""MANet (mutual affine network, ICCV 2021) as a plugin for BasicSR: importing it registers everything."""

from manet_basicsr_commands import importing  # beside the package, so that nothing of it is imported before

with importing():
    from manet_basicsr import compat

    compat.apply()  # before anything imports basicsr

    from manet_basicsr import archs, data, losses, metrics, models
    from manet_basicsr.data.field_files import load_field
    from manet_basicsr.restoration.restoring import Restored, restore

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
