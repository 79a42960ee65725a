"""Which labeled images are not independent: copies, pictures saved again or cropped a little, and named groups.

A copy of a picture in the other half of a split tells the model the answer: cross-validation then reports what it
remembers, the penalty falls to nothing, and intervals shrink around it. Rows that share bytes, features, nearly all
features, nearly all of a thumbnail, or a name given by the user therefore form one group, which is held out, left out
and drawn as a whole. Features tell copies of much detail, thumbnails those of another size, whose features differ as
much as those of different photographs do.

Both thresholds were measured by ``studies/near_duplicates.py``; EXPERIMENTS.md, "Near-duplicates", has the figures.

Example:
    >>> found = find_groups(np.repeat(np.eye(3), 2, axis=0))
    >>> found.units.tolist()
    [0, 0, 1, 1, 2, 2]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from grepq_iqa.calibration.near_rows import RowsInFile, Standardized, block_slices, near_pairs
from grepq_iqa.calibration.regressor import Array, feature_statistics
from grepq_iqa.calibration.units import Units, blocks, unit_count, unit_numbers
from grepq_iqa.errors import LabelsError, UsageError

# Root mean squared difference of standardized features up to which two pictures count as one.
NEAR_EQUAL = 0.3
# Likewise of standardized gray thumbnails, 16 x 16: a correlation of .995.
NEAR_EQUAL_THUMBNAILS = 0.1
# Of features and of thumbnails where both are near: small pictures that were cropped a little.
BOTH_NEAR = (0.42, 0.63)
# Standard deviation below which a thumbnail is flat, and says nothing: 6 of 255.
_FLAT = 6 / 255


@dataclass(frozen=True)
class Group:
    """Rows that are not independent.

    Attributes:
        rows: which, rising; two or more.
        reasons: why, of "same bytes", "equal features", "nearly equal features", "nearly equal
            pictures" and "named".
    """

    rows: tuple[int, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Groups:
    """Result of `find_groups`.

    Attributes:
        units: ``(n,)``, the unit of each row, numbered from 0 in the order in which they appear.
        found: groups of more than one row, in that order.
    """

    units: Units
    found: tuple[Group, ...]

    @property
    def unit_count(self) -> int:
        """Groups and rows that are alone, together: what counts as independent."""
        return unit_count(self.units)

    @property
    def rows_shared(self) -> int:
        """How many rows have others in their group."""
        return sum(len(group.rows) for group in self.found)


def find_groups(
    features: ArrayLike | RowsInFile,
    hashes: Sequence[str | None] | None = None,
    names: ArrayLike | Sequence[object] | None = None,
    *,
    thumbnails: Sequence[Array | NDArray[np.float32] | None] | None = None,
    feature_mean: ArrayLike | None = None,
    feature_scale: ArrayLike | None = None,
    threshold: float = NEAR_EQUAL,
) -> Groups:
    """Groups of rows; whatever is joined to one of a group's rows joins the group.

    Args:
        features: ``(n, d)``, or as many rows in a file.
        hashes: ``(n,)`` digests of the files' bytes; None, for one or all, where they are not known.
        names: ``(n,)`` groups that the user names; None or "" puts a row into none.
        thumbnails: ``(n,)`` of `grepq_iqa.data.thumbnails.gray_thumbnail`; None, for one or all, where there is none.
        feature_mean: ``(d,)``, over unlabeled in-the-wild images. Without these statistics nearly equal features are
            not looked for: those of a few labeled rows have no scale on which the threshold was measured.
        feature_scale: ``(d,)``, likewise.
        threshold: root mean squared difference of standardized features, limited to 3 either way, up to which two rows
            are copies; negative for none but equal ones. With thumbnails that are alike, pairs somewhat farther apart
            are copies, too.

    Raises:
        LabelsError: hashes or names are not one for each row.
        UsageError: features that are not ``(n, d)``, or statistics that do not fit them.
    """
    X = _as_rows(features)
    links = find_links(
        X,
        hashes,
        names,
        thumbnails=thumbnails,
        feature_mean=feature_mean,
        feature_scale=feature_scale,
        threshold=threshold,
    )
    return joined(len(X), links)


def find_links(
    features: ArrayLike | RowsInFile,
    hashes: Sequence[str | None] | None = None,
    names: ArrayLike | Sequence[object] | None = None,
    *,
    thumbnails: Sequence[Array | NDArray[np.float32] | None] | None = None,
    feature_mean: ArrayLike | None = None,
    feature_scale: ArrayLike | None = None,
    threshold: float = NEAR_EQUAL,
) -> dict[str, NDArray[np.intp]]:
    """Pairs ``(k, 2)`` of rows that are not independent, by reason; arguments and errors as of `find_groups`."""
    X = _as_rows(features)
    if len(X.shape) != 2:
        raise UsageError(f"features must be of shape (images, d), got shape {X.shape}")
    rows = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for block in block_slices(X) for row in X[block]]
    pictures = normalized_thumbnails(_one_each(thumbnails, len(X), "thumbnail"))
    links = {
        "same bytes": _equal(_one_each(hashes, len(X), "hash")),
        "equal features": _equal(rows),
        "nearly equal features": np.empty((0, 2), dtype=np.intp),
        "nearly equal pictures": near_pairs(pictures, NEAR_EQUAL_THUMBNAILS)[0],
        "named": _equal(_one_each(names, len(X), "group")),
    }
    if feature_mean is not None and feature_scale is not None and len(X):
        mean, scale = feature_statistics(np.empty((0, X.shape[1])), feature_mean, feature_scale)
        widest = max(threshold, BOTH_NEAR[0]) if threshold >= 0 else threshold
        near, distances = near_pairs(Standardized(X, mean, scale), widest)
        links["nearly equal features"] = near[distances <= threshold]
        candidates = near[distances <= BOTH_NEAR[0]]
        apart = np.sqrt(((pictures[candidates[:, 0]] - pictures[candidates[:, 1]]) ** 2).mean(axis=1))
        both = candidates[apart <= BOTH_NEAR[1]]
        links["nearly equal pictures"] = np.concatenate([links["nearly equal pictures"], both])
    return links


def _as_rows(features: ArrayLike | RowsInFile) -> NDArray[Any] | RowsInFile:
    return features if isinstance(features, RowsInFile) else np.asarray(features)


def _one_each(values: ArrayLike | Sequence[object] | None, rows: int, label: str) -> list[Any]:
    if values is None:
        return [None] * rows
    listed = np.asarray(values, dtype=object).ravel().tolist() if isinstance(values, np.ndarray) else list(values)  # type: ignore[arg-type]
    if len(listed) != rows:
        raise LabelsError(f"one {label} for each of {rows} images is needed, got {len(listed)}")
    return listed


def _equal(values: Sequence[object]) -> NDArray[np.intp]:
    """Pairs ``(first, other)`` of equal values; None, "", NaN and pandas' NA equal nothing."""
    first: dict[object, int] = {}
    pairs = []
    for i, value in enumerate(values):
        if not _is_missing(value):
            at = first.setdefault(value, i)
            if at != i:
                pairs.append((at, i))
    return _as_array(pairs)


