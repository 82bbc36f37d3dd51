"""Weights that ship with the package: their addresses, what each is for, and which is taken where none is named."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

SHIPPED = 'weights://'
"""What the address of weights that ship with the package begins with, as in ``weights://blind_x4``."""

RESTORING = ('real', 'blind')
"""Kinds of weights that restore, by the first word of their names, the preferred one first."""

#: Not chosen to restore, only taken where they are named: an image that is hardly blurred comes out worse than it was.
#: Those of a larger scale, whose result is reduced, harm it less.
ONLY_BY_NAME = ('real_x1',)


@dataclass(frozen=True)
class ShippedWeights:
    """What is known of weights that ship.

    Attributes:
        name: As in their address.
        scale: Of the restored image, or of the kernels.
        use: What they are for.
        trained_on: The degradations of their training.
        size: Of the file that holds them, in bytes.
        within: For an estimator that has no file of its own, the name of the blind network that holds it.
    """

    name: str
    scale: int
    use: str
    trained_on: str
    size: int
    within: str | None

    @property
    def file(self) -> str:
        """What there is to say of their file: its size, or whose file it is."""
        return f'{self.size / 1e6:.1f} MB' if self.within is None else f'within {self.within}'


def shipped_weights() -> list[str]:
    """List the names of the weights that ship: of the files in ``weights_data``, and of the estimators in them."""
    names = {file.stem for file in _shipped_folder().glob('*.pth')}
    return sorted(names | {f'manet_x{match[1]}' for name in names if (match := re.fullmatch(r'blind_x(\d+)', name))})


def is_within_blind(address: str | os.PathLike[str]) -> bool:
    """Tell whether an address names an estimator that ships within a blind network, and not alone."""
    address = find_address(str(address))
    name = address.removeprefix(SHIPPED)
    return address.startswith(SHIPPED) and _file_of(name).stem != name


def describe_shipped() -> list[ShippedWeights]:
    """Describe the weights that ship, in the order of the table ``weights_data/weights.csv``, which has their words."""
    if not (names := shipped_weights()):
        return []
    found = []
    for row in csv.DictReader((_shipped_folder() / 'weights.csv').read_text(encoding='utf-8').splitlines()):
        name, scale = row['name'], _scale_of(row['name'])
        if name in names and scale is not None:
            file = _file_of(name)
            within = None if file.stem == name else file.stem
            found.append(ShippedWeights(name, scale, row['use'], row['trained on'], file.stat().st_size, within))
    return found


def choose_weights(scale: float, names: Iterable[str]) -> str | None:
    """Choose weights that restore: the first kind of :data:`RESTORING` that reaches a scale, and of it the least.

    Those of :data:`ONLY_BY_NAME` are not chosen.

    Args:
        scale: How many times as large the image is to be.
        names: Of the weights to choose among, as :func:`shipped_weights` lists them.

    Returns:
        The name, or None where no weights reach.
    """
    found = []
    for name in set(names).difference(ONLY_BY_NAME):
        kind, _, _ = name.partition('_x')
        reached = _scale_of(name)
        if kind in RESTORING and reached is not None and reached >= scale:
            found.append((RESTORING.index(kind), reached, name))
    return min(found)[2] if found else None


def shipped_for(scale: float, kinds: Iterable[str] = RESTORING) -> str | None:
    """Name the weights that ship for exactly a scale: of the first of these kinds, without :data:`ONLY_BY_NAME`."""
    names = (f'{kind}_x{scale:g}' for kind in kinds)
    return next((name for name in names if name in shipped_weights() and name not in ONLY_BY_NAME), None)


def restoring_weights() -> list[str]:
    """List the names of the weights that ship and restore."""
    return [name for name in shipped_weights() if name.partition('_')[0] in RESTORING]


def find_address(given: str) -> str:
    """Return the address behind what somebody wrote: a bare name of weights that ship, if no such file exists."""
    return f'{SHIPPED}{given}' if given in shipped_weights() and not os.path.isfile(given) else given


def is_address(given: str) -> bool:
    """Tell whether weights that ship are meant, by their address or their bare name."""
    return find_address(given).startswith(SHIPPED)


def resolve_weights(address: str | os.PathLike[str]) -> Path:
    """Give the file of weights behind an address; that of an estimator may hold a whole blind network.

    Args:
        address: A path (``~`` is expanded), or ``weights://NAME`` for weights that ship with the package; a bare NAME
            serves too, where there is no such file.

    Raises:
        FileNotFoundError: There is no such file, or no weights of that name ship.
    """
    address = find_address(str(address))
    if not address.startswith(SHIPPED):
        file = Path(os.path.expanduser(address))  # pathlib's own raises a RuntimeError for ~unknown
        if not file.is_file():
            known = shipped_weights()
            ship = f'; those that ship are {", ".join(known)}' if re.fullmatch(r'\w+', address) and known else ''
            raise FileNotFoundError(f'{address}: no such file of weights{ship}')
        return file
    name, names = str(address).removeprefix(SHIPPED), shipped_weights()
    if name not in names:
        ships = f'{", ".join(SHIPPED + known for known in names)} do' if names else 'this version ships no weights'
        raise FileNotFoundError(f'{address} does not ship with the package ({ships}); give a file of weights')
    return _file_of(name)


def weights_address(value: Any) -> Any:
    """Give the address of weights that ship for the path of their file, anything else as it is."""
    is_shipped = isinstance(value, str) and Path(value).parent == _shipped_folder() and value.endswith('.pth')
    return f'{SHIPPED}{Path(value).stem}' if is_shipped else value


def shipped_scale(address: str | os.PathLike[str]) -> int | None:
    """Tell the scale of weights that ship by their name (``weights://manet_x2``); None for any other file."""
    name = find_address(weights_address(str(address)))
    return _scale_of(name) if name.startswith(SHIPPED) else None


def _scale_of(name: str) -> int | None:
    match = re.search(r'_x(\d+)$', name)
    return int(match[1]) if match else None


def _file_of(name: str) -> Path:
    """Give the file that holds weights of a name: that of its blind network for an estimator without one."""
    alone = _shipped_folder() / f'{name}.pth'
    kind, _, scale = name.partition('_x')
    return alone if kind != 'manet' or alone.exists() else alone.with_name(f'blind_x{scale}.pth')


def _shipped_folder() -> Path:
    return Path(str(resources.files('manet_basicsr'))) / 'weights_data'
