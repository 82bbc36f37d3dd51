"""The command ``basicsr evaluate`` as a script."""

import sys

from manet_basicsr.commands.evaluate import main

if __name__ == '__main__':
    sys.exit(main())
