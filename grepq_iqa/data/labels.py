"""A table of labelled images, as people really have them: any delimiter, encoding, column names and decimal sign.

Example:
    >>> labels = read_labels("labels.csv", lower_is_better=True)  # doctest: +SKIP
    >>> labels.paths[0], labels.mos[0]  # doctest: +SKIP
    (PosixPath('photos/a.jpg'), 3.5)
"""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.errors import LabelsError

# Compared without case, spaces and punctuation; earlier names win over later ones.
IMAGE_ALIASES = (
    "path", "imagepath", "filepath", "file", "filename", "image", "imagename", "imagefile", "img", "imgname", "imgpath",
    "photo", "picture", "name",
)  # fmt: skip
MOS_ALIASES = (
    "mos", "meanopinionscore", "dmos", "mosvalue", "mosscore", "meanmos", "score", "rating", "meanscore", "meanrating",
    "averagescore", "averagerating", "opinionscore", "qualityscore", "quality", "label", "target", "mean",
)  # fmt: skip

_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Labels:
    """Labelled images, in the order of the table.

    Attributes:
        paths: image files; relative ones in the table are relative to its own folder.
        mos: float64 ``(n,)``, the labels as they stand in the table, finite.
        lines: line of the table that each comes from, counted from 1.
        lower_is_better: the direction of ``mos``; True for DMOS and other measures of damage.
        image_column, mos_column: names of the columns read.
        skipped: one sentence for every row left out, with its line number; empty unless bad rows were to be skipped.
    """

    paths: tuple[Path, ...]
    mos: NDArray[np.float64]
    lines: tuple[int, ...]
    lower_is_better: bool
    image_column: str
    mos_column: str
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


def read_labels(
    source: str | os.PathLike[str],
    *,
    image_column: str | None = None,
    mos_column: str | None = None,
    images: str | os.PathLike[str] | None = None,
    lower_is_better: bool = False,
    skip_bad_rows: bool = False,
) -> Labels:
    """Read a table whose first line names its columns.

    Understood: comma, semicolon, tab or bar between columns; UTF-8 with or without a byte order mark, UTF-16,
    Windows-1252, Latin-1; a decimal comma; quoted cells; blank lines; Excel's ``sep=`` line; backslashes in paths.

    Args:
        source: the file.
        image_column: name of the column of image paths; None: found by the usual names, `IMAGE_ALIASES`.
        mos_column: name of the column of labels; None: found likewise, `MOS_ALIASES`.
        images: folder that relative paths start from; None: the folder of the table.
        lower_is_better: direction of the labels; noted, not applied: predictions come out on the table's own scale.
        skip_bad_rows: leave rows that cannot be used out and note them, rather than refuse the table.

    Raises:
        LabelsError: the file cannot be read, columns are not found, or rows are bad; all of them are in ``problems``.
    """
    table = Path(source)
    text = _decode(_read(table), table)
    delimiter, rows = _rows(text)
    if not rows:
        raise LabelsError(f"{table} is empty", str(table))
    _, header = rows[0]
    image_at = _column(header, image_column, IMAGE_ALIASES, "image", table)
    mos_at = _column(header, mos_column, MOS_ALIASES, "mos", table, taken=image_at)
    folder = Path(images) if images is not None else table.parent

    paths: list[Path] = []
    values: list[float] = []
    lines: list[int] = []
    problems: list[str] = []
    first_line: dict[str, int] = {}
    for line, cells in rows[1:]:
        path, value, wrong = _row(cells, image_at, mos_at, folder, decimal_comma=delimiter != ",")
        if path is not None:
            known = first_line.setdefault(os.path.normcase(os.path.abspath(path)), line)  # noqa: PTH100 - not resolved
            if known != line:
                wrong.append(f"{cells[image_at].strip()} is on line {known} already (average repeated ratings first)")
        if wrong or path is None or value is None:
            problems.append(f"line {line}: {'; '.join(wrong)}")
        else:
            paths.append(path)
            values.append(value)
            lines.append(line)
    if problems and not skip_bad_rows:
        count = f"{len(problems)} of {len(rows) - 1} rows"
        raise LabelsError(f"{table}: {count} cannot be used", str(table), tuple(problems))
    if not paths:
        raise LabelsError(f"{table} has no row that can be used", str(table), tuple(problems))
    return Labels(
        paths=tuple(paths),
        mos=np.array(values, dtype=np.float64),
        lines=tuple(lines),
        lower_is_better=lower_is_better,
        image_column=header[image_at].strip(),
        mos_column=header[mos_at].strip(),
        skipped=tuple(problems),
    )


def read_paths(source: str | os.PathLike[str]) -> list[Path]:
    """Images that a table names, one a row, relative to it; files that are not there are left to whoever opens them.

    Raises:
        LabelsError: the table cannot be read, or none of its columns has a usual name (`IMAGE_ALIASES`).
    """
    table = Path(source)
    _, rows = _rows(_decode(_read(table), table))
    if not rows:
        raise LabelsError(f"{table} is empty", str(table))
    at = _column(rows[0][1], None, IMAGE_ALIASES, "image", table, hint="call that one 'path'")
    names = [cells[at].strip() for _, cells in rows[1:] if len(cells) > at and cells[at].strip()]
    return [_find(table.parent, name) or table.parent / name for name in names]


