"""The command ``basicsr compute-pca`` as a script."""

import sys

from manet_basicsr.commands.compute_pca import main

if __name__ == '__main__':
    sys.exit(main())
