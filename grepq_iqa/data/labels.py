"""A table of labeled images: which images, with which labels, and what is wrong with the rows.

Example:
    >>> labels = read_labels("labels.csv", lower_is_better=True)  # doctest: +SKIP
    >>> labels.paths[0], labels.mos[0]  # doctest: +SKIP
    (PosixPath('photos/a.jpg'), 3.5)
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data import repeats as repeated
from grepq_iqa.data.tables import Table, plain_name, read_table
from grepq_iqa.errors import LabelsError
from grepq_iqa.files import same_file_key, sha256_of

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
        paths: image files, each once; relative ones in the table are relative to its own folder.
        mos: float64 ``(n,)``, the labels as they stand in the table, finite; of several ratings the mean or median.
        lines: line of the table that each comes from, counted from 1; of several, the first.
        lower_is_better: the direction of ``mos``; True for DMOS and other measures of distortion.
        image_column, mos_column: names of the columns read.
        skipped: one sentence for every row left out, with its line number; empty unless bad rows were to be skipped.
        groups: ``(n,)``, what the column of groups says, "" for none; None without such a column.
        ratings: ``(n,)``, how many ratings each label is the mean of; None where it is one everywhere.
        weights: ``(n,)``, how much each label counts by its number of ratings; None: all the same.
        agreement: of the raters; None where too few images were rated more than once.
        notes: sentences on what was done with repeated ratings.
    """

    paths: tuple[Path, ...]
    mos: NDArray[np.float64]
    lines: tuple[int, ...]
    lower_is_better: bool
    image_column: str
    mos_column: str
    skipped: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    ratings: NDArray[np.intp] | None = None
    weights: NDArray[np.float64] | None = None
    agreement: repeated.Agreement | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def only(self, rows: Sequence[int]) -> Labels:
        """These rows of the labels."""
        at = list(rows)
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[i] for i in at),
            mos=self.mos[at],
            lines=tuple(self.lines[i] for i in at),
            groups=None if self.groups is None else tuple(self.groups[i] for i in at),
            ratings=None if self.ratings is None else self.ratings[at],
            weights=None if self.weights is None else self.weights[at],
        )


