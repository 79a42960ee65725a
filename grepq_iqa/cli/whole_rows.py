"""Rows that can be written only when all are known: those in an order, the best so many, and Parquet.

Until then they are appended to ``NAME.rows.jsonl`` beside the output, so that a killed run loses none and ``--resume``
goes on behind them; in the end the output is written whole and that file is taken away. Without an output, or with a
pipe for one, they are held in memory, and what there is of them is shown, in order, when the run is interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from grepq_iqa.cli.destinations import is_results
from grepq_iqa.cli.output import Format, RowWriter, stdout_for_names
from grepq_iqa.cli.row_file import RowFile, explained, read_rows, write_rows_whole
from grepq_iqa.cli.row_record import is_changed, settings_path
from grepq_iqa.errors import UsageError
from grepq_iqa.files import is_stream, same_file_key
from grepq_iqa.rows import RESULT_FIELDS, TABLE_FIELDS

Rows = list[Mapping[str, Any]]


class WholeRows:
    """As `RowFile`, for rows that are arranged in the end.

    Args:
        command: "score" or "predict".
        output: None is stdout.
        format: how rows are written in the end.
        settings: everything that rows depend on, JSON-ready.
        arranged: gives the rows to be shown, in order.
        resume: keep the rows of a run that was killed, and of one that was not.
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
        arranged: Callable[[Rows], Rows],
        *,
        resume: bool = False,
        color: bool = False,
    ) -> None:
        self._command, self._output, self._format, self._settings = command, output, format, settings
        self._arranged, self._color = arranged, color
        self._rows: Rows = []
        self._changed = False
        self._journal: RowFile | None = None
        self.done: set[str] = set()
        self.failed = 0
        if output is None or is_stream(output):
            return
        journal = journal_path(output)
        if journal.exists() and not is_results(journal) and journal.stat().st_size:
            raise UsageError(f"{journal} is in the way and was not written by this command; rename it")
        if resume and output.exists() and output.stat().st_size:
            self._rows += read_rows(output, command, format, settings)
            self._changed = is_changed(output)
        self._journal = RowFile(command, journal, Format.jsonl, settings, resume=resume)
        self._rows += self._journal.rows_before()
        self.done = {same_file_key(row["path"]) for row in self._rows}
        self.failed = sum(row.get("error") is not None for row in self._rows)

    def __enter__(self) -> WholeRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal is None:
            if self._rows and (kind is None or kind is KeyboardInterrupt):
                self._show()
            return
        assert self._output is not None
        self._journal.__exit__(kind, error, trace)
        if kind is None and self._rows:
            rows = {same_file_key(row["path"]): row for row in self._rows}  # a file in both is one
            write_rows_whole(
                self._command,
                self._output,
                self._format,
                self._settings,
                self._arranged(list(rows.values())),
                changed=self._changed,
            )
            journal = journal_path(self._output)
            journal.unlink(missing_ok=True)
            settings_path(journal).unlink(missing_ok=True)

    def write(self, row: Mapping[str, Any]) -> None:
        """One row; with an output, it has left this process when this returns.

        Raises:
            UsageError: the disk is full, or takes no more for another reason.
        """
        if self._journal is not None:
            self._journal.write(row)
        self._rows.append(row)

    def rows_before(self) -> Rows:
        """The rows that are kept, before any is written."""
        return list(self._rows)

    def _show(self) -> None:
        if self._output is not None:
            rows = self._arranged(self._rows)
            write_rows_whole(self._command, self._output, self._format, self._settings, rows)
            return
        with explained(None):
            fields = (TABLE_FIELDS if self._format is Format.table else RESULT_FIELDS)[self._command]
            writer = RowWriter(self._format, stdout_for_names(), fields, color=self._color)
            for row in self._arranged(self._rows):
                writer.write(row)
            writer.finish()


def journal_path(output: Path) -> Path:
    """Where rows wait until ``output`` can be written."""
    return output.with_name(f"{output.name}.rows.jsonl")
