"""Size and colors by the header of a JPEG XL codestream (ISO/IEC 18181-1:2024, annexes B and D).

The decoder gives neither before it has decoded the picture: bombs are to be refused first, and values of linear light
or of high dynamic range would pass for sRGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from grepq_iqa.data.decoding.containers import boxes

_MOST_BYTES = 1 << 14  # of a header; profiles stand behind it
_GRAY, _XYB = 1, 2
_ALPHA, _SPOT, _CFA = 0, 2, 5
_WHITES = {1: (0.3127, 0.3290), 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}


@dataclass(frozen=True)
class JxlHeader:
    """What the first bits say.

    Attributes:
        width, height: as coded.
        gamma: exponent by which light was encoded; None for a curve by number.
        transfer: transfer characteristics of H.273, 13 where nothing else is said.
        chromaticities: x and y of white, red, green and blue; None for those of sRGB.
        profile: colors are told by an ICC profile, which the decoder keeps to itself.
        is_xyb: the decoder converts colors by itself; pictures with a profile come as sRGB.
    """

    width: int
    height: int
    gamma: float | None = None
    transfer: int = 13
    chromaticities: tuple[float, ...] | None = None
    profile: bool = False
    is_xyb: bool = True


class _Choice(NamedTuple):
    """One of four ways to write a number: an offset, and bits that are added to it."""

    offset: int
    bits: int = 0


_ENUM = (_Choice(0), _Choice(1), _Choice(2, 4), _Choice(18, 6))
_SIDE = (_Choice(1, 9), _Choice(1, 13), _Choice(1, 18), _Choice(1, 30))
_NAME = (_Choice(0), _Choice(0, 4), _Choice(16, 5), _Choice(48, 10))
_XY = (_Choice(0, 19), _Choice(524_288, 19), _Choice(1_048_576, 20), _Choice(2_097_152, 21))
_RATIOS = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class _Bits:
    """Numbers from the bits of a codestream, the lowest bit first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._at, self._end = int.from_bytes(data, "little"), 0, 8 * len(data)

    def take(self, count: int) -> int:
        if self._at + count > self._end:
            raise ValueError("the header of the codestream ends too early")
        value = (self._value >> self._at) & ((1 << count) - 1)
        self._at += count
        return value

    def flag(self) -> bool:
        return bool(self.take(1))

    def choose(self, choices: tuple[_Choice, ...]) -> int:
        chosen = choices[self.take(2)]
        return chosen.offset + self.take(chosen.bits)

    def size(self, small: tuple[_Choice, ...] | None = None, large: tuple[_Choice, ...] = _SIDE) -> tuple[int, int]:
        """Width and height; ``small``: how the eighth of a side is written (None: by five bits)."""
        eighths = self.flag()

        def side() -> int:
            if not eighths:
                return self.choose(large)
            return 8 * (self.choose(small) if small else self.take(5) + 1)

        height = side()
        above, below = _RATIOS[self.take(3)]
        return (height * above // below if above else side()), height


def read_jxl_header(data: bytes) -> JxlHeader:
    """The header of a file, bare or in its container.

    Raises:
        ValueError: it is none, or breaks off.
    """
    if data[:2] != b"\xff\x0a":
        found = b""
        for kind, start, end in boxes(data, 0, len(data)):
            if kind in (b"jxlc", b"jxlp"):  # the whole codestream, or a numbered part of it
                found += data[start + (4 if kind == b"jxlp" else 0) : min(end, start + _MOST_BYTES)]
        data = found
    if data[:2] != b"\xff\x0a":
        raise ValueError("it has no codestream")
    bits = _Bits(data[2:_MOST_BYTES])
    width, height = bits.size()
    if bits.flag():  # all as usual: 8 bits, sRGB
        return JxlHeader(width, height)
    if bits.flag():
        bits.take(3)  # orientation, which the decoder applies
        if bits.flag():
            bits.size()
        if bits.flag():
            eighths = (_Choice(16), _Choice(32), _Choice(1, 5), _Choice(33, 9))
            bits.size(eighths, (_Choice(1, 6), _Choice(65, 8), _Choice(321, 10), _Choice(1345, 12)))
        if bits.flag():  # an animation
            bits.choose((_Choice(100), _Choice(1000), _Choice(1, 10), _Choice(1, 30)))
            bits.choose((_Choice(1), _Choice(1001), _Choice(1, 8), _Choice(1, 10)))
            bits.choose((_Choice(0), _Choice(0, 3), _Choice(0, 16), _Choice(0, 32)))
            bits.take(1)
    _skip_depth(bits)
    bits.take(1)
    for _ in range(bits.choose((_Choice(0), _Choice(1), _Choice(2, 4), _Choice(1, 12)))):
        _skip_channel(bits)
    is_xyb = bits.flag()
    return _colors(bits, width, height, is_xyb)


def _skip_depth(bits: _Bits) -> None:
    if bits.flag():
        bits.choose((_Choice(32), _Choice(16), _Choice(24), _Choice(1, 6)))
        bits.take(4)
    else:
        bits.choose((_Choice(8), _Choice(10), _Choice(12), _Choice(1, 6)))


def _skip_channel(bits: _Bits) -> None:
    if bits.flag():
        return
    kind = bits.choose(_ENUM)
    _skip_depth(bits)
    bits.choose((_Choice(0), _Choice(3), _Choice(4), _Choice(1, 3)))
    bits.take(8 * bits.choose(_NAME))
    if kind == _ALPHA:
        bits.take(1)
    elif kind == _SPOT:
        bits.take(4 * 16)
    elif kind == _CFA:
        bits.choose((_Choice(1), _Choice(0, 2), _Choice(3, 4), _Choice(19, 8)))


def _colors(bits: _Bits, width: int, height: int, is_xyb: bool) -> JxlHeader:
    if bits.flag():
        return JxlHeader(width, height, is_xyb=is_xyb)
    has_profile, space = bits.flag(), bits.choose(_ENUM)
    if has_profile:
        return JxlHeader(width, height, profile=True, is_xyb=is_xyb)
    white, primaries = _WHITES[1], _PRIMARIES[1]
    if space != _XYB:
        white = _point(bits) if (kind := bits.choose(_ENUM)) == 2 else _WHITES.get(kind, white)
        if space != _GRAY:
            kind = bits.choose(_ENUM)
            points = [_point(bits) for _ in range(3)] if kind == 2 else []
            primaries = tuple(v for point in points for v in point) or _PRIMARIES.get(kind, primaries)  # type: ignore[assignment]
    gamma, transfer = None, 13
    if space != _XYB:
        if bits.flag():
            gamma = bits.take(24) / 1e7 or None
        else:
            transfer = bits.choose(_ENUM)
    chromaticities: tuple[float, ...] | None = (*white, *primaries)
    if space == _GRAY or chromaticities == (*_WHITES[1], *_PRIMARIES[1]):
        chromaticities = None  # gray stays gray whatever its white
    return JxlHeader(width, height, gamma, transfer, chromaticities, is_xyb=is_xyb)


def _point(bits: _Bits) -> tuple[float, float]:
    numbers = (bits.choose(_XY), bits.choose(_XY))
    x, y = ((-(n + 1) // 2 if n & 1 else n // 2) / 1e6 for n in numbers)
    return x, y
