"""Rows that `grepq score` and `grepq predict` wrote as CSV or TSV, read back for other tools."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from grepq_iqa.data.tables import read_table
from grepq_iqa.errors import LabelsError

NUMBERS = ("score", "low_level", "high_level", "percentile", "mos", "low", "high")
"""Fields that are numbers; the others are text."""


def read_rows(source: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Rows of a file, in its order: ``path``, absolute, the numbers that are there, ``warnings`` and ``error``.

    Fields that are empty are left out. A relative path is looked for from the working directory, as the command did
    that wrote it.

    Raises:
        LabelsError: the file cannot be read, or holds no such rows.
    """
    table = read_table(source)
    names = [name.strip() for name in table.header]
    if "path" not in names or not {"score", "mos"} & set(names):
        raise LabelsError(
            f"{source} has columns {', '.join(names)}: not rows of `grepq score` or `grepq predict`", os.fspath(source)
        )
    rows = []
    for _, cells in table.filled(names.index("path")):
        row: dict[str, Any] = {}
        for at, name in enumerate(names):
            value = table.number(cells, at) if name in NUMBERS else table.text(cells, at)
            if value not in (None, ""):
                row[name] = value
        row["path"] = str(Path(row["path"]).absolute())
        rows.append(row)
    return rows
