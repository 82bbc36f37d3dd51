"""The command ``basicsr convert-weights`` as a script."""

import sys

from manet_basicsr.commands.convert_weights import main

if __name__ == '__main__':
    sys.exit(main())
