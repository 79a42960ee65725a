"""Mutates real image files for a given time; `load_image` must give finite pixels or an ImageError, nothing else.

Run: python tests/fuzz_load_image.py [SECONDS] [SEED]
"""

from __future__ import annotations

import io
import random
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from grepq_iqa.data.images import load_image
from grepq_iqa.errors import ImageError

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "ICO", "TGA", "PPM")


def seeds() -> list[bytes]:
    """Small real pictures in every format, and in several modes."""
    found = []
    for photo in sorted(PHOTOS.glob("*.jpg")):
        image = Image.open(photo).convert("RGB").resize((64, 48))
        exif = Image.Exif()
        exif[0x0112] = 6
        for format in FORMATS:
            buffer = io.BytesIO()
            image.save(buffer, format, **({"exif": exif} if format in {"JPEG", "PNG", "WEBP", "TIFF"} else {}))
            found.append(buffer.getvalue())
        for mode in ("L", "P", "RGBA", "1", "I;16"):
            buffer = io.BytesIO()
            image.convert("L" if mode == "I;16" else mode).convert(mode).save(buffer, "PNG")
            found.append(buffer.getvalue())
    return found


def mutated(data: bytes, rng: random.Random) -> bytes:
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


def main() -> None:
    """Fuzz; exits with 1 and the offending bytes in a file at the first failure."""
    budget = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    pool, count, loaded = seeds(), 0, 0
    stop = time.monotonic() + budget
    while time.monotonic() < stop:
        data = mutated(rng.choice(pool), rng)
        count += 1
        try:
            pixels = load_image(data, max_side=rng.choice([None, 32]))
            fine = pixels.ndim == 3 and len(pixels) == 3 and bool(torch.isfinite(pixels).all())
            fine = fine and pixels.min() >= 0 and pixels.max() <= 1
            loaded += 1
        except ImageError:
            continue
        except Exception as error:
            fine, reason = False, repr(error)
        else:
            reason = "pixels out of range"
        if not fine:
            Path("fuzz-failure.bin").write_bytes(data)
            sys.exit(f"input {count} ({len(data)} bytes, kept in fuzz-failure.bin): {reason}")
    print(f"{count} mutated files in {budget:.0f} s: {loaded} loaded, {count - loaded} refused by an ImageError")


if __name__ == "__main__":
    main()
