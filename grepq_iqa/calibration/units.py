"""Rows that are not independent, as numbers: each row's unit, and sums over units.

A unit is what is drawn, left out and counted as one: a single row, or all rows of one group (copies of a picture,
pictures of one scene). `grepq_iqa.calibration.groups` finds groups; here they are only bookkeeping.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.errors import LabelsError

Units = NDArray[np.intp]


def unit_numbers(groups: ArrayLike | None, rows: int) -> Units:
    """The unit of each row, ``(rows,)``, numbered from 0 in the order in which they appear.

    Args:
        groups: ``(rows,)`` names or numbers, rows of one value being one group; None: every row is a unit.
        rows: how many there are.

    Raises:
        LabelsError: not one group for each row.
    """
    if groups is None:
        return np.arange(rows)
    given = np.asarray(groups)
    if given.shape != (rows,):
        raise LabelsError(f"one group for each of {rows} images is needed, got shape {given.shape}")
    _, first, inverse = np.unique(given, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def unit_count(units: Units) -> int:
    """How many units there are."""
    return int(units.max()) + 1 if len(units) else 0


def shared(units: Units) -> bool:
    """Whether any two rows belong to one unit."""
    return unit_count(units) < len(units)


def blocks(units: Units) -> Iterator[Units]:
    """Rows of each unit that has more than one, rising."""
    order = np.argsort(units, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(units))[:-1]):
        if len(rows) > 1:
            yield rows


def summed(values: NDArray[np.float64], units: Units) -> NDArray[np.float64]:
    """Every column of ``(m, n)`` replaced by the sum over the columns of its unit."""
    order = np.argsort(units, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(units))[:-1]])
    result: NDArray[np.float64] = np.add.reduceat(values[:, order], starts, axis=1)[:, units]
    return result
