"""Where a predicted MOS stands, from 0 to 100: among the labels of the fit, or among other people's photographs.

A number on somebody's scale does not say whether it is much; its standing does, and is what colors, limits and stars go
by. Labels are mostly chosen to be various, so that theirs are not the percentiles of a folder as it comes.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from grepq_iqa.calibration.pairs import PairwiseRegressor
    from grepq_iqa.model import GRepQ


def labels_of(model: GRepQ) -> NDArray[np.float64] | None:
    """The labels ``(n,)`` that a model was fitted on, up to rounding; None for one that was not, or was on pairs."""
    fitted = getattr(model, "regressor_", None)
    if fitted is None or _on_pairs(fitted):
        return None
    labels: NDArray[np.float64] = fitted.loo_predictions_ + fitted.loo_residuals_
    return labels


def standing_among(model: GRepQ) -> str:
    """What percentiles of a model's predictions, or of its scores where it was not fitted, are shares of, in words."""
    return "the photographs that it was fitted on" if labels_of(model) is not None else "in-the-wild photographs"


def mos_standing(model: GRepQ, mos: float, *, lower_is_better: bool | None = None) -> float | None:
    """The share of labels that are worse than ``mos``, ties by half, 0 to 100.

    After a fit on pairs, the chance of being preferred to an ordinary photograph.

    Before a fit, the share of unlabeled in-the-wild photographs of which less would be expected, taken as normally
    distributed; None for a model that was not fitted and has no ratings.

    Args:
        model: fitted or not.
        mos: as `GRepQ.predict` gives it.
        lower_is_better: whether the labels measure distortion; None: as the model was told when it was fitted.
    """
    if not np.isfinite(mos):
        return None
    if hasattr(model, "regressor_"):
        fitted = model.regressor_
        if _on_pairs(fitted):
            strength = (mos - fitted.intercept_) / fitted.scale_per_unit_
            return float(100 / (1 + np.exp(-strength)))
        labels = labels_of(model)
        assert labels is not None  # of single images, as there are no pairs
        # The two were taken from one another: equal ones are so up to rounding.
        alike = np.isclose(labels, mos, rtol=1e-9, atol=1e-9)
        turned = model.lower_is_better if lower_is_better is None else lower_is_better
        worse = (labels > mos) if turned else (labels < mos)
        return float(100 * (np.mean(worse & ~alike) + np.mean(alike) / 2))
    if model.ratings is None:
        return None
    mean, deviation = map(float, model.ratings.expected)
    return 100 * NormalDist(mean, deviation).cdf(mos)


def _on_pairs(fitted: Any) -> TypeGuard[PairwiseRegressor]:
    """Whether it was fitted on pairs; told without importing what fits them, and SciPy with it."""
    return not hasattr(fitted, "loo_predictions_")
