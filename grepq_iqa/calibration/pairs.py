r"""From "which is better?" to a scale: Bradley-Terry on features, with a ridge, and with stars as anchors if any.

Bradley and Terry (Biometrika 39, 1952) give every photograph a strength u, and say that i is preferred to j with
probability ``1 / (1 + exp(u_j - u_i))``. Here the strength is linear in standardized features and head start, so that
it is known of photographs which nobody compared::

    u(z) = z beta
    J    = sum over pairs of  log(1 + exp(t)) - o t,     t = (z_left - z_right) beta
         + sum over stars of  kappa / 2 (y / tau - a - z beta)^2
         + alpha / 2 ||beta||^2

with o = 1 where the left one is better, 0 where the right one is, and 1/2 for a tie. J is convex and is minimized by
Newton's method in the span of the rows, which is exact: what is orthogonal to them has no weight.

A star y is a + u on the scale of the stars, tau of them to a unit of u, with normal noise. Who rates two photographs
with noise sigma each prefers the worse one as often as a logistic noise of scale ``sigma sqrt(6) / pi`` does (equal
variances), so ``tau = sigma sqrt(6) / pi`` and ``kappa = 6 / pi^2``. The penalty and tau are chosen by the likelihood
of answers about photographs that were held out.

Intervals. With stars: jackknife+ (Barber et al. 2021) over the starred photographs, each left out with all answers that
touch it or its copies, by one Newton step from the full solution (Rad and Maleki, "A scalable estimate of the
out-of-sample prediction error via approximate leave-one-out", JRSS B 82, 2020). They are intervals of a star that would
be given. Without stars there is no label that an interval could hold: low and high are the central range of the
posterior of u(z) by Laplace's approximation, which is what the model does not know of its own strengths, no more.

Example:
    >>> rng = np.random.default_rng(0)
    >>> features = rng.normal(size=(40, 8))
    >>> pairs = rng.permutation(40).reshape(20, 2)
    >>> outcomes = (features[pairs[:, 0], 0] > features[pairs[:, 1], 0]).astype(float)
    >>> regressor = PairwiseRegressor().fit(features, pairs, outcomes)
    >>> bool(np.corrcoef(regressor.predict(features), features[:, 0])[0, 1] > 0.7)
    True
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from scipy.stats import norm

from grepq_iqa.calibration.regressor import Array, checked_mos, feature_statistics, standardize
from grepq_iqa.calibration.units import Units, unit_count, unit_numbers
from grepq_iqa.errors import LabelsError, NotFittedError, UsageError, WeightsError

MIN_PAIRS = 3
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5)
"""To choose alpha from: with some 1,500 standardized features, u spreads by about one at 1,500."""

KAPPA = 6 / np.pi**2
"""Precision of a star in units of tau: that of the logistic's variance, pi^2 / 3, halved."""

NOISE_SHARES = (1.0, 0.7, 0.5, 0.35, 0.25)
"""To choose tau from: noise of a star as a share of the spread of all, from a PLCC of 0 with features to one of .97."""

FOLDS, PARTS = 5, 10
"""Parts of the photographs that are held out in turn: to choose by, and, two at a time, to tell how well it went."""

_STEPS, _HALVINGS = 100, 40
_TOLERANCE = 1e-9  # of the gradient, relative to its size at zero


