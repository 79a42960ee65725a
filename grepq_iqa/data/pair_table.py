"""A table of comparisons: two pictures a row, and which of them is the better one.

    left,right,winner
    a.jpg,b.jpg,left
    c.jpg,a.jpg,tie

The winner may be a side, a tie, or the name that stands in one of the two cells. Two rows may disagree about the same
pictures, as people do; a row that contradicts itself is a bad row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.data.labels import SKIP_HINT, find_image, home_expanded
from grepq_iqa.data.tables import Table, plain_name, read_table
from grepq_iqa.errors import LabelsError
from grepq_iqa.files import same_file_key

LEFT_ALIASES = ("left", "leftimage", "a", "imagea", "first", "image1", "path1")
RIGHT_ALIASES = ("right", "rightimage", "b", "imageb", "second", "image2", "path2")
WINNER_ALIASES = ("winner", "better", "preferred", "choice", "answer", "result")
COLUMNS = ("left", "right", "winner")
NO_WINNER = "no winner is given"
"""Of the tables that ``grepq select --pairs`` and its page write."""

_OUTCOMES = (
    dict.fromkeys(("left", "l", "a", "1", "first", "imagea", "image1"), 1.0)
    | dict.fromkeys(("right", "r", "b", "2", "second", "imageb", "image2"), 0.0)
    | dict.fromkeys(("tie", "equal", "same", "both", "draw", "="), 0.5)
)


@dataclass(frozen=True)
class Comparisons:
    """Answers to "which is better?", in the order of the table.

    Attributes:
        paths: the pictures, each once, in the order in which they appear.
        ends: ``(m, 2)``, positions in ``paths`` of the left and the right picture.
        outcomes: ``(m,)``, 1 where the left one is better, 0 where the right one is, 0.5 for a tie.
        lines: line of the table that each comes from, counted from 1.
        skipped: one sentence for every row left out; empty unless bad rows were to be skipped.
    """

    paths: tuple[Path, ...]
    ends: NDArray[np.intp]
    outcomes: NDArray[np.float64]
    lines: tuple[int, ...]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.outcomes)

    def without(self, paths: Sequence[Path]) -> Comparisons:
        """The answers that touch none of these pictures."""
        gone = {same_file_key(path) for path in paths}
        kept = [i for i, path in enumerate(self.paths) if same_file_key(path) not in gone]
        number = np.full(len(self.paths), -1, dtype=np.intp)
        number[kept] = np.arange(len(kept))
        ends = number[self.ends]
        rows = np.flatnonzero((ends >= 0).all(axis=1))
        return Comparisons(
            tuple(self.paths[i] for i in kept),
            ends[rows],
            self.outcomes[rows],
            tuple(self.lines[int(i)] for i in rows),
            self.skipped,
        )


def read_comparisons(
    source: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    skip_bad_rows: bool = False,
    encoding: str | None = None,
) -> Comparisons:
    """Read a table of pairs; `grepq_iqa.data.tables` says which tables are understood.

    Args:
        source: the file.
        images: folder that relative paths start from; None: the folder of the table.
        skip_bad_rows: leave rows that cannot be used out and note them, rather than refuse the table.
        encoding: of the file; None: found out.

    Raises:
        LabelsError: the file cannot be read, columns are not found, or rows are bad; all of them are in ``problems``.
    """
    table = read_table(source, encoding=encoding)
    missing = "has columns {}: a table of pairs has left, right and winner"
    columns = [table.column(*names, missing=missing) for names in (LEFT_ALIASES, RIGHT_ALIASES, WINNER_ALIASES)]
    folder = Path(images) if images is not None else table.path.parent
    number: dict[str, int] = {}
    paths: list[Path] = []
    ends, outcomes, lines, problems = [], [], [], []
    for line, cells in table.rows:
        found, outcome, wrong = _row(table, cells, columns, folder)
        if wrong:
            problems.append(f"{table.unit} {line}: {'; '.join(wrong)}")
            continue
        for path in found:
            if number.setdefault(same_file_key(path), len(number)) == len(paths):
                paths.append(path)
        ends.append([number[same_file_key(path)] for path in found])
        outcomes.append(outcome)
        lines.append(line)
    # Where nothing else is wrong, somebody has answered some of them so far; a table without an answer is a mistake.
    if lines and not skip_bad_rows and all(problem.endswith(f": {NO_WINNER}") for problem in problems):
        problems = []
    if problems and not skip_bad_rows:
        message = f"{table.path}: {len(problems)} of {len(table.rows)} rows cannot be used{SKIP_HINT}"
        raise LabelsError(message, str(table.path), tuple(problems))
    if not lines:
        raise LabelsError(f"{table.path} has no row that can be used", str(table.path), tuple(problems))
    return Comparisons(
        tuple(paths),
        np.array(ends, dtype=np.intp),
        np.array(outcomes, dtype=np.float64),
        tuple(lines),
        tuple(problems),
    )


def holds_answers(table: Table) -> bool:
    """Whether it is a table of pairs with an answer in it."""
    columns = [table.optional_column(*names) for names in (LEFT_ALIASES, RIGHT_ALIASES, WINNER_ALIASES)]
    left, right, winner = columns
    if left is None or right is None or winner is None:
        return False
    return any(table.text(cells, winner) for _, cells in table.rows)


def _row(table: Table, cells: tuple[Any, ...], columns: list[int], folder: Path) -> tuple[list[Path], float, list[str]]:
    left, right, winner = (table.text(cells, at) for at in columns)
    wrong = ["there are more cells than columns"] if table.surplus(cells) else []
    found = []
    for side, name in (("left", left), ("right", right)):
        path = find_image(folder, name) if name else None
        if not name:
            wrong.append(f"no {side} picture is named")
        elif path is None:
            wrong.append(f"{folder / home_expanded(name)} does not exist")
        else:
            found.append(path)
    if len(found) == 2 and same_file_key(found[0]) == same_file_key(found[1]):
        wrong.append(f"{left} is compared with itself")
    outcome = _OUTCOMES.get(plain_name(winner) or winner)
    if winner and winner in (left, right):
        outcome = float(winner == left)
    if not winner:
        wrong.append(NO_WINNER)
    elif outcome is None:
        wrong.append(f"the winner {winner!r} is neither left, right, tie nor the name of one of the two")
    return found, outcome if outcome is not None else 0.0, wrong
