"""How the field compares scores with opinions: pure functions of arrays.

Measures, for scores s and opinions m of n images: SRCC (Spearman), KRCC (Kendall's tau-b), and, since scores need not
be linear in opinion, PLCC (Pearson) and RMSE after s is mapped to m by the four-parameter logistic of the Video Quality
Experts Group (2003), or PLCC after a cubic polynomial, which the reference implementation of GRepQ uses::

    f(s) = (b1 - b2) / (1 + exp(-(s - b3) / |b4|)) + b2

Data-efficient protocol (Srinath et al., WACV 2024, section 4.2): for every seed, 20 % of the contents are the test
part; labels are drawn from the rest; a regressor fitted on them predicts the test part; the median over seeds is what
papers report.

Example:
    >>> rng = np.random.default_rng(0)
    >>> opinions = rng.uniform(1, 5, size=200)
    >>> scores = np.tanh(opinions - 3) + rng.normal(scale=0.1, size=200)
    >>> found = agreement(scores, opinions, resamples=100)
    >>> found.srcc > 0.9 and found.intervals["srcc"][0] < found.srcc < found.intervals["srcc"][1]
    True
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.errors import UsageError

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

TEST_FRACTION = 0.2
MEASURES = ("srcc", "plcc", "plcc_cubic", "krcc", "rmse")


@dataclass(frozen=True)
class Agreement:
    """How well scores follow opinions.

    Attributes:
        n: images.
        srcc, krcc: rank correlations, in [-1, 1].
        plcc: linear correlation after the logistic.
        plcc_cubic: linear correlation after the cubic polynomial.
        rmse: root mean squared error after the logistic, in units of the opinions.
        logistic: b1, b2, b3, b4.
        intervals: measure to the ends of its bootstrap interval.
    """

    n: int
    srcc: float
    plcc: float
    plcc_cubic: float
    krcc: float
    rmse: float
    logistic: tuple[float, float, float, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class FewLabels:
    """What a regressor learnt from ``labels`` labelled images, over the splits.

    Attributes:
        labels: how many.
        test: images of the test part, one number a split.
        srcc, plcc, rmse: on the test part, one number a split. PLCC and RMSE are of the predictions as they are.
    """

    labels: int
    test: tuple[int, ...]
    srcc: tuple[float, ...]
    plcc: tuple[float, ...]
    rmse: tuple[float, ...]

    @property
    def median_srcc(self) -> float:
        """Median over splits, the number that papers print."""
        return float(np.median(self.srcc))

    @property
    def median_plcc(self) -> float:
        """Median over splits."""
        return float(np.median(self.plcc))

    @property
    def range_srcc(self) -> tuple[float, float]:
        """Worst and best split."""
        return min(self.srcc), max(self.srcc)


def srcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where either side is constant."""
    s, m = _pair(scores, mos)
    return _pearson(_ranks(s), _ranks(m))


def krcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Kendall's tau-b; NaN where either side is constant."""
    from scipy.stats import kendalltau

    s, m = _pair(scores, mos)
    return float(kendalltau(s, m).statistic)


def plcc(scores: ArrayLike, mos: ArrayLike) -> float:
    """Pearson's correlation after the four-parameter logistic; NaN where either side is constant."""
    s, m = _pair(scores, mos)
    return _pearson(logistic(s, fit_logistic(s, m)), m)


def plcc_cubic(scores: ArrayLike, mos: ArrayLike) -> float:
    """Pearson's correlation after the least-squares cubic polynomial; NaN where either side is constant."""
    s, m = _pair(scores, mos)
    return _pearson(_cubic(s, m), m)


def rmse(scores: ArrayLike, mos: ArrayLike) -> float:
    """Root mean squared error after the four-parameter logistic, in units of ``mos``."""
    s, m = _pair(scores, mos)
    return float(np.sqrt(np.mean((logistic(s, fit_logistic(s, m)) - m) ** 2)))


def logistic(scores: ArrayLike, parameters: Sequence[float]) -> Array:
    """``(b1 - b2) / (1 + exp(-(s - b3) / |b4|)) + b2`` for every score."""
    from scipy.special import expit

    b1, b2, b3, b4 = parameters
    return (b1 - b2) * expit((np.asarray(scores, dtype=np.float64) - b3) / abs(b4)) + b2