def read_labels(
    source: str | os.PathLike[str],
    *,
    image_column: str | None = None,
    mos_column: str | None = None,
    images: str | os.PathLike[str] | None = None,
    group_column: str | None = None,
    rater_column: str | None = None,
    repeats: repeated.Repeats = "mean",
    lower_is_better: bool | None = None,
    skip_bad_rows: bool = False,
    encoding: str | None = None,
) -> Labels:
    """Read a table of labeled images; `grepq_iqa.data.tables` says which tables and numbers are understood.

    Scores may be written "85 %", "4/5" or as stars, but all in one way: a row whose score names another scale than most
    is a bad row.

    Args:
        source: the file.
        image_column: name of the column of image paths; None: found by the usual names, `IMAGE_ALIASES`.
        mos_column: name of the column of labels; None: found likewise, `MOS_ALIASES`.
        images: folder that relative paths start from; None: the folder of the table.
        group_column: name of a column whose rows of one value are not independent, such as pictures of one scene.
        rater_column: name of a column that says who gave the rating, one a row: each rater's scale is then removed
            before ratings are averaged (`grepq_iqa.data.repeats`).
        repeats: what becomes of several ratings of one image: their "mean", their "median", or an "error".
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
    group_at = None if group_column is None else table.column(group_column)
    rater_at = None if rater_column is None else table.column(rater_column)
    digest_at = table.optional_column("sha256", taken=image_at)
    folder = Path(images) if images is not None else table.path.parent

    rows: list[_Row] = []
    for line, cells in table.rows:
        path, value, scale, wrong = _row(table, cells, image_at, mos_at, folder)
        group = "" if group_at is None else table.text(cells, group_at)
        rater = "" if rater_at is None else table.text(cells, rater_at)
        if rater_at is not None and not rater:
            wrong.append("no rater is named")
        digest = "" if digest_at is None else table.text(cells, digest_at).lower()
        rows.append(_Row(line, table.text(cells, image_at), path, value, scale, group, rater, digest, wrong))
    rows, others = _of_one_content(rows)
    _refuse_other_scales(rows)
    _refuse_other_groups(rows)
    if repeats == "error" and rater_at is None:
        _refuse_repeats(rows)
    usable, bad = [row for row in rows if not row.wrong], [row for row in rows if row.wrong]
    # Where nothing else is wrong, somebody has rated some of them so far; a table without any rating is a mistake.
    waiting = bad if usable and not skip_bad_rows and all(row.wrong == [NO_SCORE] for row in bad) else []
    problems = () if waiting else tuple(f"line {row.line}: {'; '.join(row.wrong)}" for row in bad)
    hints = _hints(table, sum(row.path is None for row in rows), images is None)
    if problems and not skip_bad_rows:
        count = f"{len(problems)} of {len(table.rows)} rows"
        raise LabelsError(f"{table.path}: {count} cannot be used{hints}{SKIP_HINT}", str(table.path), problems)
    if not usable:
        raise LabelsError(f"{table.path} has no row that can be used{hints}", str(table.path), problems)
    return _merged(
        usable,
        repeats,
        Labels(
            paths=(),
            mos=np.empty(0),
            lines=(),
            lower_is_better=means_lower_is_better(table.header[mos_at], lower_is_better),
            image_column=table.header[image_at],
            mos_column=table.header[mos_at],
            skipped=problems,
            notes=(
                *([f"without a score, not rated yet: {len(waiting)} of {len(rows)} rows"] if waiting else []),
                *([_other_contents(others)] if others else []),
            ),
        ),
        grouped=group_at is not None,
        rated=rater_at is not None,
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
    if not name.isascii():  # names that are no UTF-8, or a table of which one such name made another encoding
        for encoding in ("cp1252", "latin-1"):
            with contextlib.suppress(UnicodeError):
                yield os.fsdecode(name.encode(encoding))


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


NO_SCORE = "no score is given"
SKIP_HINT = "; mend them, or leave them out with --skip-bad-rows"


class _Row(NamedTuple):
    """One row of a table; ``wrong`` is empty where it can be used."""

    line: int
    name: str
    path: Path | None
    value: float | None
    scale: str
    group: str
    rater: str
    digest: str
    wrong: list[str]

    @property
    def key(self) -> str:
        """The same for every name of one file."""
        return same_file_key(self.path or self.name)


def _of_one_content(rows: list[_Row]) -> tuple[list[_Row], list[_Row]]:
    """Rows to use, and those of other photographs of the same name, as the SHA-256 beside them tell.

    A browser gives names without their folders, and files are edited: `grepq serve` keeps ratings of two contents apart
    by a column. Of those of one name the ones of the file that is there count, else the last.
    """
    contents: dict[str, list[str]] = {}
    for row in rows:
        if row.path is not None and row.digest and row.digest not in contents.setdefault(row.key, []):
            contents[row.key].append(row.digest)
    wanted: dict[str, str] = {}
    for row in rows:
        if row.path is not None and len(contents.get(row.key, ())) > 1 and row.key not in wanted:
            try:
                own = sha256_of(row.path)
            except OSError:
                own = ""
            known = contents[row.key]
            wanted[row.key] = own if own in known else known[-1]
    kept: list[_Row] = []
    others: list[_Row] = []
    for row in rows:
        of_another = row.path is not None and row.digest and row.digest != wanted.get(row.key, row.digest)
        (others if of_another else kept).append(row)
    return kept, others


def _other_contents(rows: list[_Row]) -> str:
    count = f"{len(rows)} ratings are" if len(rows) > 1 else "1 rating is"
    names = _listed(sorted({row.name for row in rows}))
    return f"{count} of other photographs under the same names, by their SHA-256, and left out: {names}"


def _refuse_other_scales(rows: list[_Row]) -> None:
    """A 4 of 5 and an 8 of 10, or 80 %, cannot stand in one column."""
    counts = Counter(row.scale for row in rows if row.value is not None)
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    for row in rows:
        if row.value is not None and row.scale != usual:
            row.wrong.append(f"the score is {_in_words(row.scale)}, where most are {_in_words(usual)}")


def _in_words(scale: str) -> str:
    return {"": "a plain number", "%": "in percent", "stars": "in stars"}.get(scale, f"out {scale}")


def _refuse_other_groups(rows: list[_Row]) -> None:
    first: dict[str, _Row] = {}
    for row in rows:
        if row.path is not None:
            known = first.setdefault(row.key, row)
            if known.group != row.group:
                row.wrong.append(
                    f"{row.name} is in group {row.group!r} here and in {known.group!r} on line {known.line}"
                )


def _refuse_repeats(rows: list[_Row]) -> None:
    first: dict[str, int] = {}
    for row in rows:
        if row.path is not None:
            known = first.setdefault(row.key, row.line)
            if known != row.line:
                row.wrong.append(f"{row.name} is on line {known} already (repeated ratings can be averaged)")


def _merged(rows: list[_Row], how: repeated.Repeats, bare: Labels, *, grouped: bool, rated: bool) -> Labels:
    """The labels of usable rows, one an image, written into ``bare``."""
    values = np.array([row.value for row in rows], dtype=np.float64)
    notes = []
    if rated:
        values, constant, few = repeated.without_rater_scales(values, [row.rater for row in rows])
        notes.append(f"the scale of each of {len({row.rater for row in rows})} raters was removed (z-scores)")
        if constant:
            notes.append(f"left out {_listed(constant)}, who rated all images the same")
        if few:
            notes.append(f"{_listed(few)} rated fewer than 3 images, which shows no scale: left as they are")
        rows = [row for row, value in zip(rows, values, strict=True) if np.isfinite(value)]
        values = values[np.isfinite(values)]
        if not rows:
            raise LabelsError("every rater rated all images the same: labels that differ are needed to learn from")
    number: dict[str, int] = {}
    images = np.array([number.setdefault(row.key, len(number)) for row in rows], dtype=np.intp)
    first = [rows[int(i)] for i in np.unique(images, return_index=True)[1]]
    counts = np.bincount(images)
    several = bool((counts > 1).any())
    if several:
        notes.append(
            f"{int((counts > 1).sum())} of {len(counts)} images were rated more than once ({len(rows)} ratings): their "
            f"{'median' if how == 'median' else 'mean'} is the label"
        )
    return dataclasses.replace(
        bare,
        paths=tuple(row.path for row in first if row.path is not None),
        mos=repeated.merged(values, images, how) if several else values,
        lines=tuple(row.line for row in first),
        groups=tuple(row.group for row in first) if grouped else None,
        ratings=counts if several else None,
        weights=repeated.reliability_weights(values, images) if several else None,
        agreement=repeated.agreement(values, images) if several else None,
        notes=(*bare.notes, *notes),
    )


def _listed(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(repr, names[:shown])) + more


def _row(
    table: Table, cells: tuple[Any, ...], image_at: int, mos_at: int, folder: Path
) -> tuple[Path | None, float | None, str, list[str]]:
    """Path, label and its scale of one row, and what is wrong with it."""
    needed = max(image_at, mos_at) + 1
    if len(cells) < needed:
        return None, None, "", [f"{len(cells)} columns where {needed} are needed"]
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
    rating = table.rating(cells, mos_at)
    value, scale = (None, "") if rating is None else rating
    if not text:
        wrong.append(NO_SCORE)
    elif value is None:
        wrong.append(f"score {text!r} is not a number")
    elif not np.isfinite(value):
        wrong.append(f"score {text!r} is not finite")
    return path, value, scale, wrong


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
