"""Image files as bytes: pixels, and beside them what each format can say of their meaning."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from manet_basicsr.data.alpha import flatten_on_white
from manet_basicsr.data.exif import PREFIX, byte_order, exif_for, list_entries, telling_tags
from manet_basicsr.data.photograph import Photograph
from manet_basicsr.data.png_files import other_colours, profile_chunk, with_chunks
from manet_basicsr.data.preparation import encode_png

_JPEG = ('.jpg', '.jpeg')
_TIFF = ('.tif', '.tiff')
_WITHOUT_ALPHA = (*_JPEG, '.bmp')
#: Pillow's names of the formats that it writes here.
_PILLOW_NAMES = {'.jpg': 'JPEG', '.jpeg': 'JPEG', '.webp': 'WEBP', '.bmp': 'BMP'}
_PNG_COMPRESSION = 1
_PROFILE_HEADER = 128  # bytes
_JPEG_PROFILE = 255 * 65_519  # 255 segments, less what stands before each part; Pillow would write a broken one
#: In bytes. Pillow does not open a PNG file with a larger one.
_LARGEST_PROFILE = {'.jpg': _JPEG_PROFILE, '.jpeg': _JPEG_PROFILE, '.png': 2**20}
_LARGEST_EXIF = dict.fromkeys(_JPEG, 65_533 - len(PREFIX))  # one segment
#: What TIFF calls the directories behind EXIF's tags, and the numbers beside them that stand for them for a moment.
_STAND_INS = {0x8769: 0x8768, 0x8825: 0x8824}
_LONG = 4
#: Bytes of pixels for which a TIFF file has place in any case: compression may add some, later pages may be larger.
_LARGEST_SURE = 2**31


class Beside(NamedTuple):
    """What a file says beside its pixels: colour profile, EXIF data, and PNG's chunks of colour."""

    profile: bytes | None
    exif: bytes
    colours: tuple[tuple[bytes, bytes], ...]


def encode_photograph(photograph: Photograph, suffix: str, quality: int) -> tuple[bytes, tuple[str, ...]]:
    """Encode an image file.

    Args:
        photograph: What to encode.
        suffix: Of the file, in lower case.
        quality: 1 to 100, of JPEG and WebP.

    Returns:
        The bytes of the file, and what was left out, and why.

    Raises:
        OSError: It cannot be encoded.
    """
    pixels, beside, remarks = fit_to_format(photograph, suffix)
    # What an encoder refuses costs itself, not the picture.
    for name, size, without in (
        ('EXIF data', len(beside.exif), beside._replace(exif=b'')),
        ('colour profile', len(beside.profile or b''), beside._replace(exif=b'', profile=None)),
    ):
        if not size:
            continue
        try:
            return encode(suffix, pixels, beside, quality), remarks
        except Exception:  # each encoder has its own kinds
            remarks = (*remarks, f'its {name} of {size} bytes does not fit in a {suffix[1:]} file: left out')
            beside = without
    try:
        return encode(suffix, pixels, beside, quality), remarks
    except Exception as error:
        raise OSError(f'cannot encode an image of shape {pixels.shape} as {suffix[1:]}: {error}') from error


def fit_to_format(photograph: Photograph, suffix: str, number: int = 1) -> tuple[np.ndarray, Beside, tuple[str, ...]]:
    """Return the pixels that a format can hold, and what it can say beside them; and what was left out, and why.

    Pixels are ``(h, w)`` or ``(h, w, 2)`` where they are grey, the profile is of grey and the format has grey; of
    ``number`` pictures about that large in the file.
    """
    pixels, remarks = photograph.pixels, []
    if suffix in _WITHOUT_ALPHA and pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = flatten_on_white(pixels)
        remarks.append(f'{suffix[1:]} files have no alpha: laid on white')
    if suffix not in ('.png', *_TIFF) and pixels.dtype != np.uint8:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    if photograph.profile is not None and photograph.profile[16:20] == b'GRAY' and suffix != '.webp':
        pixels = _as_grey(pixels)
    profile, words = _fitting_profile(photograph.profile, pixels, suffix)
    exif, more = _fitting_exif(photograph.exif, pixels, suffix)
    remarks += [*words, *more]
    if suffix in _TIFF and exif and _is_big(pixels, number):
        exif = b''
        remarks.append('its EXIF data are left out: a TIFF file of more than 4 GiB has no place for them')
    colours = photograph.colours
    if suffix != '.png':
        if named := other_colours(colours, profile is not None):
            remarks.append(
                f'it says by {named} that its colours are not sRGB, which {suffix[1:]} files cannot say: '
                'convert it to sRGB first'
            )
        colours = ()
    return pixels, Beside(profile, exif, colours), tuple(remarks)


def _is_big(pixels: np.ndarray, number: int) -> bool:
    """Tell whether so many pictures about as large may need more than a TIFF file has place for, then BigTIFF."""
    return number * pixels.nbytes > _LARGEST_SURE


def _as_grey(pixels: np.ndarray) -> np.ndarray:
    """Return colours that are all grey as grey, with alpha if there is any; others as they are."""
    if pixels.ndim == 2 or (pixels[..., :1] != pixels[..., 1:3]).any():
        return pixels
    return pixels[..., 0] if pixels.shape[2] == 3 else pixels[..., [0, 3]]