class PairwiseRegressor:
    """Ridge-regularized Bradley-Terry regression from features, on the scale of stars where some are given.

    Args:
        alphas: penalties to choose from, each positive.
        feature_mean, feature_scale: ``(d,)``, statistics to standardize with, as for
            :class:`~grepq_iqa.calibration.regressor.MOSRegressor`; None: of the rows given to ``fit``.
        clip: limit of standardized features; None: no limit.
        unclipped: how many of the last columns, a head start, are exempt from it.
        seed: of the folds.

    Attributes:
        alpha_: penalty chosen.
        coef_: ``(d,)``, one weight a standardized feature, in units of what ``predict`` returns.
        intercept_: prediction for features that standardize to zeros; 0 without stars.
        scale_per_unit_: tau, stars to a unit of strength (a log-odds); 1 without stars.
        pairs_, stars_: how many of each were fitted on.
        held_out_: ``(pairs,)``, strength of the left less that of the right one, predicted without the photographs
            of the pair; NaN where that could not be.
        n_features_in_: d.
    """

    def __init__(
        self,
        alphas: Sequence[float] = PENALTIES,
        feature_mean: ArrayLike | None = None,
        feature_scale: ArrayLike | None = None,
        clip: float | None = 3.0,
        unclipped: int = 0,
        seed: int = 0,
    ) -> None:
        self.alphas = alphas
        self.feature_mean = feature_mean
        self.feature_scale = feature_scale
        self.clip = clip
        self.unclipped = unclipped
        self.seed = seed

    def fit(
        self,
        X: ArrayLike,
        pairs: ArrayLike,
        outcomes: ArrayLike,
        mos: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> PairwiseRegressor:
        """Fit on ``m`` answers about ``n`` photographs and return self.

        Args:
            X: features, ``(n, d)``.
            pairs: ``(m, 2)``, rows of X that were compared, left and right.
            outcomes: ``(m,)``, 1 where the left one is better, 0 where the right one is, 0.5 for a tie.
            mos: ``(n,)``, stars, higher is better, NaN where none were given; None: none at all.
            groups: ``(n,)``, equal for copies of one picture, which are held out together.

        Raises:
            LabelsError: fewer than 3 pairs, ties only, pairs of a picture with itself or with none of the rows, or
                stars that are too few or all the same.
            UsageError: features that are not finite, or settings that do not fit them.
        """
        rows = np.asarray(X, dtype=np.float64)
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise UsageError(f"features must be finite and of shape (photographs, d), got shape {rows.shape}")
        if not len(self.alphas) or not all(np.isfinite(a) and a > 0 for a in self.alphas):
            raise UsageError(f"alphas must be positive numbers, got {self.alphas!r}")
        ends, answers = _checked_pairs(pairs, outcomes, len(rows))
        stars, starred = _checked_stars(mos, len(rows))
        units = unit_numbers(groups, len(rows))
        self.mean_, self.scale_ = feature_statistics(rows, self.feature_mean, self.feature_scale)
        self.n_features_in_ = rows.shape[1]
        Z = self._standardize(rows)

        design, basis = _design(Z, ends, starred)
        touched = np.concatenate([units[ends], np.repeat(units[starred][:, None], 2, axis=1)])
        folds = list(_folds(touched, unit_count(units), np.random.default_rng(self.seed)))
        problem = _Problem(design, answers, stars, 1.0, 1.0)
        share = NOISE_SHARES[len(NOISE_SHARES) // 2]
        problem = problem.with_noise(share)
        errors = [_held_out_error(problem.with_alpha(alpha), folds) for alpha in self.alphas]
        problem = problem.with_alpha(float(self.alphas[int(np.argmin(errors))]))
        if len(stars):
            errors = [_held_out_error(problem.with_noise(share), folds) for share in NOISE_SHARES]
            problem = problem.with_noise(NOISE_SHARES[int(np.argmin(errors))])
        theta = problem.minimum()

        self.alpha_, self.scale_per_unit_ = problem.alpha, problem.tau if len(stars) else 1.0
        self.pairs_, self.stars_ = len(ends), len(stars)
        r = len(basis)
        self.coef_ = self.scale_per_unit_ * (theta[:r] @ basis)
        self.intercept_ = float(self.scale_per_unit_ * theta[r]) if len(stars) else 0.0
        self.held_out_ = _strictly_held_out(problem, touched, unit_count(units), self.seed)[: len(ends)]
        if len(stars):
            left_out, residuals = _leave_units_out(problem, theta, touched, len(ends))
            self.loo_coef_ = self.scale_per_unit_ * (left_out[:, :r] @ basis)
            self.loo_intercept_ = self.scale_per_unit_ * left_out[:, r]
            self.loo_residuals_ = self.scale_per_unit_ * residuals
            self.factor_ = np.empty((0, rows.shape[1]))
        else:
            self.loo_coef_, self.loo_intercept_ = np.empty((0, rows.shape[1])), np.empty(0)
            self.loo_residuals_ = np.empty(0)
            self.factor_ = _posterior_factor(problem, theta) @ basis
        return self

    @property
    def source(self) -> Literal["labels", "pairs"]:
        """On whose scale predictions are, as `grepq_iqa.Prediction` says it."""
        self._require_fit()
        return "labels" if self.stars_ else "pairs"

    @property
    def fitted_on(self) -> str:
        """What the fit saw, in words."""
        self._require_fit()
        return f"{self.pairs_} pairs" + (f" and {self.stars_} labels" if self.stars_ else "")

    def predict(self, X: ArrayLike) -> Array:
        """Stars, or strengths where no stars were given, ``(k,)``, of features ``(k, d)``."""
        result: Array = self._input(X) @ self.coef_ + self.intercept_
        return result

    def predict_interval(self, X: ArrayLike, confidence: float = 0.9) -> tuple[Array, Array]:
        """Ends of the intervals, each ``(k,)``; the module's text says what they are with stars and without.

        With fewer than ``confidence / (1 - confidence)`` starred photographs the ends are infinite.

        Raises:
            UsageError: confidence is not from 0.5 up to, not including, 1.
        """
        if not 0.5 <= confidence < 1:
            raise UsageError(f"confidence must be at least 0.5 and below 1, got {confidence}")
        Z = self._input(X)
        if not self.stars_:
            middle = Z @ self.coef_
            variance = ((Z**2).sum(axis=1) - ((Z @ self.factor_.T) ** 2).sum(axis=1)).clip(min=0) / self.alpha_
            width = norm.ppf((1 + confidence) / 2) * np.sqrt(variance)
            return middle - width, middle + width
        n = len(self.loo_residuals_)
        rank = int(np.ceil(round(confidence * (n + 1), 9)))
        if rank > n:
            return np.full(len(Z), -np.inf), np.full(len(Z), np.inf)
        left_out = Z @ self.loo_coef_.T + self.loo_intercept_
        low = np.sort(left_out - self.loo_residuals_, axis=1)[:, n - rank]
        high = np.sort(left_out + self.loo_residuals_, axis=1)[:, rank - 1]
        return low, high

    def state(self) -> dict[str, Array]:
        """Everything a prediction needs as named float64 arrays, ready for safetensors; `from_state` reads it back."""
        self._require_fit()
        one = {
            "alpha": self.alpha_,
            "clip": np.inf if self.clip is None else self.clip,
            "intercept": self.intercept_,
            "pairs": self.pairs_,
            "scale_per_unit": self.scale_per_unit_,
            "stars": self.stars_,
            "unclipped": self.unclipped,
        }
        return {key: np.array([value], dtype=np.float64) for key, value in one.items()} | {
            key: np.asarray(getattr(self, f"{key}_"), dtype=np.float64) for key in _ARRAYS
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Array], *, name: str = "fitted model") -> PairwiseRegressor:
        """The fitted regressor that `state` came from; its predictions are the same to the bit.

        Raises:
            WeightsError: an array is missing, unexpected, of the wrong shape or not finite; the message names it.
        """
        arrays = _checked_state(state, name)
        clip = float(arrays["clip"][0])
        found = cls(
            feature_mean=arrays["mean"],
            feature_scale=arrays["scale"],
            clip=None if np.isinf(clip) else clip,
            unclipped=int(arrays["unclipped"][0]),
        )
        found.alpha_, found.intercept_ = float(arrays["alpha"][0]), float(arrays["intercept"][0])
        found.pairs_, found.stars_ = int(arrays["pairs"][0]), int(arrays["stars"][0])
        found.scale_per_unit_ = float(arrays["scale_per_unit"][0])
        for key in _ARRAYS:
            setattr(found, f"{key}_", arrays[key])
        found.n_features_in_ = len(found.coef_)
        return found

    def _standardize(self, X: Array) -> Array:
        return standardize(X, self.mean_, self.scale_, self.clip, self.unclipped)

    def _input(self, X: ArrayLike) -> Array:
        self._require_fit()
        rows = np.asarray(X, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.n_features_in_ or not np.isfinite(rows).all():
            raise UsageError(f"features must be finite and of shape (n, {self.n_features_in_}), got shape {rows.shape}")
        return self._standardize(rows)

    def _require_fit(self) -> None:
        if not hasattr(self, "coef_"):
            raise NotFittedError("this PairwiseRegressor has seen no pairs: call fit first")


_ARRAYS = ("coef", "factor", "loo_coef", "loo_intercept", "loo_residuals", "mean", "scale")


@dataclass(frozen=True)
class _Problem:
    """J in the span of the rows: parameters ``theta`` are weights of the basis ``(r,)``, and a where there are stars.

    Attributes:
        design: ``(m + n, q)``: pairs, then stars.
        answers: ``(m,)`` outcomes.
        stars: ``(n,)``.
        alpha: penalty.
        tau: stars to a unit of strength.
    """

    design: Array
    answers: Array
    stars: Array
    alpha: float
    tau: float

    def with_alpha(self, alpha: float) -> _Problem:
        return _Problem(self.design, self.answers, self.stars, alpha, self.tau)

    def with_noise(self, share: float) -> _Problem:
        """Noise of a star as a share of the spread of all."""
        tau = share * float(np.std(self.stars)) * np.sqrt(KAPPA) if len(self.stars) else 1.0
        return _Problem(self.design, self.answers, self.stars, self.alpha, tau)

    def only(self, rows: NDArray[np.bool_]) -> _Problem:
        m = len(self.answers)
        return _Problem(self.design[rows], self.answers[rows[:m]], self.stars[rows[m:]], self.alpha, self.tau)

    @property
    def penalty(self) -> Array:
        """Of every parameter, ``(q,)``: the offset of stars is free, but where no star is left to fix it."""
        penalty = np.full(self.design.shape[1], self.alpha)
        # The offset is there when rows of stars are, which `only` may have taken.
        if self.stars.size:
            penalty[-1] = 0.0
        return penalty

    def value(self, theta: Array) -> float:
        """J."""
        predicted = self.design @ theta
        m = len(self.answers)
        t = predicted[:m]
        pairs = np.logaddexp(0, t).sum() - self.answers @ t
        stars = KAPPA / 2 * ((self.stars / self.tau - predicted[m:]) ** 2).sum()
        return float(pairs + stars + (self.penalty * theta**2).sum() / 2)

    def slopes(self, theta: Array) -> tuple[Array, Array]:
        """First and second derivative of every row's loss by its prediction, each ``(m + n,)``."""
        predicted = self.design @ theta
        m = len(self.answers)
        p = expit(predicted[:m])
        first = np.concatenate([p - self.answers, KAPPA * (predicted[m:] - self.stars / self.tau)])
        return first, np.concatenate([p * (1 - p), np.full(len(self.stars), KAPPA)])

    def hessian(self, curvature: Array) -> Array:
        result: Array = (self.design.T * curvature) @ self.design
        result[np.diag_indices_from(result)] += self.penalty
        return result

    def minimum(self, start: Array | None = None) -> Array:
        """The parameters that minimize J, by Newton's method with halved steps where a whole one leads up."""
        theta = np.zeros(self.design.shape[1]) if start is None else start.copy()
        value = self.value(theta)
        limit = None
        for _ in range(_STEPS):
            first, curvature = self.slopes(theta)
            gradient = self.design.T @ first + self.penalty * theta
            limit = _TOLERANCE * (1 + float(np.abs(gradient).max())) if limit is None else limit
            if float(np.abs(gradient).max()) <= limit:
                break
            step = cho_solve(cho_factor(self.hessian(curvature)), gradient)
            for halving in range(_HALVINGS):
                moved = theta - step / 2**halving
                if (now := self.value(moved)) < value:
                    theta, value = moved, now
                    break
            else:  # as far down as rounding lets one go
                break
        return theta


def _design(Z: Array, ends: NDArray[np.intp], starred: NDArray[np.intp]) -> tuple[Array, Array]:
    """Rows of pairs and stars in an orthonormal basis ``(r, d)`` of their span, ``(m + n, q)``, and the basis."""
    rows = np.concatenate([Z[ends[:, 0]] - Z[ends[:, 1]], Z[starred]])
    vectors, sizes, basis = np.linalg.svd(rows, full_matrices=False)
    kept = sizes > sizes[0] * max(rows.shape) * np.finfo(np.float64).eps if sizes[0] > 0 else sizes > 0
    design = vectors[:, kept] * sizes[kept]
    if len(starred):
        design = np.column_stack([design, np.arange(len(rows)) >= len(ends)])
    return design, basis[kept]


def _parts(touched: Units, units: int, count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Which of ``count`` equal parts each photograph falls into, by lot, ``(units,)``; -1 for those in no row."""
    part = np.full(units, -1)
    known = np.unique(touched)
    part[rng.permutation(known)] = np.arange(len(known)) % count
    return part


def _folds(touched: Units, units: int, rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """For each part of the photographs, the rows ``(m + n,)`` that touch one of them."""
    part = _parts(touched, units, FOLDS, rng)
    for fold in range(FOLDS):
        rows = (part[touched] == fold).any(axis=1)
        if rows.any() and not rows.all():
            yield rows


def _strictly_held_out(problem: _Problem, touched: Units, units: int, seed: int) -> Array:
    """Predictions ``(m + n,)`` of rows by what was fitted without any row of either photograph; NaN where none was.

    The folds to choose by leave out one part, so the other photograph of a pair may have been seen in other pairs: good
    enough to compare penalties, and too good a figure to tell.
    """
    part = _parts(touched, units, PARTS, np.random.default_rng(seed))
    of_row = np.sort(part[touched], axis=1)
    result = np.full(len(problem.design), np.nan)
    theta = None
    for first, second in np.unique(of_row, axis=0):
        asked = (of_row == (first, second)).all(axis=1)
        rest = np.logical_not(np.isin(of_row, (first, second)).any(axis=1))
        if rest.any():
            theta = problem.only(rest).minimum(theta)
            result[asked] = problem.design[asked] @ theta
    return result


def _held_out(problem: _Problem, folds: list[NDArray[np.bool_]]) -> Array:
    """Predictions ``(m + n,)`` of rows by what was fitted without their photographs, averaged over folds."""
    total, count = np.zeros(len(problem.design)), np.zeros(len(problem.design))
    theta = None
    for rows in folds:
        rest = problem.only(~rows)
        theta = rest.minimum(theta)
        total[rows] += problem.design[rows] @ theta
        count[rows] += 1
    with np.errstate(invalid="ignore"):
        result: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result


def _held_out_error(problem: _Problem, folds: list[NDArray[np.bool_]]) -> float:
    """Mean negative log-likelihood of held-out answers, without constants."""
    predicted = _held_out(problem, folds)
    m = len(problem.answers)
    t = predicted[:m]
    losses = np.concatenate(
        [
            np.logaddexp(0, t) - problem.answers * t,
            KAPPA / 2 * (problem.stars / problem.tau - predicted[m:]) ** 2 + np.log(problem.tau),
        ]
    )
    losses = losses[np.isfinite(losses)]
    return float(losses.mean()) if len(losses) else np.inf


def _leave_units_out(problem: _Problem, theta: Array, touched: Units, m: int) -> tuple[Array, Array]:
    """For each starred picture, parameters ``(k, q)`` without all that touches it, and its absolute residual ``(k,)``.

    Of copies of one picture the largest residual counts. One Newton step: with A the rows left out, W and e their
    second and first derivatives, ``theta + H^-1 A' (I - W A H^-1 A')^-1 e``.
    """
    first, curvature = problem.slopes(theta)
    solved = cho_solve(cho_factor(problem.hessian(curvature)), problem.design.T)
    found, residuals = [], []
    for unit in np.unique(touched[m:]):
        rows = np.flatnonzero((touched == unit).any(axis=1))
        own = np.eye(len(rows)) - curvature[rows][:, None] * (problem.design[rows] @ solved[:, rows])
        left_out = theta + solved[:, rows] @ np.linalg.solve(own, first[rows])
        stars = rows[rows >= m]
        found.append(left_out)
        residuals.append(np.abs(problem.stars[stars - m] / problem.tau - problem.design[stars] @ left_out).max())
    return np.array(found), np.array(residuals)


def _posterior_factor(problem: _Problem, theta: Array) -> Array:
    """F ``(r, r)`` such that the posterior variance along z is ``(|z|^2 - |F z|^2) / alpha``, z in the basis."""
    _, curvature = problem.slopes(theta)
    values, vectors = np.linalg.eigh((problem.design.T * curvature) @ problem.design)
    values = values.clip(min=0)
    result: Array = np.sqrt(values / (values + problem.alpha))[:, None] * vectors.T
    return result


def _checked_pairs(pairs: ArrayLike, outcomes: ArrayLike, rows: int) -> tuple[NDArray[np.intp], Array]:
    ends = np.asarray(pairs)
    answers = np.asarray(outcomes, dtype=np.float64)
    if ends.ndim != 2 or ends.shape[1:] != (2,) or answers.shape != ends.shape[:1]:
        raise LabelsError(f"pairs (m, 2) and as many outcomes are needed, got shapes {ends.shape} and {answers.shape}")
    if len(ends) < MIN_PAIRS:
        raise LabelsError(f"at least {MIN_PAIRS} pairs are needed, got {len(ends)}")
    ends = ends.astype(np.intp)
    problems = []
    for i, ((left, right), outcome) in enumerate(zip(ends.tolist(), answers.tolist(), strict=True)):
        if not (0 <= left < rows and 0 <= right < rows):
            problems.append(f"pair {i} (counted from 0) names photographs outside 0 to {rows - 1}")
        elif left == right:
            problems.append(f"pair {i} (counted from 0) compares a photograph with itself")
        if outcome not in (0.0, 0.5, 1.0):
            problems.append(f"outcome {i} (counted from 0) is {outcome:g}; 1, 0.5 and 0 are known")
    if problems:
        raise LabelsError(f"{len(problems)} of {len(ends)} pairs cannot be used", problems=tuple(problems))
    if (answers == 0.5).all():
        raise LabelsError(f"all {len(answers)} pairs are ties: winners are needed to learn from")
    return ends, answers


def _checked_stars(mos: ArrayLike | None, rows: int) -> tuple[Array, NDArray[np.intp]]:
    """Stars ``(n,)`` and the rows that they are of."""
    if mos is None:
        return np.empty(0), np.empty(0, dtype=np.intp)
    values = np.asarray(mos, dtype=np.float64)
    if values.shape != (rows,):
        raise LabelsError(f"one label or NaN for each of {rows} photographs is needed, got shape {values.shape}")
    starred = np.flatnonzero(~np.isnan(values))
    if not len(starred):
        return np.empty(0), starred
    return checked_mos(values[starred], len(starred)), starred


def _checked_state(state: Mapping[str, Any], name: str) -> dict[str, Array]:
    def refuse(problem: str) -> WeightsError:
        return WeightsError(f"{name}: calibration {problem}", name, hint="fit the model again")

    d, k = np.size(state.get("coef", ())), np.size(state.get("loo_residuals", ()))
    r = len(np.atleast_1d(state.get("factor", ())))
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
        ("alpha", "clip", "intercept", "pairs", "scale_per_unit", "stars", "unclipped"), (1,)
    )
    shapes |= {"coef": (d,), "factor": (r, d), "loo_coef": (k, d), "loo_intercept": (k,), "loo_residuals": (k,)}
    shapes |= {"mean": (d,), "scale": (d,)}
    if problems := sorted(shapes.keys() ^ state.keys()):
        raise refuse(f"lacks or has unexpected {', '.join(problems)}")
    arrays = {key: np.asarray(state[key], dtype=np.float64) for key in shapes}
    for key, shape in shapes.items():
        if arrays[key].shape != shape or (key != "clip" and not np.isfinite(arrays[key]).all()):
            raise refuse(f"{key} has shape {arrays[key].shape} where {shape} is expected, or is not finite")
    if float(arrays["alpha"][0]) <= 0 or (arrays["scale"] <= 0).any():
        raise refuse("holds scales that are not positive")
    return arrays
