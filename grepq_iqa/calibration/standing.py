"""Where a predicted MOS stands, from 0 to 100: among the labels of the fit, or among other people's photographs.

A number on somebody's scale does not say whether it is much; its standing does, and is what colors, limits and stars go
by. Labels are mostly chosen to be various, so that theirs are not the percentiles of a folder as it comes.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from grepq_iqa.model import GRepQ


def mos_standing(model: GRepQ, mos: float, *, lower_is_better: bool = False) -> float | None:
    """The share of labels that are worse than ``mos``, ties by half, 0 to 100.

    Before a fit, the share of unlabeled in-the-wild photographs of which less would be expected, taken as normally
    distributed; None for a model that was not fitted and has no ratings.

    Args:
        model: fitted or not.
        mos: as `GRepQ.predict` gives it.
        lower_is_better: whether the labels measure distortion.
    """
    if not np.isfinite(mos):
        return None
    if hasattr(model, "regressor_"):
        fitted = model.regressor_
        labels = fitted.loo_predictions_ + fitted.loo_residuals_
        # The two were taken from one another: equal ones are so up to rounding.
        alike = np.isclose(labels, mos, rtol=1e-9, atol=1e-9)
        worse = (labels > mos) if lower_is_better else (labels < mos)
        return float(100 * (np.mean(worse & ~alike) + np.mean(alike) / 2))
    if model.ratings is None:
        return None
    mean, deviation = map(float, model.ratings.expected)
    return 100 * NormalDist(mean, deviation).cdf(mos)
