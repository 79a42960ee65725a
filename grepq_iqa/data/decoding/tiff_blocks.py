"""Strips and tiles of a TIFF page, unpacked to samples.

Plain and deflated ones by NumPy alone, what imagecodecs unpacks likewise, and all other ways of packing by tifffile;
both come with the extra ``formats``. Where bytes are missing or do not unpack, that is an error: libtiff, by which
Pillow reads, fills in gray or black without a word that reaches the user.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data import formats
from grepq_iqa.data.decoding import tiff_pages as tags
from grepq_iqa.data.decoding.tiff_pages import TiffPage
from grepq_iqa.errors import ImageError

_DEFLATE = {8, 32946}
_CODECS = {5: "lzw_decode", 32773: "packbits_decode", 34925: "lzma_decode", 50000: "zstd_decode"}
_SILENT = logging.NullHandler()


def is_unpacked_here(page: TiffPage) -> bool:
    """Whether samples of ``page`` are had without tifffile: of one kind, and packed in a way that is known."""
    if len(page.formats) != 1 or len(set(page.bits)) != 1 or not page.formats <= {1, 2, 3, 4}:
        return False
    packing = page.compression in {1, *_DEFLATE} or (page.compression in _CODECS and formats.has_codecs())
    return packing and _dtype(page) is not None


def read_samples(file: BinaryIO, page: TiffPage, name: str) -> NDArray[Any]:
    """Samples of ``page`` as they are stored: ``(H, W, samples)``.

    Raises:
        ImageError: they are damaged, of several kinds, or need the extra ``formats``.
    """
    if not page.formats <= {1, 2, 3, 4} or len(page.formats) != 1 or len(set(page.bits)) != 1:
        raise ImageError(name, "is a TIFF whose channels are of different kinds", "save it with 8 or 16 bits a channel")
    if is_unpacked_here(page):
        return _by_numpy(file, page, name)
    if formats.has_tifffile():
        return _by_tifffile(file, page, name)
    raise ImageError(name, "is a TIFF that Pillow cannot read right", formats.INSTALL)


def _dtype(page: TiffPage) -> np.dtype[Any] | None:
    """Of samples of whole bytes; bits that are packed across bytes come as uint16; None for kinds left to tifffile."""
    bits, (kind,) = page.bits[0], page.formats
    if kind == 3:
        return np.dtype(f"{page.endian}f{bits // 8}") if bits in (16, 32, 64) else None
    letter = "i" if kind == 2 else "u"
    if bits in (8, 16, 32):
        return np.dtype(f"{page.endian}{letter}{bits // 8}")
    if 1 <= bits < 16 and letter == "u" and page.number(tags.PREDICTOR, 1) == 1:
        return np.dtype(np.uint16)
    return None


def _by_numpy(file: BinaryIO, page: TiffPage, name: str) -> NDArray[Any]:
    width, height, samples = page.number(tags.WIDTH), page.number(tags.HEIGHT), page.samples
    dtype = _dtype(page)
    assert dtype is not None  # the caller has asked
    planes = blocks_of(page, name)[3]
    deep = samples // planes
    out = np.empty((height, width, samples), dtype=dtype)
    for plane, y, x, rows, columns, data in unpacked_blocks(file, page, name, deep * page.bits[0]):
        block = _samples(data, rows, columns, deep, page, dtype)
        target = out[y : y + rows, x : x + columns, plane : plane + 1 if planes > 1 else samples]
        target[...] = block[: target.shape[0], : target.shape[1]]
    return out


def unpacked_blocks(
    file: BinaryIO, page: TiffPage, name: str, bits: int, across: int = 1, down: int = 1
) -> Iterator[tuple[int, int, int, int, int, bytes]]:
    """Plane, y, x, rows, columns and bytes of every strip or tile.

    Args:
        file, page, name: the picture.
        bits: of a unit; units fill a row, and every row begins with a new byte.
        across, down: pixels of a unit.

    Raises:
        ImageError: one ends too early.
    """
    width, height = page.number(tags.WIDTH), page.number(tags.HEIGHT)
    tiled, block_width, block_height, planes, places, lengths = blocks_of(page, name)
    units_across = -(-block_width // across)
    line = -(-units_across * bits // 8)
    number = 0
    for plane in range(planes):
        for y in range(0, height, block_height):
            rows = block_height if tiled else min(block_height, height - y)
            for x in range(0, width, block_width):
                wanted, most = -(-rows // down) * line, -(-block_height // down) * line
                data = _unpacked(file, int(places[number]), int(lengths[number]), most, page)
                if len(data) < wanted:
                    raise ImageError(name, "is truncated or damaged: a strip ends too early")
                yield plane, y, x, rows, block_width, data
                number += 1


def blocks_of(page: TiffPage, name: str) -> tuple[bool, int, int, int, tuple[Any, ...], tuple[Any, ...]]:
    """Whether there are tiles; a block's width and height; planes; where each block begins, and its length.

    Raises:
        ImageError: there are fewer than the picture needs, which other readers fill with black.
    """
    width, height = page.number(tags.WIDTH), page.number(tags.HEIGHT)
    planes = page.samples if page.number(tags.PLANAR, 1) == 2 and page.samples > 1 else 1
    tiled = tags.TILES in page.tags
    if tiled:
        block_width, block_height = page.number(tags.TILE_WIDTH), page.number(tags.TILE_HEIGHT)
    else:
        block_width, block_height = width, min(page.number(tags.ROWS, height) or height, height)
    if not 0 < block_width <= 1 << 20 or not 0 < block_height <= 1 << 20:
        raise ImageError(name, "is truncated or damaged: its tiles have no size")
    needed = -(-width // block_width) * -(-height // block_height) * planes
    places = tuple(page.tags.get(tags.TILES if tiled else tags.STRIPS, ()))
    lengths = tuple(page.tags.get(tags.TILE_BYTES if tiled else tags.STRIP_BYTES, ()))
    if len(lengths) < len(places) or not all(lengths[:needed]):  # some writers leave them out: up to the end, then
        lengths = tuple(length or 1 << 62 for length in (*lengths, *[0] * len(places)))
    if len(places) < needed or not all(places[:needed]):
        raise ImageError(name, "is truncated or damaged: it has too few strips")
    return tiled, block_width, block_height, planes, places, lengths


def _unpacked(file: BinaryIO, place: int, length: int, most: int, page: TiffPage) -> bytes:
    file.seek(place)
    packed = file.read(min(length, 2 * most + 4096))
    if page.compression in _DEFLATE:
        stream = zlib.decompressobj()
        data = stream.decompress(packed, most)
        if not stream.eof:  # the checksum stands behind the last byte
            stream.decompress(stream.unconsumed_tail, 64)
    elif page.compression in _CODECS:
        import imagecodecs

        data = bytes(getattr(imagecodecs, _CODECS[page.compression])(packed, out=most))
    else:
        data = packed[:most]
    if page.number(tags.FILL_ORDER, 1) == 2 and page.compression not in _DEFLATE:
        flipped = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little"), bitorder="big")
        return flipped.tobytes()
    return data


def _samples(data: bytes, rows: int, width: int, deep: int, page: TiffPage, dtype: np.dtype[Any]) -> NDArray[Any]:
    bits, predictor = page.bits[0], page.number(tags.PREDICTOR, 1)
    compressed = page.compression != 1
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

    blocks_of(page, name)
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
                    if sub.imagewidth == page.number(tags.WIDTH) and sub.imagelength == page.number(tags.HEIGHT)
                )
            else:
                found = tiff.pages[page.index]
            values = found.asarray(maxworkers=1)
    except Exception as error:  # decoders of broken files raise almost anything
        raise ImageError(name, f"is truncated or damaged: {' '.join(str(error).split())}") from error
    shape = (page.number(tags.HEIGHT), page.number(tags.WIDTH), page.samples)
    if values.size != shape[0] * shape[1] * shape[2]:
        raise ImageError(name, "is truncated or damaged: its size and its samples disagree")
    if page.number(tags.PLANAR, 1) == 2 and page.samples > 1:
        return np.asarray(values.reshape(shape[2], shape[0], shape[1]).transpose(1, 2, 0))
    return np.asarray(values.reshape(shape))
