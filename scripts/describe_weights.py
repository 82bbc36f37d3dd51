"""The command ``basicsr describe-weights`` as a script."""

import sys

import manet_basicsr_commands

if __name__ == '__main__':  # before the package is imported, which Ctrl-C may interrupt
    sys.exit(manet_basicsr_commands.run('manet_basicsr.commands.describe_weights'))

from manet_basicsr.commands.describe_weights import main

__all__ = ['main']
