"""The command ``basicsr make-testset`` as a script."""

import sys

from manet_basicsr.commands.make_testset import main

if __name__ == '__main__':
    sys.exit(main())
