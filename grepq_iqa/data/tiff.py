"""TIFF where Pillow is wrong: which page is the picture, and samples that are not plain bytes.

Scanners, microscopes and exports write many kinds of TIFF. Pillow reads those of eight bits right; of the others it
takes 12-bit values for 16-bit ones, forgets that white may be zero, or refuses. They are read here: plain and deflated
ones by NumPy alone, all other compressions by tifffile, which comes with the extra ``formats``.
"""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.formats import INSTALL, has_tifffile
from grepq_iqa.errors import ImageError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, STRIPS = 256, 257, 258, 259, 262, 266, 273
ORIENTATION, SAMPLES, ROWS, STRIP_BYTES, PLANAR, PREDICTOR, COLORMAP = 274, 277, 278, 279, 284, 317, 320
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUB_PAGES, EXTRA, SAMPLE_FORMAT = 322, 323, 324, 325, 330, 338, 339
NEW_KIND, OLD_KIND, ICC = 254, 255, 34675

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
_SENSOR = {32803, 34892}  # values of the color filter array, and linear raw ones
_COLORS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4}
_ASSOCIATED, _UNASSOCIATED = 1, 2

_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"} | {
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_MOST_PAGES, _MOST_TAGS, _MOST_BYTES = 256, 1024, 64 << 20
_DEFLATE = {8, 32946}
_SILENT = logging.NullHandler()

_A_LITTLE = 0.05
"""How far floats may leave their range by resampling and sharpening before they must be of another range."""


