"""The command ``basicsr extract-subimages`` as a script."""

import sys

from manet_basicsr.commands.extract_subimages import main

if __name__ == '__main__':
    sys.exit(main())
