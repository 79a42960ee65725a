"""Pillow's opener, asked for the formats that are allowed only, and what to say of files that nobody reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image, UnidentifiedImageError

from grepq_iqa.data import formats
from grepq_iqa.data.decoding.job import NO_MEMORY, NO_MEMORY_HINT, TOO_LARGE_HINT, Job, quiet, reason_of
from grepq_iqa.errors import ImageError

MOST_BYTES = 2 << 30
_OPEN_LOCK = threading.Lock()


def opened(file: Any, job: Job, names: tuple[str, ...] | None = None) -> Image.Image:
    """Pillow's image, not yet decoded; ``names``: the formats that it may be of."""
    names = names or formats.pillow_formats()
    try:
        with quiet(), bomb_check(job, is_lifted=names == ("JPEG",)):
            return Image.open(file, formats=names)
    except UnidentifiedImageError:
        raise unidentified(head_of(file), job.name) from None
    except Image.DecompressionBombError:
        raise ImageError(job.name, f"has more than {job.max_pixels / 1e6:.0f} megapixels", TOO_LARGE_HINT) from None
    except MemoryError as error:
        raise ImageError(job.name, NO_MEMORY, NO_MEMORY_HINT) from error
    except Exception as error:  # decoders of broken files raise almost anything
        raise ImageError(job.name, f"cannot be decoded: {reason_of(error)}") from error


@contextmanager
def bomb_check(job: Job, *, is_lifted: bool = False) -> Iterator[None]:
    """Pillow's limit, lifted where the user's is higher or a JPEG may be decoded reduced; `Job.check_size` remains.

    It is the process's, so that only one thread at a time may be in here.
    """
    with _OPEN_LOCK:
        limit = Image.MAX_IMAGE_PIXELS
        if limit and (is_lifted or job.max_pixels > 2 * limit):
            Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def unidentified(head: bytes, name: str) -> ImageError:
    """What to say of a file that no reader here takes, by what it begins with."""
    missing = formats.missing_decoder(head, name)
    if missing:
        return ImageError(name, f"is a {missing} picture, which needs an optional decoder", formats.INSTALL)
    if head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")):
        return ImageError(name, "is PostScript, a program that is not run", "export it as PNG or JPEG")
    if head.startswith(b"%PDF"):
        return ImageError(name, "is a PDF document", "export its pages as PNG or JPEG")
    kind = formats.known_kind(head)
    if kind:
        return ImageError(name, f"is truncated or damaged, or of a kind of {kind} that is not read")
    return ImageError(name, "is not an image, or of a format that Pillow cannot read")


def head_of(file: Any) -> bytes:
    """The first 64 bytes."""
    file.seek(0)
    head = file.read(64)
    if not isinstance(head, bytes):
        raise TypeError("it gives text instead of bytes")
    return head


def all_of(file: Any, job: Job) -> bytes:
    """All bytes.

    Raises:
        ImageError: there are more than any picture has.
    """
    file.seek(0)
    data: bytes = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ImageError(job.name, f"is larger than {MOST_BYTES >> 30} GB")
    return data
