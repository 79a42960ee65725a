"""Rows of results, as a table for people or as CSV, TSV and JSON for programs, each written as soon as it is known."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import IO, Any

import typer

from grepq_iqa.data.formats import EXTENSIONS, OTHER_PICTURES
from grepq_iqa.errors import UsageError
from grepq_iqa.rows import rounded
from grepq_iqa.text import printable


class Format(str, Enum):
    """How results are written."""

    table = "table"
    csv = "csv"
    tsv = "tsv"
    jsonl = "jsonl"
    json = "json"
    parquet = "parquet"


SUFFIXES = {
    ".csv": Format.csv,
    ".tsv": Format.tsv,
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".json": Format.json,
    ".parquet": Format.parquet,
}
"""Endings of files of rows, in lower case, and what they mean."""

# Upper ends of percentiles: the worst tenth and the worst third of a folder are what eyes look for, and the best tenth.
_COLORS = ((10, "bright_red"), (33, "yellow"), (90, None), (101, "bright_green"))
_WORDS = (
    "path",
    "why",
    "sidecar",
    "action",
    "sentence",
    "warnings",
    "error",
)  # the first stands first in a table, the others last
_PLAIN_SUFFIXES = {"", ".txt", ".log"}  # that promise nothing


def choose_format(format: Format | None, output: Path | None) -> Format:
    """As asked for; else by the ending of ``output``; else a table on a terminal and CSV in a pipe.

    Raises:
        UsageError: the ending is an image's, which was probably meant to be read, or tells of another kind of file.
    """
    if output is None:
        if format is Format.parquet:
            raise UsageError("parquet is written to a file: give --output NAME.parquet")
        return format or (Format.table if sys.stdout.isatty() else Format.csv)
    suffix = output.suffix.lower()
    if suffix in EXTENSIONS or suffix in OTHER_PICTURES:
        raise UsageError(f"{output} has the name of an image, and rows were to be written to it; name a .csv file")
    known = SUFFIXES.get(suffix)
    if format is None and known is None:
        raise UsageError(f"{output}: rows are written to {', '.join(SUFFIXES)}; give one of these endings, or --format")
    if known is None and suffix not in _PLAIN_SUFFIXES:
        raise UsageError(f"{output}: rows cannot be written as {suffix}; use {', '.join(SUFFIXES)}")
    if format is not None and known is not None and Format.parquet in (format, known) and format is not known:
        raise UsageError(f"{output} has not the ending of {format.value}; leave out --format, or change the name")
    return format or known or Format.csv


def color_wanted(stream: IO[str]) -> bool:
    """Whether a stream is a terminal that shows colors, and nobody said no (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class RowWriter:
    """Writes rows with the given fields to a text stream and flushes each, so that an interrupt loses none.

    Args:
        format: how.
        stream: where to.
        fields: names of the columns, in order.
        rows: how many stand there already, for a file that is continued; None begins a new one.
        color: whether numbers in a table are colored by the row's percentile, be it among the fields or not.
    """

    def __init__(
        self,
        format: Format,
        stream: IO[str],
        fields: Sequence[str],
        *,
        rows: int | None = None,
        color: bool = False,
    ) -> None:
        self._color = color
        self._format, self._stream, self._fields = format, stream, list(fields)
        self._csv = csv.writer(stream, lineterminator="\n", delimiter="\t" if format is Format.tsv else ",")
        self._rows = rows or 0
        if rows is not None:
            return
        if format in (Format.csv, Format.tsv):
            self._csv.writerow(self._fields)
        elif format is Format.json:
            self._stream.write("[\n")
        elif format is Format.table:
            self._stream.write(self._table_line({field: field.replace("_", " ") for field in fields}))

    def write(self, row: Mapping[str, Any]) -> None:
        """One row; missing fields are empty, lists are joined by "; " outside JSON."""
        values = {field: rounded(row.get(field)) for field in self._fields}
        if self._format in (Format.jsonl, Format.json):
            # In a JSON array, too, every row has a line of its own, so that a cut file can be gone on with.
            between = ",\n" if self._format is Format.json and self._rows else ""
            end = "\n" if self._format is Format.jsonl else ""
            self._stream.write(between + json.dumps(values, ensure_ascii=False) + end)
        elif self._format is Format.table:
            typer.echo(self._table_line(values, row.get("percentile")), self._stream, nl=False, color=self._color)
        else:
            self._csv.writerow([_as_text(value) for value in values.values()])
        self._rows += 1
        self._stream.flush()

    def finish(self) -> None:
        """End the document; the stream belongs to the caller."""
        if self._format is Format.json:
            self._stream.write("\n]\n")
        self._stream.flush()

    def _table_line(self, values: Mapping[str, Any], percentile: float | None = None) -> str:
        """Fixed columns, because rows appear before their successors are known; words go last and are not cut."""
        numbers = [f for f in self._fields if f not in _WORDS]
        room = max(24, min(60, shutil.get_terminal_size().columns - 12 * len(numbers) - 2))
        path = printable(_as_text(values.get("path")))
        path = path if len(path) <= room else "…" + path[1 - room :]
        cells = [path.ljust(room)]
        for field in numbers:
            value = values.get(field)
            shown = f"{value:.3f}" if isinstance(value, float) else _as_text(value)
            if field == "percentile" and isinstance(value, float):
                shown = f"{value:.0f}"
            shown = shown.rjust(11)
            colored = self._color and percentile is not None and isinstance(value, float)
            color = _color_of(percentile) if colored and percentile is not None else None
            cells.append(typer.style(shown, fg=color) if color else shown)
        words = [printable(_as_text(values.get(f))) for f in _WORDS if f in self._fields and f != "path"]
        return (" ".join(cells) + "  " + "  ".join(word for word in words if word)).rstrip() + "\n"


def _color_of(percentile: float) -> str | None:
    return next((color for limit, color in _COLORS if percentile < limit), None)


def stdout_for_names() -> IO[str]:
    """Stdout, able to write every file's name, be it no proper text, or in letters that Windows' code page lacks."""
    if hasattr(sys.stdout, "reconfigure"):
        encoding = None if sys.stdout.isatty() else "utf-8"  # as in files; a terminal knows its own
        sys.stdout.reconfigure(encoding=encoding, errors="surrogateescape")
    return sys.stdout


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return str(value)
