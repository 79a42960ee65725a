"""How good a fit on few labels is, said by the labels themselves: cross-validation, learning curve, worst images.

Every figure comes from predictions for images that the model which made them did not see. SRCC and PLCC are the rank
and the linear correlation with the labels, RMSE the root mean squared error in units of the labels. A fold whose own
labels are high leaves low ones to fit on: that alone would turn the pooled predictions of a model that knows nothing
against the labels. Correlations are therefore taken of each prediction less the mean label of its training part.

Rows of one group (`grepq_iqa.calibration.groups`) are held out, drawn and resampled together.

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
from grepq_iqa.calibration.units import Units, shared, unit_count, unit_numbers
from grepq_iqa.errors import LabelsError, UsageError

# Fewest labels, those of one group counted once, for which leaving out a fold leaves enough to fit on and to correlate.
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
        ranked: ``(repeats, n)``, held-out predictions less the mean label of what they were fitted on, which is what
            correlations are taken of.
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
    ranked: Array
    coverage: float
    confidence: float
    folds: int
    repeats: int


@dataclass(frozen=True)
class LearningCurve:
    """Result of `learning_curve`.

    Attributes:
        labels: ``(k,)``, numbers of labels fitted on, those of one group counted once, rising.
        srcc: ``(k,)``, mean held-out SRCC at each.
        low, high: ``(k,)``, the 90 % range over repeats.
        gain_by_doubling: SRCC that twice the labels would add, were the curve's last stretch to go on in the logarithm
            of the number of labels. Curves flatten, so this is at best.
        ranked: ``(k, repeats, n)``, held-out predictions as in `CrossValidation`.
    """

    labels: NDArray[np.intp]
    srcc: Array
    low: Array
    high: Array
    gain_by_doubling: float
    ranked: Array


def cross_validate(
    regressor: Any,
    features: ArrayLike,
    mos: ArrayLike,
    *,
    folds: int = 5,
    repeats: int = 10,
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
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
        groups: ``(n,)``, equal for rows that are not independent; None: every row stands for itself.
        weights: ``(n,)``, how much each label counts in a fit; None: all the same.
        confidence: of the intervals.
        seed: of the splits.

    Raises:
        LabelsError: fewer than 6 labels, or one that is missing.
    """
    X, y, units = _checked(features, mos, groups)
    predicted, low, high, center = (np.empty((repeats, len(y))) for _ in range(4))
    for repeat, (train, test) in _splits(units, folds, repeats, seed):
        center[repeat, test] = y[train].mean()
        if np.ptp(y[train]) == 0:
            predicted[repeat, test], low[repeat, test], high[repeat, test] = y[train[0]], -np.inf, np.inf
            continue
        fitted = _fitted(regressor, X, y, units, weights, train)
        predicted[repeat, test] = fitted.predict(X[test])
        low[repeat, test], high[repeat, test] = fitted.predict_interval(X[test], confidence)
    return CrossValidation(
        srcc=_estimate(_srcc, predicted - center, y, units, seed),
        plcc=_estimate(_plcc, predicted - center, y, units, seed),
        rmse=_estimate(metrics.rmse, predicted, y, units, seed),
        predicted=predicted.mean(axis=0),
        low=low.mean(axis=0),
        high=high.mean(axis=0),
        ranked=predicted - center,
        coverage=float(((low <= y) & (y <= high)).mean()),
        confidence=confidence,
        folds=min(folds, unit_count(units)),
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
    groups: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    seed: int = 0,
) -> LearningCurve:
    """Held-out SRCC against the number of labels fitted on.

    Each size is drawn at random from the training part of every fold, and correlated over all ``n`` held-out
    predictions, so that no point of the curve rests on a handful of images.

    Args:
        regressor, features, mos, folds, repeats, groups, weights, seed: as for `cross_validate`.
        sizes: numbers of labels, a group being drawn whole and counted once; None: about six, from a tenth of the
            training part up to all of it.

    Raises:
        LabelsError: as `cross_validate`.
        UsageError: a size that the training part of a fold does not have.
    """
    X, y, units = _checked(features, mos, groups)
    members = [np.flatnonzero(units == unit) for unit in range(unit_count(units))]
    largest = min(unit_count(units) - len(set(units[test])) for _, (_, test) in _splits(units, folds, 1, seed))
    if sizes is None:
        steps = np.geomspace(max(2 * MIN_LABELS, largest / 10), largest, 6) if largest > 2 * MIN_LABELS else [largest]
        sizes = np.unique(np.round(steps).astype(int)).tolist()
    counts = np.unique(np.asarray(sizes, dtype=np.intp))
    if not len(counts) or counts[0] < MIN_LABELS or counts[-1] > largest:
        raise UsageError(f"sizes must be from {MIN_LABELS} to {largest}, the labels left for fitting, got {sizes}")

    predicted = np.empty((len(counts), repeats, len(y)))
    rng = np.random.default_rng(seed)
    for repeat, (train, test) in _splits(units, folds, repeats, seed):
        drawn = rng.permutation(np.unique(units[train]))
        for k, count in enumerate(counts):
            some = np.concatenate([members[unit] for unit in drawn[:count]])
            # A few labels drawn from a coarse scale may all be equal, and teach nothing.
            if np.ptp(y[some]) == 0:
                predicted[k, repeat, test] = 0
            else:
                fitted = _fitted(regressor, X, y, units, weights, some)
                predicted[k, repeat, test] = fitted.predict(X[test]) - y[some].mean()
    values = np.array([[_srcc(row, y) for row in rows] for rows in predicted])
    return LearningCurve(
        labels=counts,
        srcc=values.mean(axis=1),
        low=np.percentile(values, 5, axis=1),
        high=np.percentile(values, 95, axis=1),
        gain_by_doubling=_gain_by_doubling(counts, values.mean(axis=1)),
        ranked=predicted,
    )


