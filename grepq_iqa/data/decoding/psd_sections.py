"""The merged picture of Photoshop files of 16 and 32 bits, which Pillow does not know."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.formats import INSTALL, has_codecs
from grepq_iqa.errors import ImageError

GRAY, RGB = 1, 3
_COLORS = {GRAY: 1, RGB: 3}
_ICC, _VERSION = 1039, 1057


@dataclass(frozen=True)
class PsdHeader:
    """What stands in a Photoshop file before its merged picture.

    Attributes:
        merged_alpha: the first channel after the colors is the picture's transparency, and no saved selection.
        start: where the merged picture begins.
        is_merged: the merged picture is one, and no blank that stands in for it.
    """

    width: int
    height: int
    channels: int
    bits: int
    mode: int
    icc: bytes | None
    merged_alpha: bool
    start: int
    is_merged: bool = True


def read_header(data: bytes) -> PsdHeader:
    """Walk the sections of a file that begins with ``8BPS``.

    Raises:
        ValueError, struct.error: they lead out of the file.
    """
    channels, height, width, bits, mode = struct.unpack_from(">HIIHH", data, 12)
    at = 26
    at += 4 + struct.unpack_from(">I", data, at)[0]
    (length,) = struct.unpack_from(">I", data, at)
    resources = data[at + 4 : at + 4 + length]
    icc, version = _resource(resources, _ICC), _resource(resources, _VERSION)
    is_merged = version is None or len(version) < 5 or version[4] != 0
    at += 4 + length
    (length,) = struct.unpack_from(">I", data, at)
    # A negative number of layers says that the first extra channel of the merged picture is its transparency.
    merged_alpha = length >= 6 and struct.unpack_from(">Ih", data, at + 4)[1] < 0
    at += 4 + length
    if at + 2 > len(data):
        raise ValueError("the merged picture is missing")
    return PsdHeader(width, height, channels, bits, mode, icc, merged_alpha, at, is_merged)


def _resource(block: bytes, wanted: int) -> bytes | None:
    at = 0
    while at + 12 <= len(block):
        (number,) = struct.unpack_from(">H", block, at + 4)
        at += 6 + (block[at + 6] + 2) // 2 * 2  # a name, its length before it, padded to an even number
        if at + 4 > len(block):
            return None
        (length,) = struct.unpack_from(">I", block, at)
        if number == wanted:
            return block[at + 4 : at + 4 + length]
        at += 4 + length + length % 2
    return None


def read_merged(data: bytes, header: PsdHeader, name: str) -> NDArray[Any]:
    """Samples ``(H, W, channels)`` of the merged picture: colors, and its transparency where it has one.

    Raises:
        ImageError: they are of a kind that is not read, or end too early.
    """
    colors = _COLORS.get(header.mode, 0)
    if not colors or header.channels < colors or header.bits not in (16, 32):
        raise ImageError(name, "is a Photoshop file of a kind that is not read", "export it as PNG or TIFF")
    used = colors + (1 if header.merged_alpha and header.channels > colors else 0)
    dtype = np.dtype(">u2" if header.bits == 16 else ">f4")
    line = header.width * dtype.itemsize
    (packing,) = struct.unpack_from(">H", data, header.start)
    at = header.start + 2
    if packing == 0:
        raw = data[at : at + used * header.height * line]
    elif packing == 1:
        if not has_codecs():
            raise ImageError(name, "is a Photoshop file of more than 8 bits", INSTALL)
        import imagecodecs

        rows = header.channels * header.height
        lengths = struct.unpack_from(f">{rows}H", data, at)[: used * header.height]
        at += 2 * rows
        raw = bytes(imagecodecs.packbits_decode(data[at : at + sum(lengths)]))
    else:
        raise ImageError(name, "is a Photoshop file of a kind that is not read", "export it as PNG or TIFF")
    if len(raw) < used * header.height * line:
        raise ImageError(name, "is truncated or damaged: its merged picture ends too early")
    planes = np.frombuffer(raw, dtype, used * header.height * header.width)
    return np.asarray(planes.reshape(used, header.height, header.width).transpose(1, 2, 0))
