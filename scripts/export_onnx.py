"""The command ``basicsr export-onnx`` as a script."""

import sys

from manet_basicsr.commands.export_onnx import main

if __name__ == '__main__':
    sys.exit(main())