def _read(table: Path) -> bytes:
    try:
        return table.read_bytes()
    except OSError as error:
        raise LabelsError(f"{table} cannot be read: {error.strerror or error}", str(table)) from error


def _decode(data: bytes, table: Path) -> str:
    """Text of a file in one of the encodings that spreadsheets write, its lines ended by newlines."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif b"\0" in data[:4096]:
        # UTF-16 without a mark: in text that is mostly ASCII the high bytes are the zeros.
        encodings = ["utf-16-le" if data[1:4096:2].count(0) >= data[:4096:2].count(0) else "utf-16-be"]
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            return data.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            continue
    raise LabelsError(f"{table} is not a text file; save the table as CSV", str(table))


def _rows(text: str) -> tuple[str, list[tuple[int, list[str]]]]:
    """The delimiter, and every row that is not blank with the line it starts on."""
    first, _, rest = text.partition("\n")
    if first.strip().lower().startswith("sep=") and len(first.strip()) == 5:
        delimiter = first.strip()[4]
        return delimiter, list(_parse(rest, delimiter, first_line=2))
    header = next((line for line in io.StringIO(text) if line.strip()), "")
    # A delimiter inside quotes separates nothing, so cells are counted, not characters.
    delimiter = max(_DELIMITERS, key=lambda d: len(next(csv.reader([header[:10_000]], delimiter=d), [])))
    return delimiter, list(_parse(text, delimiter, first_line=1))


def _parse(text: str, delimiter: str, first_line: int) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    start = first_line
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise LabelsError(f"line {first_line + reader.line_num - 1} is not CSV: {error}") from error
        if any(cell.strip() for cell in cells):
            yield start, cells
        start = first_line + reader.line_num


def _column(
    header: Sequence[str],
    wanted: str | None,
    aliases: Iterable[str],
    option: str,
    table: Path,
    taken: int | None = None,
    hint: str | None = None,
) -> int:
    """Index of the column called ``wanted``, or of the first alias that is there."""
    keys = [_key(name) for name in header]
    names = ", ".join(repr(name.strip()) for name in header)
    if wanted is not None:
        exact = [i for i, name in enumerate(header) if name.strip() == wanted.strip()]
        loose = [i for i, key in enumerate(keys) if key == _key(wanted)]
        if not (exact or loose):
            raise LabelsError(f"{table} has no column {wanted!r}; its columns are {names}", str(table))
        return (exact or loose)[0]
    for alias in aliases:
        for i, key in enumerate(keys):
            if key == alias and i != taken:
                return i
    raise LabelsError(
        f"{table}: none of the columns {names} is known to hold the {'images' if option == 'image' else 'scores'}; "
        f"{hint or f'name it with --{option}-column'}",
        str(table),
    )


def _key(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _row(
    cells: Sequence[str], image_at: int, mos_at: int, folder: Path, *, decimal_comma: bool
) -> tuple[Path | None, float | None, list[str]]:
    """Path and label of one row, and what is wrong with it."""
    needed = max(image_at, mos_at) + 1
    if len(cells) < needed:
        return None, None, [f"{len(cells)} columns where {needed} are needed"]
    wrong = []
    name, number = cells[image_at].strip(), cells[mos_at].strip()
    path = None
    if not name:
        wrong.append("no image is named")
    else:
        path = _find(folder, name)
        if path is None:
            wrong.append(f"{name} is not a file in {folder}")
    value = None
    if not number:
        wrong.append("no score is given")
    else:
        value = _number(number, decimal_comma)
        if value is None:
            wrong.append(f"score {number!r} is not a number")
        elif not np.isfinite(value):
            wrong.append(f"score {number!r} is not finite")
    return path, value, wrong


def _number(text: str, decimal_comma: bool) -> float | None:
    """A decimal number; ``3,5`` is one where the comma does not separate columns, or stands in a quoted cell."""
    if text.count(",") == 1 and "." not in text:
        whole, fraction = text.split(",")
        # "1,234" between quotes in a comma table may as well be one thousand and more: not to be guessed.
        if decimal_comma or len(fraction) != 3:
            text = f"{whole}.{fraction}"
    if "_" in text:  # float() would take 1_000
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _find(folder: Path, name: str) -> Path | None:
    """The file that a cell means, None where there is none.

    Tables travel: backslashes come from Windows, and macOS writes letters and their accents apart.
    """
    for variant in (name, name.replace("\\", "/")):
        for form in (variant, unicodedata.normalize("NFC", variant), unicodedata.normalize("NFD", variant)):
            path = folder / Path(form).expanduser()
            try:
                if path.is_file():
                    return path
            except (OSError, ValueError):  # name too long, or with a zero byte
                return None
    return None
