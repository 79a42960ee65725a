"""The table of ratings that the page fills: whole and on the disk after every key, and never anyone else's work lost.

It is a label table for `grepq fit --csv`: path and mos, and the SHA-256 of the picture, by which ratings are found
again when photographs are dropped anew. The file takes its place whole. Rows that somebody else added or changed
meanwhile are kept, as are columns and rows that are not known here.
"""

from __future__ import annotations

import csv
import io
import math
import os
import threading
from pathlib import Path

from grepq_iqa.errors import UsageError
from grepq_iqa.files import replacing

HEADER = ["path", "mos", "sha256"]
_MOST_NAMES = 1000


class RatingTable:
    """Ratings by a picture's name and digest.

    Args:
        path: of the .csv file. Where a file of that name exists that is no table of ours, the next free one is taken.

    Attributes:
        path: of the file in use.

    Raises:
        UsageError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._header = list(HEADER)
        self._rows: list[list[str]] = []
        self._by_digest: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        self._state: tuple[int, int] | None = None
        self.path = _usable(path)
        self._read()

    def __len__(self) -> int:
        return sum(1 for row in self._rows if _number(row[1]) is not None)

    def find(self, name: str, digest: str | None) -> float | None:
        """The rating of a picture, known by its content, else by its name where the table tells no content."""
        with self._lock:
            row = self._find(name, digest)
            return None if row is None else _number(row[1])

    def set(self, name: str, digest: str, rating: float | None) -> None:
        """Note a rating, or take it back; it is on the disk when this returns.

        Raises:
            UsageError: it cannot be written; the ratings before are whole.
        """
        with self._lock:
            self._read()
            before = [list(row) for row in self._rows]
            row = self._find(name, digest)
            if rating is None:
                self._rows = [other for other in self._rows if other is not row]
            elif row is None:
                self._rows.append([name, f"{rating:g}", digest])
            else:
                row[0], row[1], row[2] = name, f"{rating:g}", digest
            try:
                self._write()
            except OSError as error:
                self._rows = before
                self._index()
                raise UsageError(f"cannot save the rating to {self.path}: {error.strerror or error}") from error
            self._index()

    def _find(self, name: str, digest: str | None) -> list[str] | None:
        if digest and digest in self._by_digest:
            return self._by_digest[digest]
        row = self._by_name.get(name)
        return row if row is not None and not (row[2] and digest) else None

    def _index(self) -> None:
        """Of several rows of one picture, the first counts."""
        self._by_digest = {row[2]: row for row in reversed(self._rows) if row[2]}
        self._by_name = {row[0]: row for row in reversed(self._rows)}

    def _read(self) -> None:
        """As it is on the disk now, if it has changed."""
        try:
            state = _state(self.path)
            if state == self._state:
                return
            if state is None:
                self._rows, self._state = [], None
                self._index()
                return
            text = self.path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror or error}") from error
        delimiter, self._header = _header_of(text.splitlines()[0] if text.strip() else ",".join(HEADER))
        if not self._header:
            raise UsageError(
                f"{self.path} was changed and is no table of ratings any more: nothing is written to it; save it as "
                f"CSV in UTF-8 with the columns {', '.join(HEADER)}, or rename it"
            )
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        self._rows = [row + [""] * (len(HEADER) - len(row)) for row in rows[1:] if row]
        self._state = state
        self._index()

    def _write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self._header)
        writer.writerows(self._rows)
        with replacing(self.path) as beside, beside.open("wb") as file:
            file.write(text.getvalue().encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(self.path.parent)
        self._state = _state(self.path)


def _usable(path: Path) -> Path:
    """``path``, or the first of its numbered names that is free or ours."""
    for number in range(1, _MOST_NAMES):
        candidate = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        try:
            if not candidate.exists():
                if candidate.is_symlink():
                    continue
                _require_folder(candidate.parent)
                return candidate
            with candidate.open(encoding="utf-8-sig", errors="replace") as file:
                ours = bool(_header_of(file.readline())[1])
        except OSError as error:
            raise UsageError(
                f"cannot keep ratings in {candidate}: {error.strerror or error}; name another file with --labels"
            ) from error
        if ours:
            if not os.access(candidate, os.W_OK) or not os.access(candidate.parent, os.W_OK):
                raise UsageError(f"cannot write {candidate}: permission denied; name another file with --labels")
            return candidate
    raise UsageError(f"{path} and {_MOST_NAMES} numbered names are taken; name another file with --labels")


def _header_of(line: str) -> tuple[str, list[str]]:
    """Delimiter and columns of a table of ours, which a spreadsheet may have saved with semicolons or more columns.

    No columns: it is none of ours.
    """
    for delimiter in (",", ";", "\t"):
        columns = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
        if columns[: len(HEADER)] == HEADER:
            return delimiter, columns
    return ",", []


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; ratings are kept there, or where --labels says")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write to {folder}, where ratings are kept; name another file with --labels")


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def _sync_folder(folder: Path) -> None:
    """So that the new name survives a crash of the system, too; systems that cannot do it do without."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _number(text: str) -> float | None:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
