"""How good a fit on few labels is, said by the labels themselves: cross-validation, learning curve, worst images.

Every figure comes from predictions for images that the model which made them did not see. SRCC and PLCC are the rank
and the linear correlation with the labels, RMSE the root mean squared error in units of the labels. A fold whose own
labels are high leaves low ones to fit on: that alone would turn the pooled predictions of a model that knows nothing
against the labels. Correlations are therefore taken of each prediction less the mean label of its training part.

Example:
    >>> from grepq_iqa.calibration.regressor import MOSRegressor
    >>> result = cross_validate(MOSRegressor(), features, mos)
    >>> print(f"{result.srcc.value:.3f} ({result.srcc.low:.3f} to {result.srcc.high:.3f})")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.model_selection import RepeatedKFold

from grepq_iqa import metrics
from grepq_iqa.calibration.regressor import MIN_LABELS, Array
from grepq_iqa.errors import LabelsError, UsageError

# Fewest labels for which leaving out a fold leaves enough to fit on and to correlate.
MIN_TO_VALIDATE = 2 * MIN_LABELS
_BOOTSTRAP_DRAWS = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure with its spread.

    Attributes:
        value: mean over the repeats.
        low, high: ends of the 90 % range over repeats and over resamplings of the images (bootstrap), so that it
            says how much the figure would move with other images of the same kind.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CrossValidation:
    """Result of `cross_validate`.

    Attributes:
        srcc, plcc, rmse: agreement of held-out predictions with the labels.
        predicted: ``(n,)``, mean over the repeats of each image's held-out predictions.
        low, high: ``(n,)``, its held-out interval, ends averaged over the repeats.
        coverage: share of held-out labels inside their intervals, 0 to 1.
        confidence: the share that the intervals promise.
        folds, repeats: how it was done.
    """

    srcc: Estimate
    plcc: Estimate
    rmse: Estimate
    predicted: Array
    low: Array
    high: Array
    coverage: float
    confidence: float
    folds: int
    repeats: int


@dataclass(frozen=True)
class LearningCurve:
    """Result of `learning_curve`.

    Attributes:
        labels: ``(k,)``, numbers of labels fitted on, rising.
        srcc: ``(k,)``, mean held-out SRCC at each.
        low, high: ``(k,)``, the 90 % range over repeats.
        gain_by_doubling: SRCC that twice the labels would add, were the curve's last stretch to go on in the logarithm
            of the number of labels. Curves flatten, so this is at best.
    """

    labels: NDArray[np.intp]
    srcc: Array
    low: Array
    high: Array
    gain_by_doubling: float


def cross_validate(
    regressor: Any,
    features: ArrayLike,
    mos: ArrayLike,
    *,
    folds: int = 5,
    repeats: int = 10,
    confidence: float = 0.9,
    seed: int = 0,
) -> CrossValidation:
    """Repeated k-fold cross-validation, everything (penalty included) fitted anew in every fold.

    Where the labels that a fold leaves are all equal, they are the prediction, without an interval.

    Args:
        regressor: unfitted `MOSRegressor`, or anything with its ``fit``, ``predict`` and ``predict_interval``.
        features: ``(n, d)``.
        mos: ``(n,)``.
        folds: parts that take turns in being held out; no more than n.
        repeats: times that the split into parts is drawn anew.
        confidence: of the intervals.
        seed: of the splits.

    Raises:
        LabelsError: fewer than 6 labels, or one that is missing.
    """
    X, y = _checked(features, mos)
    predicted, low, high, center = (np.empty((repeats, len(y))) for _ in range(4))
    for repeat, (train, test) in _splits(len(y), folds, repeats, seed):
        center[repeat, test] = y[train].mean()
        if np.ptp(y[train]) == 0:
            predicted[repeat, test], low[repeat, test], high[repeat, test] = y[train[0]], -np.inf, np.inf
            continue
        fitted = clone(regressor).fit(X[train], y[train])
        predicted[repeat, test] = fitted.predict(X[test])
        low[repeat, test], high[repeat, test] = fitted.predict_interval(X[test], confidence)
    return CrossValidation(
        srcc=_estimate(_srcc, predicted - center, y, seed),
        plcc=_estimate(_plcc, predicted - center, y, seed),
        rmse=_estimate(metrics.rmse, predicted, y, seed),
        predicted=predicted.mean(axis=0),
        low=low.mean(axis=0),
        high=high.mean(axis=0),
        coverage=float(((low <= y) & (y <= high)).mean()),
        confidence=confidence,
        folds=min(folds, len(y)),
        repeats=repeats,
    )


def learning_curve(
    regressor: Any,
    features: ArrayLike,
    mos: ArrayLike,
    *,
    sizes: Sequence[int] | None = None,
    folds: int = 5,
    repeats: int = 10,
    seed: int = 0,
) -> LearningCurve:
    """Held-out SRCC against the number of labels fitted on.

    Each size is drawn at random from the training part of every fold, and correlated over all ``n`` held-out
    predictions, so that no point of the curve rests on a handful of images.

    Args:
        regressor, features, mos, folds, repeats, seed: as for `cross_validate`.
        sizes: numbers of labels; None: about six, from a tenth of the training part up to all of it.

    Raises:
        LabelsError: as `cross_validate`.
        UsageError: a size that the training part of a fold does not have.
    """
    X, y = _checked(features, mos)
    largest = min(len(train) for _, (train, _) in _splits(len(y), folds, 1, seed))
    if sizes is None:
        steps = np.geomspace(max(2 * MIN_LABELS, largest / 10), largest, 6) if largest > 2 * MIN_LABELS else [largest]
        sizes = np.unique(np.round(steps).astype(int)).tolist()
    counts = np.unique(np.asarray(sizes, dtype=np.intp))
    if not len(counts) or counts[0] < MIN_LABELS or counts[-1] > largest:
        raise UsageError(f"sizes must be from {MIN_LABELS} to {largest}, the labels left for fitting, got {sizes}")

    predicted = np.empty((len(counts), repeats, len(y)))
    rng = np.random.default_rng(seed)
    for repeat, (train, test) in _splits(len(y), folds, repeats, seed):
        drawn = rng.permutation(train)
        for k, count in enumerate(counts):
            some = drawn[:count]
            # A few labels drawn from a coarse scale may all be equal, and teach nothing.
            if np.ptp(y[some]) == 0:
                predicted[k, repeat, test] = 0
            else:
                fitted = clone(regressor).fit(X[some], y[some])
                predicted[k, repeat, test] = fitted.predict(X[test]) - y[some].mean()
    values = np.array([[_srcc(row, y) for row in rows] for rows in predicted])
    return LearningCurve(
        labels=counts,
        srcc=values.mean(axis=1),
        low=np.percentile(values, 5, axis=1),
        high=np.percentile(values, 95, axis=1),
        gain_by_doubling=_gain_by_doubling(counts, values.mean(axis=1)),
    )


def _checked(features: ArrayLike, mos: ArrayLike) -> tuple[Array, Array]:
    X, y = np.asarray(features, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    if len(X) != len(y):
        raise LabelsError(f"one label for each image is needed, got {len(X)} images and {len(y)} labels")
    if len(y) < MIN_TO_VALIDATE:
        raise LabelsError(f"at least {MIN_TO_VALIDATE} labels are needed for cross-validation, got {len(y)}")
    return X, y


def _splits(
    n: int, folds: int, repeats: int, seed: int
) -> Iterator[tuple[int, tuple[NDArray[np.intp], NDArray[np.intp]]]]:
    """``(repeat, (train, test))``, indices that rise."""
    if folds < 2 or repeats < 1:
        raise UsageError(f"at least 2 folds and 1 repeat are needed, got {folds} and {repeats}")
    parts = min(folds, n)
    splitter = RepeatedKFold(n_splits=parts, n_repeats=repeats, random_state=seed)
    for number, split in enumerate(splitter.split(np.empty(n))):
        yield number // parts, split


def _estimate(metric: metrics.Metric, predicted: Array, y: Array, seed: int) -> Estimate:
    """Mean of ``metric`` over the rows of ``predicted (repeats, n)``; its range by resampling images and repeats."""
    value = float(np.mean([metric(row, y) for row in predicted]))
    low, high = metrics.bootstrap(metric, predicted, y, resamples=_BOOTSTRAP_DRAWS, confidence=0.9, seed=seed)
    return Estimate(value, low, high)


def _srcc(predicted: Array, y: Array) -> float:
    return float(np.nan_to_num(metrics.srcc(predicted, y)))  # a constant prediction knows nothing: 0


def _plcc(predicted: Array, y: Array) -> float:
    return float(np.nan_to_num(metrics.plcc(predicted, y)))


def _gain_by_doubling(counts: NDArray[np.intp], srcc: Array) -> float:
    """Slope per doubling over the last three points, never negative."""
    if len(counts) < 2:
        return float("nan")
    slope = np.polyfit(np.log2(counts[-3:]), srcc[-3:], 1)[0]
    return max(0.0, float(slope))