def _fitting_profile(profile: bytes | None, pixels: np.ndarray, suffix: str) -> tuple[bytes | None, list[str]]:
    """Return a profile that is meant for such pixels and is whole, or None and why not."""
    if profile is None:
        return None, []
    length = int.from_bytes(profile[:4], 'big')
    if length <= _PROFILE_HEADER or length > len(profile) or profile[36:40] != b'acsp':
        return None, ['its colour profile is damaged: left out']
    is_grey = (pixels.ndim == 2 or pixels.shape[2] == 2) and suffix != '.webp'  # WebP has no grey
    if profile[16:20] != (b'GRAY' if is_grey else b'RGB '):
        space = profile[16:20].decode('latin-1').strip()
        kind = 'grey' if is_grey else 'RGB'
        return None, [f'its colour profile is for {space} colours, and the result is {kind}: left out']
    if suffix == '.bmp':
        return None, ['bmp files have no colour profile: left out']
    if length > _LARGEST_PROFILE.get(suffix, length):
        return None, [f'its colour profile of {length} bytes does not fit in a {suffix[1:]} file: left out']
    return profile[:length], []


def _fitting_exif(exif: bytes, pixels: np.ndarray, suffix: str) -> tuple[bytes, list[str]]:
    """Return EXIF data that are true of such pixels, or none and why not."""
    if not exif:
        return b'', []
    if suffix == '.bmp':
        return b'', ['bmp files have no EXIF data: left out']
    try:
        exif = exif_for(exif, pixels.shape[1], pixels.shape[0])
    except ValueError:
        return b'', ['its EXIF data are damaged: left out']
    if len(exif) > _LARGEST_EXIF.get(suffix, len(exif)):
        return b'', [f'its EXIF data of {len(exif)} bytes do not fit in a {suffix[1:]} file: left out']
    return exif, []


def encode(suffix: str, pixels: np.ndarray, beside: Beside, quality: int) -> bytes:
    """Encode what :func:`fit_to_format` gives; raises what the encoders raise."""
    if suffix == '.png':
        return encode_png_file(pixels, beside)
    content = io.BytesIO()
    if suffix in _TIFF:
        write_tiff_page(content, pixels, beside)
        return content.getvalue()
    from PIL import Image

    settings: dict[str, Any] = {} if suffix == '.bmp' else {'quality': quality, 'icc_profile': beside.profile}
    if beside.exif:
        settings['exif'] = PREFIX + beside.exif if suffix in _JPEG else beside.exif
    Image.fromarray(pixels).save(content, _PILLOW_NAMES[suffix], **settings)
    return content.getvalue()


def encode_png_file(pixels: np.ndarray, beside: Beside) -> bytes:
    """Encode a PNG file: ``(h, w)``, ``(h, w, 2)`` grey with alpha, ``(h, w, 3)`` or ``(h, w, 4)``, 8 or 16 bit."""
    if pixels.ndim == 3 and pixels.shape[2] == 2:  # OpenCV writes no grey with alpha
        import imagecodecs

        png = bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=_PNG_COMPRESSION))
    else:
        png = encode_png(pixels, _PNG_COMPRESSION)
    # A file has a profile or says sRGB, not both.
    chunks = [chunk for chunk in beside.colours if beside.profile is None or chunk[0] != b'sRGB']
    chunks += [] if beside.profile is None else [profile_chunk(beside.profile)]
    return with_chunks(png, [*chunks, (b'eXIf', beside.exif)] if beside.exif else chunks)


def write_tiff_page(file: BinaryIO, pixels: np.ndarray, beside: Beside, number: int = 1) -> None:
    """Write a TIFF file of one page, or a further page to one that has some.

    The EXIF data of the first page, which are a TIFF file without a picture, become the beginning of the file. So
    nothing in them moves, and the positions in a camera's own notes stay true.

    Args:
        file: Open for reading and writing; empty, or a TIFF file.
        pixels: As for :func:`encode_png_file`.
        beside: Profile and EXIF data. Those of a further page are left out.
        number: Of pages that a new file will have, about. One that may need more than 4 GiB is a BigTIFF, without EXIF
            data.
    """
    import tifffile

    is_first = file.seek(0, io.SEEK_END) == 0
    is_big = is_first and _is_big(pixels, number)
    exif = beside.exif if is_first and not is_big else b''
    tags, leads = telling_tags(exif) if exif else ([], [])
    if exif:
        file.write(exif[:4] + bytes(4) + exif[8:] + bytes(len(exif) % 2))  # no page so far
    file.seek(0)
    has_alpha = pixels.ndim == 3 and pixels.shape[2] in (2, 4)
    with tifffile.TiffWriter(file, bigtiff=is_big, append=bool(exif) or not is_first) as writer:
        writer.write(
            pixels,
            photometric='minisblack' if pixels.ndim == 2 or pixels.shape[2] == 2 else 'rgb',
            planarconfig=None if pixels.ndim == 2 else 'contig',
            extrasamples=['unassalpha'] if has_alpha else None,
            compression='lzw',
            predictor=True,
            iccprofile=beside.profile,
            software=False if exif else None,
            metadata=None,
            # tifffile writes no tag that leads to a directory.
            extratags=[(*tag, True) for tag in tags] + [(_STAND_INS[tag], _LONG, 1, at, True) for tag, at in leads],
        )
    if leads:
        _name_leads(file)


def _name_leads(file: BinaryIO) -> None:
    """Give the tags that lead to EXIF's directories their own numbers."""
    file.seek(0)
    content = file.read()
    order = byte_order(content)
    own = {stand_in: tag for tag, stand_in in _STAND_INS.items()}
    for entry in list_entries(content, struct.unpack_from(f'{order}I', content, 4)[0]):
        if entry.tag in own:
            file.seek(entry.position)
            file.write(struct.pack(f'{order}H', own[entry.tag]))
