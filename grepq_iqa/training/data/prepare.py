"""Folders of photographs -> one checked list with hashes, which every later step reads.

Resumable: a photograph whose size and time have not changed is not read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from grepq_iqa.data.image_paths import iter_image_paths
from grepq_iqa.data.images import load_image
from grepq_iqa.errors import ImageError, UsageError
from grepq_iqa.files import sha256_of, write_atomically

INDEX, PARTIAL = "index.json", "index.partial.json"
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
    """The list that `prepare` wrote.

    Attributes:
        photographs: usable ones, duplicates (by content) left out, sorted by path.
        rejected: path to the reason.
        name: what the set is called, for the provenance of models.
        license: its terms, or "".
        held_out: how many usable ones were left out, by content, to measure on.
    """

    photographs: list[Photograph]
    rejected: dict[str, str]
    name: str = "photographs"
    license: str = ""
    held_out: int = 0

    @property
    def sha256(self) -> str:
        """Over the contents of the usable photographs in order: says which data made a model."""
        return hash_contents([photograph.sha256 for photograph in self.photographs])

    @property
    def paths(self) -> list[Path]:
        """Paths of the usable photographs."""
        return [Path(photograph.path) for photograph in self.photographs]


def prepare(
    sources: Iterable[str],
    out: Path,
    *,
    name: str | None = None,
    license: str | None = None,
    held_out: Collection[str] = (),
    save_every: int = 200,
    on_done: Callable[[int], None] | None = None,
) -> Prepared:
    """Check every photograph below ``sources`` and write ``out/index.json``.

    Args:
        sources: files, folders and patterns.
        out: folder of the list.
        name, license: of the set, for the provenance of models that it trains; None keeps those of an earlier list.
        held_out: SHA-256 of photographs that must not be used, because something is to be measured on them.
        save_every: photographs between savings, from which a killed run goes on.
        on_done: called with the number of photographs seen.
    """
    earlier = read_index(out) if (out / INDEX).exists() else Prepared([], {})
    known = {photograph.path: photograph for photograph in (*earlier.photographs, *_read_partial(out))}
    name, license = (new if new is not None else old for new, old in ((name, earlier.name), (license, earlier.license)))
    usable: dict[str, Photograph] = {}
    rejected: dict[str, str] = {}
    refused = frozenset(held_out)

    for count, path in enumerate(iter_image_paths(sources), start=1):
        try:
            photograph = _check(path.absolute(), known.get(str(path.absolute())))
            usable.setdefault(photograph.sha256, photograph)
        except ImageError as error:
            rejected[str(path)] = error.reason
        if count % save_every == 0:  # beside the list, which others take for whole
            write_atomically(out / PARTIAL, json.dumps([asdict(photograph) for photograph in usable.values()]))
        if on_done:
            on_done(count)
    photographs = sorted(usable.values(), key=lambda photograph: photograph.path)
    chosen = [photograph for photograph in photographs if photograph.sha256 not in refused]
    prepared = Prepared(chosen, rejected, name, license, len(photographs) - len(chosen))
    write_atomically(out / INDEX, json.dumps(asdict(prepared), indent=1))
    (out / PARTIAL).unlink(missing_ok=True)
    return prepared


def _read_partial(out: Path) -> list[Photograph]:
    """What a run that was stopped had checked."""
    try:
        return [Photograph(**entry) for entry in json.loads((out / PARTIAL).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def read_index(out: Path) -> Prepared:
    """What :func:`prepare` wrote to ``out``.

    Raises:
        UsageError: there is no index, or it is broken.
    """
    try:
        stored = json.loads((out / INDEX).read_text(encoding="utf-8"))
        photographs = [Photograph(**entry) for entry in stored["photographs"]]
        about = {field: stored[field] for field in ("name", "license", "held_out") if field in stored}
        return Prepared(photographs, stored["rejected"], **about)
    except FileNotFoundError:
        raise UsageError(f"{out} holds no {INDEX}: run `python -m grepq_iqa.training prepare` first") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{out / INDEX} is broken ({error}): delete it and prepare again") from error


def evenly(photographs: Sequence[Photograph], count: int) -> list[Photograph]:
    """``count`` of the photographs, evenly taken from the list; all where it has no more."""
    some = min(count, len(photographs))
    return [photographs[index * len(photographs) // some] for index in range(some)]


def read_hashes(path: Path | None) -> frozenset[str]:
    """SHA-256s of a text file, one a line; none of None.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    if path is None:
        return frozenset()
    try:
        found = frozenset(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a list of SHA-256: {error}") from error
    if odd := sorted(one for one in found if len(one) != 64 or set(one) - set("0123456789abcdef")):
        raise UsageError(f"{path} is to hold SHA-256, 64 hex digits a line, not {odd[0]!r}")
    return found


def hash_contents(hashes: Iterable[str]) -> str:
    """SHA-256 over SHA-256s (64 hex digits each) in order."""
    digest = hashlib.sha256()
    for sha256 in hashes:
        digest.update(bytes.fromhex(sha256))
    return digest.hexdigest()


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
    digest = sha256_of(path)
    return Photograph(str(path), digest, width, height, status.st_size, status.st_mtime_ns)
