"""What stands in the boxes around a JPEG XL, AVIF or HEIC picture, and is not told by its decoder."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO


def jxl_size(data: bytes) -> tuple[int, int] | None:
    """Width and height by the header of a JPEG XL file, so that bombs are refused before they are decoded."""
    if data[:2] != b"\xff\x0a":
        parts = [(kind, data[start : start + 32][: end - start]) for kind, start, end in _boxes(data, 0, len(data))]
        data = b"".join(part[4:] if kind == b"jxlp" else part for kind, part in parts if kind in (b"jxlc", b"jxlp"))
    if data[:2] != b"\xff\x0a" or len(data) < 4:
        return None
    bits, at = int.from_bytes(data[2:14], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value = (bits >> at) & ((1 << count) - 1)
        at += count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    above, below = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    return (height * above // below if ratio else side()), height


def color_code_points(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """Color primaries, transfer and range as an AVIF or HEIC file states them outside of profiles."""
    with suppress(Exception):  # what cannot be followed says nothing
        file.seek(0)
        data = file.read(1 << 20)
        for kind, start, end in _boxes(data, 0, len(data)):
            if kind != b"meta":
                continue
            for kind2, start2, end2 in _boxes(data, start + 4, end):
                if kind2 != b"iprp":
                    continue
                for kind3, start3, end3 in _boxes(data, start2, end2):
                    if kind3 != b"ipco":
                        continue
                    for kind4, start4, _ in _boxes(data, start3, end3):
                        if kind4 == b"colr" and data[start4 : start4 + 4] == b"nclx":
                            primaries, transfer = struct.unpack_from(">HH", data, start4 + 4)
                            # Decoders have widened the range already. Curves of cameras are shown as sRGB's by all.
                            transfer = 13 if transfer in (1, 2, 6, 13, 14, 15) else transfer
                            primaries = 1 if primaries == 2 else primaries
                            return None if (primaries, transfer) == (1, 13) else (primaries, transfer, 0, 1)
    return None


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the boxes of an ISO media file."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = end if size == 0 else at + size
        if stop < start:
            return
        yield kind, start, min(stop, end)
        at = stop
