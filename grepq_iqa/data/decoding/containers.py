"""What stands in the boxes around a JPEG XL, AVIF or HEIC picture, and is not told by its decoder."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO


def color_code_points(file: BinaryIO) -> tuple[int, int, int, int] | None:
    """Color primaries, transfer and range as an AVIF or HEIC file states them outside of profiles."""
    with suppress(Exception):  # what cannot be followed says nothing
        file.seek(0)
        data = file.read(1 << 20)
        for kind, start, end in boxes(data, 0, len(data)):
            if kind != b"meta":
                continue
            for kind2, start2, end2 in boxes(data, start + 4, end):
                if kind2 != b"iprp":
                    continue
                for kind3, start3, end3 in boxes(data, start2, end2):
                    if kind3 != b"ipco":
                        continue
                    for kind4, start4, _ in boxes(data, start3, end3):
                        if kind4 == b"colr" and data[start4 : start4 + 4] == b"nclx":
                            primaries, transfer = struct.unpack_from(">HH", data, start4 + 4)
                            # Decoders have widened the range already. Curves of cameras are shown as sRGB's by all.
                            transfer = 13 if transfer in (1, 2, 6, 13, 14, 15) else transfer
                            primaries = 1 if primaries == 2 else primaries
                            return None if (primaries, transfer) == (1, 13) else (primaries, transfer, 0, 1)
    return None


def without_exif(data: bytes) -> bytes:
    """An AVIF or HEIC file whose EXIF block no decoder finds: its kind is overwritten where it is listed."""
    changed = bytearray(data)
    for kind, start, end in boxes(data, 0, len(data)):
        if kind != b"meta":
            continue
        for kind2, start2, end2 in boxes(data, start + 4, end):
            if kind2 != b"iinf":
                continue
            entries = start2 + (6 if data[start2] == 0 else 8)
            for kind3, start3, end3 in boxes(data, entries, end2):
                at = start3 + (8 if data[start3] == 2 else 10)  # version and flags, identifier, protection
                if kind3 == b"infe" and at + 4 <= end3 and data[at : at + 4] == b"Exif":
                    changed[at : at + 4] = b"skip"
    return bytes(changed)


def ends_early(file: BinaryIO) -> bool:
    """Whether the last box of an ISO media file is longer than what is left of the file."""
    size, at = file.seek(0, 2), 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        (length,) = struct.unpack_from(">I", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        if length < 8:  # 0: up to the end
            return False
        at += length
    return at > size


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
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
