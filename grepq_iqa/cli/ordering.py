"""Which rows are shown, in which order, and what fails a gate: options and rules that `score` and `predict` share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grepq_iqa.errors import UsageError

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ

GATE_MISSED = 3
"""Exit status where ``--fail-under`` found an image below its limit."""

Row = Mapping[str, Any]


class Order(str, Enum):
    """What comes first."""

    best = "best"
    worst = "worst"
    path = "path"


Sort = Annotated[
    Order | None, typer.Option("--sort", help="What comes first. [default: as given, rows as they are ready]")
]
Top = Annotated[int | None, typer.Option("--top", min=1, help="Only so many of the best, best first.")]
Worst = Annotated[int | None, typer.Option("--worst", min=1, help="Only so many of the worst, worst first.")]
MinScore = Annotated[float | None, typer.Option("--min-score", help="Only images that score this much or more.")]
MinMos = Annotated[
    float | None, typer.Option("--min-mos", "--min-score", help="Only images with this mos, or a better one.")
]
MinPercentile = Annotated[
    float | None, typer.Option("--min-percentile", min=0, max=100, help="Only images that stand this high or higher.")
]
FailUnder = Annotated[
    float | None,
    typer.Option("--fail-under", help="Exit with 3 if an image scores less: a gate for checks that run by themselves."),
]
Summary = Annotated[bool, typer.Option("--summary", help="End with counts and quartiles, on stderr.")]
MosLowerIsBetter = Annotated[
    bool | None,
    typer.Option(
        "--lower-is-better/--higher-is-better",
        help="Whether the lowest mos is the best, as of labels that measure distortion. [default: as fitted]",
        show_default=False,
    ),
]


def lowest_is_best(model: GRepQ, given: bool | None) -> bool:
    """Which end of the mos is the best: as the user says, else as the model was fitted.

    Raises:
        UsageError: it was not fitted, and scores and expected opinions run one way.
    """
    if given and not hasattr(model, "regressor_"):
        raise UsageError("--lower-is-better is about the labels of a fitted model; here higher is better")
    return model.lower_is_better if given is None else given


@dataclass(frozen=True)
class Ordering:
    """What the options ask for.

    Rows of files that could not be used are never left out: they come last in any order, with their errors.

    Attributes:
        field: that is compared, "score" or "mos".
        sort: what comes first; None leaves rows as they come.
        top, worst: only so many of the best or of the worst.
        min_value: rows less good than this are left out.
        min_percentile: rows that stand lower are left out.
        fail_under: an image less good than this misses the gate.
        summary: whether to end with one.
        lower_is_better: of the field.

    Raises:
        UsageError: both the best and the worst are asked for, or a limit is not a number.
    """

    field: str = "score"
    sort: Order | None = None
    top: int | None = None
    worst: int | None = None
    min_value: float | None = None
    min_percentile: float | None = None
    fail_under: float | None = None
    summary: bool = False
    lower_is_better: bool = False

    def __post_init__(self) -> None:
        if self.top is not None and self.worst is not None:
            raise UsageError(
                "--top and --worst exclude each other; run twice, the second time nothing is computed anew"
            )
        for limit in (self.min_value, self.min_percentile, self.fail_under):
            if limit is not None and math.isnan(limit):
                raise UsageError("limits are numbers, not nan")

    @property
    def needs_all(self) -> bool:
        """Whether the first row can be told only after the last one is known."""
        return self.sort is not None or self.top is not None or self.worst is not None

    def value(self, row: Row) -> float | None:
        """What is compared; None for a row without it."""
        value = row.get(self.field)
        return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

    def keeps(self, row: Row) -> bool:
        """Whether a row lies within the limits; one with an error does."""
        value = self.value(row)
        if value is None:
            return True
        if self.min_value is not None and self._goodness(value) < self._goodness(self.min_value):
            return False
        percentile = row.get("percentile")
        return self.min_percentile is None or percentile is None or percentile >= self.min_percentile

    def misses_gate(self, row: Row) -> bool:
        """Whether a row fails ``--fail-under``."""
        value = self.value(row)
        return (
            value is not None
            and self.fail_under is not None
            and self._goodness(value) < self._goodness(self.fail_under)
        )

    def arranged(self, rows: Iterable[Row]) -> list[Row]:
        """Rows within the limits in the order asked for; equals stay as they came, errors are last."""
        kept = [row for row in rows if self.keeps(row)]
        if not self.needs_all:
            return kept
        usable = [row for row in kept if self.value(row) is not None]
        failed = [row for row in kept if self.value(row) is None]
        usable.sort(key=self._rank)
        if self.top is not None:
            usable = usable[: self.top]
        elif self.worst is not None:
            usable = sorted(usable, key=self._rank, reverse=True)[: self.worst]
        order = self.sort or (Order.worst if self.worst is not None else Order.best)
        if order is Order.path:
            usable.sort(key=lambda row: str(row["path"]))
        else:
            usable.sort(key=self._rank, reverse=order is Order.worst)
        return [*usable, *failed]

    def _goodness(self, value: float) -> float:
        return -value if self.lower_is_better else value

    def _rank(self, row: Row) -> float:
        value = self.value(row)
        assert value is not None
        return -self._goodness(value)
