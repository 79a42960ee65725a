"""Zero-shot quality: Q_L, Q_H and their sum, as pure functions of features (docs/method.md, section 2).

Srinath et al., GRepQ, WACV 2024, section 3.3. Higher is better everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOGIT_SCALE = 10.0
DISTANCE_SCALE = 100.0
RIDGE = 1e-3
OWN_SHARE = 0.5
POOLINGS = ("mean", "median")
"""What of a picture's patches is compared with pristine ones: their mean (the paper), or each of them, of whose
distances the median counts."""


class Moments:
    """Mean and unbiased covariance of vectors that arrive in chunks, in float64, without keeping the vectors.

    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979. Vectors
    may have weights, of which only the ratios matter.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean: Array = np.zeros(dim)
        self._scatter: Array = np.zeros((dim, dim))
        self._weight = self._squares = 0.0

    def update(self, vectors: NDArray[Any], weights: NDArray[Any] | None = None) -> Moments:
        """Take in ``(n, dim)`` vectors, with positive weights ``(n,)`` or one each; returns self."""
        vectors = np.asarray(vectors, dtype=np.float64)
        if not len(vectors):
            return self
        weights = np.ones(len(vectors)) if weights is None else np.asarray(weights, dtype=np.float64)
        weight = float(weights.sum())
        mean = weights @ vectors / weight
        centered = vectors - mean
        step = mean - self.mean
        total = self._weight + weight
        self._scatter += (centered.T * weights) @ centered + np.outer(step, step) * (self._weight * weight / total)
        self.mean = self.mean + step * (weight / total)
        self.count += len(vectors)
        self._weight, self._squares = total, self._squares + float(weights @ weights)
        return self

    @property
    def effective_count(self) -> float:
        """How many equally weighted vectors tell as much (Kish, "Survey Sampling", 1965, section 11.2)."""
        return self._weight**2 / self._squares if self.count else 0.0

    @property
    def covariance(self) -> Array:
        """``(dim, dim)``; zero while there are fewer than two vectors, for which the estimate does not exist."""
        if self.count < 2:
            return np.zeros_like(self._scatter)
        return self._scatter / (self._weight - self._squares / self._weight)


def distance_to_pristine(
    points: NDArray[Any],
    covariance: Array,
    pristine_mean: Array,
    pristine_covariance: Array,
    ridge: float = RIDGE,
    own_share: float = OWN_SHARE,
) -> Array:
    """``sqrt((mu_p - x)^T (a S_t + (1 - a) S_p + ridge I)^-1 (mu_p - x))``, at least 0, of every point x.

    Args:
        points: ``(dim,)``, the mean of the picture's patches (NIQE's distance), or ``(n, dim)``, the patches themselves
            (as in IL-NIQE, Zhang et al., TIP 2015), for ``(n,)`` distances.
        covariance: of the picture's patches, S_t.
        pristine_mean, pristine_covariance: of pristine patches, mu_p and S_p.
        ridge: the paper's is 0.001; more of it counts directions less in which features hardly vary at all.
        own_share: a, the paper's is one half; see `own_share`.
    """
    differences = np.asarray(points, np.float64) - np.asarray(pristine_mean, np.float64)
    pooled = own_share * covariance + (1 - own_share) * np.asarray(pristine_covariance, np.float64)
    pooled = pooled + ridge * np.eye(len(pooled))
    squares = (differences * np.linalg.solve(pooled, differences.T).T).sum(axis=-1)
    result: Array = np.sqrt(np.maximum(squares, 0.0))
    return result


def weighted_median(values: NDArray[Any], weights: NDArray[Any] | None = None) -> float:
    """Where half of the weight of ``values`` ``(n,)`` lies below, on a line through the middles of the sorted weights.

    Args:
        values: at least one.
        weights: positive, of which only the ratios matter; None is the plain median.
    """
    if weights is None:
        return float(np.median(values))
    order = np.lexsort((weights, values))  # equal values by their weight, whatever the order that they came in
    sorted_weights = np.asarray(weights, np.float64)[order]
    below = np.cumsum(sorted_weights) - sorted_weights / 2
    return float(np.interp(sorted_weights.sum() / 2, below, np.asarray(values, np.float64)[order]))


def center_weights(rows: int, columns: int, std: float) -> Array:
    """Weights ``(rows * columns,)`` of patches in row-major order, a Gaussian around the middle: there people look.

    Args:
        rows, columns: of the grid of patches.
        std: in halves of the picture's sides.
    """
    down, across = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in (rows, columns))
    weights: Array = np.exp(-(down[:, None] ** 2 + across**2) / (2 * std**2)).ravel()
    return weights


def own_share(patches: float, prior_patches: float | None) -> float:
    """What a picture's own covariance counts in the distance to pristine patches, in [0, 1].

    A picture with little going on in it is further from pristine ones by its own measure than by theirs. But few
    patches tell little of their covariance, so pristine patches stand in for ``prior_patches`` of them, as the prior of
    an inverse Wishart distribution does (Gelman et al., "Bayesian Data Analysis", section 3.6).

    Args:
        patches: that the picture has, or as many as its weighted ones tell as much as.
        prior_patches: that pristine ones count for; None is the paper's equal shares, whatever the number.
    """
    return OWN_SHARE if prior_patches is None else patches / (patches + prior_patches)


def low_level_quality(distance: float, scale: float = DISTANCE_SCALE) -> float:
    """``Q_L = 1 - sigma(distance / scale)``, in (0, 0.5]; the paper's scale is 100."""
    return float(_sigmoid(-distance / scale))


def high_level_quality(
    embedding: NDArray[Any], good: NDArray[Any], bad: NDArray[Any], scale: float = LOGIT_SCALE
) -> float:
    """``Q_H = sigma(scale * (cos(f, t_good) - cos(f, t_bad)))``, in (0, 1); the paper's scale is 10.

    An embedding of zero length has no direction and scores 0.5.
    """
    difference = cosine(embedding, good) - cosine(embedding, bad)
    return float(_sigmoid(scale * difference))


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Cosine similarity of two vectors, 0 where one has no length."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / length) if length > 0 else 0.0


def _sigmoid(x: float) -> float:
    # both branches avoid the overflow of exp at large arguments
    result: float = 1 / (1 + np.exp(-x)) if x >= 0 else np.exp(x) / (1 + np.exp(x))
    return result