def _is_missing(value: object) -> bool:
    try:
        return value is None or bool(value == "") or bool(value != value)
    except TypeError:  # pandas' NA is neither equal nor other
        return True


def normalized_thumbnails(thumbnails: Sequence[NDArray[np.float32] | None]) -> Array:
    """Thumbnails ``(n, k)`` with mean 0 and spread 1, so that brightness and contrast do not tell copies apart.

    NaN, near to nothing, where there is none or a flat one.
    """
    size = next((len(picture) for picture in thumbnails if picture is not None), 1)
    rows = np.full((len(thumbnails), size), np.nan)
    for row, picture in zip(rows, thumbnails, strict=True):
        if picture is not None and np.std(picture) >= _FLAT:
            values = np.asarray(picture, dtype=np.float64)
            row[:] = (values - values.mean()) / values.std()
    return rows


def _as_array(pairs: Iterable[tuple[int, int]]) -> NDArray[np.intp]:
    return np.array(list(pairs), dtype=np.intp).reshape(-1, 2)


def joined(rows: int, links: dict[str, NDArray[np.intp]]) -> Groups:
    """Groups of ``rows`` rows from pairs by reason: whatever is joined to one of a group's rows joins the group."""
    pairs = np.concatenate(list(links.values()))
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(rows, rows))
    units = unit_numbers(connected_components(graph, directed=False)[1], rows)
    touched = {reason: set(units[ends[:, 0]].tolist()) for reason, ends in links.items()}
    found = []
    for members in blocks(units):
        unit = int(units[members[0]])
        reasons = tuple(reason for reason, of in touched.items() if unit in of)
        found.append(Group(tuple(int(i) for i in members), reasons))
    return Groups(units, tuple(found))
