"""Writers of the odd files that tests read: bytes put together by hand, by the specifications alone."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageCms

SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(image: Image.Image, format: str, **options) -> bytes:
    """``image`` as a file of ``format``."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


# --- EXIF -----------------------------------------------------------------------------------------------------------


def exif(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """An EXIF block of ``(tag, type, count, data)`` in this order; data over four bytes go behind the table."""
    table, values = struct.pack(order + "H", len(entries)), b""
    behind = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, data in entries:
        place = data.ljust(4, b"\x00")
        if len(data) > 4:
            place = struct.pack(order + "I", behind + len(values))
            values += data
        table += struct.pack(order + "HHI", tag, kind, count) + place
    return (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(order + "I", 8) + table + bytes(4) + values


def with_exif(jpeg: bytes, block: bytes) -> bytes:
    """``jpeg`` with an EXIF segment right behind its start."""
    body = b"Exif\x00\x00" + block
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


# --- PNG ------------------------------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes, checksum: int | None = None) -> bytes:
    """One chunk, with its right checksum unless another is given."""
    right = zlib.crc32(data, zlib.crc32(name))
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", right if checksum is None else checksum)


def png(values: np.ndarray, depth: int, color_type: int, *before: bytes, end: bool = True) -> bytes:
    """``values`` ``(H, W)`` or ``(H, W, C)`` of ``depth`` bits, with the chunks ``before`` in front of the pixels."""
    height, width = values.shape[:2]
    flat = values.reshape(height, -1).astype(np.uint16)
    bits = np.unpackbits(flat.astype(">u2").view(np.uint8).reshape(height, -1, 2), axis=-1)
    rows = np.packbits(bits[..., 16 - depth :].reshape(height, -1), axis=-1)
    pixels = zlib.compress(b"".join(b"\x00" + row.tobytes() for row in rows))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0))
    pieces = [b"\x89PNG\r\n\x1a\n", header, *before, chunk(b"IDAT", pixels)]
    return b"".join([*pieces, chunk(b"IEND", b"")] if end else pieces)


# --- TIFF -----------------------------------------------------------------------------------------------------------


def tiff(*pages: dict[int, object], order: str = "<", big: bool = False) -> bytes:
    """Pages given by their tags. Numbers become longs (or, from a tuple ``(type, data)``, what is said), and
    ``pixels`` is a list of strips or tiles. A page under the key ``below`` becomes a SubIFD."""
    word = "Q" if big else "I"
    out = bytearray(b"II" if order == "<" else b"MM")
    out += struct.pack(order + "HHHQ", 43, 8, 0, 0) if big else struct.pack(order + "HI", 42, 0)
    link = 8 if big else 4
    for page in pages:
        at, link_of_page = _add_page(out, page, order, word)
        struct.pack_into(order + word, out, link, at)
        link = link_of_page
    return bytes(out)


def _add_page(out: bytearray, page: dict, order: str, word: str) -> tuple[int, int]:
    page = dict(page)
    strips: Sequence[bytes] = page.pop("pixels", ())
    offsets, lengths = (324, 325) if 322 in page else (273, 279)
    if below := page.pop("below", None):
        page[330] = [_add_page(out, below, order, word)[0]]
    if strips:
        page[offsets] = []
        page[lengths] = [len(strip) for strip in strips]
        for strip in strips:
            page[offsets].append(len(out))
            out += strip
    size = struct.calcsize("=" + word)
    table = []
    for tag, value in sorted(page.items()):
        if isinstance(value, tuple):
            kind, data = value
            count = len(data)
        else:
            values = list(value) if isinstance(value, (list, range)) else [value]
            is_short = max(values) < 65536 and tag not in (offsets, 330)
            kind, count = (3 if is_short else 4), len(values)
            data = struct.pack(f"{order}{count}{'H' if is_short else 'I'}", *values)
        if len(data) > size:
            out += bytes(-len(out) % 2)
            place, outside = len(out), data
            out += outside
            data = struct.pack(order + word, place)
        table.append(struct.pack(order + "HH" + word, tag, kind, count) + data.ljust(size, b"\x00"))
    out += bytes(-len(out) % 8)
    at = len(out)
    out += struct.pack(order + ("Q" if word == "Q" else "H"), len(table)) + b"".join(table)
    link = len(out)
    out += bytes(size)
    return at, link


