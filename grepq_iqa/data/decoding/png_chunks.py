"""What a PNG says about its values, and the file without the ancillary chunks that Pillow stumbles over.

By the PNG specification, third edition (W3C, 2025): the layout of chunks in 5, the meaning of each in 11.2 and 11.3.
Pillow refuses a file for a wrong checksum or an excess of text in a chunk that no pixel depends on, drops cICP, gAMA
and cHRM, and gives the transparent value of deep pictures in another scale than their pixels.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_ICC_BYTES", "MAX_TEXT_BYTES", "PngState", "apply_transparency", "read_png_chunks"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

MAX_ICC_BYTES = 16 << 20
"""Larger profiles, decompressed, count as unusable. Profiles of printers reach a few megabytes."""

MAX_TEXT_BYTES = 1 << 20
"""Pillow refuses files with a longer text in a chunk, decompressed (``PngImagePlugin.MAX_TEXT_CHUNK``)."""

_PILLOW_ICC_BYTES = 1 << 20  # Pillow decompresses profiles by the limit for text
_PILLOW_TEXT_TOTAL = 64 << 20  # and refuses more than 64 such texts (PngImagePlugin.MAX_TEXT_MEMORY)
_MAX_CHUNKS = 1_000_000  # 12 MB of empty chunks; walking over more takes seconds
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_ANIMATION = {b"acTL": 8, b"fcTL": 26, b"fdAT": 4}  # and the least that they hold
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}


@dataclass(frozen=True)
class PngState:
    """The header and the chunks that say what values mean; chunks that are damaged or malformed count as absent.

    Of those that tell the color space, cICP comes before iCCP, that before sRGB, and that before gAMA with cHRM (4.3
    and 11.3.2). All are given as they stand in the file: the caller applies that order, see :attr:`color_source`.

    Attributes:
        bit_depth: of a sample or palette index: 1, 2, 4, 8 or 16; 0 where the header is missing or malformed.
        color_type: 0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGB with alpha.
        gamma: gAMA / 100000, the exponent by which light was encoded, such as 0.45455; over 0.
        chromaticities: cHRM: x and y of white, red, green and blue, each / 100000.
        srgb: whether there is an sRGB chunk.
        cicp: color primaries, transfer function, matrix coefficients and full-range flag by ITU-T H.273.
        icc: the decompressed profile, up to :data:`MAX_ICC_BYTES`.
        transparent: tRNS of gray (one value) and RGB (three), at native depth: 0 to 2**bit_depth - 1.
        repaired: the file without the chunks over which Pillow would refuse it, or None where there are none.
    """

    bit_depth: int = 0
    color_type: int = 0
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    srgb: bool = False
    cicp: tuple[int, int, int, int] | None = None
    icc: bytes | None = None
    transparent: tuple[int, ...] | None = None
    repaired: bytes | None = None

    @property
    def color_source(self) -> str | None:
        """The chunk that decides: "cICP", "iCCP", "sRGB", "gAMA" (with cHRM if there), "cHRM", or None for none."""
        # A profile must fit the color type (11.3.2.3); what is unusable is passed over, as the specification advises.
        if self.cicp is not None:
            return "cICP"
        if self.icc is not None:
            return "iCCP"
        if self.srgb:
            return "sRGB"
        if self.gamma is not None:
            return "gAMA"
        return "cHRM" if self.chromaticities is not None else None


def read_png_chunks(data: bytes) -> PngState:
    """Read the chunks of ``data`` up to IEND or to where it breaks off. Never raises for any bytes.

    What is not a PNG gets an empty state. Critical chunks stay as they are, right or wrong, for the decoder to judge.
    Costs a checksum of the ancillary chunks, and no more than a fixed amount of decompression for each text or profile.
    """
    if data[:8] != SIGNATURE:
        return PngState()
    found: dict[str, Any] = {}
    removed: list[tuple[int, int]] = []
    animation: list[tuple[int, int]] = []
    position, text_total, is_after_data, is_animation_damaged = 8, 0, False, False
    view = memoryview(data)
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            break
        size = int.from_bytes(view[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 12 + size
        if end > len(data) or not kind.isalpha():
            break
        begin, position = position, end
        if kind in _CRITICAL or not kind[0] & 0x20:
            if kind == b"IHDR" and not found:
                found.update(_header(data[begin + 8 : end - 4]))
            elif kind == b"IDAT":
                is_after_data = True
            elif kind == b"IEND":
                break
            continue
        body = view[begin + 8 : end - 4]
        if kind in _ANIMATION:
            animation.append((begin, end))
            is_animation_damaged = is_animation_damaged or size < _ANIMATION[kind]
        if zlib.crc32(view[begin + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            if kind in _ANIMATION:
                is_animation_damaged = True
            else:
                removed.append((begin, end))
            continue
        if kind in {b"tEXt", b"zTXt", b"iTXt"}:
            length = _text_length(kind, bytes(body[: MAX_TEXT_BYTES + 512]) if kind != b"tEXt" else b"", size)
            text_total += length
            if length > MAX_TEXT_BYTES - 1 or text_total > _PILLOW_TEXT_TOTAL:
                text_total -= length
                removed.append((begin, end))
        elif kind == b"iCCP":
            profile = _profile(bytes(body))
            if profile is None or len(profile) > _PILLOW_ICC_BYTES - 1:
                removed.append((begin, end))
            if profile is not None and not is_after_data and "icc" not in found:
                found["icc"] = profile
        elif not is_after_data:  # these come before the picture, and the first of a kind counts
            if _is_malformed(kind, size, found.get("color_type")):
                removed.append((begin, end))
            else:
                for key, value in _meaning(kind, bytes(body), found).items():
                    found.setdefault(key, value)
    if is_animation_damaged:  # its chunks are numbered, so that none can be missing; the still picture remains
        removed = sorted([*removed, *animation])
    return PngState(**found, repaired=_without(data, removed))


def apply_transparency(values: NDArray[Any], transparent: tuple[int, ...]) -> NDArray[np.float32]:
    """Opacity by tRNS: 0 where a pixel has exactly the transparent value, else 1 (11.3.1.1).

    Args:
        values: raw native values, (H, W) for gray or (H, W, 3) for RGB, integers of 0 to 2**bit_depth - 1. They must
            not be scaled: a 4-bit gray of 15 is 15, not 255.
        transparent: :attr:`PngState.transparent`, with one value for gray or three for RGB.

    Returns:
        float32 (H, W) of 0 and 1.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    array = np.asarray(values)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] != len(transparent):
        raise ValueError(f"values of shape {np.shape(values)} do not fit {len(transparent)} transparent value(s)")
    is_opaque: NDArray[np.bool_] = np.any(array != np.array(transparent, np.int64), axis=-1)
    return is_opaque.astype(np.float32)


