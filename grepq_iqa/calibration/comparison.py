"""Is a fit better than no labels at all, and if not, how many labels would probably make it so?

No labels means what the model says before a fit: the opinion expected by others' ratings where it has any, else the
zero-shot score. Both questions are asked of the same held-out images, and answered with 90 % ranges over resamplings of
those images: what both have in common cancels. The second extends the learning curve by a power law,
``SRCC(n) = a - b n^-c``, fitted anew to every resampling; where more than a quarter of these never come up to what
needs no labels, the curve is too flat or too noisy to tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from grepq_iqa import metrics
from grepq_iqa.calibration.regressor import Array
from grepq_iqa.calibration.units import Units, unit_count
from grepq_iqa.calibration.validation import CrossValidation, Estimate, LearningCurve

_DRAWS, _CURVES = 1000, 200
# Points that a law of three parameters needs, and how far beyond the largest it may be trusted at all.
_FEWEST_POINTS, _FARTHEST = 4, 30
# Of a, b and c: no fit ranks better than perfectly, and learning curves of ridge fall faster than n^-.1.
_BOUNDS = ((-1.0, 0.0, 0.1), (1.0, 20.0, 2.0))


@dataclass(frozen=True)
class LabelsNeeded:
    """How many labels would probably do.

    Attributes:
        labels: median over the resamplings.
        low, high: 90 % range; None where it has no upper end.
    """

    labels: int
    low: int
    high: int | None


@dataclass(frozen=True)
class Comparison:
    """A fit beside what needs no labels, on the same held-out images.

    Attributes:
        unfitted: SRCC of what needs no labels with the labels, positive where they agree.
        gain: SRCC of the fit less that, with its 90 % range.
        needed: labels with which the fit would rank as well; None where it does already, or where these labels do not
            tell.
    """

    unfitted: float
    gain: Estimate
    needed: LabelsNeeded | None

    @property
    def worse(self) -> bool:
        """Whether the fit ranks held-out images worse than what needs no labels does."""
        return self.gain.value < 0


def compare(
    validation: CrossValidation, curve: LearningCurve, scores: Array, mos: Array, units: Units, *, seed: int = 0
) -> Comparison:
    """Compare a validated fit with what needs no labels.

    Args:
        validation: of the fit.
        curve: its learning curve.
        scores: ``(n,)``, said of the images without any label, turned so that they should rise with ``mos``.
        mos: ``(n,)``, the labels.
        units: ``(n,)``, the unit of each row.
        seed: of the resamplings.
    """
    unfitted = _srcc(scores, mos)
    draws = np.array(
        [
            _srcc(validation.ranked[repeats[0], rows], mos[rows]) - _srcc(scores[rows], mos[rows])
            for rows, repeats in _resampled(units, len(validation.ranked), _DRAWS, seed)
        ]
    )
    low, high = np.quantile(draws, [0.05, 0.95])
    gain = Estimate(validation.srcc.value - unfitted, float(low), float(high))
    needed = labels_needed(curve, scores, mos, units, seed=seed) if gain.value < 0 else None
    return Comparison(unfitted, gain, needed)


def labels_needed(
    curve: LearningCurve, scores: Array, mos: Array, units: Units, *, seed: int = 0
) -> LabelsNeeded | None:
    """Labels with which the curve would reach ``scores``; None where it does not tell. See `compare`."""
    counts = curve.labels.astype(np.float64)
    if len(counts) < _FEWEST_POINTS:
        return None
    found = []
    for rows, repeats in _resampled(units, curve.ranked.shape[1], _CURVES, seed):
        reached = [np.mean([_srcc(one[repeat, rows], mos[rows]) for repeat in repeats]) for one in curve.ranked]
        found.append(_crossing(counts, np.array(reached), _srcc(scores[rows], mos[rows])))
    low, middle, most, high = np.quantile(found, [0.05, 0.5, 0.75, 0.95], method="higher")
    farthest = _FARTHEST * counts[-1]
    if not most <= farthest:
        return None
    # The fit on all of these labels was found to be worse: fewer of them cannot do.
    fewest = unit_count(units) + 1
    return LabelsNeeded(
        labels=max(fewest, round(middle)),
        low=max(fewest, round(low)),
        high=max(fewest, round(high)) if high <= farthest else None,
    )


def _crossing(counts: Array, srcc: Array, wanted: float) -> float:
    """Where a power law through the curve comes up to ``wanted``; infinite where it never does."""
    start = (min(0.99, float(srcc[-1]) + 0.1), max(0.01, float(srcc[-1] - srcc[0])), 0.5)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # of its covariance, which is not used
            (limit, factor, power), _ = curve_fit(
                lambda n, a, b, c: a - b * n**-c, counts, srcc, p0=start, bounds=_BOUNDS, max_nfev=500
            )
    except RuntimeError:  # no convergence
        return float("inf")
    if limit <= wanted:
        return float("inf")
    return float((factor / (limit - wanted)) ** (1 / power))


def _resampled(
    units: Units, repeats: int, draws: int, seed: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Rows and repeats drawn with replacement, the rows of a unit together."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(units == unit) for unit in range(unit_count(units))]
    for _ in range(draws):
        rows = np.concatenate([members[unit] for unit in rng.integers(0, len(members), len(members))])
        yield rows, rng.integers(0, repeats, repeats)


def _srcc(predicted: Array, mos: Array) -> float:
    return float(np.nan_to_num(metrics.srcc(predicted, mos)))  # a constant knows nothing: 0
