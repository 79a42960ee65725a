"""A file of rows that a killed run leaves usable: rows are appended as they come, and a later run goes on behind them.

The settings of the run stand beside it in ``NAME.meta.json``; rows of other settings are not mixed.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from grepq_iqa.cli.destinations import is_results
from grepq_iqa.cli.output import Format, RowWriter, stdout_for_names
from grepq_iqa.cli.row_record import compare_settings, is_changed, real_path, record_of, settings_beside, write_record
from grepq_iqa.errors import UsageError
from grepq_iqa.files import is_stream, replacing, same_file_key
from grepq_iqa.rows import LISTS, RESULT_FIELDS, TABLE_FIELDS, TEXTS


class RowFile:
    """Where ``command`` writes its rows: a file, or stdout. The file is touched when the first row is there.

    Args:
        command: "score" or "predict".
        output: None is stdout.
        format: how rows are written.
        settings: everything that rows depend on, JSON-ready.
        resume: go on behind the rows that ``output`` holds.
        color: whether a table is colored by percentile.

    Attributes:
        done: keys, by `same_file_key`, of the files that have rows already.
        failed: how many of those rows are errors.

    Raises:
        UsageError: there is something to resume that is not rows of this command with these settings.
    """

    def __init__(
        self,
        command: str,
        output: Path | None,
        format: Format,
        settings: Mapping[str, Any],
        *,
        resume: bool = False,
        color: bool = False,
    ) -> None:
        fields = TABLE_FIELDS if format is Format.table else RESULT_FIELDS
        self._fields, self._output, self._format = fields[command], output, format
        self._record = record_of(command, settings)
        self._stream: IO[str] | None = None
        self._writer: RowWriter | None = None
        self._changed = False
        self._kept = self._whole = 0  # rows, and bytes of them
        self._cut = False
        self._color = color
        self.done: set[str] = set()
        self.failed = 0
        if resume and output is not None and output.exists() and output.stat().st_size:
            self._resume(command, output)

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with explained(self._output):
            if self._cut and kind is None:
                self._begin()  # nothing was missing but the end
            if self._writer is not None and kind is None:
                self._writer.finish()
            if self._stream is not None and self._output is not None:
                self._stream.close()
                with suppress(OSError):  # rows are there; without it they are only less protected
                    write_record(self._output, self._record, finished=True, changed=self._changed)

    def write(self, row: Mapping[str, Any]) -> None:
        """One row; it has left this process when this returns.

        Raises:
            UsageError: the disk is full, or takes no more for another reason.
        """
        with explained(self._output):
            self._begin().write(row)

    def rows_before(self) -> list[dict[str, Any]]:
        """The rows that are kept, before any is written; empty where none are."""
        if not self._kept or self._output is None:
            return []
        with self._output.open("rb") as file:
            whole = file.read(self._whole)
        return list(_rows_in(whole.decode("utf-8", errors="surrogateescape"), self._format))

    def _begin(self) -> RowWriter:
        if self._writer is None:
            self._stream = self._opened()
            self._writer = RowWriter(
                self._format, self._stream, self._fields, rows=self._kept or None, color=self._color
            )
        return self._writer

    def _opened(self) -> IO[str]:
        if self._output is None:
            return stdout_for_names()
        real_path(self._output).parent.mkdir(parents=True, exist_ok=True)
        write_record(self._output, self._record, finished=False, changed=self._changed)
        mode = "a" if self._kept or is_stream(self._output) else "w"  # what /dev/stdout leads to may hold something
        if self._kept:
            os.truncate(self._output, self._whole)
        return self._output.open(mode, encoding="utf-8", errors="surrogateescape", newline="")

    def _resume(self, command: str, output: Path) -> None:
        if not is_results(output, command):
            raise UsageError(f"{output} does not hold rows of `grepq {command}`: nothing there can be gone on with")
        compare_settings(output, settings_beside(output), self._record["settings"])
        self._changed = is_changed(output)
        # A kill or a full disk leaves a row cut, or a tail of zeros where a system crashed: both are written again.
        content = output.read_bytes()
        whole = content.split(b"\0", 1)[0]
        if self._format is Format.json:
            whole = whole.rstrip().removesuffix(b"]").rstrip()
            whole = whole if whole.endswith(b"}") else whole[: whole.rfind(b"\n")].rstrip().removesuffix(b",")
        else:
            whole = whole[: whole.rfind(b"\n") + 1]
        try:
            rows = list(_rows_in(whole.decode("utf-8", errors="surrogateescape"), self._format))
            paths = [row["path"] for row in rows]
        except (ValueError, KeyError, TypeError, csv.Error) as error:
            raise UsageError(
                f"{output} is damaged or not {self._format.value} ({error}); give another --output"
            ) from error
        if not paths:
            return
        if content != whole + (b"\n]\n" if self._format is Format.json else b""):
            self._cut = True
        self._whole, self._kept = len(whole), len(paths)
        self.failed = sum(row.get("error") is not None for row in rows)
        self.done = {same_file_key(path) for path in paths}


def write_rows_whole(
    command: str,
    output: Path,
    format: Format,
    settings: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]],
    *,
    changed: bool = False,
) -> None:
    """Write all rows, and their settings beside them, in place of what was there; through a link.

    Args:
        command, output, format, settings, rows: as for `RowFile`.
        changed: whether a person's changes are among the rows, see `row_record`.

    Raises:
        UsageError: the disk is full, or takes no more for another reason.
    """
    record = record_of(command, settings)
    with explained(output), replacing(real_path(output)) as beside:
        if format is Format.parquet:
            from grepq_iqa.cli.parquet import write_parquet

            write_parquet(beside, RESULT_FIELDS[command], rows, record)
        else:
            with beside.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
                writer = RowWriter(format, stream, RESULT_FIELDS[command])
                for row in rows:
                    writer.write(row)
                writer.finish()
        write_record(output, record, finished=False, changed=changed)
    with suppress(OSError):  # as above
        write_record(output, record, finished=True, changed=changed)


def read_rows(output: Path, command: str, format: Format, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a file that was written whole.

    Raises:
        UsageError: it does not hold rows of this command with these settings, or is damaged.
    """
    if format is Format.parquet:
        from grepq_iqa.cli.parquet import read_parquet

        rows, record = read_parquet(output)
        if record.get("command") != command:
            raise UsageError(f"{output} does not hold rows of `grepq {command}`: nothing there can be gone on with")
        compare_settings(output, record["settings"], settings)
        return rows
    RowFile(command, output, format, settings, resume=True)  # which refuses what is not ours
    text = output.read_bytes().decode("utf-8", errors="surrogateescape")
    try:
        return list(_rows_in(text, format))
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UsageError(f"{output} is damaged or not {format.value} ({error}); give another --output") from error


@contextmanager
def explained(output: Path | None) -> Iterator[None]:
    """Errors of the disk become a sentence; a closed pipe is for the program to notice."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        where = output or "the output"
        kept = "; rows so far are kept, go on with --resume" if output and not is_stream(output) else ""
        raise UsageError(f"cannot write {where}: {error.strerror or error}{kept}") from error


def _rows_in(text: str, format: Format) -> Iterator[dict[str, Any]]:
    if format is Format.jsonl:
        yield from (json.loads(line) for line in text.split("\n") if line.strip())
    elif format is Format.json:
        yield from (json.loads(line.rstrip(",")) for line in text.split("\n")[1:] if line.strip(" \r]"))
    else:
        delimiter = "\t" if format is Format.tsv else ","
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        yield from ({field: _value(field, cell) for field, cell in row.items()} for row in rows)


def _value(field: str, cell: str) -> Any:
    """What a cell of CSV said before it was text."""
    if field in LISTS:
        return cell.split("; ") if cell else []
    if field in TEXTS:
        return cell or None
    return float(cell) if cell else None
