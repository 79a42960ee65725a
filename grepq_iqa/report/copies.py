"""Near-duplicates among the photographs of a report, in memory that does not grow with their features."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.calibration.groups import BOTH_NEAR, find_groups, normalized_thumbnails
from grepq_iqa.calibration.near_rows import RowsInFile, near_pairs


class CopyFinder:
    """Takes photographs one by one and says in the end which are near-duplicates of each other.

    Only a gray thumbnail of each stays in memory, 1 KiB. Features wait in a temporary file for those whose thumbnails
    are at all alike: pictures that differ there are no copies, whatever their features say.

    Args:
        feature_mean, feature_scale: ``(d,)``, as for `grepq_iqa.calibration.groups.find_groups`.
    """

    def __init__(self, feature_mean: ArrayLike | None = None, feature_scale: ArrayLike | None = None) -> None:
        self._mean, self._scale = feature_mean, feature_scale
        self._thumbnails: list[NDArray[np.float32]] = []
        self._numbers: list[int] = []
        self._features = tempfile.TemporaryFile()  # noqa: SIM115 - closed by find
        self._dim: int | None = None

    def add(self, number: int, thumbnail: NDArray[np.float32], features: NDArray[np.float32] | None = None) -> None:
        """A photograph by its number, its `gray_thumbnail`, and its features ``(d,)`` if they are known of all."""
        self._numbers.append(number)
        self._thumbnails.append(thumbnail)
        if features is not None:
            self._dim = len(features)
            self._features.write(np.asarray(features, dtype=np.float32).tobytes())

    def find(self) -> list[list[int]]:
        """Numbers of the photographs of each group of near-duplicates, and the end of this finder."""
        try:
            if len(self._numbers) < 2:
                return []
            rows = _alike(self._thumbnails)
            if not len(rows):
                return []
            thumbnails = [self._thumbnails[i] for i in rows]
            if self._dim is None:
                groups = find_groups(np.arange(len(rows))[:, None], thumbnails=thumbnails)
            else:
                stored = RowsInFile(self._features, self._dim, rows)
                groups = find_groups(stored, thumbnails=thumbnails, feature_mean=self._mean, feature_scale=self._scale)
            return [[self._numbers[rows[i]] for i in group.rows] for group in groups.found]
        finally:
            self._features.close()


def _alike(thumbnails: Sequence[NDArray[np.float32]]) -> NDArray[np.intp]:
    """Positions, rising, of the pictures that have another one within the wider of the two limits of copies."""
    pictures = normalized_thumbnails(thumbnails)
    usable = np.flatnonzero(np.isfinite(pictures).all(axis=1))
    return usable[np.unique(near_pairs(pictures[usable], BOTH_NEAR[1])[0])]
