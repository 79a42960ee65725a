"""Where the files of a shot go: names that are free, on file systems of any kind, and the same for all of a shot.

A name counts as taken if it differs from one that is there in upper and lower case or in the composition of its letters
only: to Windows and macOS these are one name. Then the whole shot gets a number, so that ``img-2.jpg`` keeps its
``img-2.CR2`` and ``img-2.jpg.xmp``.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from grepq_iqa.files import sha256_of
from grepq_iqa.report.companions import Shot
from grepq_iqa.report.transfer import Action


@dataclass(frozen=True)
class Plan:
    """What is to be done for one shot.

    Attributes:
        shot: which.
        targets: one for each of its files.
        there: whether exactly these stand there already, and nothing is to be done.
    """

    shot: Shot
    targets: tuple[Path, ...]
    there: bool = False


def plan(
    shots: Iterable[Shot], folder: Path, action: Action, *, roots: Sequence[Path] = (), flat: bool = False
) -> list[Plan]:
    """Targets in ``folder``, with the sub-folders below ``roots`` kept unless ``flat``.

    Args:
        shots: to be copied, moved or linked.
        folder: where to.
        action: which.
        roots: folders that were searched; a file below none of them goes straight into ``folder``.
        flat: everything straight into ``folder``.
    """
    taken: dict[Path, dict[str, str]] = {}
    plans = []
    for shot in shots:
        inside = folder / (PurePath() if flat else _below(shot.picture, roots))
        names = taken.setdefault(inside, _names_in(inside))
        number, there = 1, False
        while True:
            wanted = [renamed(path.name, shot.picture.stem, number) for path in shot.files]
            if not any(folded(name) in names for name in wanted):
                break
            if _is_there(shot, inside, wanted, action):
                there = True
                break
            number += 1
        names.update((folded(name), name) for name in wanted)
        plans.append(Plan(shot, tuple(inside / name for name in wanted), there))
    return plans


def folded(name: str) -> str:
    """What equal names have in common on file systems that ignore case and the composition of letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def renamed(name: str, stem: str, number: int) -> str:
    """The name of a shot's file with a number behind the stem of its picture; 1 leaves it as it is."""
    if number == 1:
        return name
    return f"{name[: len(stem)]}-{number}{name[len(stem) :]}"


def _below(picture: Path, roots: Sequence[Path]) -> PurePath:
    """The folder of a picture below the nearest root above it."""
    parent = _plain(picture.parent)
    below = [parent.relative_to(_plain(root)) for root in roots if parent.is_relative_to(_plain(root))]
    return min(below, key=lambda part: len(part.parts), default=PurePath())


def _plain(path: Path) -> Path:
    """Absolute, without dots; links are kept."""
    return Path(os.path.normpath(path.absolute()))


def _names_in(folder: Path) -> dict[str, str]:
    try:
        return {folded(entry.name): entry.name for entry in folder.iterdir()}
    except OSError:  # not there yet, or no folder: making it will say so
        return {}


def _is_there(shot: Shot, folder: Path, names: Sequence[str], action: Action) -> bool:
    """Whether an earlier run has done exactly this."""
    try:
        for path, name in zip(shot.files, names, strict=True):
            target = folder / name
            if action == "link":
                if not target.is_symlink() or target.readlink() != path.absolute():
                    return False
            elif (
                action == "move" or target.stat().st_size != path.stat().st_size or sha256_of(target) != sha256_of(path)
            ):
                return False
    except OSError:
        return False
    return True
