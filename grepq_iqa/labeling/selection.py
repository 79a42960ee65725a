"""Which images to label next: those that make the calibrated predictor surest about all the others.

The default is greedy I-optimal design, known as transductive experimental design (Yu, Bi, Tresp, "Active learning via
transductive experimental design", ICML 2006): with K the Gram matrix of the standardized features, each step takes the
image i that removes most predictive variance of ridge regression, summed over all images, and conditions K on it::

    gain_i = sum_j K_ij^2 / (K_ii + penalty),        K <- K - K_i K_i' / (K_ii + penalty)

The steps take turns through equal parts of the range of the zero-shot score, so that the few very good and very bad
images are there too. Because it is greedy, the list can be cut anywhere: its first 30 are a choice of 30.

Copies of an image chosen or labeled already (`grepq_iqa.calibration.groups`) would teach nothing new: they come last,
when nothing else is left.

Why not greedy k-center or D-optimal: both look for the images least like any other, and such images say little about
the rest. ``studies/selection.py`` measures all of them against labeling at random; docs/results.md has the figures.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.calibration.groups import NEAR_EQUAL
from grepq_iqa.calibration.regressor import Array, feature_statistics, standardize
from grepq_iqa.errors import UsageError

Method = Literal["i-optimal", "d-optimal", "k-center", "random"]

_OLD_NAMES: dict[str, str] = {"k-centre": "k-center"}  # up to version 0.1
# Score parts that the steps take turns through.
BINS = 5
# Ridge penalty of the two optimal designs, as a share of the mean squared length of a feature row.
PENALTY = 0.1
# The Gram matrix of more images than this would not fit a small machine (128 MiB of float64); more are thinned out.
MAX_CANDIDATES = 4000


def select(
    features: ArrayLike,
    scores: ArrayLike | None,
    n: int,
    *,
    method: Method | str = "i-optimal",
    labeled: Sequence[int] = (),
    feature_mean: ArrayLike | None = None,
    feature_scale: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.intp]:
    """Indices of the ``n`` images to label, most useful first.

    Args:
        features: ``(images, d)``.
        scores: zero-shot score of each, ``(images,)``; None: features alone decide.
        n: how many; no more than there are images left to label.
        method: how; see the module's text.
        labeled: indices that have labels already: never returned, and what they tell is taken into account.
        feature_mean: ``(d,)``, to standardize with; None: of the given features.
        feature_scale: ``(d,)``, likewise.
        seed: for "random", and for thinning out more than `MAX_CANDIDATES` images.

    Raises:
        UsageError: unknown method, values that are not finite, shapes that disagree, or too large an ``n``.
    """
    X = np.asarray(features, dtype=np.float64)
    if X.ndim != 2 or not np.isfinite(X).all():
        raise UsageError(f"features must be finite and of shape (images, d), got shape {X.shape}")
    method = _OLD_NAMES.get(method, method)
    if method not in get_args(Method):
        raise UsageError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    known = np.unique(np.asarray(labeled, dtype=np.intp))
    if len(known) and not (known[0] >= 0 and known[-1] < len(X)):
        raise UsageError(f"labeled holds indices outside 0 to {len(X) - 1}")
    if not 1 <= n <= len(X) - len(known):
        raise UsageError(f"cannot select {n} of {len(X) - len(known)} images that have no label")

    rng = np.random.default_rng(seed)
    unlabeled = np.setdiff1d(np.arange(len(X)), known)
    parts = _parts(scores, len(X))
    known, unlabeled = _thinned(known, 0, rng), _thinned(unlabeled, n, rng)
    rows = np.concatenate([known, unlabeled])
    mean, scale = feature_statistics(X, feature_mean, feature_scale)
    Z = standardize(X[rows], mean, scale)
    Z -= Z.mean(axis=0)
    gram = Z @ Z.T
    copies = _copies(gram, Z.shape[1])
    rule = _RULES[method](gram, rng)

    for i in range(len(known)):
        rule.take(i)
    free = np.arange(len(rows)) >= len(known)
    fresh = free & ~copies[: len(known)].any(axis=0)
    chosen: list[int] = []
    for part in itertools.cycle(np.unique(parts[unlabeled])):
        eligible = (fresh if fresh.any() else free) & (parts[rows] == part)
        if not eligible.any():
            continue
        best = int(np.where(eligible, rule.gains(), -np.inf).argmax())
        rule.take(best)
        free[best] = False
        fresh &= free & ~copies[best]
        chosen.append(best)
        if len(chosen) == n:
            break
    return rows[chosen]


def _copies(gram: Array, d: int) -> NDArray[np.bool_]:
    """Which pairs of the ``n`` rows with this Gram matrix are nearly equal, ``(n, n)``."""
    squares = gram.diagonal()
    result: NDArray[np.bool_] = squares[:, None] + squares - 2 * gram <= NEAR_EQUAL**2 * d
    return result


class _Rule(Protocol):
    """What an image would add to those taken so far, given the Gram matrix ``(n, n)`` of centered features."""

    def __init__(self, gram: Array, rng: np.random.Generator) -> None: ...
    def gains(self) -> Array: ...
    def take(self, i: int) -> None: ...


class _DOptimal:
    """Gain: predictive variance at the image itself."""

    def __init__(self, gram: Array, rng: np.random.Generator) -> None:
        self.gram = gram
        self.penalty = PENALTY * max(float(gram.diagonal().mean()), np.finfo(np.float64).tiny)

    def gains(self) -> Array:
        return self.gram.diagonal()

    def take(self, i: int) -> None:
        column = self.gram[i].copy()
        self.gram -= np.outer(column / (column[i] + self.penalty), column)


class _IOptimal(_DOptimal):
    """Gain: predictive variance removed, summed over all images."""

    def gains(self) -> Array:
        result: Array = np.einsum("ij,ij->i", self.gram, self.gram) / (self.gram.diagonal() + self.penalty)
        return result


class _KCenter:
    """Gain: squared distance to the nearest image taken; the first is the one nearest to the mean."""

    def __init__(self, gram: Array, rng: np.random.Generator) -> None:
        self.gram = gram
        self.nearest: Array | None = None

    def gains(self) -> Array:
        return -self.gram.diagonal() if self.nearest is None else self.nearest

    def take(self, i: int) -> None:
        squares = self.gram.diagonal()
        distances = squares + squares[i] - 2 * self.gram[i]
        self.nearest = distances if self.nearest is None else np.minimum(self.nearest, distances)


class _Random:
    """Gain: drawn once for each image."""

    def __init__(self, gram: Array, rng: np.random.Generator) -> None:
        self.drawn = rng.random(len(gram))

    def gains(self) -> Array:
        return self.drawn

    def take(self, i: int) -> None:
        pass


_RULES: dict[str, type[_Rule]] = {
    "i-optimal": _IOptimal,
    "d-optimal": _DOptimal,
    "k-center": _KCenter,
    "random": _Random,
}


def _parts(scores: ArrayLike | None, images: int) -> NDArray[np.intp]:
    """Which part of the score range each image is in, 0 to ``BINS - 1``."""
    if scores is None:
        return np.zeros(images, dtype=np.intp)
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (images,) or not np.isfinite(values).all():
        raise UsageError(f"scores must be finite and of shape ({images},), got shape {values.shape}")
    # The outermost 2 % would stretch the range until the outer parts were nearly empty.
    low, high = np.percentile(values, [2, 98])
    if high <= low:
        return np.zeros(images, dtype=np.intp)
    result: NDArray[np.intp] = ((values - low) / (high - low) * BINS).astype(np.intp).clip(0, BINS - 1)
    return result


def _thinned(rows: NDArray[np.intp], at_least: int, rng: np.random.Generator) -> NDArray[np.intp]:
    limit = max(MAX_CANDIDATES, at_least)
    return rows if len(rows) <= limit else np.sort(rng.choice(rows, limit, replace=False))
