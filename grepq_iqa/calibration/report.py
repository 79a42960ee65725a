"""What ``grepq fit`` says of a fit: as text for a person, as a mapping for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa import metrics
from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.calibration.validation import (
    MIN_TO_VALIDATE,
    CrossValidation,
    Estimate,
    LearningCurve,
    cross_validate,
    learning_curve,
)
from grepq_iqa.data.labels import Labels
from grepq_iqa.text import printable

# Fits that all repeats together may cost, in labels: validation of a large table takes minutes, not hours.
_LABELS_FITTED = 5000
# Rank correlation with the zero-shot score below which the labels seem to run the other way, and labels to say so.
_OPPOSED, _ENOUGH_TO_JUDGE = -0.3, 20
HEAD_STARTS = {
    "zero-shot": "the zero-shot score",
    "ratings": "others' ratings of other photographs",
    "both": "the zero-shot score and others' ratings of other photographs",
}
"""Priors in words."""


@dataclass(frozen=True)
class FitReport:
    """Figures of a fit.

    Attributes:
        labels: the table fitted on.
        alpha: penalty chosen.
        zero_shot_srcc: SRCC of the zero-shot score with the labels, positive where they agree; NaN if scores are equal.
        validation, curve: None with fewer than 6 labels.
        prior: head start of the fit, resolved.
        without_prior: SRCC of the same fit without it, in the same folds; None without one or with fewer than 6 labels.
        worst: rows of ``labels`` whose held-out prediction is farthest from the label, the farthest first.
    """

    labels: Labels
    alpha: float
    zero_shot_srcc: float
    validation: CrossValidation | None
    curve: LearningCurve | None
    worst: NDArray[np.intp]
    prior: str = "none"
    without_prior: Estimate | None = None

    @property
    def opposed(self) -> bool:
        """Whether the labels seem to run in the direction opposite to the one given."""
        return len(self.labels) >= _ENOUGH_TO_JUDGE and self.zero_shot_srcc < _OPPOSED

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready mapping; figures that could not be had are None."""
        result: dict[str, Any] = {
            "labels": len(self.labels),
            "image_column": self.labels.image_column,
            "mos_column": self.labels.mos_column,
            "lower_is_better": self.labels.lower_is_better,
            "alpha": self.alpha,
            "zero_shot_srcc": _finite(self.zero_shot_srcc),
            "prior": self.prior,
            "srcc_without_prior": vars(self.without_prior) if self.without_prior else None,
            "validation": None,
            "learning_curve": None,
            "worst": [],
        }
        if self.validation:
            v = self.validation
            result["validation"] = {
                "folds": v.folds,
                "repeats": v.repeats,
                **{name: vars(getattr(v, name)) for name in ("srcc", "plcc", "rmse")},
                "confidence": v.confidence,
                "coverage": v.coverage,
            }
            result["worst"] = [
                {
                    "path": str(self.labels.paths[i]),
                    "line": self.labels.lines[i],
                    "mos": float(self.labels.mos[i]),
                    "predicted": float(v.predicted[i]),
                }
                for i in self.worst
            ]
        if self.curve:
            c = self.curve
            result["learning_curve"] = {
                "labels": c.labels.tolist(),
                "srcc": c.srcc.tolist(),
                "low": c.low.tolist(),
                "high": c.high.tolist(),
                "gain_by_doubling": _finite(c.gain_by_doubling),
            }
        return result

    def as_text(self) -> str:
        """Some twenty lines."""
        direction = "lower" if self.labels.lower_is_better else "higher"
        lines = [
            f"{len(self.labels)} labels in {self.labels.mos_column!r}, {direction} is better; alpha {self.alpha:g}",
        ]
        if not self.validation:
            lines.append(f"too few labels to say how good the fit is: {MIN_TO_VALIDATE} are needed")
            return "\n".join(lines) + "\n"
        v = self.validation
        lines += ["", f"cross-validated, {v.folds} folds x {v.repeats}, with 90 % range"]
        for name, estimate in (("SRCC", v.srcc), ("PLCC", v.plcc), ("RMSE", v.rmse)):
            lines.append(f"  {name}  {_range(estimate)}")
        lines.append(f"  {v.confidence:.0%} intervals hold {v.coverage:.1%} of the held-out labels{_width(v)}")
        if self.without_prior:
            plain = self.without_prior.value
            lines.append(f"  head start: {HEAD_STARTS[self.prior]}")
            lines.append(f"    without it SRCC {plain:.3f} in the same folds ({v.srcc.value - plain:+.3f} by it)")
        if np.isfinite(self.zero_shot_srcc):
            lines.append(f"  without any label, the zero-shot score has SRCC {self.zero_shot_srcc:.3f}")
        if self.curve and len(self.curve.labels) > 1:
            c = self.curve
            lines += ["", "labels   SRCC   90 % of the draws"]
            for n, srcc, low, high in zip(c.labels, c.srcc, c.low, c.high, strict=True):
                lines.append(f"{n:6d}  {srcc:6.3f}  {low:.3f} to {high:.3f}")
            lines.append(f"twice the labels: at best SRCC +{c.gain_by_doubling:.3f}")
        lines += ["", "predicted worst while held out", "  line      given  predicted  image"]
        for i in self.worst:
            line, given, predicted = self.labels.lines[i], self.labels.mos[i], v.predicted[i]
            lines.append(f"{line:6d} {given:10.4g} {predicted:10.4g}  {printable(self.labels.paths[i])}")
        return "\n".join(lines) + "\n"


def report_fit(
    regressor: MOSRegressor,
    features: ArrayLike,
    labels: Labels,
    scores: Sequence[float],
    *,
    without_prior: tuple[ArrayLike, MOSRegressor] | None = None,
    prior: str = "none",
    confidence: float = 0.9,
    worst_count: int = 5,
    seed: int = 0,
) -> FitReport:
    """Validate a fitted regressor on the labels that it was fitted on, by fitting it anew without some of them.

    Args:
        regressor: fitted.
        features: ``(n, d)``, row by row those of ``labels``, with the columns of the head start.
        labels: the table.
        scores: zero-shot scores ``(n,)``.
        without_prior: rows and unfitted regressor of the same fit without its head start, to compare with.
        prior: the head start, resolved.
        confidence: of the intervals.
        worst_count: how many of the worst-predicted images to name.
        seed: of the splits into folds.
    """
    n = len(labels)
    direction = -1 if labels.lower_is_better else 1
    zero_shot_srcc = metrics.srcc(scores, direction * labels.mos)
    validation = curve = plain = None
    farthest = np.empty(0, dtype=np.intp)
    if n >= MIN_TO_VALIDATE:
        repeats = max(1, min(10, _LABELS_FITTED // n))
        validation = cross_validate(regressor, features, labels.mos, repeats=repeats, confidence=confidence, seed=seed)
        if without_prior is not None:
            rows, unfitted = without_prior
            plain = cross_validate(unfitted, rows, labels.mos, repeats=repeats, confidence=confidence, seed=seed).srcc
        curve = learning_curve(regressor, features, labels.mos, repeats=(repeats + 1) // 2, seed=seed)
        farthest = metrics.largest(np.abs(labels.mos - validation.predicted), worst_count)
    return FitReport(labels, regressor.alpha_, zero_shot_srcc, validation, curve, farthest, prior, plain)


def _range(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}  ({estimate.low:.3f} to {estimate.high:.3f})"


def _width(validation: CrossValidation) -> str:
    width = validation.high - validation.low
    if not np.isfinite(width).all():
        return "; too few labels for finite ones"
    return f" and are {np.median(width):.3g} wide"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
