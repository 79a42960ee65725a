"""The directories of a TIFF: what its pages are, and which of them is the picture."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any, BinaryIO

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS = 256, 257, 258, 259, 262, 266, 273
ORIENTATION, SAMPLES, ROWS, STRIP_BYTES, PLANAR, PREDICTOR, COLORMAP = 274, 277, 278, 279, 284, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUB_PAGES, EXTRA, SAMPLE_FORMAT = 322, 323, 324, 325, 330, 338, 339
NEW_KIND, OLD_KIND, JPEG_TABLES, ICC = 254, 255, 347, 34675
LUMA, SUBSAMPLING, REFERENCE = 529, 530, 532

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIE_LAB, ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
_SENSOR = {32803, 34892}  # values of the color filter array, and linear raw ones

_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"} | {
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_MOST_PAGES, _MOST_TAGS, _MOST_BYTES = 256, 1024, 64 << 20


@dataclass(frozen=True)
class TiffPage:
    """One directory: its tags, and where it stands in the chain of pages (None below another page)."""

    tags: dict[int, tuple[Any, ...] | bytes]
    index: int | None
    endian: str
    parent: int | None = field(default=None)

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a tag as a whole number."""
        values = self.tags.get(tag)
        try:
            return int(values[0]) if values else default
        except (TypeError, ValueError, OverflowError):
            return default

    def _of_samples(self, tag: int) -> tuple[int, ...]:
        """The values of a tag that has one a sample, 1 where it has none that are numbers; never empty."""
        try:
            return tuple(int(value) for value in self.tags.get(tag, (1,))[: self.samples]) or (1,)
        except (TypeError, ValueError, OverflowError):
            return (1,)

    @property
    def is_reduced(self) -> bool:
        """Whether it is a smaller copy of another page, or only that page's transparency."""
        return bool(self.number(NEW_KIND) & 0b101) or (NEW_KIND not in self.tags and self.number(OLD_KIND) == 2)

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of every sample."""
        return self._of_samples(BITS)

    @property
    def photometric(self) -> int:
        """What the samples mean."""
        return self.number(PHOTOMETRIC, RGB if self.samples >= 3 else BLACK_IS_ZERO)

    @property
    def samples(self) -> int:
        """Values per pixel, at least one whatever a damaged file says."""
        return max(1, self.number(SAMPLES, 1))

    @property
    def compression(self) -> int:
        """How the samples are packed; 1 is not at all."""
        return self.number(COMPRESSION, 1)

    @property
    def formats(self) -> set[int]:
        """1 unsigned, 2 signed, 3 floating point, 4 unknown."""
        return set(self._of_samples(SAMPLE_FORMAT))

    @property
    def icc(self) -> bytes | None:
        """The embedded color profile."""
        values = self.tags.get(ICC)
        return bytes(values) if values else None

    @property
    def narrow_palette(self) -> list[int] | None:
        """The palette as Pillow wants it, where its values are of 8 bits instead of the 16 that Pillow divides."""
        colors = self.tags.get(COLORMAP)
        if self.photometric != PALETTE or not colors or max(colors) > 255 or max(colors) == 0:
            return None
        third = len(colors) // 3
        return [int(colors[channel * third + i]) for i in range(third) for channel in range(3)]


# --- directories ----------------------------------------------------------------------------------------------------


def read_pages(file: BinaryIO) -> list[TiffPage]:
    """All directories that can be read, and those below them; empty where the file is no TIFF."""
    file.seek(0)
    head = file.read(16)
    endian = {b"II": "<", b"MM": ">"}.get(head[:2])
    if endian is None or len(head) < 8:
        return []
    (version,) = struct.unpack_from(endian + "H", head, 2)
    if version not in (42, 43) or (version == 43 and len(head) < 16):
        return []
    big = version == 43
    size = file.seek(0, 2)
    (place,) = struct.unpack_from(endian + ("Q" if big else "I"), head, 8 if big else 4)
    pages: list[TiffPage] = []
    seen: set[int] = set()
    index = 0
    while place and place not in seen and len(pages) < _MOST_PAGES:
        seen.add(place)
        tags, following = _read_directory(file, place, endian, big, size)
        if not tags:
            break
        pages.append(TiffPage(tags, index, endian))
        for below in tags.get(SUB_PAGES, ())[:16]:
            if isinstance(below, int) and below and below not in seen and len(pages) < _MOST_PAGES:
                seen.add(below)
                sub_tags, _ = _read_directory(file, below, endian, big, size)
                if sub_tags:
                    pages.append(TiffPage(sub_tags, None, endian, parent=index))
        index += 1
        place = following
    return pages


def _read_directory(
    file: BinaryIO, place: int, endian: str, big: bool, size: int
) -> tuple[dict[int, tuple[Any, ...] | bytes], int]:
    """Tags of one directory, broken ones left out, and the place of the next."""
    form, step, inline = ("Q", 20, 8) if big else ("H", 12, 4)
    if place >= size:
        return {}, 0
    file.seek(place)
    raw = file.read(struct.calcsize(endian + form))
    if len(raw) < struct.calcsize(endian + form):
        return {}, 0
    (count,) = struct.unpack(endian + form, raw)
    if count > _MOST_TAGS:
        return {}, 0
    body = file.read(count * step + inline)
    tags: dict[int, tuple[Any, ...] | bytes] = {}
    left = _MOST_BYTES
    for at in range(0, min(len(body) // step, count) * step, step):
        tag, kind = struct.unpack_from(endian + "HH", body, at)
        (number,) = struct.unpack_from(endian + ("Q" if big else "I"), body, at + 4)
        if kind not in _TYPES:
            continue
        width = struct.calcsize(endian + _TYPES[kind])
        length = number * width
        if length <= inline:
            data = body[at + step - inline : at + step][:length]
        else:
            (where,) = struct.unpack_from(endian + ("Q" if big else "I"), body, at + step - inline)
            if where + length > size or length > left:
                continue
            left -= length
            file.seek(where)
            data = file.read(length)
        if number and len(data) == length:
            # Bytes stay bytes: layers are tens of megabytes of them, and an int each would be eight times that.
            if kind in (1, 2, 7):
                tags[tag] = data
                continue
            values = struct.unpack(f"{endian}{number * len(_TYPES[kind])}{_TYPES[kind][0]}", data)
            if kind in (5, 10):
                values = tuple(a / b if b else 0 for a, b in zip(values[::2], values[1::2], strict=True))
            tags[tag] = values
    following = body[count * step : count * step + inline]
    return tags, struct.unpack(endian + ("Q" if big else "I"), following)[0] if len(following) == inline else 0


def choose_page(pages: list[TiffPage]) -> TiffPage:
    """The picture: the first page that is neither a smaller copy nor a mask; for scans of many pages the first."""
    for page in pages:
        if page.index is not None and not page.is_reduced and page.number(WIDTH):
            return page
    for page in pages:
        if not page.is_reduced and page.number(WIDTH) and page.photometric not in _SENSOR:
            return page
    return pages[0]


def is_raw_photograph(pages: list[TiffPage]) -> bool:
    """Whether this is a camera's raw file (DNG, NEF, ARW, ...): values of a sensor, beside smaller pictures."""
    if not pages:
        return False
    chosen = choose_page(pages)
    largest = max((p.number(WIDTH) * p.number(HEIGHT) for p in pages if p.photometric in _SENSOR), default=0)
    return chosen.photometric in _SENSOR or largest > chosen.number(WIDTH) * chosen.number(HEIGHT)
