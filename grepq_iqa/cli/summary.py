"""What a folder of rows comes to: counts, quartiles, and how many stand where."""

from __future__ import annotations

from array import array
from typing import Any

from grepq_iqa.cli.ordering import Ordering, Row
from grepq_iqa.text import printable

_FIFTHS = 5


class Summary:
    """Collects rows, one number or two of each; tells of all of them, whatever the limits leave out.

    Args:
        ordering: says which field is summed up, and which way it goes.
    """

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering
        self._values, self._percentiles = array("d"), array("d")
        self._failed = 0
        self._ends: dict[str, tuple[float, str]] = {}

    def add(self, row: Row) -> None:
        """One row."""
        if not self._ordering.summary:
            return
        value = self._ordering.value(row)
        if value is None:
            self._failed += row.get("error") is not None
            return
        self._values.append(value)
        if row.get("percentile") is not None:
            self._percentiles.append(row["percentile"])
        for end, sign in (("best", 1), ("worst", -1)):
            goodness = sign * (-value if self._ordering.lower_is_better else value)
            if end not in self._ends or goodness > self._ends[end][0]:
                self._ends[end] = (goodness, printable(row["path"]))

    def as_text(self) -> str:
        """Some lines for a person."""
        unusable = f", and {self._failed} that could not be used" if self._failed else ""
        lines = [f"{len(self._values)} images{unusable}"]
        if not self._values:
            return lines[0]
        import numpy as np

        names = ("least", "quarter", "median", "three quarters", "most")
        quartiles = np.quantile(np.asarray(self._values), (0, 0.25, 0.5, 0.75, 1))
        told = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, quartiles, strict=True))
        lines.append(f"  {self._ordering.field}: {told}")
        if self._percentiles:
            counts, edges = np.histogram(np.asarray(self._percentiles), bins=_FIFTHS, range=(0, 100))
            told = ", ".join(f"{low:.0f}-{high:.0f}: {n}" for low, high, n in _ranges(edges, counts))
            lines.append(f"  percentiles: {told}")
        lines += [f"  {end}: {path}" for end, (_, path) in self._ends.items()]
        return "\n".join(lines)


def _ranges(edges: Any, counts: Any) -> zip[tuple[float, float, int]]:
    return zip(edges[:-1], edges[1:], counts, strict=True)
