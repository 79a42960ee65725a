"""What every reader returns: paths, scores in one direction, and what must stay together in a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.tables import Table
from grepq_iqa.errors import LabelsError, UsageError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class LabeledImages:
    """Images with human scores.

    Attributes:
        name: the data set.
        paths: ``n`` files, each seen on disk when the set was read.
        mos: ``(n,)`` float64, higher is better, in the set's own units unless `scale` says what was done to them.
        scale: those units, for a reader of a report.
        groups: ``(n,)`` strings; images that share one show the same content and must not be parted by a split.
            None where every image is a content of its own.
        split: ``(n,)`` strings from ``train``, ``val``, ``test``: the authors' own split, or None.
        missing: names in the label file for which there is no image.
        notes: what was decided in reading the label file, a sentence each, for a reader of figures.
    """

    name: str
    paths: tuple[Path, ...]
    mos: NDArray[np.float64]
    scale: str = "MOS"
    groups: NDArray[np.str_] | None = None
    split: NDArray[np.str_] | None = None
    missing: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        n = len(self.paths)
        for label, values in (("mos", self.mos), ("groups", self.groups), ("split", self.split)):
            if values is not None and np.shape(values) != (n,):
                raise UsageError(f"{self.name}: {n} paths but {label} of shape {np.shape(values)}")
        if not np.isfinite(self.mos).all():
            raise LabelsError(f"{self.name}: scores that are not finite")
        if self.split is not None and not set(self.split) <= set(PARTS):
            raise UsageError(f"{self.name}: parts of the split must be among {', '.join(PARTS)}")

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Sequence[int] | NDArray[np.intp]) -> LabeledImages:
        """The images at these positions, in this order."""
        at = np.asarray(indices, dtype=np.intp)
        return LabeledImages(
            name=self.name,
            paths=tuple(self.paths[i] for i in at),
            mos=self.mos[at],
            scale=self.scale,
            groups=None if self.groups is None else self.groups[at],
            split=None if self.split is None else self.split[at],
            missing=self.missing,
            notes=self.notes,
        )


@dataclass(frozen=True)
class Row:
    """One line of a label file, before its image has been looked for.

    Attributes:
        image: name as the label file gives it, with or without folders.
        mos: higher is better.
        where: line or row, for messages.
        group: content, or None.
        part: of the authors' split, or None.
    """

    image: str
    mos: float
    where: str
    group: str | None = None
    part: str | None = None


def table_rows(
    table: Table, image: int, score: int, *, group: int | None = None, parts: Mapping[str, str] | None = None
) -> list[Row]:
    """The lines of a table that have an image and a score, higher is better, by their columns.

    ``group`` is the column of contents; ``parts`` the authors' split by name in lower case, where it is known.

    Raises:
        LabelsError: a score is not a number.
    """
    rows = []
    for where, cells in table.filled(image, score):
        file = table.text(cells, image)
        rows.append(
            Row(
                file,
                table.required_number(cells, score, where),
                where,
                group=None if group is None else table.text(cells, group).lower(),
                part=None if parts is None else parts.get(file.lower()),
            )
        )
    return rows


def assemble(
    name: str, rows: Iterable[Row], paths: Iterable[Path | None], *, scale: str, labels: Path, keep_first: bool = False
) -> LabeledImages:
    """Rows and the files found for them (None: not found) as a `LabeledImages`.

    A line given twice counts once. Groups and split are kept only where every row has one.

    Args:
        name: of the data set.
        rows: lines of its label file.
        paths: the file of each.
        scale: units of the scores.
        labels: the label file, for messages.
        keep_first: of an image with two different scores take the first, and say so in ``notes``; for published sets
            whose own label file has such images.

    Raises:
        LabelsError: an image has two different scores, a score is not finite, or there are no rows.
        UsageError: not one image was found.
    """
    rows = list(rows)
    if not rows:
        raise LabelsError(f"{name}: no labels in {labels}", str(labels))
    kept: dict[Path, Row] = {}
    missing: list[str] = []
    problems: list[str] = []
    notes: list[str] = []
    for row, path in zip(rows, paths, strict=True):
        if not np.isfinite(row.mos):
            problems.append(f"{row.where}: the score of {row.image} is {row.mos}")
        elif path is None:
            missing.append(row.image)
        elif path in kept and kept[path].mos != row.mos and keep_first:
            notes.append(
                f"{row.image} has two scores in {labels.name}: the first, {kept[path].mos:g}, was kept, and "
                f"{row.mos:g} ({row.where}) left out"
            )
        elif path in kept and kept[path].mos != row.mos:
            problems.append(f"{row.where}: {row.image} has score {row.mos:g}, but {kept[path].mos:g} further up")
        else:
            kept.setdefault(path, row)
    if problems:
        raise LabelsError(f"{name}: {labels} cannot be used", str(labels), tuple(problems))
    if not kept:
        raise UsageError(
            f"{name}: none of the {len(rows)} images that {labels} lists was found beside it; the first is {missing[0]}"
        )
    found = list(kept.values())
    groups = [row.group for row in found]
    if any(groups):  # a row without a content stands for itself, as in a fit
        groups = [f"{row.image} by itself ({row.where})" if row.group is None else row.group for row in found]
    parts = [row.part for row in found]
    if None in parts and any(parts):
        notes.append(f"{parts.count(None)} of {len(parts)} rows name no part, so that the table's split is not used")
    return LabeledImages(
        name=name,
        paths=tuple(kept),
        mos=np.array([row.mos for row in found], dtype=np.float64),
        scale=scale,
        groups=None if None in groups else np.array(groups, dtype=np.str_),
        split=None if None in parts else np.array(parts, dtype=np.str_),
        missing=tuple(missing),
        notes=tuple(notes),
    )
