"""A path or an open file -> pixels: what it begins with decides who reads it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from PIL import Image

from grepq_iqa.data import formats
from grepq_iqa.data.decoding import containers, tiff_pages
from grepq_iqa.data.decoding.job import Job, Pixels, guarded, reason_of
from grepq_iqa.data.decoding.jpeg import read_jpeg
from grepq_iqa.data.decoding.jxl import read_jxl
from grepq_iqa.data.decoding.management import PLAIN, Signal
from grepq_iqa.data.decoding.opening import MOST_BYTES, all_of, head_of, opened, unidentified
from grepq_iqa.data.decoding.pillow_images import decode_opened
from grepq_iqa.data.decoding.png import read_png
from grepq_iqa.data.decoding.psd import read_psd
from grepq_iqa.data.decoding.raw import read_raw
from grepq_iqa.data.decoding.tiff import read_tiff
from grepq_iqa.errors import ImageError


def read_path(source: str | os.PathLike[str], job: Job) -> Pixels:
    """The picture in a file.

    Raises:
        ImageError: it cannot be opened or decoded.
    """
    path = Path(source)
    try:
        if path.is_dir():
            with os.scandir(path):  # a folder that may not be looked into is not the user's mistake
                raise ImageError(job.name, "is a folder, not an image")
        with path.open("rb") as file:
            return read_file(file, job)
    except FileNotFoundError:
        reason = "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        raise ImageError(job.name, reason) from None
    except PermissionError:
        raise ImageError(job.name, "permission denied", "check its permissions and those of its folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name; ImageError passes, being raised below
        if isinstance(error, ImageError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or reason_of(error)
        raise ImageError(job.name, f"cannot be opened: {reason}") from error


def read_file(file: Any, job: Job) -> Pixels:
    """By what the file begins with: a reader of ours where Pillow's is not enough, else Pillow's."""
    file = _seekable(file, job)
    head = guarded(lambda: head_of(file), job)
    if not head:
        raise ImageError(job.name, "is empty")
    if head.startswith(b"\xff\xd8"):
        return read_jpeg(guarded(lambda: all_of(file, job), job), job)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_png(guarded(lambda: all_of(file, job), job), job)
    is_tiff = head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    if formats.is_raw(head, job.name):
        if not formats.has_raw():
            raise unidentified(head, job.name)
        try:
            return read_raw(file, job)
        except ImageError:
            ordinary = is_tiff and head[8:10] != b"CR"  # Canon's do not mark which of their pages is the sensor's
            if not ordinary or guarded(lambda: tiff_pages.is_raw_photograph(tiff_pages.read_pages(file)), job):
                raise
            job.warnings.clear()
    if is_tiff:  # some are named as raw files are, and hold an ordinary picture
        return read_tiff(file, job)
    if head.startswith(b"8BPS\0\1"):
        return read_psd(guarded(lambda: all_of(file, job), job), job)
    if formats.is_jxl(head) and formats.has_codecs():
        return read_jxl(guarded(lambda: all_of(file, job), job), job)
    with _opened_otherwise(file, head, job) as image:
        signal = PLAIN
        if image.format == "HEIF" and image.info.get("primary") is False:  # libheif gives what it can read instead
            raise ImageError(job.name, "is truncated or damaged: its main picture cannot be read")
        if image.format in ("AVIF", "HEIF"):
            if guarded(lambda: containers.ends_early(file), job):  # what is missing is shown in some color
                raise ImageError(job.name, "is truncated or damaged: it ends too early")
            signal = Signal(cicp=containers.color_code_points(file))
            if "icc_profile" in image.info and not signal.is_hdr:
                signal = PLAIN  # a profile says more than numbers (ISO/IEC 23000-22, 7.3.6.4)
        return guarded(lambda: decode_opened(image, job, signal), job)


def _opened_otherwise(file: Any, head: bytes, job: Job) -> Image.Image:
    try:
        return opened(file, job)
    except ImageError:
        if head[4:8] != b"ftyp":
            raise
        # Pillow writes the EXIF block of an AVIF anew, which fails where a tag is badly typed.
        data = guarded(lambda: all_of(file, job), job)
        changed = guarded(lambda: containers.without_exif(data), job)
        if changed == data:
            raise
        return opened(io.BytesIO(changed), job)


def _seekable(file: Any, job: Job) -> Any:
    try:
        file.seek(0)
    except (AttributeError, OSError):  # a pipe
        return io.BytesIO(guarded(lambda: file.read(MOST_BYTES + 1), job))
    except ValueError as error:
        raise ImageError(job.name, f"cannot be opened: {reason_of(error)}") from None
    return file
