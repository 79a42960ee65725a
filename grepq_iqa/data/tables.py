"""Tables as people really have them: any delimiter, encoding, column names and decimal sign. The only reader of them.

Understood: comma, semicolon, tab or bar between columns; UTF-8 with or without a byte order mark, UTF-16,
Windows-1252, Latin-1, any other encoding by name; quoted cells; blank lines; Excel's ``sep=`` line.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grepq_iqa.errors import LabelsError

SUFFIXES = frozenset({".csv", ".tsv"})
"""Endings, in lower case, by which a file given among images is known to be a table."""

_DELIMITERS = ";\t|,"  # the first of equals: where each line holds one comma too, it is likely a decimal sign
_WHOLE_LINE = "\x1f"  # no table holds the unit separator, so this one splits nothing
_LOOKED_AT = 50  # rows that decide on the delimiter
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_FRACTION = re.compile(r"(.+?)\s*(?:/|\bof\b|\bout of\b)\s*(.+)", re.IGNORECASE)
_STARS = re.compile(r"(?=.)([★⭐*]*)(½?)(☆*)")
_COUNTED_STARS = re.compile(r"(.+?)\s*(?:stars?|★|⭐)", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table with a header. Columns are named without regard to case, spaces and punctuation.

    Attributes:
        path: the file.
        header: names of the columns, as written.
        rows: ``(number, cells)`` of every row that is not blank, the number counted from 1.
        decimal_comma: whether ``3,5`` is a number here, since the comma does not separate columns.
        unit: what the numbers count, "line" or "sheet NAME, row".
        guessed_encoding: the encoding that was taken because the text is not UTF-8, or None.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[Any, ...]], ...]
    decimal_comma: bool = False
    unit: str = "line"
    guessed_encoding: str | None = None

    def column(self, *names: str, missing: str | None = None) -> int:
        """Position of the first of these names that is a column; earlier names win.

        Args:
            names: in any case and punctuation.
            missing: what the error says of the columns when none of them is there.

        Raises:
            LabelsError: none of them is; the message lists those that are.
        """
        at = self.optional_column(*names)
        if at is None:
            known = ", ".join(repr(name) for name in self.header)
            said = missing or f"has no column {' or '.join(map(repr, names))}; its columns are {{}}"
            raise LabelsError(f"{self.path} {said.format(known)}", str(self.path))
        return at

    def optional_column(self, *names: str, taken: int | None = None) -> int | None:
        """As `column`, but None where there is none; the column at ``taken`` does not count."""
        exact = [name.strip() for name in self.header]
        loose = [plain_name(name) for name in self.header]
        for name in names:
            for known, wanted in ((exact, name.strip()), (loose, plain_name(name))):
                for at, candidate in enumerate(known):
                    if candidate == wanted and at != taken:
                        return at
        return None

    def text(self, cells: Sequence[Any], at: int) -> str:
        """A cell as text without blanks around it; a whole number read as 1600.0 is "1600"."""
        value = cells[at] if at < len(cells) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return "" if value is None else str(value).strip()

    def number(self, cells: Sequence[Any], at: int) -> float | None:
        """A cell as a number, maybe not a finite one; None where it is none."""
        rating = self.rating(cells, at)
        return None if rating is None else rating[0]

    def rating(self, cells: Sequence[Any], at: int) -> tuple[float, str] | None:
        """A cell as a number and the scale that it names, as `parse_rating`; None where it is none."""
        value = cells[at] if at < len(cells) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value), ""
        return parse_rating(self.text(cells, at), decimal_comma=self.decimal_comma)

    def surplus(self, cells: Sequence[Any]) -> bool:
        """Whether a row has filled cells beyond the header's: decimal commas that were not quoted make some."""
        return any(self.text(cells, at) for at in range(len(self.header), len(cells)))

    def required_number(self, cells: Sequence[Any], at: int, where: str) -> float:
        """As `number`.

        Args:
            cells: of a row.
            at: position of the column.
            where: the row in words, for the message.

        Raises:
            LabelsError: the cell is none; the message says where it stands.
        """
        value = self.number(cells, at)
        if value is None:
            problem = f"{where}: {self.text(cells, at)!r} is not a number"
            raise LabelsError(f"{self.path} cannot be used", str(self.path), (problem,))
        return value

    def filled(self, *columns: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Rows in which any of these columns holds something: blank lines at the end of a sheet are not labels.

        Each comes as where it stands in words, "line 7", and its cells.
        """
        for number, cells in self.rows:
            if any(self.text(cells, at) for at in columns):
                yield f"{self.unit} {number}", cells


def read_table(source: str | os.PathLike[str], *, encoding: str | None = None) -> Table:
    """Read a delimited text file whose first line names its columns.

    Args:
        source: the file.
        encoding: such as "gbk" or "shift_jis"; None: found out.

    Raises:
        LabelsError: it cannot be read, is not text, or is empty.
    """
    path = Path(source)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise LabelsError(f"{path} cannot be read: {reason}", str(path)) from error
    text, guessed = _decode(data, path, encoding)
    delimiter, rows = _rows(text, path)
    if not rows:
        raise LabelsError(f"{path} is empty", str(path))
    header = tuple(cell.strip() for cell in rows[0][1])
    return Table(path, header, tuple(rows[1:]), decimal_comma=delimiter != ",", guessed_encoding=guessed)


def plain_name(name: str) -> str:
    """A column's name as it is compared: without case, spaces and punctuation."""
    return "".join(c for c in name.casefold() if c.isalnum())


def parse_number(text: str, *, decimal_comma: bool = False) -> float | None:
    """A number as people write it; None where it is none. `parse_rating` says what is understood."""
    rating = parse_rating(text, decimal_comma=decimal_comma)
    return None if rating is None else rating[0]


def parse_rating(text: str, *, decimal_comma: bool = False) -> tuple[float, str] | None:
    """A number as people write it, and the scale that it names: "", "%", "of 5" or "stars"; None where it is none.

    ``3,5`` is one where the comma does not separate columns, or stands in a quoted cell. "85 %" is 85, "4/5" and "4 out
    of 5" are 4, and so are "★★★★", "★★★★☆", "****" and "4 stars": the number stays as it is written, so numbers of
    one column can be compared only where their scales are the same, which is for the caller to see to.
    """
    text = text.strip().replace("\u2212", "-").replace("\ufe0f", "")  # minus of word processors; mark of an emoji
    plain = _plain_number(text, decimal_comma)
    if plain is not None:
        return plain, ""
    if text.endswith("%"):
        share = _plain_number(text[:-1].rstrip(), decimal_comma)
        return None if share is None else (share, "%")
    if stars := _STARS.fullmatch(text):
        return len(stars[1]) + 0.5 * len(stars[2]), "stars"
    if counted := _COUNTED_STARS.fullmatch(text):
        count = _plain_number(counted[1], decimal_comma)
        return None if count is None else (count, "stars")
    if fraction := _FRACTION.fullmatch(text):
        value, most = (_plain_number(part, decimal_comma) for part in fraction.groups())
        if value is not None and most is not None and 0 <= value <= most < float("inf") and most > 0:
            return value, f"of {most:g}"
    return None


def _plain_number(text: str, decimal_comma: bool) -> float | None:
    if text.count(",") == 1 and "." not in text:
        whole, fraction = text.split(",")
        # "1,234" between quotes in a comma table may as well be one thousand and more: not to be guessed.
        if decimal_comma or len(fraction) != 3:
            text = f"{whole}.{fraction}"
    return float(text) if _NUMBER.fullmatch(text) else None


def _decode(data: bytes, path: Path, encoding: str | None) -> tuple[str, str | None]:
    """Text of a file in one of the encodings that spreadsheets write, its lines ended by newlines."""
    if encoding is not None:
        candidates = [encoding]
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        candidates = ["utf-16"]
    elif b"\0" in data[:4096]:
        # UTF-16 without a mark: in text that is mostly ASCII the high bytes are the zeros.
        candidates = ["utf-16-le" if data[1:4096:2].count(0) >= data[:4096:2].count(0) else "utf-16-be"]
    else:
        candidates = ["utf-8-sig", "cp1252", "latin-1"]
    for candidate in candidates:
        try:
            text = data.decode(candidate)
        except UnicodeDecodeError:
            continue
        except LookupError:
            raise LabelsError(f"{candidate!r} is no encoding that Python knows", str(path)) from None
        guessed = candidate if encoding is None and candidate in {"cp1252", "latin-1"} else None
        return text.replace("\r\n", "\n").replace("\r", "\n"), guessed
    if encoding is not None:
        raise LabelsError(f"{path} is not text in {encoding}; try another --encoding", str(path))
    raise LabelsError(f"{path} is not a text file; save the table as CSV", str(path))


def _rows(text: str, path: Path) -> tuple[str, list[tuple[int, tuple[str, ...]]]]:
    """The delimiter, and every row that is not blank with the line it starts on."""
    first, _, rest = text.partition("\n")
    named = re.fullmatch(r" *sep=(\S|\t)\s*", first, re.IGNORECASE)
    if named:
        delimiter = named[1]
        return delimiter, list(_parse(rest, delimiter, path, first_line=2))
    delimiter = _delimiter(text)
    return delimiter, list(_parse(text, delimiter, path, first_line=1))


def _delimiter(text: str) -> str:
    """The character that divides both the header and the rows below it into the same columns.

    A header such as ``image;score (0,100)`` holds other delimiters in its words, rows hold decimal commas.
    """
    sample = [line for line in io.StringIO(text[: 1 << 16]) if line.strip()][:_LOOKED_AT]

    def worth(delimiter: str) -> tuple[float, ...]:
        # Cells are counted, not characters: a delimiter inside quotes separates nothing.
        counts = [len(next(csv.reader([line[:10_000]], delimiter=delimiter, strict=False), [])) for line in sample]
        alike = sum(count == counts[0] for count in counts[1:]) / max(1, len(counts) - 1)
        return (counts[0] > 1, alike, counts[0])

    if not sample or all(worth(delimiter)[0] == 0 for delimiter in _DELIMITERS):
        return _WHOLE_LINE
    return max(_DELIMITERS, key=worth)


def _parse(text: str, delimiter: str, path: Path, first_line: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    start = first_line
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = first_line + reader.line_num - 1
            raise LabelsError(f"{path}: line {line} is not CSV: {error}", str(path)) from error
        if any(cell.strip() for cell in cells):
            yield start, tuple(cells)
        start = first_line + reader.line_num
