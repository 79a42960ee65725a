"""How the field compares scores with MOS: each metric once, with one meaning.

SRCC is Spearman's, KRCC Kendall's (tau-b) and PLCC Pearson's correlation of the values as they are; RMSE the root mean
squared error in units of the labels. PLCC and RMSE after a logistic mapping are in `grepq_iqa.benchmark.correlation`.

Example:
    >>> srcc([1, 2, 3, 4], [10, 20, 40, 30])
    0.8
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.errors import UsageError

Array = NDArray[np.float64]
Metric = Callable[[Array, Array], float]

# Indices that the bootstrap holds at once, of 8 bytes each.
_DRAWN_AT_ONCE = 1 << 20


def srcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Spearman's rank correlation of ``(n,)`` and ``(n,)``, ties at their mean rank, in [-1, 1].

    NaN where either side is constant; so are `plcc` and `krcc`.
    """
    s, m = _pair(scores, mos)
    return _pearson(_ranks(s), _ranks(m))


def plcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Pearson's linear correlation of ``(n,)`` and ``(n,)`` as they are, in [-1, 1]."""
    return _pearson(*_pair(scores, mos))


def krcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Kendall's tau-b of ``(n,)`` and ``(n,)``, in [-1, 1]."""
    from scipy.stats import kendalltau

    return float(kendalltau(*_pair(scores, mos)).statistic)


def rmse(scores: ArrayLike, mos: ArrayLike) -> float:
    """Root mean squared error of ``(n,)`` and ``(n,)``, in units of ``mos``."""
    s, m = _pair(scores, mos)
    return float(np.sqrt(np.mean((s - m) ** 2)))


def bootstrap(
    metric: Metric,
    scores: ArrayLike,
    mos: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a metric over images drawn with replacement (Efron 1979), by SciPy.

    Args:
        metric: of ``(scores, mos)``, ``(n,)`` each.
        scores: ``(n,)``, or ``(repeats, n)``: then every draw also takes one of the repeats, so that the interval
            covers their spread, too.
        mos: ``(n,)``.
        groups: ``(n,)``; whole groups are drawn, since distorted copies of one content are not independent.
        resamples: draws; those in which the metric is NaN are left out.
        confidence: share of the draws inside, in (0, 1).
        seed: of the draws.

    Returns:
        Lower and upper end; NaN where no draw has a value, or all images are one group.

    Raises:
        UsageError: lengths that differ, or scores or MOS that are not finite.
    """
    from scipy import stats

    rows = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    m = np.asarray(mos, dtype=np.float64)
    for row in rows:
        _pair(row, m)
    members: list[NDArray[np.intp]] | None = None
    if groups is not None:
        _, unit, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
        if unit.shape != m.shape:
            raise UsageError(f"groups of shape {unit.shape} do not fit MOS of shape {m.shape}")
        members = np.split(np.argsort(unit, kind="stable"), np.cumsum(sizes)[:-1])
    count = len(m) if members is None else len(members)
    if count < 2:
        return float("nan"), float("nan")

    def drawn(units: NDArray[np.intp], repeats: NDArray[np.intp] | None = None) -> float:
        images = units if members is None else np.concatenate([members[i] for i in units])
        row = rows[0 if repeats is None else int(repeats[0])]
        return float(metric(row[images], m[images]))

    samples: tuple[NDArray[np.intp], ...] = (np.arange(count),)
    if len(rows) > 1:
        samples += (np.arange(len(rows)),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # of its own interval, where a draw is NaN
        found = stats.bootstrap(
            samples,
            drawn,
            n_resamples=resamples,
            batch=max(1, _DRAWN_AT_ONCE // count),
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    values = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def largest(values: ArrayLike, count: int) -> NDArray[np.intp]:
    """Indices of the ``count`` largest of ``values`` ``(n,)``, the largest first, equals in their order."""
    return np.argsort(-np.asarray(values, dtype=np.float64), kind="stable")[:count]


def _pair(scores: ArrayLike, mos: ArrayLike) -> tuple[Array, Array]:
    s, m = np.asarray(scores, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    if s.ndim != 1 or s.shape != m.shape:
        raise UsageError(f"scores of shape {s.shape} do not fit MOS of shape {m.shape}")
    if not (np.isfinite(s).all() and np.isfinite(m).all()):
        raise UsageError("scores and MOS must be finite")
    return s, m


def _ranks(values: Array) -> Array:
    """Ranks from 1, ties at their mean; scipy's checks its arguments longer than it ranks, a thousand times over."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Array = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _pearson(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    power = float(np.sqrt((x @ x) * (y @ y)))
    # Rounding leaves constants with a spread near 1e-16 of their size, which would correlate with anything.
    if not power or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.clip(x @ y / power, -1, 1))
