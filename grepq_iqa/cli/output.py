"""Rows of results, as a table for people or as CSV and JSON lines for programs, each written as soon as it is known."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO, Any

from grepq_iqa.errors import UsageError


class Format(str, Enum):
    """How rows are written."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


def choose_format(format: Format | None, output: Path | None) -> Format:
    """As asked for; else by the ending of ``output``; else a table on a terminal and CSV in a pipe."""
    if format is not None:
        return format
    if output is not None:
        return Format.jsonl if output.suffix in {".jsonl", ".ndjson"} else Format.csv
    return Format.table if sys.stdout.isatty() else Format.csv


class RowWriter:
    """Writes rows with the given fields to a text stream and flushes each, so that an interrupt loses none.

    Args:
        header: False leaves out the header line, for a file that is continued.
    """

    def __init__(self, format: Format, stream: IO[str], fields: Sequence[str], *, header: bool = True) -> None:
        self._format, self._stream, self._fields = format, stream, list(fields)
        self._csv = csv.writer(stream, lineterminator="\n")
        if format is Format.csv and header:
            self._csv.writerow(self._fields)
        elif format is Format.table and header:
            self._stream.write(self._table_line({field: field.replace("_", " ") for field in fields}))

    def write(self, row: Mapping[str, Any]) -> None:
        """One row; missing fields are empty, lists are joined by "; " outside JSON."""
        values = {field: _rounded(row.get(field)) for field in self._fields}
        if self._format is Format.jsonl:
            self._stream.write(json.dumps(values, ensure_ascii=False) + "\n")
        elif self._format is Format.csv:
            self._csv.writerow([_as_text(value) for value in values.values()])
        else:
            self._stream.write(self._table_line(values))
        self._stream.flush()

    def close(self) -> None:
        """Flush; the stream belongs to the caller."""
        self._stream.flush()

    def _table_line(self, values: Mapping[str, Any]) -> str:
        """Fixed columns, because rows appear before their successors are known; words go last and are not cut."""
        numbers = [f for f in self._fields if f not in {"path", "warnings", "error"}]
        room = max(24, min(60, shutil.get_terminal_size().columns - 12 * len(numbers) - 2))
        path = _printable(_as_text(values.get("path")))
        path = path if len(path) <= room else "…" + path[1 - room :]
        cells = [path.ljust(room)]
        for field in numbers:
            value = values.get(field)
            shown = f"{value:.3f}" if isinstance(value, float) else _as_text(value)
            if field == "percentile" and isinstance(value, float):
                shown = f"{value:.0f}"
            cells.append(shown.rjust(11))
        words = [_printable(_as_text(values.get(f))) for f in ("warnings", "error") if f in self._fields]
        return (" ".join(cells) + "  " + "  ".join(word for word in words if word)).rstrip() + "\n"


@contextmanager
def open_output(output: Path | None, *, append: bool = False) -> Iterator[IO[str]]:
    """``output`` as a UTF-8 text stream, stdout where it is None.

    Raises:
        UsageError: the file cannot be written.
    """
    if output is None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="surrogateescape")
        yield sys.stdout
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        stream = output.open("a" if append else "w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror or error}") from error
    with stream:
        yield stream


def _rounded(value: Any) -> Any:
    """Six significant digits say all that a score knows."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return list(value) if isinstance(value, tuple) else value


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return str(value)


def _printable(text: str) -> str:
    """Line breaks and control characters in a file's name must not break a table."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
