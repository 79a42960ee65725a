"""What a report knows of a photograph, and reading it from rows that ``grepq score`` or ``predict`` wrote."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grepq_iqa.data.labels import find_image
from grepq_iqa.data.tables import parse_number
from grepq_iqa.errors import LabelsError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Reason:
    """Why a photograph is poor, as `GRepQ.explain` says it.

    Attributes:
        name: such as "noise".
        sentence: for people.
        percentile: of its amount among in-the-wild photographs, or None.
    """

    name: str
    sentence: str
    percentile: float | None = None


@dataclass(frozen=True)
class Photograph:
    """A row of a report.

    Attributes:
        path: its file.
        value: what it is ranked by, higher is better: Q, or the predicted MOS; None after an error.
        percentile: of Q among in-the-wild photographs, of a fitted model's MOS among its labels, 0 to 100, or None.
        low, high: interval of a predicted MOS, or None.
        warnings: why to trust the value less.
        error: why there is none.
        reasons: what is wrong, most serious first.
        map: the picture with its quality map over it, small; or None.
    """

    path: Path
    value: float | None
    percentile: float | None = None
    low: float | None = None
    high: float | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    reasons: tuple[Reason, ...] = ()
    map: Image.Image | None = None


def read_photographs(source: Path) -> Iterator[Photograph]:
    """Rows of ``grepq score --output`` or ``predict --output``, .csv, .tsv, .json or .jsonl, one after the other.

    Paths are looked for beside the file, then in the working folder, as they were given.

    Raises:
        LabelsError: the file cannot be read, or is damaged; rows before that are given.
    """
    try:
        with source.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            for line, row in _rows(stream, source):
                yield _photograph(row, source, line)
    except OSError as error:
        raise LabelsError(f"{source} cannot be read: {error.strerror or error}", str(source)) from error
    except (ValueError, csv.Error, AttributeError) as error:
        raise LabelsError(
            f"{source} is damaged ({error}); score again with --resume, which mends it", str(source)
        ) from error


def _rows(stream: Any, source: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if source.suffix.lower() in {".csv", ".tsv"}:
        delimiter = "\t" if source.suffix.lower() == ".tsv" else ","
        yield from enumerate(csv.DictReader(stream, delimiter=delimiter, strict=True), start=2)
        return
    # A row has a line of its own also in an array.
    for line, text in enumerate(stream, start=1):
        text = text.strip().rstrip(",")
        if text not in ("", "[", "]"):
            yield line, json.loads(text)


def _photograph(row: Mapping[str, Any], source: Path, line: int) -> Photograph:
    name = row.get("path")
    if not name:
        raise ValueError(f"line {line} has no path")
    error = row.get("error") or None
    value = _number(row, "mos" if "mos" in row else "score")
    if value is None and error is None:
        raise ValueError(f"line {line} has neither a value nor an error")
    warnings = row.get("warnings") or ()
    return Photograph(
        find_image(source.parent, name) or find_image(Path(), name) or Path(name),
        value,
        _number(row, "percentile"),
        _number(row, "low"),
        _number(row, "high"),
        tuple(warnings.split("; ") if isinstance(warnings, str) else warnings),
        error,
    )


def _number(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return parse_number(value) if isinstance(value, str) else value