def _header(body: bytes) -> dict[str, Any]:
    if len(body) != 13 or body[8] not in _DEPTHS.get(body[9], set()):
        return {}
    return {"bit_depth": body[8], "color_type": body[9]}


def _is_malformed(kind: bytes, size: int, color_type: int | None) -> bool:
    """Whether a chunk is too short for what it has to hold, over which Pillow would stumble."""
    least = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"cICP": 4, b"tRNS": {0: 2, 2: 6}.get(color_type or 0, 0)}
    return size < least.get(kind, 0)


def _meaning(kind: bytes, body: bytes, found: dict[str, Any]) -> dict[str, Any]:
    """The fields of :class:`PngState` that a chunk before the picture sets."""
    if kind == b"gAMA":
        gamma = int.from_bytes(body[:4], "big")
        return {"gamma": gamma / 100_000} if 0 < gamma < 1 << 31 else {}
    if kind == b"cHRM":
        values = tuple(int(value) / 100_000 for value in np.frombuffer(body, ">u4", count=8))
        # y of 0 has no meaning, and zeros throughout are what some writers put for "unknown".
        return {"chromaticities": values} if min(values[1::2]) > 0 and max(values) < 21_474 else {}
    if kind == b"sRGB":
        return {"srgb": True}
    if kind == b"cICP":
        # Samples of a PNG are always RGB or gray, so that the matrix must be 0 (11.3.2.6).
        return {"cicp": tuple(body[:4])} if body[2] == 0 else {}
    if kind == b"tRNS":
        channels = {0: 1, 2: 3}.get(found.get("color_type", -1), 0)
        if not found.get("bit_depth") or not channels or len(body) < 2 * channels:
            return {}
        mask = (1 << found["bit_depth"]) - 1  # only the low bits count (11.3.1.1)
        return {"transparent": tuple(int(value) & mask for value in np.frombuffer(body, ">u2", count=channels))}
    return {}


def _inflate(body: bytes, limit: int) -> bytes | None:
    """Decompressed ``body``, up to ``limit`` + 1 bytes; None where it is damaged."""
    try:
        return zlib.decompressobj().decompress(body, limit + 1)
    except zlib.error:
        return None


def _text_length(kind: bytes, body: bytes, size: int) -> int:
    """Bytes of text in a chunk, decompressed, as Pillow counts them; more than its limit counts as such."""
    if kind == b"tEXt":
        return size
    keyword = body.find(b"\0")
    if keyword < 0:
        return size
    rest = body[keyword + 1 :]
    if kind == b"zTXt" and rest[:1] not in {b"", b"\0"}:
        return MAX_TEXT_BYTES  # an unknown compression, which Pillow refuses
    if kind == b"iTXt":
        if len(rest) < 2 or not rest[0]:
            return size
        language = rest.find(b"\0", 2)
        translated = rest.find(b"\0", language + 1) if language >= 0 else -1
        if translated < 0:
            return size
        rest = rest[translated:]  # with one byte in front, as the compression method is in zTXt
    text = _inflate(rest[1:], MAX_TEXT_BYTES)
    return 0 if text is None else len(text)  # Pillow passes over a text that cannot be decompressed


def _profile(body: bytes) -> bytes | None:
    """The ICC profile of an iCCP chunk, or None where it is unusable."""
    name = body.find(b"\0")
    if not 1 <= name <= 79 or body[name + 1 : name + 2] != b"\0":
        return None
    profile = _inflate(body[name + 2 :], MAX_ICC_BYTES)
    if profile is None or not 128 < len(profile) <= MAX_ICC_BYTES or profile[36:40] != b"acsp":  # ICC.1, 7.2.9
        return None
    return profile


def _without(data: bytes, pieces: list[tuple[int, int]]) -> bytes | None:
    if not pieces:
        return None
    position, kept = 0, []
    for begin, end in pieces:
        kept.append(data[position:begin])
        position = end
    return b"".join([*kept, data[position:]])
