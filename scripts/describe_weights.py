"""The command ``basicsr describe-weights`` as a script."""

import sys

from manet_basicsr.commands.describe_weights import main

if __name__ == '__main__':
    sys.exit(main())
