"""Folders of photographs -> one checked list with hashes, which every later step reads.

Resumable: a photograph whose size and time have not changed is not read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from grepq_iqa.batch import expand
from grepq_iqa.data.images import load_image
from grepq_iqa.errors import ImageError, UsageError

INDEX = "index.json"
LEAST_SIDE = 224


@dataclass(frozen=True)
class Photograph:
    """One checked photograph: its absolute path, SHA-256, size in pixels, and what tells whether it changed."""

    path: str
    sha256: str
    width: int
    height: int
    bytes: int
    modified_ns: int


@dataclass(frozen=True)
class Prepared:
    """Attributes:
    photographs: usable ones, duplicates (by content) left out, sorted by path.
    rejected: path to the reason.
    """

    photographs: list[Photograph]
    rejected: dict[str, str]

    @property
    def paths(self) -> list[Path]:
        """Paths of the usable photographs."""
        return [Path(photograph.path) for photograph in self.photographs]


def prepare(
    sources: Iterable[str], out: Path, *, save_every: int = 200, on_done: Callable[[int], None] | None = None
) -> Prepared:
    """Check every photograph below ``sources`` and write ``out/index.json``."""
    out.mkdir(parents=True, exist_ok=True)
    known = {p.path: p for p in read_index(out).photographs} if (out / INDEX).exists() else {}
    usable: dict[str, Photograph] = {}
    rejected: dict[str, str] = {}
    for count, path in enumerate(expand(sources), start=1):
        try:
            photograph = _check(path.absolute(), known.get(str(path.absolute())))
            usable.setdefault(photograph.sha256, photograph)
        except ImageError as error:
            rejected[str(path)] = error.reason
        if count % save_every == 0:
            _write(out, usable, rejected)
        if on_done:
            on_done(count)
    return _write(out, usable, rejected)


def read_index(out: Path) -> Prepared:
    """What :func:`prepare` wrote to ``out``.

    Raises:
        UsageError: there is no index, or it is damaged.
    """
    try:
        stored = json.loads((out / INDEX).read_text(encoding="utf-8"))
        return Prepared([Photograph(**entry) for entry in stored["photographs"]], stored["rejected"])
    except FileNotFoundError:
        raise UsageError(f"{out} holds no {INDEX}: run `python -m grepq_iqa.training prepare` first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{out / INDEX} is damaged ({error}): delete it and prepare again") from error


def _check(path: Path, known: Photograph | None) -> Photograph:
    try:
        status = path.stat()
    except OSError as error:
        raise ImageError(str(path), error.strerror or "cannot be read") from error
    if known and (known.bytes, known.modified_ns) == (status.st_size, status.st_mtime_ns):
        return known
    _, height, width = load_image(path).shape
    if min(height, width) < LEAST_SIDE:
        raise ImageError(str(path), f"is {width}x{height}, smaller than {LEAST_SIDE} pixels")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Photograph(str(path), digest, width, height, status.st_size, status.st_mtime_ns)


def _write(out: Path, usable: dict[str, Photograph], rejected: dict[str, str]) -> Prepared:
    photographs = sorted(usable.values(), key=lambda photograph: photograph.path)
    content = {"photographs": [asdict(p) for p in photographs], "rejected": rejected}
    fresh = out / (INDEX + ".part")
    fresh.write_text(json.dumps(content, indent=1), encoding="utf-8")
    fresh.replace(out / INDEX)
    return Prepared(photographs, rejected)
