"""Files that belong to a picture: the raw file of the same shot, sidecars, a phone's moving half.

They stay with it: whoever moves ``IMG_1.jpg`` and leaves ``IMG_1.CR2`` and ``IMG_1.xmp`` behind has taken a shot apart,
and its stars and edits are lost to every program. A file belongs to a picture of its folder

- by the picture's whole name and a sidecar's ending: ``img.jpg.xmp``, as darktable and digiKam write, and, of
  darktable's duplicates, ``img_01.jpg.xmp``;
- by the stem and an ending that never stands for itself: ``img.xmp`` as Adobe writes, ``img.CR2``, ``img.thm``,
  ``img.mov``.

Upper and lower case count as one, as on cameras' cards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from grepq_iqa.data.formats import RAW_EXTENSIONS

SIDECARS = (".xmp", ".pp3", ".dop", ".on1", ".arp", ".vrd", ".nksc", ".aae", ".json")
"""What programs append to a picture's whole name: XMP, RawTherapee, DxO, ON1, ART, Canon, Nikon, Apple, Google."""

SAME_STEM = frozenset((".xmp", ".pp3", ".dop", ".on1", ".arp", ".vrd", ".aae", ".thm", ".wav", ".mov", ".mp4"))
"""What shares a picture's stem: sidecars, a camera's thumbnail and voice note, the moving half of a live photo."""

SHOT_EXTENSIONS = frozenset((".jpg", ".jpeg", ".jpe", ".heic", ".heif", ".hif"))
"""What a camera writes beside a raw file of the same stem."""

_DUPLICATES = 100  # darktable's have two digits
_DUPLICATE = re.compile(r"(?P<stem>.+)_\d\d(?P<ending>\.[^.]+)$")  # darktable's img_01.jpg.xmp


@dataclass(frozen=True)
class Shot:
    """One press of the button.

    Attributes:
        picture: the file that is looked at.
        companions: files that go where it goes, sorted.
    """

    picture: Path
    companions: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, the picture first."""
        return (self.picture, *self.companions)


class Folders:
    """Names in folders, each folder listed once."""

    def __init__(self) -> None:
        self._known: dict[Path, dict[str, list[str]]] = {}

    def names(self, folder: Path) -> dict[str, list[str]]:
        """Names of files, by all that comes before a dot in them, in lower case; empty where there is no list."""
        if folder not in self._known:
            found: dict[str, list[str]] = {}
            try:
                with os.scandir(folder) as listing:
                    names = sorted(entry.name for entry in listing if not entry.is_dir())
            except OSError:
                names = []
            for name in names:
                for at, letter in enumerate(name.lower()):
                    if letter == "." and at:
                        found.setdefault(name.lower()[:at], []).append(name)
            self._known[folder] = found
        return self._known[folder]


def shots_of(pictures: Iterable[Path]) -> list[Shot]:
    """Pictures with what belongs to them; a raw file beside a JPEG of its stem is no picture of its own.

    A file that could belong to several, such as ``img.xmp`` beside ``img.jpg`` and ``img.png``, goes with none.

    Args:
        pictures: files, each once.
    """
    given = list(pictures)
    keys = {(path.parent, path.name.lower()) for path in given}
    folders = Folders()
    shots = []
    for path in given:
        if is_raw_twin(path, folders):
            others = [p for p in _same_stem(path, folders) if p.suffix.lower() in SHOT_EXTENSIONS]
            if any((p.parent, p.name.lower()) in keys for p in others):
                continue  # it comes along with that one
        shots.append(Shot(path, companions_of(path, folders)))
    return shots


def companions_of(path: Path, folders: Folders | None = None) -> tuple[Path, ...]:
    """Files that belong to a picture, sorted by name."""
    folders = folders or Folders()
    raw = path.suffix.lower() in RAW_EXTENSIONS
    shared = len([p for p in _same_stem(path, folders) if _is_picture(p) and not _is_pair(p, path)]) > 0
    found = []
    stem, ending = path.stem.lower(), path.suffix.lower()
    listed = folders.names(path.parent)
    for key in (stem, *(f"{stem}_{number:02d}" for number in range(_DUPLICATES))):
        names = listed.get(key, [])
        for name in names:
            low = name.lower()
            if low == path.name.lower():
                continue
            # photo_01.jpg.xmp is darktable's second version of photo.jpg, unless there is a photo_01.jpg.
            duplicate = _is_duplicate(low, stem, ending) and low.removesuffix(".xmp") not in map(str.lower, names)
            own = _appended(low, path.name.lower()) or duplicate
            rest = low[len(stem) :] if low.startswith(stem) else ""
            by_stem = rest in SAME_STEM or (not raw and rest in RAW_EXTENSIONS and ending in SHOT_EXTENSIONS)
            # Of a raw file that comes along, its own sidecars do, too: img.cr2.xmp.
            of_raw = not raw and ending in SHOT_EXTENSIONS and any(_appended(low, stem + e) for e in RAW_EXTENSIONS)
            if own or ((by_stem or of_raw) and not shared):
                found.append(path.with_name(name))
    return tuple(sorted(set(found)))


def is_raw_twin(path: Path, folders: Folders) -> bool:
    """Whether a raw file stands beside the camera's own JPEG or HEIC of the same stem."""
    return path.suffix.lower() in RAW_EXTENSIONS and any(
        p.suffix.lower() in SHOT_EXTENSIONS for p in _same_stem(path, folders)
    )


def _same_stem(path: Path, folders: Folders) -> list[Path]:
    names = folders.names(path.parent).get(path.stem.lower(), [])
    return [
        path.with_name(name) for name in names if name != path.name and Path(name).stem.lower() == path.stem.lower()
    ]


def _is_picture(path: Path) -> bool:
    from grepq_iqa.data.formats import EXTENSIONS

    return path.suffix.lower() in EXTENSIONS | RAW_EXTENSIONS


def _is_pair(first: Path, second: Path) -> bool:
    """Whether one is the raw file and the other the camera's picture of one shot."""
    endings = {first.suffix.lower(), second.suffix.lower()}
    return bool(endings & RAW_EXTENSIONS) and bool(endings & SHOT_EXTENSIONS)


def _appended(name: str, picture: str) -> bool:
    return any(name == picture + sidecar for sidecar in SIDECARS)


def _is_duplicate(name: str, stem: str, ending: str) -> bool:
    if not name.endswith(".xmp"):
        return False
    match = _DUPLICATE.fullmatch(name.removesuffix(".xmp"))
    return match is not None and match["stem"] == stem and match["ending"] == ending
