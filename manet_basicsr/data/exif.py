"""EXIF data: how an image lies, and what a camera says beside it, made to fit another image.

EXIF data are a TIFF file without a picture. They are changed in place, number by number: a camera's own notes
(MakerNote) hold positions in them, and would be lost if anything moved.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

PREFIX = b'Exif\0\0'
"""What stands before EXIF data in a JPEG file."""

_ORDERS = {b'II*\0': '<', b'MM\0*': '>'}
_SHORT, _LONG = 3, 4
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
# Tags that lead to other directories, and those of sizes: of the first directory and of the details.
_DETAILS, _PLACE, _INTEROPERABILITY = 0x8769, 0x8825, 0xA005
_WIDTHS, _HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
_ORIENTATION, _CAMERAS_NOTES = 0x0112, 0x927C
# Where a thumbnail begins, and its length: of a JPEG, and of one piece of plain pixels.
_THUMBNAIL = ((0x0201, 0x0202), (0x0111, 0x0117))
_SOFTWARE = 305
TELLING_TAGS = (
    270, 271, 272, 306, 315, 316, 18246, 18249, 33432, 34665, 34853, 40091, 40092, 40093, 40094, 40095
)  # fmt: skip
"""Tags of a first directory that tell of the picture and not of how its pixels lie: those of EXIF 2.3, 4.6.4 D, and
ratings and titles of Windows. Of the software alone nothing is told: every program adds that."""

_KEPT = (*TELLING_TAGS, _SOFTWARE)
_TREE: dict[int, Any] = {_DETAILS: {_INTEROPERABILITY: {}}, _PLACE: {}}
_DESCRIPTION = 270
#: Beginnings of descriptions by which programs say how the pixels of their own files lie.
_OF_PROGRAMS = (b'{"shape', b'ImageJ=')


class Entry(NamedTuple):
    """An entry of a directory: its tag, type and number of values, and where the entry and its value begin."""

    tag: int
    kind: int
    number: int
    position: int
    value: int


def byte_order(data: bytes) -> str:
    """Return the byte order of EXIF data or of a TIFF file, as struct has it.

    Raises:
        ValueError: They begin with none.
    """
    order = _ORDERS.get(bytes(data[:4]))
    if order is None:
        raise ValueError('no byte order')
    return order


def orientation_of(exif: bytes, has_profile: bool) -> tuple[int, tuple[str, ...]]:
    """Read the orientation off EXIF data.

    Args:
        exif: The data, with or without ``Exif\\0\\0`` before them; empty for none.
        has_profile: Whether the file has a colour profile, too, which wins over EXIF's word on colours.

    Returns:
        1 to 8 as EXIF has it, 1 where nothing is said; and remarks on what is odd.

    Raises:
        ValueError: They are damaged.
    """
    data = exif.removeprefix(PREFIX)
    if not data:
        return 1, ()
    try:
        main = _numbers(data, _first_directory(data))
    except struct.error as error:
        raise ValueError('cut off') from error
    remarks: tuple[str, ...] = ()
    if not has_profile and _is_adobe_rgb(data, main):
        remarks = ('its EXIF data say Adobe RGB without a colour profile: it is taken for sRGB',)
    orientation = main.get(_ORIENTATION, 1)
    if not 1 <= orientation <= 8:
        return 1, (*remarks, f'its EXIF orientation is {orientation}, expected 1 to 8: it is not turned')
    return orientation, remarks


def exif_for(exif: bytes, width: int, height: int) -> bytes:
    """Make EXIF data fit an image that lies upright.

    Orientation is set to 1, sizes are corrected, and the thumbnail is removed. All else stays byte for byte.

    Args:
        exif: The data, without ``Exif\\0\\0``.
        width: Of the image, in px.
        height: Of the image, in px.

    Raises:
        ValueError: They are damaged.
    """
    data = bytearray(exif)
    order = byte_order(exif)
    try:
        main = list_entries(exif, _first_directory(exif))
        details = [entry for number in _leads(exif, main, _DETAILS) for entry in list_entries(exif, number)]
        _remove_thumbnail(data, order, _first_directory(exif) + 2 + 12 * len(main))
        for entry in main + details:
            for tags, number in ((_WIDTHS, width), (_HEIGHTS, height), ((_ORIENTATION,), 1)):
                if entry.tag in tags:
                    kind = _SHORT if entry.tag == _ORIENTATION else _LONG
                    value = struct.pack(f'{order}{"H" if kind == _SHORT else "I"}', number).ljust(4, b'\0')
                    struct.pack_into(f'{order}HHI4s', data, entry.position, entry.tag, kind, 1, value)
    except struct.error as error:
        raise ValueError('cut off') from error
    return bytes(data)


def _remove_thumbnail(data: bytearray, order: str, link: int) -> None:
    """Cut the link to the directory of the thumbnail, and the thumbnail off, or make it zeros where it is amidst."""
    if link + 4 > len(data):  # some writers leave the link out
        return
    (directory,) = struct.unpack_from(f'{order}I', data, link)
    struct.pack_into(f'{order}I', data, link, 0)
    try:
        numbers = _numbers(bytes(data), directory) if directory else {}
    except struct.error:  # what is not there needs no removing
        return
    for begin, length in ((numbers.get(first, 0), numbers.get(second, 0)) for first, second in _THUMBNAIL):
        if directory < begin < begin + length <= len(data):  # elsewhere it would lie on something else
            data[begin : begin + length] = bytes(length) if begin + length < len(data) else b''


def exif_of_tiff(content: bytes) -> bytes:
    """Return what a TIFF file tells of its picture as EXIF data; empty where it tells nothing.

    A camera's own notes are left out: their positions are those of another file.

    Raises:
        ValueError: What it tells is damaged, or lies in a BigTIFF file.
    """
    header = content[:4] + struct.pack(f'{byte_order(content)}I', 8)
    try:
        directory = _moved(content, _first_directory(content), _TREE, len(header))
    except struct.error as error:
        raise ValueError('cut off') from error
    return header + directory if directory[:2] != bytes(2) else b''


def _moved(data: bytes, begin: int, leads: dict[int, Any], target: int) -> bytes:
    """Write a directory, and those that it leads to, for another place."""
    order = byte_order(data)
    entries = [entry for entry in list_entries(data, begin) if _is_kept(data, entry, leads)]
    block = bytearray(2 + 12 * len(entries) + 4)
    struct.pack_into(f'{order}H', block, 0, len(entries))
    for number, entry in enumerate(entries):
        kind, count = (_LONG, 1) if entry.tag in leads else (entry.kind, entry.number)
        value = struct.pack(f'{order}I', target + len(block))
        if entry.tag in leads:
            (place,) = struct.unpack_from(f'{order}I', data, entry.position + 8)
            block += _moved(data, place, leads[entry.tag], target + len(block))
        elif len(content := _value(data, entry)) <= 4:
            value = content.ljust(4, b'\0')
        else:
            block += content + bytes(len(content) % 2)  # values begin at even places
        struct.pack_into(f'{order}HHI4s', block, 2 + 12 * number, entry.tag, kind, count, value)
    return bytes(block)


def _is_kept(data: bytes, entry: Entry, leads: dict[int, Any]) -> bool:
    if leads is _TREE and entry.tag not in _KEPT:
        return False
    is_of_program = entry.tag == _DESCRIPTION and data[entry.value : entry.value + 8].startswith(_OF_PROGRAMS)
    return entry.tag != _CAMERAS_NOTES and not is_of_program


def _value(data: bytes, entry: Entry) -> bytes:
    """Return the bytes of a value.

    Raises:
        struct.error: It is cut off, or of no known type.
    """
    return struct.unpack_from(f'{_BYTES.get(entry.kind, len(data)) * entry.number}s', data, entry.value)[0]


def telling_tags(exif: bytes) -> tuple[list[tuple[int, int, int, bytes]], list[tuple[int, int]]]:
    """List what EXIF data have in their first directory that belongs into that of a TIFF file.

    Returns:
        Tag, type, count and bytes of what tells of the picture; and tag and position of the directories behind it.

    Raises:
        ValueError: They are damaged.
    """
    try:
        entries = list_entries(exif, _first_directory(exif))
        values = [
            (entry.tag, entry.kind, entry.number, _value(exif, entry))
            for entry in entries
            if entry.tag in _KEPT and entry.tag not in _TREE
        ]
        return values, [(tag, place) for tag in _TREE for place in _leads(exif, entries, tag)]
    except struct.error as error:
        raise ValueError('cut off') from error


def list_entries(data: bytes, begin: int) -> list[Entry]:
    """List the entries of the directory that begins there.

    Raises:
        struct.error: It is cut off.
        ValueError: The data have no byte order.
    """
    order = byte_order(data)
    (count,) = struct.unpack_from(f'{order}H', data, begin)
    entries = []
    for position in range(begin + 2, begin + 2 + 12 * count, 12):
        tag, kind, number, value = struct.unpack_from(f'{order}HHII', data, position)
        is_in_place = number * _BYTES.get(kind, 1) <= 4
        entries.append(Entry(tag, kind, number, position, position + 8 if is_in_place else value))
    return entries


def _first_directory(data: bytes) -> int:
    begin: int = struct.unpack_from(f'{byte_order(data)}I', data, 4)[0]
    return begin


def _leads(data: bytes, entries: list[Entry], tag: int) -> list[int]:
    """Return where the directory behind a tag begins, if there is one."""
    found = [entry for entry in entries if entry.tag == tag]
    return [struct.unpack_from(f'{byte_order(data)}I', data, entry.position + 8)[0] for entry in found[:1]]


def _numbers(data: bytes, begin: int) -> dict[int, int]:
    """Read the numbers of a directory, and as numbers the first bytes of all else that it has in place."""
    order = byte_order(data)
    numbers: dict[int, Any] = {}
    for entry in list_entries(data, begin):
        (numbers[entry.tag],) = struct.unpack_from(
            f'{order}{"H" if entry.kind == _SHORT else "I"}', data, entry.position + 8
        )
    return numbers


def _is_adobe_rgb(data: bytes, main: dict[int, int]) -> bool:
    try:
        details = _numbers(data, main[_DETAILS])
        interoperability = _numbers(data, details[_INTEROPERABILITY])
        return struct.pack(f'{byte_order(data)}I', interoperability[1])[:3] == b'R03'
    except (struct.error, KeyError):
        return False
