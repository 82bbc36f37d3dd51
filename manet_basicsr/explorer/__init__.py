"""A page to explore an image and its kernel field: one HTML file that needs no server and no network."""

from __future__ import annotations

from manet_basicsr.explorer.coding import CodedField, code_field
from manet_basicsr.explorer.page import Layer, make_page

__all__ = ['CodedField', 'Layer', 'code_field', 'make_page']
