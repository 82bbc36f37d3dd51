"""``python -m manet_basicsr``: the ``basicsr`` command, in the form that torchrun starts."""

import sys

from manet_basicsr.commands.basicsr import main

if __name__ == '__main__':
    sys.exit(main())
