"""The command ``basicsr plot-curves`` as a script."""

import sys

from manet_basicsr.commands.plot_curves import main

if __name__ == '__main__':
    sys.exit(main())