def page(values: np.ndarray, bits: int | None = None, order: str = "<", **options) -> dict:
    """Tags of a page that holds ``values`` ``(H, W)`` or ``(H, W, C)``.

    Options: photometric, planar, compression (1, 8, 5 by Pillow is not among them), predictor, rows (per strip), tile
    (its side), extra, format, tags (more of them).
    """
    values = values if values.ndim == 3 else values[..., None]
    height, width, samples = values.shape
    bits = bits or values.dtype.itemsize * 8
    is_planar = options.get("planar", False)
    tile, rows = options.get("tile"), options.get("rows", height)
    tags: dict = {256: width, 257: height, 258: [bits] * samples, 277: samples}
    tags[262] = options.get("photometric", 1 if samples < 3 else 2)
    tags[259] = options.get("compression", 1)
    tags[284] = 2 if is_planar else 1
    tags[339] = [options.get("format", {"f": 3, "i": 2}.get(values.dtype.kind, 1))] * samples
    if "predictor" in options:
        tags[317] = options["predictor"]
    if "extra" in options:
        tags[338] = options["extra"]
    planes = [values[..., k : k + 1] for k in range(samples)] if is_planar else [values]
    parts = []
    for plane in planes:
        if tile:
            tags |= {322: tile, 323: tile}
            padded = np.pad(plane, [(0, -height % tile), (0, -width % tile), (0, 0)])
            for y in range(0, height, tile):
                parts += [padded[y : y + tile, x : x + tile] for x in range(0, width, tile)]
        else:
            tags[278] = rows
            parts += [plane[y : y + rows] for y in range(0, height, rows)]
    tags["pixels"] = [_strip(part, bits, order, options) for part in parts]
    return tags | options.get("tags", {})


def _strip(part: np.ndarray, bits: int, order: str, options: dict) -> bytes:
    predictor = options.get("predictor", 1)
    if predictor == 2:
        part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1])).astype(part.dtype)
    rows = len(part)
    if predictor == 3:
        whole = part.reshape(rows, -1).astype(part.dtype.newbyteorder(">"))
        planes = whole.view(np.uint8).reshape(rows, -1, bits // 8).transpose(0, 2, 1).reshape(rows, -1, part.shape[2])
        data = np.diff(planes, axis=1, prepend=np.zeros_like(planes[:, :1])).astype(np.uint8).tobytes()
    elif bits in (8, 16, 32, 64):
        data = part.astype(part.dtype.newbyteorder(order)).tobytes()
    else:
        flat = part.reshape(rows, -1).astype(">u2").view(np.uint8).reshape(rows, -1, 2)
        single = np.unpackbits(flat, axis=-1)[..., 16 - bits :].reshape(rows, -1)
        data = np.packbits(single, axis=-1).tobytes()
    return zlib.compress(data) if options.get("compression") in (8, 32946) else data


# --- profiles -------------------------------------------------------------------------------------------------------


def profile(gamma: float | None = None, name: str | None = None) -> bytes:
    """sRGB's profile with other tone curves (an exponent), and another name of at most as many letters."""
    data = bytearray(SRGB_PROFILE)
    (count,) = struct.unpack_from(">I", data, 128)
    for entry in range(132, 132 + 12 * count, 12):
        tag, offset, size = struct.unpack_from(">4sII", data, entry)
        if tag in (b"rTRC", b"gTRC", b"bTRC") and gamma is not None:
            curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256))
            data[offset : offset + 14] = curve
        if tag == b"desc" and name is not None:
            text = bytes(data[offset : offset + size])
            old = "sRGB built-in".encode("utf-16-be")
            data[offset : offset + size] = text.replace(old, name.ljust(13)[:13].encode("utf-16-be"))
    return bytes(data)
