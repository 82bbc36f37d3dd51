"""Restoring images with trained networks, in tiles where they are large."""
