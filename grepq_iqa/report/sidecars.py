"""Star ratings into XMP sidecars, and never over a person's.

A rating by a person is one that we did not write (`grepq_iqa.report.xmp`), in the sidecar to be written, in the other
kind of sidecar beside the picture, or in the picture itself. It stays unless told otherwise. Everything else in a
sidecar stays whatever is told. The file takes its place whole, with the permissions of the old one; of a link, the file
that it leads to is written.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from grepq_iqa.data.capture import read_capture
from grepq_iqa.files import write_atomically
from grepq_iqa.report.xmp import Rating, XmpError, new_packet, read_rating, with_rating

_LARGEST = 1 << 26  # bytes: darktable's largest, with painted masks, have a few millions


class Naming(str, Enum):
    """How a sidecar is named after its picture."""

    darktable = "darktable"
    """``img.jpg.xmp``: darktable, digiKam, RawTherapee's and Immich's reading."""
    adobe = "adobe"
    """``img.xmp``: Lightroom, Camera Raw, Bridge, Capture One."""


@dataclass(frozen=True)
class Rated:
    """What became, or would become, of one picture's rating.

    Attributes:
        sidecar: the file.
        action: "written", "unchanged" (it stood there already) or "kept" (a person's rating was there).
        stars: what holds now: the new rating, or the person's.
    """

    sidecar: Path
    action: str
    stars: int


def sidecar_path(picture: Path, naming: Naming) -> Path:
    """Where the sidecar of a picture is or would be; one that exists in other case is it."""
    names = {Naming.darktable: picture.name + ".xmp", Naming.adobe: picture.stem + ".xmp"}
    wanted = picture.with_name(names[naming])
    if os.path.lexists(wanted):
        return wanted
    upper = wanted.with_name(wanted.name.removesuffix(".xmp") + ".XMP")
    return upper if os.path.lexists(upper) else wanted


def rate(picture: Path, stars: int, naming: Naming, *, replace: bool = False, dry_run: bool = False) -> Rated:
    """Write a rating into the picture's sidecar, unless a person's stands somewhere.

    Args:
        picture: the file.
        stars: -1 to 5.
        naming: of the sidecar.
        replace: whether a person's rating may be replaced, too.
        dry_run: only tell.

    Raises:
        XmpError: a sidecar cannot be understood; it is left as it is.
        OSError: it cannot be read or written.
    """
    sidecar = sidecar_path(picture, naming)
    packet = _content(sidecar)
    found = Rating() if packet is None else read_rating(packet)
    if not replace:
        theirs = found.stars if found.by_person else _elsewhere(picture, naming)
        if theirs is not None:
            return Rated(sidecar, "kept", theirs)
    if found == Rating(stars, stars):
        return Rated(sidecar, "unchanged", stars)
    content = new_packet(stars) if packet is None else with_rating(packet, stars)
    if not dry_run:
        _write(sidecar, content)
    return Rated(sidecar, "written", stars)


def _elsewhere(picture: Path, naming: Naming) -> int | None:
    """A person's rating in the other sidecar or in the picture; None where there is none."""
    other = sidecar_path(picture, Naming.adobe if naming is Naming.darktable else Naming.darktable)
    packets = [_content(other)]
    capture = read_capture(picture)
    packets.append(capture.xmp)
    for packet in packets:
        if packet is None:
            continue
        try:
            found = read_rating(packet.rstrip(b"\0"))
        except XmpError:  # not the file to be written: it is not ours to complain of
            continue
        if found.by_person:
            return found.stars
    return capture.rating or None


def _content(sidecar: Path) -> bytes | None:
    """What stands in it; None where it is missing or blank."""
    try:
        if sidecar.stat().st_size > _LARGEST:
            raise XmpError("is too large for a sidecar")
        content = sidecar.read_bytes()
        return content if content.strip() else None
    except FileNotFoundError:
        return None


def _write(sidecar: Path, content: bytes) -> None:
    target = Path(os.path.realpath(sidecar))
    mode = target.stat().st_mode if target.exists() else None
    if mode is not None and not os.access(target, os.W_OK):
        raise PermissionError(13, "the sidecar is write-protected", str(sidecar))
    write_atomically(target, content)
    if mode is not None:
        target.chmod(mode & 0o7777)
