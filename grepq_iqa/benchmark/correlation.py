"""How well scores follow MOS: every metric of the field at once, with intervals.

SRCC and KRCC are of the scores as they are. Scores need not be linear in MOS, so PLCC and RMSE are those after scores s
are mapped by the four-parameter logistic of the Video Quality Experts Group (2003); PLCC after a cubic polynomial is
what the reference implementation of GRepQ reports::

    f(s) = (b1 - b2) / (1 + exp(-(s - b3) / |b4|)) + b2

Example:
    >>> rng = np.random.default_rng(0)
    >>> mos = rng.uniform(1, 5, size=200)
    >>> scores = np.tanh(mos - 3) + rng.normal(scale=0.1, size=200)
    >>> found = correlation_metrics(scores, mos, resamples=100)
    >>> found.srcc > 0.9 and found.intervals["srcc"][0] < found.srcc < found.intervals["srcc"][1]
    True
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from grepq_iqa import metrics
from grepq_iqa.errors import UsageError
from grepq_iqa.metrics import Array


@dataclass(frozen=True)
class CorrelationMetrics:
    """How well scores follow MOS.

    Attributes:
        n: images.
        srcc, krcc: rank correlations, in [-1, 1].
        plcc: linear correlation after the logistic.
        plcc_cubic: linear correlation after the cubic polynomial.
        rmse: root mean squared error after the logistic, in units of MOS.
        logistic: b1, b2, b3, b4.
        intervals: metric to the ends of its bootstrap interval.
    """

    n: int
    srcc: float
    plcc: float
    plcc_cubic: float
    krcc: float
    rmse: float
    logistic: tuple[float, float, float, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)


def correlation_metrics(
    scores: ArrayLike,
    mos: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> CorrelationMetrics:
    """All metrics at once, with their intervals.

    The logistic and the cubic are fitted once; their metrics are resampled on the mapped scores. Four parameters on a
    hundred and more images move little from draw to draw, and a thousand fits would take minutes.

    Args:
        scores: ``(n,)``.
        mos: ``(n,)``, higher is better.
        groups, resamples, confidence, seed: as for `grepq_iqa.metrics.bootstrap`; no resamples, no intervals.

    Raises:
        UsageError: fewer than 5 images, lengths that differ, or values that are not finite.
    """
    rank = metrics.srcc(scores, mos)  # which checks both
    s, m = np.asarray(scores, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    if len(s) < 5:
        raise UsageError(f"at least 5 images are needed to compare scores with MOS, got {len(s)}")
    parameters = fit_logistic(s, m)
    mapped, cubed = logistic(s, parameters), fitted_cubic(s, m)
    kinds: dict[str, tuple[metrics.Metric, Array]] = {
        "srcc": (metrics.srcc, s),
        "plcc": (metrics.plcc, mapped),
        "plcc_cubic": (metrics.plcc, cubed),
        "krcc": (metrics.krcc, s),
        "rmse": (metrics.rmse, mapped),
    }
    intervals = {}
    if resamples:
        for name, (metric, values) in kinds.items():
            intervals[name] = metrics.bootstrap(
                metric, values, m, groups=groups, resamples=resamples, confidence=confidence, seed=seed
            )
    return CorrelationMetrics(
        n=len(s),
        srcc=rank,
        plcc=metrics.plcc(mapped, m),
        plcc_cubic=metrics.plcc(cubed, m),
        krcc=metrics.krcc(s, m),
        rmse=metrics.rmse(mapped, m),
        logistic=parameters,
        intervals=intervals,
    )


def logistic(scores: ArrayLike, parameters: Sequence[float]) -> Array:
    """``(b1 - b2) / (1 + exp(-(s - b3) / |b4|)) + b2`` for every score."""
    from scipy.special import expit

    b1, b2, b3, b4 = parameters
    values: Array = (b1 - b2) * expit((np.asarray(scores, dtype=np.float64) - b3) / abs(b4)) + b2
    return values


def fit_logistic(scores: ArrayLike, mos: ArrayLike) -> tuple[float, float, float, float]:
    """Least-squares b1 to b4, from the usual start: extremes of the MOS, mean and a quarter std of the scores.

    Where scores fall as MOS rises, b1 lies below b2. Constant scores give the flat line through the mean MOS.
    """
    from scipy.optimize import OptimizeWarning, curve_fit

    s, m = np.asarray(scores, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    std = float(s.std())
    if std <= 1e-12 * max(1.0, abs(float(s.mean()))):
        return float(m.mean()), float(m.mean()), float(s.mean()), 1.0
    z = (s - s.mean()) / std  # a unit scale keeps the optimizer's tolerances meaningful
    ends = (m.max(), m.min()) if metrics.srcc(s, m) >= 0 else (m.min(), m.max())
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
    return b1, b2, b3 * std + float(s.mean()), abs(b4 or 1e-9) * std


def fitted_cubic(s: Array, m: Array) -> Array:
    """The least-squares cubic polynomial of ``s`` ``(n,)`` to ``m`` ``(n,)``, at ``s``."""
    std = s.std() or 1.0
    powers = np.vander((s - s.mean()) / std, 4)
    values: Array = powers @ np.linalg.lstsq(powers, m, rcond=None)[0]
    return values
