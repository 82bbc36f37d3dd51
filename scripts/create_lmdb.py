"""The command ``basicsr create-lmdb`` as a script."""

import sys

from manet_basicsr.commands.create_lmdb import main

if __name__ == '__main__':
    sys.exit(main())