@dataclass(frozen=True)
class TiffPage:
    """One directory: its tags, and where it stands in the chain of pages (None below another page)."""

    tags: dict[int, tuple[Any, ...]]
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

    @property
    def is_reduced(self) -> bool:
        """Whether it is a smaller copy of another page, or only that page's transparency."""
        return bool(self.number(NEW_KIND) & 0b101) or (NEW_KIND not in self.tags and self.number(OLD_KIND) == 2)

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits of every sample."""
        return tuple(int(b) for b in self.tags.get(BITS, (1,)))

    @property
    def photometric(self) -> int:
        """What the samples mean."""
        return self.number(PHOTOMETRIC, BLACK_IS_ZERO)

    @property
    def samples(self) -> int:
        """Values per pixel."""
        return self.number(SAMPLES, 1)

    @property
    def formats(self) -> set[int]:
        """1 unsigned, 2 signed, 3 floating point, 4 unknown."""
        return {int(f) for f in self.tags.get(SAMPLE_FORMAT, (1,))}

    @property
    def icc(self) -> bytes | None:
        """The embedded color profile."""
        values = self.tags.get(ICC)
        return bytes(values) if values else None

    @property
    def needs_own_reader(self) -> bool:
        """Whether Pillow is known to get this kind wrong."""
        gray = self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
        if self.photometric not in _COLORS:
            return False  # YCbCr, Lab, and what only Pillow can say no to
        if self.formats <= {1, 4} and len(set(self.bits)) == 1:
            bits = self.bits[0]
            if bits == 8:
                return gray and self.samples > 1
            if bits in (1, 2, 4):
                return self.samples > 1
            if bits == 16:
                if gray:
                    return self.photometric == WHITE_IS_ZERO or self.samples > 1
                return self.number(PLANAR, 1) == 2
        return True

    @property
    def narrow_palette(self) -> list[int] | None:
        """The palette as Pillow wants it, where its values are of 8 bits instead of the 16 that Pillow divides."""
        colors = self.tags.get(COLORMAP)
        if self.photometric != PALETTE or not colors or max(colors) > 255 or max(colors) == 0:
            return None
        third = len(colors) // 3
        return [int(colors[channel * third + i]) for i in range(third) for channel in range(3)]


@dataclass(frozen=True)
class TiffPixels:
    """Samples of one page in [0, 1].

    Attributes:
        values: ``(H, W, C)`` with C of 1 (gray), 3 (RGB) or 4 (CMYK), not multiplied by alpha.
        alpha: ``(H, W)`` or None.
        whole: the samples were whole numbers, so that an 8-bit copy is a fair one.
        warnings: what had to be assumed.
    """

    values: NDArray[np.float32]
    alpha: NDArray[np.float32] | None
    whole: bool
    warnings: tuple[str, ...] = ()


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
) -> tuple[dict[int, tuple[Any, ...]], int]:
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
    tags: dict[int, tuple[Any, ...]] = {}
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


# --- samples --------------------------------------------------------------------------------------------------------


def read_pixels(file: BinaryIO, page: TiffPage, name: str, max_pixels: int) -> TiffPixels:
    """Samples of ``page`` in [0, 1], by NumPy or, where it is packed in another way, by tifffile.

    Raises:
        ImageError: the page is too large, damaged, of a range that cannot be told, or needs the extra ``formats``.
    """
    width, height = page.number(WIDTH), page.number(HEIGHT)
    if width <= 0 or height <= 0:
        raise ImageError(name, f"has no pixels ({width}x{height})")
    if width * height > max_pixels or not 1 <= page.samples <= 64:
        raise ImageError(name, f"has {width * height / 1e6:.0f} megapixels", "shrink it first")
    if not page.formats <= {1, 2, 3, 4} or len(page.formats) != 1 or len(set(page.bits)) != 1:
        raise ImageError(name, "is a TIFF whose channels are of different kinds", "save it with 8 or 16 bits a channel")
    if page.number(COMPRESSION, 1) in {1, *_DEFLATE} and _dtype(page) is not None:
        samples = _by_numpy(file, page, name)
    elif has_tifffile():
        samples = _by_tifffile(file, page, name)
    else:
        raise ImageError(name, "is a TIFF that Pillow cannot read right", INSTALL)
    return _scaled(samples, page, name)


def _dtype(page: TiffPage) -> np.dtype[Any] | None:
    """Of samples of whole bytes; bits that are packed across bytes come as uint16; None for kinds left to tifffile."""
    bits, (kind,) = page.bits[0], page.formats
    if kind == 3:
        return np.dtype(f"{page.endian}f{bits // 8}") if bits in (16, 32, 64) else None
    letter = "i" if kind == 2 else "u"
    if bits in (8, 16, 32):
        return np.dtype(f"{page.endian}{letter}{bits // 8}")
    if 1 <= bits < 16 and letter == "u" and page.number(PREDICTOR, 1) == 1:
        return np.dtype(np.uint16)
    return None


def _by_numpy(file: BinaryIO, page: TiffPage, name: str) -> NDArray[Any]:
    """Plain and deflated strips and tiles, as ``(H, W, samples)``."""
    width, height, samples = page.number(WIDTH), page.number(HEIGHT), page.samples
    dtype = _dtype(page)
    assert dtype is not None  # the caller has asked
    tiled, block_width, block_height, planes, places, lengths = _blocks(page, name)
    deep = samples // planes
    across, down = -(-width // block_width), -(-height // block_height)
    out = np.empty((height, width, samples), dtype=dtype)
    for plane in range(planes):
        for row in range(down):
            for column in range(across):
                number = (plane * down + row) * across + column
                y, x = row * block_height, column * block_width
                rows = block_height if tiled else min(block_height, height - y)
                line = -(-block_width * deep * page.bits[0] // 8)
                data = _unpacked(file, int(places[number]), int(lengths[number]), rows * line, page)
                if len(data) < rows * line:
                    raise ImageError(name, "is truncated or damaged: a strip ends too early")
                block = _samples(data, rows, block_width, deep, page, dtype)
                target = out[y : y + rows, x : x + block_width, plane : plane + 1 if planes > 1 else samples]
                target[...] = block[: target.shape[0], : target.shape[1]]
    return out


def _blocks(page: TiffPage, name: str) -> tuple[bool, int, int, int, tuple[Any, ...], tuple[Any, ...]]:
    """Whether there are tiles; a block's width and height; planes; where each block begins, and its length.

    Raises:
        ImageError: there are fewer than the picture needs, which other readers fill with black.
    """
    width, height = page.number(WIDTH), page.number(HEIGHT)
    planes = page.samples if page.number(PLANAR, 1) == 2 and page.samples > 1 else 1
    tiled = TILES in page.tags
    if tiled:
        block_width, block_height = page.number(TILE_WIDTH), page.number(TILE_HEIGHT)
    else:
        block_width, block_height = width, min(page.number(ROWS, height) or height, height)
    if not 0 < block_width <= 1 << 20 or not 0 < block_height <= 1 << 20:
        raise ImageError(name, "is truncated or damaged: its tiles have no size")
    needed = -(-width // block_width) * -(-height // block_height) * planes
    places = page.tags.get(TILES if tiled else STRIPS, ())
    lengths = page.tags.get(TILE_BYTES if tiled else STRIP_BYTES, ())
    if not lengths and len(places) == 1:
        lengths = (1 << 62,)
    if min(len(places), len(lengths)) < needed or not all(lengths[:needed]):
        raise ImageError(name, "is truncated or damaged: it has too few strips")
    return tiled, block_width, block_height, planes, places, lengths


def _unpacked(file: BinaryIO, place: int, length: int, wanted: int, page: TiffPage) -> bytes:
    file.seek(place)
    if page.number(COMPRESSION, 1) in _DEFLATE:
        data = zlib.decompressobj().decompress(file.read(min(length, 2 * wanted + 4096)), wanted)
    else:
        data = file.read(min(length, wanted))
    if page.number(FILL_ORDER, 1) == 2 and page.bits[0] % 8:
        flipped = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little"), bitorder="big")
        return flipped.tobytes()
    return data


def _samples(data: bytes, rows: int, width: int, deep: int, page: TiffPage, dtype: np.dtype[Any]) -> NDArray[Any]:
    bits, predictor = page.bits[0], page.number(PREDICTOR, 1)
    compressed = page.number(COMPRESSION, 1) in _DEFLATE
    if bits not in (8, 16, 32, 64):  # packed across bytes, every row beginning with a new one
        line = -(-width * deep * bits // 8)
        loose = np.unpackbits(np.frombuffer(data, np.uint8, rows * line).reshape(rows, line), axis=1)
        loose = loose[:, : width * deep * bits].reshape(rows, width, deep, bits)
        packed = np.zeros((rows, width, deep), np.uint16)
        for bit in range(bits):
            packed <<= 1
            packed |= loose[..., bit]
        return packed
    if compressed and predictor == 3:  # bytes of one significance side by side, and differences of them
        size = dtype.itemsize
        raw = np.frombuffer(data, np.uint8, rows * width * deep * size).reshape(rows, width * size, deep)
        raw = np.cumsum(raw, axis=1, dtype=np.uint8).reshape(rows, size, width * deep)
        most_first = np.ascontiguousarray(raw.transpose(0, 2, 1))
        return np.asarray(most_first.view(dtype.newbyteorder(">")).reshape(rows, width, deep))
    values: NDArray[Any] = np.frombuffer(data, dtype, rows * width * deep).reshape(rows, width, deep)
    if compressed and predictor == 2:
        whole = dtype.newbyteorder("=") if dtype.kind in "iu" else np.dtype(f"u{dtype.itemsize}")
        bits_of = values if dtype.kind in "iu" else values.view(np.dtype(f"{page.endian}u{dtype.itemsize}"))
        summed = np.cumsum(bits_of.astype(whole), axis=1, dtype=whole)
        return summed if dtype.kind in "iu" else summed.view(dtype.newbyteorder("="))
    return values


def _by_tifffile(file: BinaryIO, page: TiffPage, name: str) -> NDArray[Any]:
    import tifffile

    _blocks(page, name)
    # Its complaints about broken tags are for developers; without any handler, logging would print them.
    logging.getLogger("tifffile").addHandler(_SILENT)
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as tiff:
            pages: Iterator[Any] = iter(tiff.pages)
            if page.index is None:
                found = next(
                    sub
                    for parent in pages
                    for sub in parent.pages or ()
                    if sub.imagewidth == page.number(WIDTH) and sub.imagelength == page.number(HEIGHT)
                )
            else:
                found = tiff.pages[page.index]
            values = found.asarray(maxworkers=1)
    except Exception as error:  # decoders of broken files raise almost anything
        raise ImageError(name, f"is truncated or damaged: {' '.join(str(error).split())}") from error
    shape = (page.number(HEIGHT), page.number(WIDTH), page.samples)
    if values.size != shape[0] * shape[1] * shape[2]:
        raise ImageError(name, "is truncated or damaged: its size and its samples disagree")
    if page.number(PLANAR, 1) == 2 and page.samples > 1:
        return np.asarray(values.reshape(shape[2], shape[0], shape[1]).transpose(1, 2, 0))
    return np.asarray(values.reshape(shape))


def _scaled(samples: NDArray[Any], page: TiffPage, name: str) -> TiffPixels:
    """Samples -> colors and alpha in [0, 1], white being 1."""
    colors = _COLORS.get(page.photometric, 0)
    if not colors or colors > samples.shape[-1]:
        raise ImageError(name, "is a TIFF of a kind that is not read", "save it as RGB with 8 or 16 bits a channel")
    if page.photometric == PALETTE:
        return _through_palette(samples, page, name)
    extras = [int(value) for value in page.tags.get(EXTRA, ())]
    alpha_at = next((i for i, value in enumerate(extras) if value in (_ASSOCIATED, _UNASSOCIATED)), None)
    values, warnings = unit_range(samples[..., :colors], page.bits[0], name)
    alpha = None
    if alpha_at is not None and colors + alpha_at < samples.shape[-1]:
        plane, _ = unit_range(samples[..., colors + alpha_at], page.bits[0], name)
        alpha = plane
        if extras[alpha_at] == _ASSOCIATED:
            # The color is stored multiplied; black ink that is multiplied is still none where nothing is opaque.
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.where(alpha[..., None] > 0, np.minimum(values / alpha[..., None], 1), 0).astype(np.float32)
    if page.photometric == WHITE_IS_ZERO:
        values = 1 - values
    return TiffPixels(values, alpha, samples.dtype.kind == "u", warnings)


def _through_palette(samples: NDArray[Any], page: TiffPage, name: str) -> TiffPixels:
    table = np.asarray(page.tags.get(COLORMAP, ()), np.float32)
    third = len(table) // 3
    if not third or int(samples.max()) >= third:
        raise ImageError(name, "is truncated or damaged: its palette is too short")
    table = table.reshape(3, third).T / (255 if table.max() <= 255 else 65535)
    return TiffPixels(np.ascontiguousarray(table[samples[..., 0]]), None, True)


def unit_range(samples: NDArray[Any], bits: int, name: str) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Samples scaled to [0, 1] by what their kind can hold; of floats, by what most of them hold.

    Raises:
        ImageError: they are not finite, or of a range that cannot be told.
    """
    kind = samples.dtype.kind
    if kind == "u" and bits < 32:
        if samples.dtype.itemsize * 8 != bits and int(samples.max()) >= 1 << bits:
            raise ImageError(name, "is truncated or damaged: its values have more bits than it says")
        return samples.astype(np.float32) / np.float32(2**bits - 1), ()
    if kind in "ui":
        low, high = float(samples.min()), float(samples.max())
        # Files of 32 bits mostly hold values of 16.
        scale = float(2 ** (bits - 1) - 1) if kind == "i" and bits <= 16 else 65535.0 if high <= 65535 else 2.0**32 - 1
        if low < 0:
            raise ImageError(name, f"has values from {low:g} to {high:g}", "scale them to 0..1")
        return (samples / scale).astype(np.float32), ()
    if not np.isfinite(samples).all():
        raise ImageError(name, "has pixels that are NaN or infinite")
    low, high = float(samples.min()), float(samples.max())
    scale = 1.0
    if high > 1:
        # A few pixels above 1 are glints, or overshoot of a resampling; a picture in 0..255 has more of them.
        scale = 1.0 if float(np.quantile(samples, 0.999)) <= 1 + _A_LITTLE else 255.0
    most = float(np.quantile(samples, 0.999)) if high > scale * (1 + _A_LITTLE) else high
    least = float(np.quantile(samples, 0.001)) if low < -scale * _A_LITTLE else low
    if least < -scale * _A_LITTLE or most > scale * (1 + _A_LITTLE):
        raise ImageError(name, f"has values from {low:g} to {high:g}", "scale them to 0..1")
    values = np.asarray(samples, np.float32) if scale == 1 else (samples / scale).astype(np.float32)
    if low < 0 or high > scale:
        said = f"has values from {low:g} to {high:g}, which were cut to 0..{scale:g}"
        return np.clip(values, 0, 1, dtype=np.float32), (said,) if low < -1e-3 * scale or high > scale * 1.001 else ()
    return values, ()
