"""Put trained weights into the package, in half precision, under a name that option files address as weights://NAME.

What they are for and were trained on is a row of manet_basicsr/weights_data/weights.csv, and of the tables of
docs/weights.md and README.md, which a test compares.

Example: python tools/ship_weights.py experiments/train_BlindSR_stage3_x4_gpu/models/net_g_latest.pth blind_x4
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from manet_basicsr.archs.loading import load_network
from manet_basicsr.utils.files import atomic_path
from manet_basicsr.weights import load_any_state_dict

FOLDER = Path(__file__).resolve().parents[1] / 'manet_basicsr/weights_data'


def ship(source: str, name: str, folder: Path = FOLDER) -> Path:
    """Write the weights to ``NAME.pth`` in a folder, and their checksum to ``SHA256SUMS`` there.

    Args:
        source: File of weights; averaged ones are taken where it has them.
        name: Name to ship them under; weights of that name are replaced, and those of the estimator alone that a blind
            network holds (``manet_x2`` beside ``blind_x2``).
        folder: Where to.

    Returns:
        The file written.

    Raises:
        ValueError: The file is of no network of this package, or half precision does not hold it; or an estimator is to
            be shipped beside the blind network that holds one.
    """
    if name.startswith('manet') and (folder / f'{name.replace("manet", "blind")}.pth').exists():
        raise ValueError(f'{name} is the estimator within {name.replace("manet", "blind")}; ship that')
    load_network(source)  # refuses what is no network of this package
    state_dict = {
        # The basis of the kernel code is a constant, not a trained weight: 26 kB more keep it exact.
        key: value if key.endswith('pca_matrix') or not value.is_floating_point() else value.half()
        for key, value in load_any_state_dict(source).items()
    }
    for key, value in state_dict.items():
        if not value.isfinite().all():
            raise ValueError(f'{source}: {key} has values that half precision does not hold')
    target, sums = folder / f'{name}.pth', folder / 'SHA256SUMS'
    with atomic_path(target) as partial:
        torch.save({'params': state_dict}, partial)
    if name.startswith('blind_x'):
        (folder / f'{name.replace("blind", "manet")}.pth').unlink(missing_ok=True)
    lines = dict(line.split()[::-1] for line in sums.read_text().splitlines()) if sums.exists() else {}
    lines = {file: checksum for file, checksum in lines.items() if (folder / file).exists()}
    lines[target.name] = hashlib.sha256(target.read_bytes()).hexdigest()
    with atomic_path(sums) as partial:
        partial.write_text(''.join(f'{lines[file]}  {file}\n' for file in sorted(lines)))
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 where the file does not allow it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='file of weights that BasicSR saved')
    parser.add_argument('name', help='name to ship them under; weights of that name are replaced')
    options = parser.parse_args(arguments)
    try:
        if not re.fullmatch(r'\w+', options.name):
            raise ValueError(f"found the name '{options.name}', expected letters, digits and _")
        target = ship(options.source, options.name)
    except (OSError, ValueError) as error:
        print(f'ship_weights: {error}', file=sys.stderr)
        return 2
    print(f'{target}: {target.stat().st_size / 1e6:.1f} MB, weights://{options.name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
