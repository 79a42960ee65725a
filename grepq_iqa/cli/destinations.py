"""One rule for every command that writes: what may take the place of what.

An existing file is replaced only where it is known to be one of ours, and as we left it, or ``--overwrite`` is given;
never one that is among the inputs, and never a table that holds ratings, which are a person's work.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from grepq_iqa.cli.row_record import is_changed, real_path
from grepq_iqa.data.labels import IMAGE_ALIASES, MOS_ALIASES
from grepq_iqa.data.pair_table import holds_answers
from grepq_iqa.data.tables import SUFFIXES, read_table
from grepq_iqa.errors import LabelsError, UsageError
from grepq_iqa.files import is_stream, same_file_key
from grepq_iqa.rows import RESULT_FIELDS
from grepq_iqa.text import MARK

_ENDS = 1 << 16  # bytes at both ends of a file in which its metadata stand


def require_writable(
    output: Path, *, overwrite: bool = False, resume: bool | None = None, inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Refuse a destination before any work is done for it.

    Args:
        output: a file to be written.
        overwrite: whether the user asked to replace what is there.
        resume: whether rows that are there stay; None: the command cannot go on behind them.
        inputs: files that the command reads.

    Raises:
        UsageError: it must not or cannot be written; the message says what to do.
    """
    try:
        exists = output.exists() or output.is_symlink()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {output}: {getattr(error, 'strerror', None) or error}") from error
    if any(_is_same(output, given) for given in inputs):
        raise UsageError(f"{output} is one of the inputs and would be lost; give another name")
    if not exists:
        _require_folder(output)
        return
    if output.is_dir():
        raise UsageError(f"{output} is a folder; give the name of a file")
    if not output.exists():  # a link to a file that is not there yet
        _require_folder(real_path(output))
        return
    if is_stream(output):  # a device or a pipe keeps nothing that could be lost
        return
    if output.stat().st_size and not is_results(output) and not _has_mark(output):
        if holds_ratings(output):
            raise UsageError(f"{output} holds ratings and is not replaced; give another name, or delete it yourself")
        if not overwrite:
            raise UsageError(f"{output} exists and was not written by this command; give another name or --overwrite")
    if not overwrite and not resume and is_changed(output):
        going_on = "" if resume is None else "--resume to go on behind its rows, "
        raise UsageError(f"{output} has been changed since grepq wrote it; give another name, {going_on}or --overwrite")
    if not os.access(output, os.W_OK):
        raise UsageError(f"cannot write {output}: permission denied")


def is_results(path: Path, command: str | None = None) -> bool:
    """Whether a file holds rows of ours, of ``command`` where one is named; known by its header."""
    wanted = [RESULT_FIELDS[command]] if command else list(RESULT_FIELDS.values())
    try:
        with path.open("rb") as file:
            head = file.read(1 << 12).decode("utf-8", errors="replace")
    except OSError:
        return False
    lines = head.split("\n")
    first = lines[0].rstrip("\r")
    for fields in wanted:
        if first in (",".join(fields), "\t".join(fields)):
            return True
    row = lines[1] if first == "[" and len(lines) > 1 else first
    try:
        keys = tuple(json.loads(row.rstrip().rstrip(",")))
    except (ValueError, TypeError):
        return False
    return keys in wanted


def holds_ratings(path: Path) -> bool:
    """Whether a file is a table with images and a filled-in column of numbers beside them, or of winners of pairs."""
    if path.suffix.lower() not in SUFFIXES | {".txt"}:
        return False
    try:
        table = read_table(path)
    except (LabelsError, csv.Error):
        return False
    if holds_answers(table):
        return True
    image = table.optional_column(*IMAGE_ALIASES)
    rating = table.optional_column(*MOS_ALIASES, taken=image)
    if image is None or rating is None:
        return False
    return any(table.text(cells, rating) for _, cells in table.rows)


def _is_same(output: Path, given: str | os.PathLike[str]) -> bool:
    try:
        return same_file_key(output) == same_file_key(given) or output.samefile(given)
    except (OSError, ValueError):
        return False


def _require_folder(output: Path) -> None:
    """The nearest folder above that exists must let us write."""
    folder = output.absolute().parent
    try:
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise UsageError(f"cannot write {output}: {folder} is not a folder")
        with tempfile.TemporaryFile(dir=folder):  # permissions alone do not tell of /proc, or of root's own limits
            pass
        if len(os.fsencode(output.name)) > os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else False:
            raise UsageError(f"cannot write {output}: its name is too long")
    except UsageError:
        raise
    except PermissionError as error:
        raise UsageError(f"cannot write {output}: permission denied in {folder}") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {output}: {getattr(error, 'strerror', None) or error}") from error


def _has_mark(path: Path) -> bool:
    mark = MARK.encode()
    try:
        with path.open("rb") as file:
            if mark in file.read(_ENDS):
                return True
            file.seek(max(0, path.stat().st_size - _ENDS))
            return mark in file.read()
    except OSError:
        return False