def _checked(features: ArrayLike, mos: ArrayLike, groups: ArrayLike | None) -> tuple[Array, Array, Units]:
    X, y = np.asarray(features, dtype=np.float64), np.asarray(mos, dtype=np.float64)
    if len(X) != len(y):
        raise LabelsError(f"one label for each image is needed, got {len(X)} images and {len(y)} labels")
    units = unit_numbers(groups, len(y))
    if unit_count(units) < MIN_TO_VALIDATE:
        found = f"{len(y)}" + (f" of {unit_count(units)} independent images" if shared(units) else "")
        raise LabelsError(f"at least {MIN_TO_VALIDATE} labels are needed for cross-validation, got {found}")
    return X, y, units


def _fitted(regressor: Any, X: Array, y: Array, units: Units, weights: ArrayLike | None, rows: NDArray[np.intp]) -> Any:
    """A copy of the regressor, fitted on some rows; what is trivial is not passed, so that any regressor will do."""
    further: dict[str, Any] = {}
    if shared(units):
        further["groups"] = units[rows]
    if weights is not None:
        further["weights"] = np.asarray(weights, dtype=np.float64)[rows]
    return clone(regressor).fit(X[rows], y[rows], **further)


def _splits(
    units: Units, folds: int, repeats: int, seed: int
) -> Iterator[tuple[int, tuple[NDArray[np.intp], NDArray[np.intp]]]]:
    """``(repeat, (train, test))``, indices of rows that rise; a unit's rows are all in one of the two."""
    if folds < 2 or repeats < 1:
        raise UsageError(f"at least 2 folds and 1 repeat are needed, got {folds} and {repeats}")
    count = unit_count(units)
    parts = min(folds, count)
    splitter = RepeatedKFold(n_splits=parts, n_repeats=repeats, random_state=seed)
    for number, (_, held_out) in enumerate(splitter.split(np.empty(count))):
        inside = np.isin(units, held_out)
        yield number // parts, (np.flatnonzero(~inside), np.flatnonzero(inside))


def _estimate(metric: metrics.Metric, predicted: Array, y: Array, units: Units, seed: int) -> Estimate:
    """Mean of ``metric`` over the rows of ``predicted (repeats, n)``; its range by resampling images and repeats."""
    value = float(np.mean([metric(row, y) for row in predicted]))
    groups = units if shared(units) else None
    low, high = metrics.bootstrap(
        metric, predicted, y, groups=groups, resamples=_BOOTSTRAP_DRAWS, confidence=0.9, seed=seed
    )
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
