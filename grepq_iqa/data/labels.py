"""A table of labeled images: which images, with which labels, and what is wrong with the rows.

Example:
    >>> labels = read_labels("labels.csv", lower_is_better=True)  # doctest: +SKIP
    >>> labels.paths[0], labels.mos[0]  # doctest: +SKIP
    (PosixPath('photos/a.jpg'), 3.5)
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.tables import Table, plain_name, read_table
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
LOWER_IS_BETTER_NAMES = ("dmos",)
"""Columns whose very name says that they measure distortion."""

# Marks without a width, which spreadsheets and chat programs leave in copied paths.
_INVISIBLE = dict.fromkeys(
    map(ord, "\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")
)


@dataclass(frozen=True)
class Labels:
    """Labeled images, in the order of the table.

    Attributes:
        paths: image files; relative ones in the table are relative to its own folder.
        mos: float64 ``(n,)``, the labels as they stand in the table, finite.
        lines: line of the table that each comes from, counted from 1.
        lower_is_better: the direction of ``mos``; True for DMOS and other measures of distortion.
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
    lower_is_better: bool | None = None,
    skip_bad_rows: bool = False,
    encoding: str | None = None,
) -> Labels:
    """Read a table of labeled images; `grepq_iqa.data.tables` says which tables are understood.

    Args:
        source: the file.
        image_column: name of the column of image paths; None: found by the usual names, `IMAGE_ALIASES`.
        mos_column: name of the column of labels; None: found likewise, `MOS_ALIASES`.
        images: folder that relative paths start from; None: the folder of the table.
        lower_is_better: direction of the labels, noted and not applied: predictions come out on the table's own scale.
            None: as the column's name says, see `means_lower_is_better`.
        skip_bad_rows: leave rows that cannot be used out and note them, rather than refuse the table.
        encoding: of the file; None: found out.

    Raises:
        LabelsError: the file cannot be read, columns are not found, or rows are bad; all of them are in ``problems``.
    """
    table = read_table(source, encoding=encoding)
    image_at = _image_column(table, image_column)
    mos_at = _mos_column(table, mos_column, image_at)
    folder = Path(images) if images is not None else table.path.parent

    paths: list[Path] = []
    values: list[float] = []
    lines: list[int] = []
    problems: list[str] = []
    first_line: dict[str, int] = {}
    not_found = 0
    for line, cells in table.rows:
        path, value, wrong = _row(table, cells, image_at, mos_at, folder)
        not_found += path is None
        if path is not None:
            known = first_line.setdefault(os.path.normcase(os.path.abspath(path)), line)  # noqa: PTH100 - not resolved
            if known != line:
                wrong.append(
                    f"{table.text(cells, image_at)} is on line {known} already (average repeated ratings first)"
                )
        if wrong or path is None or value is None:
            problems.append(f"line {line}: {'; '.join(wrong)}")
        else:
            paths.append(path)
            values.append(value)
            lines.append(line)
    hints = _hints(table, not_found, images is None)
    if problems and not skip_bad_rows:
        count = f"{len(problems)} of {len(table.rows)} rows"
        raise LabelsError(f"{table.path}: {count} cannot be used{hints}", str(table.path), tuple(problems))
    if not paths:
        raise LabelsError(f"{table.path} has no row that can be used{hints}", str(table.path), tuple(problems))
    return Labels(
        paths=tuple(paths),
        mos=np.array(values, dtype=np.float64),
        lines=tuple(lines),
        lower_is_better=means_lower_is_better(table.header[mos_at], lower_is_better),
        image_column=table.header[image_at],
        mos_column=table.header[mos_at],
        skipped=tuple(problems),
    )


def means_lower_is_better(column: str, given: bool | None = None) -> bool:
    """The direction of a column of labels: as ``given``, else by its name; DMOS measures distortion."""
    return plain_name(column) in LOWER_IS_BETTER_NAMES if given is None else given


