"""Several ratings of one image: one label from them, how much it counts, and how well its raters agree.

Example:
    >>> images = np.array([0, 0, 1, 1])
    >>> merged(np.array([1.0, 2.0, 4.0, 4.0]), images)
    array([1.5, 4. ])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Repeats = Literal["mean", "median", "error"]

# Ratings that show a rater's scale, images that show agreement, and random halvings of the raters.
_FEWEST_RATINGS, _FEWEST_IMAGES, _SPLITS = 3, 6, 100


@dataclass(frozen=True)
class Agreement:
    """How well raters agree, by splitting each image's ratings at random into halves.

    Attributes:
        halves: PLCC of the two halves' means over images, averaged over 100 splits.
        reliability: of the mean of all ratings, by the formula of Spearman and Brown: what the PLCC with the means of
            as many other raters would be.
        ceiling: PLCC with these means of somebody who knows what everybody in the world thinks; no prediction can be
            expected to come above it.
        images: rated more than once.
    """

    halves: float
    reliability: float
    ceiling: float
    images: int


def without_rater_scales(values: Array, raters: Sequence[str]) -> tuple[Array, tuple[str, ...], tuple[str, ...]]:
    """Ratings ``(n,)`` as if all raters used the scale in the same way.

    Each rater's ratings are standardized (z-scores), then mapped to the mean and the spread of all ratings. A rater who
    saw better images than the others is thereby told that they were ordinary ones: raters should see the same images,
    or images drawn at random.

    Returns:
        The ratings; raters who gave every image the same rating, which says nothing and is NaN here; and raters with
        fewer than 3 ratings, who are left as they are.
    """
    result = values.copy()
    names = np.asarray(raters, dtype=object)
    constant, few = [], []
    for rater in dict.fromkeys(raters):
        own = names == rater
        if own.sum() < _FEWEST_RATINGS:
            few.append(rater)
        elif np.ptp(values[own]) == 0:
            constant.append(rater)
            result[own] = np.nan
        else:
            z = (values[own] - values[own].mean()) / values[own].std()
            result[own] = values.mean() + values.std() * z
    return result, tuple(constant), tuple(few)


def merged(values: Array, images: Indices, how: Repeats = "mean") -> Array:
    """One label for each image, from ratings ``(n,)`` of the images ``(n,)`` numbered from 0."""
    middle = np.median if how == "median" else np.mean
    return np.array([float(middle(own)) for own in _of_each(values, images)])


def reliability_weights(values: Array, images: Indices) -> Array | None:
    """How much the mean rating of each image tells, as weights; None where all tell the same, or it cannot be said.

    The variance of a label is that between images, of which the features explain some, and that of its ratings over
    their number: ``weight = 1 / (between + within / ratings)``. Twice the ratings are worth at most twice the weight,
    and ever less where raters agree.
    """
    own = _of_each(values, images)
    counts = np.bincount(images)
    spare = len(values) - len(counts)
    if np.ptp(counts) == 0 or not spare:
        return None
    within = sum(float(((ratings - ratings.mean()) ** 2).sum()) for ratings in own) / spare
    if not within:
        return None
    means = np.array([ratings.mean() for ratings in own])
    between = max(0.0, float(means.var(ddof=1) - within * np.mean(1 / counts))) if len(means) > 1 else 0.0
    weights: Array = 1 / (between + within / counts)
    return weights


def agreement(values: Array, images: Indices, *, seed: int = 0) -> Agreement | None:
    """Split-half agreement of the ratings ``(n,)`` of images ``(n,)``; None with too few images rated repeatedly."""
    several = [own for own in _of_each(values, images) if len(own) > 1]
    if len(several) < _FEWEST_IMAGES:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_SPLITS):
        first, second = np.empty(len(several)), np.empty(len(several))
        for i, own in enumerate(several):
            drawn = rng.permutation(own)
            # Of an odd number, chance decides which half is the larger.
            half = (len(drawn) + int(rng.integers(2))) // 2
            first[i], second[i] = drawn[:half].mean(), drawn[half:].mean()
        if np.ptp(first) and np.ptp(second):
            found.append(float(np.corrcoef(first, second)[0, 1]))
    if not found:
        return None
    halves = float(np.mean(found))
    reliability = max(0.0, 2 * halves / (1 + halves))
    return Agreement(halves, reliability, float(np.sqrt(reliability)), len(several))


def _of_each(values: Array, images: Indices) -> list[Array]:
    order = np.argsort(images, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(images))[:-1])
