"""The report: one page of all photographs, which opens from disk, written as its photographs come.

What a photograph shows stands in its own figure, and sorting and filtering is the page's own script. Above
`MOST_INSIDE` photographs the small pictures lie in a folder beside the page, which stays small and quick to open.
"""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from grepq_iqa.data.capture import read_capture
from grepq_iqa.data.images import MAX_PIXELS
from grepq_iqa.data.thumbnails import gray_thumbnail, thumbnail_and_size
from grepq_iqa.errors import ImageError
from grepq_iqa.pages import SAVE_TABLE, link_to, shown, write_page
from grepq_iqa.report.copies import CopyFinder
from grepq_iqa.report.photograph import Photograph
from grepq_iqa.report.picture_folder import PictureFolder

THUMBNAIL_SIDE = 320
MOST_INSIDE = 300
"""Photographs whose small pictures a page holds itself: some 6 MB. More lie in a folder beside it."""

_PACKAGE = "grepq_iqa.report"


@dataclass(frozen=True)
class ReportText:
    """What a report says of itself.

    Attributes:
        title: heading.
        value_name: what photographs are ranked by, "Score" or "MOS".
        lower_is_better: the direction of the value.
        made_with: the model and its weights, in words.
        notes: sentences to be read before the numbers.
        among: what percentiles are shares of.
    """

    title: str
    value_name: str = "Score"
    lower_is_better: bool = False
    made_with: str = ""
    notes: tuple[str, ...] = ()
    among: str = "in-the-wild photographs"


@dataclass
class Summary:
    """What was written: counts, known when the page is."""

    photographs: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    groups: list[list[int]] = field(default_factory=list)


def write_report(
    path: Path,
    photographs: Iterable[tuple[Photograph, NDArray[Any] | None]],
    text: ReportText,
    *,
    count: int,
    finder: CopyFinder | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Summary:
    """Write the page; an older one, and its pictures, stay as they are until it is complete.

    Args:
        path: the .html file.
        photographs: each with its features ``(d,)``, or None, in the order in which they shall first be shown.
        text: what the page says of itself.
        count: how many there will be; decides whether small pictures go into the page.
        finder: of near-duplicates; None: by small pictures alone.
        max_pixels: larger pictures are not shown.

    Raises:
        UsageError: the page or its pictures cannot be written.
        GrepqError: jinja2 is not installed.
    """
    pictures = PictureFolder(path, inside=count <= MOST_INSIDE)
    pictures.require()
    writer = _Figures(path, pictures, finder or CopyFinder(), max_pixels)
    write_page(
        path,
        (_PACKAGE, "templates/report.html"),
        [(_PACKAGE, "templates/report.css")],
        [SAVE_TABLE, (_PACKAGE, "templates/report.js")],
        text=text,
        written=datetime.datetime.now().astimezone(),
        figures=writer.figures(photographs),
        summary=writer.summarized,
    )
    pictures.remove_unused()
    return writer.summary


class _Figures:
    """Photographs -> what the template shows of each."""

    def __init__(self, page: Path, pictures: PictureFolder, finder: CopyFinder, max_pixels: int) -> None:
        self.summary = Summary()
        self._page, self._pictures, self._finder = page, pictures, finder
        self._max_pixels = max_pixels

    def figures(self, photographs: Iterable[tuple[Photograph, NDArray[Any] | None]]) -> Iterator[dict[str, Any]]:
        for number, (photograph, features) in enumerate(photographs):
            row = self._row(number, photograph, features)
            self.summary.photographs += 1
            self.summary.failed += row["error"] is not None
            self.summary.reasons.update(reason["name"] for reason in row["reasons"])
            yield row

    def summarized(self) -> dict[str, Any]:
        """For the template, when all figures are written."""
        self.summary.groups = self._finder.find()
        return {"groups": self.summary.groups}

    def _row(self, number: int, photograph: Photograph, features: NDArray[Any] | None) -> dict[str, Any]:
        path, error = photograph.path, photograph.error
        row: dict[str, Any] = {
            "number": number,
            "name": shown(path.name),
            "folder": shown(path.parent),
            "path": os.fspath(path),  # JSON escapes what stands for bytes of no text
            "file": os.path.abspath(path),  # noqa: PTH100 - links are kept; a list is saved to a folder of the browser's
            "link": link_to(path, self._page),
            "value": photograph.value,
            "percentile": photograph.percentile,
            "low": photograph.low,
            "high": photograph.high,
            "warnings": [shown(warning) for warning in photograph.warnings],
            "reasons": [
                {"name": shown(reason.name), "sentence": shown(reason.sentence), "percentile": reason.percentile}
                for reason in photograph.reasons
            ],
            "map": None,
            "picture": None,
            "width": None,
            "height": None,
            "bytes": _bytes_of(path),
            "taken": None,
        }
        try:
            picture, (row["width"], row["height"]) = thumbnail_and_size(
                path, THUMBNAIL_SIDE, max_pixels=self._max_pixels
            )
        except ImageError as problem:
            error = error or problem.reason
        else:
            row["picture"] = self._pictures.url(picture)
            row["picture_size"] = picture.size
            self._finder.add(number, gray_thumbnail(picture), features)
            taken = read_capture(path).local
            row["taken"] = None if taken is None else taken.replace(tzinfo=None).isoformat(" ", "seconds")
        if photograph.map is not None:
            row["map"] = self._pictures.url(photograph.map)
        row["error"] = None if error is None else shown(error)
        return row


def _bytes_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None
