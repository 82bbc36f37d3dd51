"""Other packages that register with BasicSR, and say so by the entry-point group ``basicsr.plugins``."""

from __future__ import annotations

from importlib.metadata import entry_points

from manet_basicsr.options.errors import OptionError


def import_plugins() -> None:
    """Import every installed package that declares the entry-point group ``basicsr.plugins``.

    Whatever reads option files calls it first: what they name may be registered there.

    Raises:
        OptionError: One of them cannot be imported.
    """
    for entry_point in entry_points(group='basicsr.plugins'):
        try:
            entry_point.load()
        except Exception as error:  # whatever another package does
            name = f"'{entry_point.name}' ({entry_point.value})"
            raise OptionError([f'plugin {name} cannot be imported: {error!r}']) from error
