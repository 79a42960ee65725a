"""A head start for a fit: what is known of photographs before the first label, as further columns of the same ridge.

Two columns: Q_H, the part of the zero-shot score that features determine, and the opinion expected by what people said
of other photographs (`grepq_iqa.calibration.ratings`). Each is standardized over unlabeled photographs, not clipped,
and multiplied by a fixed weight ``w``. A ridge penalizes the coefficient of a column by ``alpha / w^2`` per unit of its
spread, so a large weight is a weak penalty: few labels decide on scale and direction of the two columns, many labels on
the thousands of features beside them. It stays one ridge with fixed settings: leave-one-out and jackknife+ are as exact
as without these columns.

Example:
    >>> import numpy as np
    >>> rows = with_columns(np.zeros((2, 3)), {"zero-shot": np.array([0.2, 0.8])})
    >>> rows.shape
    (2, 4)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.errors import UsageError

Array = NDArray[np.float64]

Prior = Literal["auto", "none", "zero-shot", "ratings", "both"]
PRIORS: tuple[str, ...] = get_args(Prior)

WEIGHTS = {"zero-shot": 50.0, "ratings": 200.0}
"""How much more a column counts than a feature of the same spread; see "Ratings and the head start" in EXPERIMENTS.md.
Q_H gets less: two columns that are both nearly free cost five labels more than they tell."""


def resolved(prior: str, *, ratings: bool) -> Prior:
    """Any of `PRIORS` but "auto", which is "both" with a ratings predictor and else "zero-shot".

    Args:
        prior: one of `PRIORS`.
        ratings: whether the model has a ratings predictor.

    Raises:
        UsageError: an unknown prior, or one that needs ratings of a model without them.
    """
    if prior not in PRIORS:
        raise UsageError(f"prior must be one of {', '.join(PRIORS)}, got {prior!r}")
    if prior == "auto":
        return "both" if ratings else "zero-shot"
    if prior in ("ratings", "both") and not ratings:
        raise UsageError(f"prior {prior!r} needs a model with ratings.safetensors; use 'zero-shot' or 'none'")
    return cast("Prior", prior)


def column_names(prior: str) -> tuple[str, ...]:
    """The columns of a resolved prior, in their order."""
    return {"none": (), "both": tuple(WEIGHTS)}.get(prior, (prior,))


def with_columns(features: ArrayLike, columns: Mapping[str, Array]) -> Array:
    """Features ``(n, d)`` and behind them the columns ``(n,)``, as float64 ``(n, d + k)``."""
    return np.column_stack([np.asarray(features, dtype=np.float64), *columns.values()])


def column_statistics(
    columns: Mapping[str, Array], known: Mapping[str, tuple[float, float]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and scale, each ``(k,)``, that standardize and weight the columns.

    Args:
        columns: name to values ``(n,)`` of the labeled images.
        known: name to mean and standard deviation over unlabeled photographs; a column that is not among them is
            standardized by the labeled images, as features without statistics are.
    """
    found = [known.get(name) or (float(np.mean(v)), float(np.std(v))) for name, v in columns.items()]
    # A column without spread among a few labeled images says nothing; its scale must only not be 0.
    scales = [(scale if scale > 0 else 1.0) / WEIGHTS[name] for name, (_, scale) in zip(columns, found, strict=True)]
    return np.array([mean for mean, _ in found], dtype=np.float64), np.array(scales, dtype=np.float64)
