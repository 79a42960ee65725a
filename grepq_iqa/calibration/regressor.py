r"""From features to MOS: ridge regression on a few labels, with intervals that mean what they say.

Ridge on standardized features is the data-efficient setting of the paper (Srinath et al., GRepQ, WACV 2024, section
4.2). One eigendecomposition of the smaller Gram matrix serves every penalty, and leave-one-out is exact and closed::

    f(z)     = mean(y) + (z - mean(Z)) beta,    beta = (Zc' Zc + alpha I)^-1 Zc' yc
    r_i      = (y_i - f(z_i)) / (1 - H_ii)                            residual of i when i was left out
    f_-i(z)  = f(z) - r_i (1/n + (z - mean(Z)) (Zc' Zc + alpha I)^-1 zc_i)

The last line is what the jackknife+ needs (Barber, Candes, Ramdas, Tibshirani, "Predictive inference with the
jackknife+", Annals of Statistics 49(1), 2021): the prediction of every leave-one-out model at any new point, without
fitting it. The intercept is not penalized and is refitted in each of them.

Rows that are not independent are left out together, g standing for all rows of a group::

    r_g      = (I - H_gg)^-1 (y_g - f(z_g))
    f_-g(z)  = f(z) - sum over i in g of r_i (1/n + (z - mean(Z)) (Zc' Zc + alpha I)^-1 zc_i)

and a group counts as one label, whatever its size, in the quantiles of an interval (Lee, Barber, Willett,
"Distribution-free inference with hierarchical data", 2023). Weighted rows are multiplied by the square root of their
weight, the column of the intercept included. docs/method.md, section 3, has both.

Example:
    >>> rng = np.random.default_rng(0)
    >>> features, mos = rng.normal(size=(60, 400)), rng.uniform(1, 5, size=60)
    >>> regressor = MOSRegressor().fit(features, mos)
    >>> low, high = regressor.predict_interval(features, confidence=0.9)
    >>> low.shape
    (60,)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from grepq_iqa.calibration.units import Units, blocks, shared, summed, unit_count, unit_numbers
from grepq_iqa.errors import LabelsError, UsageError, WeightsError

Array = NDArray[np.float64]

MIN_LABELS = 3
# The paper's grid, 0.1 to 100, carried on: with 1,500 and more standardized features the best penalty is near 1,000.
ALPHAS = (0.1, 1.0, 10.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
# Values of the interval computation held at once: 64 MiB of float64.
_BLOCK = 1 << 23


def feature_statistics(
    X: Array, feature_mean: ArrayLike | None = None, feature_scale: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Mean and scale, each ``(d,)``, to standardize features with: those given, else those of the rows ``X (n, d)``.

    A feature without spread gets scale 1.

    Raises:
        UsageError: given statistics that are not ``(d,)``, not finite, or a negative scale.
    """
    found = []
    for given, own, label in ((feature_mean, np.mean, "feature_mean"), (feature_scale, np.std, "feature_scale")):
        values = own(X, axis=0) if given is None else np.array(given, dtype=np.float64)
        if values.shape != (X.shape[1],):
            raise UsageError(f"{label} has shape {values.shape}, but there are {X.shape[1]} features")
        if not np.isfinite(values).all():
            raise UsageError(f"{label} holds values that are not finite")
        found.append(values)
    mean, scale = found
    if (scale < 0).any():
        raise UsageError("feature_scale holds negative values")
    # Rounding leaves a constant feature with a spread near 1e-16 of its size; dividing by that would make noise.
    scale[(scale == 0) | (scale <= 1e-12 * np.abs(mean))] = 1.0
    return mean, scale


def standardize(X: Array, mean: Array, scale: Array, clip: float | None = 3.0, unclipped: int = 0) -> Array:
    """``(X - mean) / scale`` limited to ``[-clip, clip]`` but for the last ``unclipped`` columns, ``(n, d)``."""
    Z = X - mean
    Z /= scale
    if clip is not None:
        limited = Z[:, : Z.shape[1] - unclipped]
        np.clip(limited, -clip, clip, out=limited)
    return Z


class MOSRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Ridge regression from image features to mean opinion scores, with jackknife+ intervals.

    Args:
        alphas: penalties to choose from, each positive; the one with the least leave-one-out squared error is taken.
        feature_mean: ``(d,)``, mean of every feature over unlabeled in-the-wild images; None: over the rows
            given to ``fit``.
        feature_scale: ``(d,)``, standard deviation likewise. A feature without spread is left at scale 1.
        clip: standardized features are limited to ``[-clip, clip]``, so that one strange image cannot carry a
            prediction away; None: no limit.
        unclipped: how many of the last columns are exempt from it: those of a head start, whose size is the message.
        spread: how far labels are expected to lie from a prediction, as a function of the last column: its values,
            rising, and the positive spread at each, ``(2, k)``, linear between them. Known beforehand, on any scale;
            intervals are as much wider or narrower, and as valid. None: the same everywhere.

    Attributes:
        alpha_: penalty chosen.
        alpha_errors_: ``(len(alphas),)``, leave-one-out root mean squared error for every penalty, in units of MOS,
            rows counted by their weights.
        coef_: ``(d,)``, one weight a standardized feature.
        intercept_: prediction for the feature row that standardizes to zeros.
        center_: ``(d,)``, mean of the standardized rows fitted on.
        loo_residuals_: ``(n,)``, label minus the prediction of the model fitted without that label and those of its
            group.
        loo_predictions_: ``(n,)``, that prediction.
        units_: ``(n,)``, the group of each row, numbered from 0; n different ones where no row shares its group.
        shares_: ``(n,)``, each row's share in the mean label, its weight over the sum of all.
        loo_spread_: ``(n,)``, spread expected of each label.
        influence_: ``(n, d)``, derivative of ``coef_`` by each label.
        mean_, scale_: ``(d,)``, the statistics used to standardize.
        n_features_in_: d.

    Leaving one out keeps the penalty and the statistics that standardize as they are.
    """

    def __init__(
        self,
        alphas: tuple[float, ...] = ALPHAS,
        feature_mean: ArrayLike | None = None,
        feature_scale: ArrayLike | None = None,
        clip: float | None = 3.0,
        unclipped: int = 0,
        spread: ArrayLike | None = None,
    ) -> None:
        self.alphas = alphas
        self.feature_mean = feature_mean
        self.feature_scale = feature_scale
        self.clip = clip
        self.unclipped = unclipped
        self.spread = spread

    def fit(
        self, X: ArrayLike, y: ArrayLike, groups: ArrayLike | None = None, weights: ArrayLike | None = None
    ) -> MOSRegressor:
        """Fit on ``n`` labeled images and return self.

        Args:
            X: features, ``(n, d)``.
            y: mean opinion scores, ``(n,)``, on any scale and in either direction.
            groups: ``(n,)``, equal for rows that are not independent, such as copies of one picture
                (`grepq_iqa.calibration.groups.find_groups`); None: every row stands for itself.
            weights: ``(n,)``, how much each label counts, positive, on any scale; None: all the same.

        Raises:
            LabelsError: fewer than 3 labels or groups, labels that are all equal or not finite, or labels, groups or
                weights that are not one for each row.
            ValueError: features that are not finite, or settings that do not fit them.
        """
        rows: Array = validate_data(self, X, dtype=np.float64)
        mos = checked_mos(y, len(rows))
        units = _checked_units(groups, len(rows))
        alphas = _checked_alphas(self.alphas)
        relative = _checked_weights(weights, len(rows))
        self.mean_, self.scale_ = feature_statistics(rows, self.feature_mean, self.feature_scale)

        Z = self._standardize(rows)
        if relative is None:
            self.shares_, root = np.full(len(mos), 1 / len(mos)), np.ones(len(mos))
            self.center_, level = Z.mean(axis=0), mos.mean()
        else:
            self.shares_, root = relative / len(mos), np.sqrt(relative)
            self.center_, level = self.shares_ @ Z, self.shares_ @ mos
        Z -= self.center_
        Z *= root[:, None]
        centered_mos = mos - level
        spectrum = _decompose(Z, root)

        residuals = _loo_residuals(spectrum, root * centered_mos, alphas, root, units)
        self.alpha_errors_ = np.sqrt((residuals**2).mean(axis=1))
        best = int(self.alpha_errors_.argmin())
        self.alpha_ = float(alphas[best])
        self.units_ = units
        self.loo_residuals_ = residuals[best] / root
        self.loo_predictions_ = mos - self.loo_residuals_

        self.loo_spread_ = self._spread_of(rows)
        self.influence_ = root[:, None] * _influence(spectrum, Z, self.alpha_)
        self.coef_ = centered_mos @ self.influence_
        self.intercept_ = float(level - self.center_ @ self.coef_)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Predicted MOS, ``(m,)``, on the scale of the labels, for features ``(m, d)``."""
        result: Array = self._standardized_input(X) @ self.coef_ + self.intercept_
        return result

    def predict_interval(self, X: ArrayLike, confidence: float = 0.9) -> tuple[Array, Array]:
        """Jackknife+ intervals: where an image's true MOS lies with the probability asked for.

        The guarantee without assumptions is ``2 * confidence - 1`` for images drawn like the labeled ones; what is
        observed is close to ``confidence``. With fewer than ``confidence / (1 - confidence)`` labels no finite
        interval can be promised and the ends are infinite. Labels of one group count as one here, and images are new
        ones, of no group that was fitted on.

        Args:
            X: features, ``(m, d)``.
            confidence: from 0.5 up to, not including, 1.

        Returns:
            The lower and the upper ends, each ``(m,)``.
        """
        if not 0.5 <= confidence < 1:
            raise UsageError(f"confidence must be at least 0.5 and below 1, got {confidence}")
        check_is_fitted(self)
        given: Array = validate_data(self, X, dtype=np.float64, reset=False)
        Z, spread = self._standardize(given), self._spread_of(given)
        n = unit_count(self.units_)
        # Rank of the order statistic (Barber et al. 2021, equation 1.4); rounded so that 0.9 * 10 is 9, not a bit more.
        rank = int(np.ceil(round(confidence * (n + 1), 9)))
        if rank > n:
            return np.full(len(Z), -np.inf), np.full(len(Z), np.inf)
        # Residuals in units of the spread expected there, and back: the jackknife+ of those normalized residuals.
        normalized = np.abs(self.loo_residuals_) / self.loo_spread_
        low, high = np.empty(len(Z)), np.empty(len(Z))
        step = max(1, _BLOCK // len(normalized))
        for start in range(0, len(Z), step):
            rows = slice(start, start + step)
            left_out = self._leave_one_out(Z[rows])
            width = normalized * spread[rows, None]
            if shared(self.units_):
                each = 1 / np.bincount(self.units_)[self.units_]
                low[rows] = -_weighted_rank(width - left_out, each, confidence * (n + 1))
                high[rows] = _weighted_rank(left_out + width, each, confidence * (n + 1))
                continue
            low[rows] = np.partition(left_out - width, n - rank, axis=1)[:, n - rank]
            high[rows] = np.partition(left_out + width, rank - 1, axis=1)[:, rank - 1]
        return low, high

    @property
    def source(self) -> Literal["labels", "pairs"]:
        """On whose scale predictions are, as `grepq_iqa.Prediction` says it."""
        return "labels"

    @property
    def fitted_on(self) -> str:
        """What the fit saw, in words."""
        check_is_fitted(self)
        return f"{len(self.loo_residuals_)} labels"

    def state(self) -> dict[str, Array]:
        """Everything a prediction needs as named float64 arrays, ready for safetensors; `from_state` reads it back."""
        check_is_fitted(self)
        clip = np.inf if self.clip is None else self.clip
        # Files of plain fits stay those of version 0.1, which knew neither groups nor weights.
        further: dict[str, Array] = {}
        if shared(self.units_):
            further["units"] = self.units_.astype(np.float64)
        if np.ptp(self.shares_):
            further["shares"] = self.shares_
        return {
            "alpha": np.array([self.alpha_]),
            "center": self.center_,
            "clip": np.array([clip], dtype=np.float64),
            "coef": self.coef_,
            "influence": self.influence_,
            "intercept": np.array([self.intercept_]),
            "loo_predictions": self.loo_predictions_,
            "loo_residuals": self.loo_residuals_,
            "loo_spread": self.loo_spread_,
            "mean": self.mean_,
            "scale": self.scale_,
            "spread": np.empty((2, 0)) if self.spread is None else np.asarray(self.spread, dtype=np.float64),
            "unclipped": np.array([self.unclipped], dtype=np.float64),
        } | further

    @classmethod
    def from_state(cls, state: Mapping[str, Array], *, name: str = "fitted model") -> MOSRegressor:
        """The fitted regressor that `state` came from; its predictions and intervals are the same to the bit.

        Args:
            state: as `state` returned it.
            name: what to call the model in an error.

        Raises:
            WeightsError: an array is missing, unexpected, of the wrong shape or not finite; the message names it.
        """
        arrays = _checked_state(state, name)
        clip = float(arrays["clip"][0])
        regressor = cls(
            feature_mean=arrays["mean"],
            feature_scale=arrays["scale"],
            clip=None if np.isinf(clip) else clip,
            unclipped=int(arrays["unclipped"][0]),
            spread=arrays["spread"] if arrays["spread"].size else None,
        )
        regressor.alpha_ = float(arrays["alpha"][0])
        regressor.intercept_ = float(arrays["intercept"][0])
        for key in ("center", "coef", "influence", "loo_predictions", "loo_residuals", "loo_spread", "mean", "scale"):
            setattr(regressor, f"{key}_", arrays[key])
        regressor.units_ = arrays["units"].astype(np.intp)
        regressor.shares_ = arrays["shares"]
        regressor.n_features_in_ = len(regressor.coef_)
        return regressor

    def _standardize(self, X: Array) -> Array:
        return standardize(X, self.mean_, self.scale_, self.clip, self.unclipped)

    def _spread_of(self, X: Array) -> Array:
        """Spread expected of the rows ``(m, d)``, ``(m,)``."""
        if self.spread is None:
            return np.ones(len(X))
        at, sizes = np.asarray(self.spread, dtype=np.float64)
        result: Array = np.interp(X[:, -1], at, sizes)
        return result

    def _standardized_input(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        return self._standardize(validate_data(self, X, dtype=np.float64, reset=False))

    def _leave_one_out(self, Z: Array) -> Array:
        """Predictions ``(m, n)`` of the models that lack each row's label and group, for standardized ``(m, d)``."""
        weights = (Z - self.center_) @ self.influence_.T
        weights += self.shares_
        weights *= -self.loo_residuals_
        if shared(self.units_):
            weights = summed(weights, self.units_)
        weights += (Z @ self.coef_ + self.intercept_)[:, None]
        result: Array = weights
        return result


class _Spectrum(NamedTuple):
    """``Zc = U sqrt(S) V'`` of the centered rows, with U completed where that costs nothing.

    Attributes:
        vectors: U, ``(n, k)``, orthonormal columns, each orthogonal to the column of the intercept.
        values: S, ``(k,)``, not negative.
        complete: the columns span all that is orthogonal to the intercept (dual), rather than only the range of Zc
            (primal).
    """

    vectors: Array
    values: Array
    complete: bool


def _decompose(Z: Array, root: Array) -> _Spectrum:
    """Spectrum of centered rows ``(n, d)`` from the smaller of ``Z Z'`` and ``Z' Z``.

    ``root (n,)`` is the column of the intercept: ones, or the square roots of the weights, whose squares sum to n.
    """
    n, d = Z.shape
    if n <= d:
        gram = Z @ Z.T
        # Centering makes root an eigenvector of eigenvalue 0; raised above all others it comes last, to be dropped.
        gram += (2 * np.trace(gram) + 1) / n * np.outer(root, root)
        values, vectors = np.linalg.eigh(gram)
        return _Spectrum(vectors[:, :-1], values[:-1].clip(min=0), complete=True)
    values, axes = np.linalg.eigh(Z.T @ Z)
    kept = values > values[-1] * n * np.finfo(np.float64).eps
    return _Spectrum(Z @ axes[:, kept] / np.sqrt(values[kept]), values[kept], complete=False)


def _loo_residuals(spectrum: _Spectrum, centered_mos: Array, alphas: Array, root: Array, units: Units) -> Array:
    """Exact leave-one-group-out residuals ``(len(alphas), n)``, the intercept refitted each time.

    Residual and ``I - H`` are both sums over the spectrum of ``alpha / (value + alpha)``, so their quotient keeps
    its digits where ``H`` comes near the identity. Labels and residuals are multiplied by ``root``, as the rows are.
    """
    U, values, complete = spectrum
    n = len(centered_mos)
    projected = U.T @ centered_mos
    shrunk = alphas[:, None] / (values + alphas[:, None])
    residuals = (shrunk * projected) @ U.T
    freedom = shrunk @ (U**2).T
    if not complete:
        residuals += centered_mos - U @ projected
        freedom += (1 - root**2 / n - (U**2).sum(axis=1)).clip(min=0)
    result: Array = residuals / freedom
    for rows in blocks(units):
        own = U[rows]
        beyond = 0 if complete else np.eye(len(rows)) - np.outer(root[rows], root[rows]) / n - own @ own.T
        for k, share in enumerate(shrunk):
            result[k, rows] = np.linalg.solve((own * share) @ own.T + beyond, residuals[k, rows])
    return result


def _weighted_rank(values: Array, weights: Array, wanted: float) -> Array:
    """In each row of ``(m, n)``, the least value up to which the weights ``(n,)`` sum to ``wanted``."""
    order = values.argsort(axis=1)
    # Rounding must not ask for one value more: weights such as 1/3 do not add up to whole numbers.
    enough = np.cumsum(weights[order], axis=1) >= wanted - 1e-9
    at = np.take_along_axis(order, enough.argmax(axis=1)[:, None], axis=1)
    result: Array = np.take_along_axis(values, at, axis=1)[:, 0]
    return result


def _influence(spectrum: _Spectrum, Z: Array, alpha: float) -> Array:
    """``Zc (Zc' Zc + alpha I)^-1``, ``(n, d)``."""
    U, values, _ = spectrum
    if len(U) <= Z.shape[1]:
        influence: Array = (U / (values + alpha)) @ U.T @ Z
    else:
        influence = U @ ((U / (values + alpha)[None]).T @ Z)
    return influence


def checked_mos(y: ArrayLike | None, rows: int) -> Array:
    """Labels ``(rows,)`` as float64, once they are known to be usable.

    Raises:
        LabelsError: too few, all equal, not finite or no numbers, or not one for each of ``rows`` images.
    """
    if y is None:
        raise LabelsError("fit requires y to be passed, but the target y is None")
    mos = column_or_1d(y, warn=True)
    try:
        mos = np.asarray(mos, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise LabelsError(f"labels must be numbers: {error}") from None
    if len(mos) != rows:
        raise LabelsError(f"one label for each image is needed, got {rows} images and {len(mos)} labels")
    if rows < MIN_LABELS:
        raise LabelsError(f"at least {MIN_LABELS} labels are needed, got {rows} (n_samples = {rows})")
    bad = np.flatnonzero(~np.isfinite(mos))
    if len(bad):
        raise LabelsError(
            f"{len(bad)} of {rows} labels are NaN or infinite",
            problems=tuple(f"label {i} (counted from 0) is {mos[i]}" for i in bad),
        )
    if np.ptp(mos) <= 1e-12 * np.abs(mos).max():
        raise LabelsError(f"all {rows} labels are {mos[0]:g}: labels that differ are needed to learn from")
    return mos


def _checked_units(groups: ArrayLike | None, rows: int) -> Units:
    units = unit_numbers(groups, rows)
    if unit_count(units) < MIN_LABELS:
        raise LabelsError(
            f"the {rows} labels are of {unit_count(units)} independent images only, copies and groups counted once: at "
            f"least {MIN_LABELS} are needed"
        )
    return units


def _checked_weights(weights: ArrayLike | None, rows: int) -> Array | None:
    """Weights ``(rows,)`` with a mean of 1; None where all are the same, so that such a fit is exactly a plain one."""
    if weights is None:
        return None
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (rows,) or not (np.isfinite(values) & (values > 0)).all():
        raise LabelsError(f"weights must be {rows} positive numbers, one for each label")
    return values / values.mean() if np.ptp(values) else None


def _checked_alphas(alphas: ArrayLike) -> Array:
    values = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
        raise UsageError(f"alphas must be positive numbers, got {alphas!r}")
    return values


def _checked_state(state: Mapping[str, Any], name: str) -> dict[str, Array]:
    def refuse(problem: str) -> WeightsError:
        return WeightsError(f"{name}: calibration {problem}", name, hint="fit the model again")

    n, d = np.size(state.get("loo_residuals", ())), np.size(state.get("coef", ()))
    state = {"units": np.arange(n), "shares": np.full(n, 1 / max(1, n))} | dict(state)
    shapes = {
        "alpha": (1,),
        "center": (d,),
        "clip": (1,),
        "coef": (d,),
        "influence": (n, d),
        "intercept": (1,),
        "loo_predictions": (n,),
        "loo_residuals": (n,),
        "loo_spread": (n,),
        "mean": (d,),
        "scale": (d,),
        "shares": (n,),
        "units": (n,),
        "spread": (2, np.shape(state.get("spread", np.empty((2, 0))))[-1]),
        "unclipped": (1,),
    }
    # version 0.1 knew no head start
    state = {"loo_spread": np.ones(n), "spread": np.empty((2, 0)), "unclipped": np.zeros(1)} | dict(state)
    if missing := sorted(shapes.keys() - state.keys()):
        raise refuse(f"lacks {', '.join(missing)}")
    if unexpected := sorted(state.keys() - shapes.keys()):
        raise refuse(f"holds unexpected {', '.join(unexpected)}")
    arrays = {key: np.asarray(state[key], dtype=np.float64) for key in shapes}
    for key, shape in shapes.items():
        if arrays[key].shape != shape:
            raise refuse(f"{key} has shape {arrays[key].shape} where {shape} is expected")
        if key != "clip" and not np.isfinite(arrays[key]).all():
            raise refuse(f"{key} holds values that are not finite")
    if not np.array_equal(arrays["units"], unit_numbers(arrays["units"], n)):
        raise refuse("units are not numbered from 0 in order")
    return arrays