def fit_logistic(scores: ArrayLike, mos: ArrayLike) -> tuple[float, float, float, float]:
    """Least-squares b1 to b4, from the usual start: extremes of the opinions, mean and a quarter spread of the scores.

    Where scores fall as opinions rise, b1 lies below b2. Constant scores give the flat line through the mean opinion.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    s, m = _pair(scores, mos)
    spread = float(s.std())
    if spread <= 1e-12 * max(1.0, abs(float(s.mean()))):
        return float(m.mean()), float(m.mean()), float(s.mean()), 1.0
    z = (s - s.mean()) / spread  # a unit scale keeps the optimiser's tolerances meaningful
    ends = (m.max(), m.min()) if _pearson(_ranks(s), _ranks(m)) >= 0 else (m.min(), m.max())
    start = (*ends, 0.0, 0.25)

    def curve(x: Array, b1: float, b2: float, b3: float, b4: float) -> Array:
        return logistic(x, (b1, b2, b3, b4 or 1e-9))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)  # a covariance that we do not use
        try:
            found = curve_fit(curve, z, m, p0=start, maxfev=20000)[0]
        except RuntimeError:  # no convergence: the start is a valid curve, and says how bad the fit is
            found = np.array(start)
    b1, b2, b3, b4 = (float(value) for value in found)
    return b1, b2, b3 * spread + float(s.mean()), abs(b4 or 1e-9) * spread


def bootstrap(
    measure: Callable[[Array, Array], float],
    scores: ArrayLike,
    mos: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a measure over images drawn with replacement.

    Args:
        measure: of ``(scores, mos)``.
        groups: ``(n,)``; whole groups are drawn, since distorted copies of one content are not independent.
        resamples: draws; those in which the measure is NaN are left out.
        confidence: share of the draws inside.
        seed: of the draws.

    Returns:
        Lower and upper end; NaN where no draw has a value.
    """
    s, m = _pair(scores, mos)
    values = np.array([measure(s[at], m[at]) for at in _draws(len(s), groups, resamples, seed)], dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def agreement(
    scores: ArrayLike,
    mos: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """All measures at once, with their intervals.

    The logistic and the cubic are fitted once; their measures are resampled on the mapped scores. Four parameters on a
    hundred and more images move little from draw to draw, and a thousand fits would take minutes.

    Args:
        scores: ``(n,)``.
        mos: ``(n,)``, higher is better.
        groups, resamples, confidence, seed: as for `bootstrap`; no resamples, no intervals.

    Raises:
        UsageError: fewer than 5 images, lengths that differ, or values that are not finite.
    """
    s, m = _pair(scores, mos)
    if len(s) < 5:
        raise UsageError(f"at least 5 images are needed to compare scores with opinions, got {len(s)}")
    parameters = fit_logistic(s, m)
    mapped, cubed = logistic(s, parameters), _cubic(s, m)
    measures: dict[str, tuple[Callable[[Array, Array], float], Array]] = {
        "srcc": (srcc, s),
        "plcc": (_pearson, mapped),
        "plcc_cubic": (_pearson, cubed),
        "krcc": (krcc, s),
        "rmse": (_root_mean_square_error, mapped),
    }
    intervals = {}
    if resamples:
        for name, (measure, values) in measures.items():
            intervals[name] = bootstrap(
                measure, values, m, groups=groups, resamples=resamples, confidence=confidence, seed=seed
            )
    return Agreement(
        n=len(s),
        **{name: measure(values, m) for name, (measure, values) in measures.items()},
        logistic=parameters,
        intervals=intervals,
    )


def random_splits(
    n: int,
    splits: int = 10,
    *,
    groups: ArrayLike | None = None,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
) -> Iterator[tuple[Indices, Indices]]:
    """Pool and test part for seeds ``seed``, ``seed + 1`` and so on, each in random order.

    Without groups: shuffle, the first ``round(test_fraction * n)`` are the test part. With groups, the same of the
    groups: no content stands on both sides.

    Raises:
        UsageError: one part would be empty.
    """
    contents, member = (np.arange(n), np.arange(n)) if groups is None else np.unique(groups, return_inverse=True)
    tests = max(1, round(test_fraction * len(contents)))
    if len(contents) <= tests:
        raise UsageError(f"{n} images of {len(contents)} contents cannot be divided into labels and test part")
    for offset in range(splits):
        rng = np.random.default_rng(seed + offset)
        order = rng.permutation(len(contents))
        if groups is None:
            yield order[tests:], order[:tests]
            continue
        held_out = np.isin(member, order[:tests])
        yield rng.permutation(np.flatnonzero(~held_out)), rng.permutation(np.flatnonzero(held_out))


def official_splits(split: ArrayLike, splits: int = 10, *, seed: int = 0) -> Iterator[tuple[Indices, Indices]]:
    """The authors' test part every time, against a pool of all else in random order.

    Raises:
        UsageError: there is no test part, or nothing else.
    """
    parts = np.asarray(split)
    test, rest = np.flatnonzero(parts == "test"), np.flatnonzero(parts != "test")
    if not len(test) or not len(rest):
        raise UsageError(
            "the official split has no test part" if not len(test) else "the official split is all test part"
        )
    for offset in range(splits):
        yield np.random.default_rng(seed + offset).permutation(rest), test


def few_labels(
    features: ArrayLike,
    mos: ArrayLike,
    make_regressor: Callable[[], Any],
    counts: Sequence[int],
    divisions: Iterable[tuple[Indices, Indices]],
) -> list[FewLabels]:
    """The data-efficient protocol.

    Args:
        features: ``(n, d)``.
        mos: ``(n,)``.
        make_regressor: returns a fresh regressor with scikit-learn's ``fit`` and ``predict``.
        counts: how many labels to draw; the first of the pool, so that fewer labels are a part of more.
        divisions: pool and test part of every split, from `random_splits` or `official_splits`.

    Raises:
        UsageError: a pool holds fewer images than labels asked for.
    """
    X = np.asarray(features)
    m = np.asarray(mos, dtype=np.float64)
    if X.ndim != 2 or len(X) != len(m):
        raise UsageError(f"features of shape {X.shape} do not fit {len(m)} opinions")
    divisions = list(divisions)
    room = min((len(pool) for pool, _ in divisions), default=0)
    if too_many := [count for count in counts if not 0 < count <= room]:
        raise UsageError(f"{', '.join(map(str, too_many))} labels asked for, but the pool holds {room} images")
    results = []
    for count in counts:
        found: dict[str, list[float]] = {"srcc": [], "plcc": [], "rmse": []}
        for pool, test in divisions:
            chosen = pool[:count]
            predicted = np.asarray(make_regressor().fit(X[chosen], m[chosen]).predict(X[test]), dtype=np.float64)
            found["srcc"].append(srcc(predicted, m[test]))
            found["plcc"].append(_pearson(predicted, m[test]))
            found["rmse"].append(_root_mean_square_error(predicted, m[test]))
        results.append(
            FewLabels(
                labels=count,
                test=tuple(len(test) for _, test in divisions),
                **{name: tuple(values) for name, values in found.items()},
            )
        )
    return results


def _pair(scores: ArrayLike, mos: ArrayLike) -> tuple[Array, Array]:
    s, m = np.asarray(scores, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    if s.ndim != 1 or s.shape != m.shape:
        raise UsageError(f"scores of shape {s.shape} do not fit opinions of shape {m.shape}")
    if not (np.isfinite(s).all() and np.isfinite(m).all()):
        raise UsageError("scores and opinions must be finite")
    return s, m


def _draws(n: int, groups: ArrayLike | None, resamples: int, seed: int) -> Iterator[Indices]:
    rng = np.random.default_rng(seed)
    if groups is None:
        for _ in range(resamples):
            yield rng.integers(n, size=n)
        return
    contents, member = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(member == i) for i in range(len(contents))]
    for _ in range(resamples):
        yield np.concatenate([members[i] for i in rng.integers(len(contents), size=len(contents))])


def _ranks(values: Array) -> Array:
    """Ranks from 1, ties at their mean; scipy's checks its arguments longer than it ranks, a thousand times over."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _pearson(x: Array, y: Array) -> float:
    x, y = x - x.mean(), y - y.mean()
    power = float(np.sqrt((x @ x) * (y @ y)))
    # Rounding leaves constants with a spread near 1e-16 of their size, which would correlate with anything.
    if not power or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.clip(x @ y / power, -1, 1))


def _root_mean_square_error(x: Array, y: Array) -> float:
    return float(np.sqrt(np.mean((x - y) ** 2)))


def _cubic(s: Array, m: Array) -> Array:
    spread = s.std() or 1.0
    powers = np.vander((s - s.mean()) / spread, 4)
    return powers @ np.linalg.lstsq(powers, m, rcond=None)[0]
