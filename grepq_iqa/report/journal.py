"""What was copied, moved and linked, line by line, so that it can be undone: also after a crash in the middle.

A line of JSON is on the disk before its file is touched, and another after. Undoing goes backwards through the lines
and takes back only what is still as it was left: a file that was changed since, or a name that is taken again, is told
and left alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from grepq_iqa._version import __version__
from grepq_iqa.errors import UsageError
from grepq_iqa.files import sha256_of
from grepq_iqa.report.transfer import Action, transfer
from grepq_iqa.text import MARK

SUFFIX = ".grepq-journal.jsonl"


@dataclass(frozen=True)
class Undone:
    """What became of one file of a journal.

    Attributes:
        path: where it was, or is still.
        error: why it was left alone, or None.
    """

    path: Path
    error: str | None = None


class Journal:
    """A new journal in ``folder``; its file exists from the first action on.

    Attributes:
        path: of the journal.
    """

    def __init__(self, folder: Path, *, now: datetime | None = None) -> None:
        stamp = (now or datetime.now()).strftime("%Y-%m-%d_%H-%M-%S")
        self.path = folder / f"{stamp}{SUFFIX}"
        number = 1
        while os.path.lexists(self.path):
            number += 1
            self.path = folder / f"{stamp}_{number}{SUFFIX}"
        self._file: IO[str] | None = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def do(self, action: Action, source: Path, target: Path) -> None:
        """`transfer`, and the lines about it.

        Raises:
            OSError: the file could not be transferred, or the journal not be written, in which case it was not tried.
        """
        names = {"action": action, "source": _absolute(source), "target": _absolute(target)}
        link = str(source.readlink()) if action == "move" and source.is_symlink() else None
        self._write({"state": "begun", **names, "link": link})
        try:
            transfer(action, source, target)
        except OSError:
            self._write({"state": "failed", **names})
            raise
        stamp = os.lstat(target)
        self._write({"state": "done", **names, "size": stamp.st_size, "mtime_ns": stamp.st_mtime_ns})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            self._file = self.path.open("x", encoding="utf-8", errors="surrogateescape")
            _append(self._file, {"generator": f"{MARK} {__version__}", "kind": "journal"})
        _append(self._file, line)


def undo(path: Path) -> Iterator[Undone]:
    """Take back what a journal tells, the last first; what was undone before is passed over.

    Raises:
        UsageError: the file is no journal of ours, or cannot be written on.
    """
    lines = _read(path)
    begun: dict[tuple[str, str], dict[str, Any]] = {}
    done: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        key = (line["source"], line["target"])
        if line["state"] == "begun":
            begun[key] = line
        elif line["state"] == "done":
            done[key] = line
        else:
            begun.pop(key, None)
    try:
        file = path.open("a", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    with file:
        if not path.read_bytes().endswith(b"\n"):
            file.write("\n")  # a kill cut the last line
        for key, line in reversed(begun.items()):
            result = _undo_one(line, done.get(key))
            if result.error is None:
                _remove_empty(Path(key[1]).parent, path.absolute().parent)
                _append(file, {"state": "undone", "source": key[0], "target": key[1]})
            yield result


def _undo_one(line: dict[str, Any], done: dict[str, Any] | None) -> Undone:
    source, target, action = Path(line["source"]), Path(line["target"]), line["action"]
    there, here = os.path.lexists(source), os.path.lexists(target)
    shown = target if here else source
    try:
        if not here:
            return Undone(source) if there else Undone(source, "neither where it was nor where it went")
        if action == "move":
            if there and done is None and _alike(source, target):
                target.unlink()  # stopped between the second name and the removal of the first
                return Undone(source)
            if there:
                return Undone(target, f"{source} exists again, so it stays where it is")
            source.parent.mkdir(parents=True, exist_ok=True)
            if line.get("link") is not None:
                source.symlink_to(line["link"])
                target.unlink()
            else:
                transfer("move", target, source)
            return Undone(source)
        if done is None and not (there and (target.is_symlink() or _alike(source, target))):
            return Undone(target, "was there before, or is unfinished; look at it and delete it yourself")
        stamp = os.lstat(target)
        if done is not None and (stamp.st_size, stamp.st_mtime_ns) != (done["size"], done["mtime_ns"]):
            return Undone(target, "was changed since, so it stays")
        if action == "copy" and not there:
            return Undone(target, f"{source} is gone, so this copy stays")
        target.unlink()
        return Undone(target)
    except OSError as error:
        return Undone(shown, error.strerror or str(error))


def _remove_empty(folder: Path, above: Path) -> None:
    """Folders below ``above`` that the transfers left empty."""
    with suppress(OSError):
        while folder != above and folder.is_relative_to(above):
            folder.rmdir()
            folder = folder.parent


def _alike(first: Path, second: Path) -> bool:
    return first.samefile(second) or sha256_of(first) == sha256_of(second)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # cut by a kill, or empty
            continue
    if not found or not isinstance(found[0], dict) or found[0].get("kind") != "journal":
        raise UsageError(f"{path} is no journal of `grepq pick`; they end in {SUFFIX}")
    wanted = {"state", "source", "target"}
    return [line for line in found[1:] if isinstance(line, dict) and wanted <= line.keys()]


def _append(file: IO[str], line: dict[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()
    os.fsync(file.fileno())


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - links are kept
