"""CSV, XLSX and MAT files as rows, tolerant of what these files look like in the wild."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grepq_iqa.errors import GrepqError, LabelsError


@dataclass(frozen=True)
class Table:
    """A table with a header. Columns are named without regard to case, spaces and punctuation; others are ignored."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Any, ...]], ...]  # where (a line or row number in words), cells
    decimal_comma: bool = False

    def column(self, *names: str) -> int:
        """Position of the first of these columns that the table has.

        Raises:
            LabelsError: it has none of them; the message lists those it has.
        """
        at = self.optional_column(*names)
        if at is None:
            raise LabelsError(
                f"{self.path} has no column {' or '.join(names)}; its columns are "
                f"{', '.join(name for name in self.header if name) or 'unnamed'}",
                str(self.path),
            )
        return at

    def optional_column(self, *names: str) -> int | None:
        """As `column`, but None where there is none."""
        known = [_key(name) for name in self.header]
        return next((known.index(_key(name)) for name in names if _key(name) in known), None)

    def text(self, cells: tuple[Any, ...], at: int) -> str:
        """A cell as text; a whole number read as 1600.0 is "1600"."""
        value = cells[at] if at < len(cells) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return "" if value is None else str(value).strip()

    def number(self, cells: tuple[Any, ...], at: int, where: str) -> float:
        """A cell as a number.

        Raises:
            LabelsError: it is not one; the message says where it stands.
        """
        text = self.text(cells, at)
        if self.decimal_comma and "." not in text:
            text = text.replace(",", ".")
        try:
            return float(cells[at] if isinstance(cells[at], float) else text)
        except (ValueError, IndexError):
            raise LabelsError(
                f"{self.path} cannot be used", str(self.path), (f"{where}: {text!r} is not a number",)
            ) from None

    def filled(self, *columns: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Rows in which any of these columns holds something: blank lines at the end of a sheet are not labels."""
        for where, cells in self.rows:
            if any(self.text(cells, at) for at in columns):
                yield where, cells


def read_csv(path: Path) -> Table:
    """A CSV file, comma, semicolon or tab separated, with or without a byte order mark."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: tuple[str, ...] | None = None
    rows: list[tuple[str, tuple[Any, ...]]] = []
    for cells in reader:
        if header is None and any(cell.strip() for cell in cells):
            header = tuple(cell.strip() for cell in cells)
        elif header is not None and cells:
            rows.append((f"line {reader.line_num}", tuple(cells)))
    if header is None:
        raise LabelsError(f"{path} is empty", str(path))
    return Table(path, header, tuple(rows), decimal_comma=delimiter != ",")


def read_xlsx(path: Path, required: tuple[str, ...], sheet: str | None = None) -> Table:
    """A sheet of an XLSX file; its header is the first row that holds the required columns.

    Args:
        path: the workbook.
        required: columns by which the header is known.
        sheet: its name; where there is no such sheet, or None: the first sheet with the header.

    Raises:
        GrepqError: openpyxl is not installed.
        LabelsError: no sheet has such a header, or the file is no workbook.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise GrepqError(f"reading {path.name} needs openpyxl: pip install 'grepq-iqa[benchmark]'") from None
    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl lets zip, XML and key errors of a damaged file through
        raise LabelsError(f"{path} is not a readable XLSX file: {error}", str(path)) from error
    try:
        names = [sheet] if sheet in book.sheetnames else book.sheetnames
        wanted = {_key(name) for name in required}
        for name in names:
            header: tuple[str, ...] | None = None
            rows: list[tuple[str, tuple[Any, ...]]] = []
            for number, cells in enumerate(book[name].iter_rows(values_only=True), start=1):
                if header is not None:
                    rows.append((f"sheet {name}, row {number}", tuple(cells)))
                elif wanted <= {_key(str(cell)) for cell in cells if cell is not None}:
                    header = tuple("" if cell is None else str(cell).strip() for cell in cells)
            if header is not None:
                return Table(path, header, tuple(rows))
    finally:
        book.close()
    raise LabelsError(f"{path} has no sheet with the columns {', '.join(required)}", str(path))


def read_mat(path: Path, *names: str) -> Any:
    """The first of these variables in a MAT file, flattened: numbers as an array, cells as a list of strings.

    Raises:
        LabelsError: the file cannot be read or has none of them.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(str(path), squeeze_me=False)
    except Exception as error:  # loadmat raises its own, struct, zlib and NotImplementedError (v7.3)
        raise LabelsError(f"{path} is not a readable MAT file: {error}", str(path)) from error
    for name in names:
        if name in content:
            values = content[name].ravel()
            return [_cell_text(value) for value in values] if values.dtype == object else values
    known = ", ".join(key for key in content if not key.startswith("__"))
    raise LabelsError(f"{path} has no variable {' or '.join(names)}; it has {known}", str(path))


def _cell_text(value: Any) -> str:
    while isinstance(value, np.ndarray):
        flat = value.ravel()
        if not flat.size:
            return ""
        value = flat[0]
    return str(value).strip()


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.lower())
