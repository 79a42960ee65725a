"""When, and with which camera, a picture was taken: from EXIF, without decoding a pixel.

DateTimeOriginal says the camera's clock to the second, SubSecTimeOriginal what follows the second, OffsetTimeOriginal
the clock's distance from UTC (EXIF 2.32, 4.6.5). Files that hold none of it, or nonsense, have no capture time: nothing
is guessed from the file system, whose times copying changes.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from grepq_iqa.data.formats import RAW_EXTENSIONS, pillow_formats

_EXIF_IFD = 0x8769
_MAKE, _MODEL, _RATING = 0x010F, 0x0110, 0x4746
_ORIGINAL, _SUBSECONDS, _OFFSET = 0x9003, 0x9291, 0x9011
_TIME = re.compile(r"\s*(\d{4})[:/.-](\d\d?)[:/.-](\d\d?)[ T]+(\d\d?):(\d\d?):(\d\d?)(?:[.,](\d+))?")
_ZONE = re.compile(r"\s*(?:(Z)|([+-])(\d\d?):?(\d\d))")


@dataclass(frozen=True)
class Capture:
    """What a file says of the moment it was taken.

    Attributes:
        local: by the camera's clock, with fractions of a second; None where the file does not say.
        offset: of that clock from UTC, or None.
        camera: make and model, or "".
        size: width and height as stored, or None where the file could not be opened.
        rating: stars that the picture itself carries in its EXIF block, as cameras and Windows write them; or None.
        xmp: its embedded XMP packet, or None.
    """

    local: datetime | None = None
    offset: timedelta | None = None
    camera: str = ""
    size: tuple[int, int] | None = None
    rating: int | None = None
    xmp: bytes | None = None

    @property
    def moment(self) -> datetime:
        """For putting in order: UTC as far as it is known; the beginning of time where nothing is."""
        return datetime.min if self.local is None else self.local - (self.offset or timedelta(0))

    def seconds_from(self, other: Capture) -> float | None:
        """Seconds between the two, not negative; None where that cannot be known: no time, or clocks of two cameras.

        By UTC where both clocks tell their offset, else as if both stood in one zone.
        """
        if self.local is None or other.local is None or self.camera != other.camera:
            return None
        apart = self.local - other.local
        if self.offset is not None and other.offset is not None:
            apart -= self.offset - other.offset
        return abs(apart.total_seconds())


def read_capture(path: str | os.PathLike[str]) -> Capture:
    """What the file says; whatever it does not say, or says in no known way, is missing. Never raises."""
    from PIL import Image

    raw = Path(path).suffix.lower() in RAW_EXTENSIONS
    size: tuple[int, int] | None = None
    xmp: bytes | None = None
    tags: Any = {}
    details: Any = {}
    # Broken files raise almost anything; their rows say what is wrong with them.
    with suppress(Exception), Image.open(path, formats=("TIFF",) if raw else pillow_formats()) as image:
        tags = image.getexif()
        details = tags.get_ifd(_EXIF_IFD)
        if not raw:  # whose first picture is a thumbnail
            size = image.size
            found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
            xmp = found.encode() if isinstance(found, str) else found
    if raw and not tags:
        with suppress(Exception), Path(path).open("rb") as file:
            tags = Image.Exif()
            tags.load_from_fp(file)  # TIFFs inside whose pixels Pillow does not know
            details = tags.get_ifd(_EXIF_IFD)
    camera, rating = "", None
    with suppress(Exception):
        camera = " ".join(text for text in (_text(tags.get(_MAKE)), _text(tags.get(_MODEL))) if text)
    with suppress(Exception):
        rating = int(tags.get(_RATING))
    local, offset = None, None
    with suppress(Exception):
        local = parse_time(_text(details.get(_ORIGINAL)), _text(details.get(_SUBSECONDS)))
        offset = parse_offset(_text(details.get(_OFFSET)))
    return Capture(local, offset, camera, size, rating, xmp if isinstance(xmp, bytes) else None)


def parse_time(text: str, subseconds: str = "") -> datetime | None:
    """A time as EXIF writes it, ``2026:11:25 08:30:00``; None for blanks, zeros and nonsense."""
    match = _TIME.match(text)
    if match is None:
        return None
    *numbers, fraction = match.groups()
    digits = re.match(r"\d*", subseconds.strip())
    fraction = fraction or (digits.group() if digits else "")
    try:
        whole = datetime(*(int(number) for number in numbers))  # type: ignore[arg-type]  # six of them
    except ValueError:
        return None
    return whole + timedelta(seconds=float(f"0.{fraction or 0}"))


def parse_offset(text: str) -> timedelta | None:
    """A distance from UTC as EXIF writes it, ``+01:00``; None for anything else."""
    match = _ZONE.match(text)
    if match is None:
        return None
    if match.group(1):
        return timedelta(0)
    sign = -1 if match.group(2) == "-" else 1
    apart = sign * timedelta(hours=int(match.group(3)), minutes=int(match.group(4)))
    with suppress(ValueError):
        timezone(apart)  # a day or more is no zone
        return apart
    return None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii", errors="replace")
    return str(value).split("\0")[0].strip() if value is not None else ""
