"""XLSX and MAT files as tables and arrays, tolerant of what these files look like in the wild."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from grepq_iqa.data.tables import Table, plain_name
from grepq_iqa.errors import GrepqError, LabelsError


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
        wanted = {plain_name(name) for name in required}
        for name in names:
            header: tuple[str, ...] | None = None
            rows: list[tuple[int, tuple[Any, ...]]] = []
            for number, cells in enumerate(book[name].iter_rows(values_only=True), start=1):
                if header is not None:
                    rows.append((number, tuple(cells)))
                elif wanted <= {plain_name(str(cell)) for cell in cells if cell is not None}:
                    header = tuple("" if cell is None else str(cell).strip() for cell in cells)
            if header is not None:
                return Table(path, header, tuple(rows), unit=f"sheet {name}, row")
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
