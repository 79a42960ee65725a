"""Mutates real image files for a given time; `load_image` must give finite pixels or an ImageError, nothing else.

Run: python tests/fuzz_load_image.py [SECONDS] [SEED]
"""

from __future__ import annotations

import io
import random
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from image_files import page, tiff
from PIL import Image, ImageCms

from grepq_iqa.data import formats
from grepq_iqa.data.images import load_image
from grepq_iqa.errors import ImageError

ROOT = Path(__file__).parents[1]
PHOTOS, CASES = ROOT / "examples" / "photos", ROOT / "tests" / "data" / "cases"
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "ICO", "TGA", "PPM", "AVIF")
SLOW = 20.0
"""Seconds after which a small file counts as one that hangs."""
INTERESTING = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def seeds() -> list[bytes]:
    """Small real pictures in every format, in several modes, with EXIF, profiles and text, and the odd ones."""
    found = []
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "line".encode("utf-16-be"))
    for photo in sorted(PHOTOS.glob("*.jpg"))[:4]:
        image = Image.open(photo).convert("RGB").resize((64, 48))
        exif = Image.Exif()
        exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
        for format in FORMATS:
            if format.lower() == "avif" and not has_avif():
                continue
            options = {"exif": exif} if format in {"JPEG", "PNG", "WEBP", "TIFF"} else {}
            if format in {"JPEG", "PNG", "WEBP", "TIFF"}:
                options["icc_profile"] = profile
            found.append(encoded(image, format, **options))
        for mode in ("L", "P", "RGBA", "1", "I;16"):
            found.append(encoded(image.convert("L" if mode == "I;16" else mode).convert(mode), "PNG"))
        png = encoded(image, "PNG")
        chunks = [(b"gAMA", struct.pack(">I", 100000)), (b"cICP", bytes([12, 13, 0, 1])), (b"tRNS", bytes(6))]
        chunks += [(b"cICP", bytes([9, 16, 0, 1])), (b"cICP", bytes([9, 18, 0, 1]))]
        chunks += [(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))]
        found += [png[:33] + chunk(*each) + png[33:] for each in chunks]
        found += tiffs(np.asarray(image))
        if formats.has_codecs():
            import imagecodecs

            found.append(imagecodecs.jpegxl_encode(np.asarray(image)))
            found.append(imagecodecs.jpegxl_encode(np.asarray(image).astype(np.uint16) * 257))
        if formats.has_heif():
            formats.pillow_formats()
            found.append(encoded(image, "HEIF"))
    return found + [path.read_bytes() for path in CASES.iterdir() if path.stat().st_size < 200_000]


def has_avif() -> bool:
    """Whether this Pillow writes AVIF."""
    from PIL import features

    return "avif" in features.get_supported()


def encoded(image: Image.Image, format: str, **options) -> bytes:
    """The file as bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiffs(rgb: np.ndarray) -> list[bytes]:
    """The kinds of TIFF that have readers of their own."""
    if not formats.has_tifffile():
        return []
    import tifffile

    def written(array: np.ndarray, **options) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, **options)
        return buffer.getvalue()

    gray, wide = rgb[..., 0].copy(), rgb[..., 0].astype(np.uint16) * 257
    planes, unit = (rgb.astype(np.uint16) * 257).transpose(2, 0, 1), rgb.astype(np.float32) / 255
    found = [written(wide, photometric="miniswhite", compression=c) for c in (None, "zlib", "lzw")]
    found += [written(planes, photometric="rgb", planarconfig="separate", compression=c) for c in (None, "zlib")]
    found += [written(unit, photometric="rgb", compression="zlib", predictor=True), written(unit, photometric="rgb")]
    found += [written(gray, photometric="palette", colormap=np.arange(768, dtype=np.uint16).reshape(3, 256) // 3)]
    found += [written(wide, photometric="minisblack", tile=(16, 16)), written(rgb, photometric="rgb", bigtiff=True)]
    found += [written(np.dstack([gray, gray]), photometric="minisblack", extrasamples=["assocalpha"])]
    deep = rgb.astype(np.uint16) * 200
    found += [written(deep, photometric="rgb", compression=c, predictor=True) for c in ("lzw", "zstd")]
    found += [written(deep, photometric="rgb", compression=c) for c in ("packbits", "lzma")]
    found += [written(rgb, photometric="rgb", compression="jpeg", tile=(16, 16))]
    found += [tiff(page(deep, photometric=8)), tiff(page(np.dstack([deep, deep[..., :1]]), photometric=5))]
    found += [tiff(page(deep % 4096, 12, tile=16)), tiff(page(rgb, photometric=6, tags={530: [1, 1]}))]
    units = np.concatenate([rgb[::2, ::2].reshape(-1), rgb[1::2, 1::2].reshape(-1)])
    ycbcr = {
        256: 64,
        257: 48,
        258: [8, 8, 8],
        259: 1,
        262: 6,
        277: 3,
        278: 48,
        530: [2, 2],
        "pixels": [units.tobytes()],
    }
    return [*found, tiff(ycbcr)]


# --- mutations ------------------------------------------------------------------------------------------------------


def bytes_anywhere(data: bytes, rng: random.Random) -> bytes:
    """One to eight random edits: bytes changed, cut out, doubled, or the end lost."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if not changed:
            break
        at, length = rng.randrange(len(changed)), rng.randint(1, 16)
        match rng.randrange(4):
            case 0:
                changed[at : at + length] = rng.randbytes(len(changed[at : at + length]))
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = changed[at : at + length]
            case 3 if rng.random() < 0.2:
                del changed[at:]
            case _:
                changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def png_chunks(data: bytes, rng: random.Random) -> bytes:
    """Chunks changed with a right checksum, doubled, dropped or put elsewhere, so that their readers see them."""
    at, chunks = 8, []
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(rng.randint(1, 3)):
        if not chunks:
            break
        which = rng.randrange(len(chunks))
        kind, body = chunks[which]
        match rng.randrange(5):
            case 0:
                del chunks[which]
            case 1:
                chunks.insert(rng.randrange(len(chunks)), (kind, body))
            case 2:
                names = (
                    b"gAMA",
                    b"cHRM",
                    b"cICP",
                    b"iCCP",
                    b"sRGB",
                    b"tRNS",
                    b"zTXt",
                    b"iTXt",
                    b"eXIf",
                    b"PLTE",
                    b"acTL",
                )
                chunks.insert(1, (rng.choice(names), rng.randbytes(rng.choice((0, 1, 4, 6, 32, 70)))))
            case _:
                chunks[which] = (kind, numbers(body, rng, ">"))
    return data[:8] + b"".join(chunk(*each) for each in chunks)


