"""How a picture is to be turned: the Orientation tag, read though its neighbors be broken.

Pillow turns a picture by rewriting its EXIF block, which fails where any other tag is badly typed. Here the block is
only read, tag by tag, and the picture is turned by hand.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from PIL import Image

ORIENTATION = 0x0112

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Value of the tag -> what makes the picture upright."""

_FORMS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # the whole-number types of TIFF
_RATIOS = {5: "II", 10: "ii"}
_MOST_TAGS = 4096
# Their decoders have turned the picture by what the container says, and the EXIF block may still hold the old value.
_TURNED_BY_DECODER = {"HEIF", "JXL"}


def orientation_of(image: Image.Image) -> int:
    """1 to 8; 1 where nothing usable says otherwise."""
    if image.format in _TURNED_BY_DECODER:
        return 1
    block = image.info.get("exif")
    if image.format == "AVIF":  # Pillow writes the container's turn into the block; XMP has no say
        return parse_orientation(block) or 1 if isinstance(block, bytes) else 1
    value = None
    with suppress(Exception):  # a broken block raises almost anything
        value = _whole(image.getexif().get(ORIENTATION))
    if value is None and isinstance(block, bytes):
        value = parse_orientation(block)
    return value or 1


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The picture upright."""
    turn = TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def parse_orientation(block: bytes) -> int | None:
    """The tag's value in an EXIF block, with or without its mark; None where it is missing or no value."""
    start = block.find(b"Exif\0\0", 0, 16)
    block = block[start + 6 :] if start >= 0 else block
    endian = {b"II": "<", b"MM": ">"}.get(block[:2])
    if endian is None or len(block) < 10:
        return None
    (first,) = struct.unpack_from(endian + "I", block, 4)
    if first + 2 > len(block):
        return None
    (count,) = struct.unpack_from(endian + "H", block, first)
    for entry in range(first + 2, first + 2 + 12 * min(count, _MOST_TAGS), 12):
        if entry + 12 > len(block):
            break
        tag, kind, _ = struct.unpack_from(endian + "HHI", block, entry)
        if tag == ORIENTATION:
            return _value(block, entry + 8, kind, endian)
    return None


def _value(block: bytes, at: int, kind: int, endian: str) -> int | None:
    if kind in _RATIOS:
        (place,) = struct.unpack_from(endian + "I", block, at)
        if place + 8 > len(block):
            return None
        above, below = struct.unpack_from(endian + _RATIOS[kind], block, place)
        return _whole(above // below) if below and above % below == 0 else None
    if kind == 2:  # text is no number, whatever it spells
        return None
    (value,) = struct.unpack_from(endian + _FORMS.get(kind, "H"), block, at)
    return _whole(value)


def _whole(value: object) -> int | None:
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    if isinstance(value, (str, bytes)):
        return None
    try:
        number = int(value)  # type: ignore[call-overload]
        return number if 1 <= number <= 8 and number == value else None
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