def read_paths(source: str | os.PathLike[str], *, encoding: str | None = None) -> list[Path]:
    """Images that a table names, one a row; files that are not there are left to whoever opens them.

    Relative names start from the folder of the table, or, where a file is not there but here, from the working folder:
    so stand the names in a table that ``grepq score --output elsewhere/scores.csv`` wrote.

    Raises:
        LabelsError: the table cannot be read, or none of its columns has a usual name (`IMAGE_ALIASES`).
    """
    table = read_table(source, encoding=encoding)
    at = _image_column(table, None, "call that one 'path'")
    names = [table.text(cells, at) for _, cells in table.filled(at)]
    return [
        find_image(table.path.parent, name) or find_image(Path(), name) or table.path.parent / name for name in names
    ]


def find_image(folder: Path, name: str) -> Path | None:
    """The file that a cell means, None where there is none.

    Tables travel: backslashes come from Windows, macOS writes letters and their accents apart, and copied text carries
    marks that nobody sees.
    """
    for form in _forms(name):
        path = folder / home_expanded(form)
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # name too long, or with a zero byte
            return None
    return None


def home_expanded(name: str) -> Path:
    """``name`` with a leading ``~/`` resolved; ``~photo.jpg`` is a file's name."""
    if name.startswith(("~/", "~\\")):
        try:
            return Path(name).expanduser()
        except RuntimeError:  # nobody's home
            pass
    return Path(name)


def _forms(name: str) -> Iterator[str]:
    for visible in (name, name.translate(_INVISIBLE).strip()):
        for variant in (visible, visible.replace("\\", "/")):
            yield from (variant, unicodedata.normalize("NFC", variant), unicodedata.normalize("NFD", variant))


def _image_column(table: Table, wanted: str | None, hint: str = "name it with --image-column") -> int:
    if wanted is not None:
        return table.column(wanted)
    return table.column(*IMAGE_ALIASES, missing=f"has columns {{}}: none is known to hold the images; {hint}")


def _mos_column(table: Table, wanted: str | None, image_at: int) -> int:
    if wanted is not None:
        return table.column(wanted)
    at = table.optional_column(*MOS_ALIASES, taken=image_at)
    missing = "has columns {}: none is known to hold the scores; name it with --mos-column"
    return at if at is not None else table.column("\0", missing=missing)  # no column is called so


def _row(
    table: Table, cells: tuple[Any, ...], image_at: int, mos_at: int, folder: Path
) -> tuple[Path | None, float | None, list[str]]:
    """Path and label of one row, and what is wrong with it."""
    needed = max(image_at, mos_at) + 1
    if len(cells) < needed:
        return None, None, [f"{len(cells)} columns where {needed} are needed"]
    wrong = []
    if table.surplus(cells):
        wrong.append(
            f"{len(cells)} cells under {len(table.header)} columns (put numbers with a decimal comma in quotes)"
        )
    name = table.text(cells, image_at)
    path = find_image(folder, name) if name else None
    if path is None:
        wrong.append(f"{name} is not a file in {folder}" if name else "no image is named")
    text = table.text(cells, mos_at)
    value = table.number(cells, mos_at)
    if not text:
        wrong.append("no score is given")
    elif value is None:
        wrong.append(f"score {text!r} is not a number")
    elif not np.isfinite(value):
        wrong.append(f"score {text!r} is not finite")
    return path, value, wrong


def _hints(table: Table, not_found: int, folder_is_default: bool) -> str:
    """What may help where most images are not found."""
    if not_found <= len(table.rows) / 2:
        return ""
    hints = []
    if folder_is_default:
        hints.append("if the images lie elsewhere, try --images FOLDER")
    if table.guessed_encoding:
        hints.append(
            f"the table is not UTF-8 and was read as {table.guessed_encoding}: if it is in another encoding, name it, "
            "such as --encoding gbk or shift_jis"
        )
    return f" ({'; '.join(hints)})" if hints else ""
