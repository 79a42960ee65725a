"""Pairs of rows of features that are near each other, block by block, so that rows may lie in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.calibration.regressor import Array, standardize

_MOST_ROWS = 1024
_FLOATS = 1 << 21  # of a block of rows, 16 MiB of float64


class Rows(Protocol):
    """What is looked at: an array ``(n, d)``, or what answers slices of rows as one does."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, d)``."""
        ...

    def __len__(self) -> int:
        """The n of ``shape``."""
        ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.floating]:
        """``(k, d)``."""
        ...


class RowsInFile:
    """Float32 rows ``(n, d)`` that lie in a file one behind the other, read when they are asked for.

    Args:
        file: opened for reading.
        dim: d.
        positions: ``(n,)``, which of the file's rows these are.
    """

    def __init__(self, file: BinaryIO, dim: int, positions: Sequence[int] | NDArray[np.intp]) -> None:
        self._file, self._positions = file, positions
        self.shape = (len(positions), dim)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        wanted = self._positions[rows]
        found = np.empty((len(wanted), self.shape[1]), dtype=np.float32)
        for row, position in zip(found, wanted, strict=True):
            self._file.seek(int(position) * row.nbytes)
            row[:] = np.frombuffer(self._file.read(row.nbytes), dtype=np.float32)
        return found


class Standardized:
    """Rows of features, standardized when they are asked for.

    Args:
        rows: ``(n, d)``.
        mean, scale: ``(d,)``.
    """

    def __init__(self, rows: Rows, mean: Array, scale: Array) -> None:
        self._rows, self._mean, self._scale = rows, mean, scale
        self.shape = (len(rows), len(mean))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        return standardize(self._rows[rows].astype(np.float64), self._mean, self._scale)


def near_pairs(rows: Rows, threshold: float) -> tuple[NDArray[np.intp], Array]:
    """Pairs ``(k, 2)`` of rows, the first below the second, and how far apart they are ``(k,)``: within the threshold.

    Distances are root mean squared differences; a negative threshold has no pairs.
    """
    count, dim = rows.shape
    pairs, apart = [np.empty((0, 2), dtype=np.intp)], [np.empty(0)]
    if not count or not dim or threshold < 0:
        return pairs[0], apart[0]
    for first in block_slices(rows):
        left = rows[first]
        squares = np.einsum("ij,ij->i", left, left)
        for second in block_slices(rows, first.start):
            right = left if second == first else rows[second]
            others = squares if second == first else np.einsum("ij,ij->i", right, right)
            distances = squares[:, None] + others - 2 * left @ right.T
            near = distances <= threshold**2 * dim
            if second == first:
                near = np.triu(near, 1)
            pairs.append(np.argwhere(near) + np.array([first.start, second.start]))
            apart.append(np.sqrt(distances[near].clip(min=0) / dim))
    return np.concatenate(pairs), np.concatenate(apart)


def block_slices(rows: Rows, start: int = 0) -> Iterator[slice]:
    """Slices of as many rows as are held at once, from ``start`` on, where a block begins."""
    count, dim = rows.shape
    step = int(np.clip(_FLOATS // max(1, dim), 16, _MOST_ROWS))
    for first in range(start, count, step):
        yield slice(first, min(count, first + step))