def numbers(data: bytes, rng: random.Random, endian: str) -> bytes:
    """One to four numbers replaced by those at which programs stumble."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        size, form = rng.choice([(1, "B"), (2, "H"), (4, "I")])
        if len(changed) < size:
            break
        at = rng.randrange(len(changed) - size + 1)
        value = rng.choice((*INTERESTING, rng.randrange(1 << 16))) & ((1 << 8 * size) - 1)
        changed[at : at + size] = struct.pack(endian + form, value)
    return bytes(changed)


def directories(data: bytes, rng: random.Random) -> bytes:
    """A field of a tag in the first directory of a TIFF, or of the EXIF block of another file, changed."""
    start = 0 if data[:2] in (b"II", b"MM") else max(data.find(b"Exif\0\0") + 6, data.find(b"eXIf") + 4)
    endian = {b"II": "<", b"MM": ">"}.get(data[start : start + 2])
    if endian is None or len(data) < start + 10:
        return bytes_anywhere(data, rng)
    first = start + struct.unpack_from(endian + "I", data, start + 4)[0]
    if first + 14 > len(data):
        return numbers(data, rng, endian)
    (count,) = struct.unpack_from(endian + "H", data, first)
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = first + 2 + 12 * rng.randrange(max(1, count))
        if at + 12 > len(changed):
            break
        match rng.randrange(4):
            case 0:
                struct.pack_into(
                    endian + "H", changed, at, rng.choice((254, 258, 259, 262, 273, 274, 277, 284, 317, 339))
                )
            case 1:
                struct.pack_into(endian + "H", changed, at + 2, rng.choice((1, 2, 3, 4, 5, 7, 10, 12, 13, 16, 99)))
            case 2:
                struct.pack_into(endian + "I", changed, at + 4, rng.choice((*INTERESTING, 3, 5, 100)))
            case _:
                struct.pack_into(
                    endian + "I", changed, at + 8, rng.choice((*INTERESTING, 3, 6, 32, rng.randrange(5000)))
                )
    return bytes(changed)


def profiles(data: bytes, rng: random.Random) -> bytes:
    """Numbers in the embedded profile; in a PNG it is unpacked first."""
    packed = data.find(b"iCCP")
    if packed > 0:
        (length,) = struct.unpack_from(">I", data, packed - 4)
        body = data[packed + 4 : packed + 4 + length]
        name, _, rest = body.partition(b"\0")
        try:
            profile = zlib.decompress(rest[1:])
        except zlib.error:
            return bytes_anywhere(data, rng)
        changed = name + b"\0\0" + zlib.compress(numbers(profile, rng, ">"))
        return data[: packed - 4] + chunk(b"iCCP", changed) + data[packed + 8 + length :]
    mark = data.find(b"acsp")
    if mark < 36:
        return bytes_anywhere(data, rng)
    start = mark - 36
    length = min(struct.unpack_from(">I", data, start)[0], len(data) - start)
    return data[:start] + numbers(data[start : start + length], rng, ">") + data[start + length :]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """By what the file is, and by chance."""
    ways: list[Callable[[bytes, random.Random], bytes]] = [bytes_anywhere]
    if data.startswith(b"\x89PNG"):
        ways.append(png_chunks)
    if data[:2] in (b"II", b"MM") or b"Exif\0\0" in data or b"eXIf" in data:
        ways.append(directories)
    if b"acsp" in data or b"iCCP" in data:
        ways.append(profiles)
    return rng.choice(ways)(data, rng)


def main() -> None:
    """Fuzz; exits with 1 and the offending bytes in a file at the first failure."""
    budget = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    pool, count, loaded, slowest = seeds(), 0, 0, 0.0
    stop = time.monotonic() + budget
    while time.monotonic() < stop:
        data = mutated(rng.choice(pool), rng)
        count += 1
        reason, started = "", time.monotonic()
        try:
            pixels = load_image(data, max_side=rng.choice([None, 32]), max_pixels=4_000_000)
            fine = pixels.ndim == 3 and len(pixels) == 3 and bool(torch.isfinite(pixels).all())
            reason = "" if fine and pixels.min() >= 0 and pixels.max() <= 1 else "pixels out of range"
            loaded += 1
        except ImageError:
            pass
        except Exception as error:
            reason = repr(error)
        slowest = max(slowest, time.monotonic() - started)
        if not reason and time.monotonic() - started > SLOW:
            reason = f"took {time.monotonic() - started:.0f} s"
        if reason:
            Path("fuzz-failure.bin").write_bytes(data)
            sys.exit(f"input {count} ({len(data)} bytes, kept in fuzz-failure.bin): {reason}")
    refused = count - loaded
    print(f"{count} mutated files in {budget:.0f} s: {loaded} loaded, {refused} refused, slowest {slowest:.1f} s")


if __name__ == "__main__":
    main()
