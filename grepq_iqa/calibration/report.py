"""What ``grepq fit`` says of a fit: as text for a person, as a mapping for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa import metrics
from grepq_iqa.calibration.comparison import Comparison, compare
from grepq_iqa.calibration.groups import Groups
from grepq_iqa.calibration.outliers import outlying
from grepq_iqa.calibration.regressor import Array, MOSRegressor
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
# Groups and their files that a report names, and labels to look at again.
_NAMED = 5
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
        validation, curve: None with fewer than 6 labels, those of one group counted once.
        prior: head start of the fit, resolved.
        without_prior: SRCC of the same fit without it, in the same folds; None without one or with fewer than 6 labels.
        worst: rows of ``labels`` whose held-out prediction is farthest from the label, the farthest first.
        groups: rows that are not independent.
        comparison: with what needs no labels; None without a validation, or where that says the same of all images.
        others_srcc: SRCC of the opinions expected by others' ratings, positive where they agree; None for a model
            without ratings. Where there are any, the comparison is with these, else with the zero-shot score.
        suspicious: rows whose labels are probably slips (`grepq_iqa.calibration.outliers`), the worst first.
        left_out: ``(n,)``, predictions of the models fitted without each label and its group.
    """

    labels: Labels
    alpha: float
    zero_shot_srcc: float
    validation: CrossValidation | None
    curve: LearningCurve | None
    worst: NDArray[np.intp]
    groups: Groups
    comparison: Comparison | None
    suspicious: NDArray[np.intp]
    left_out: Array

    prior: str = "none"
    without_prior: Estimate | None = None
    others_srcc: float | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why not to trust the fit, one sentence each; empty where nothing speaks against it."""
        found = []
        if self.validation and self.validation.srcc.low <= 0:
            srcc = self.validation.srcc
            found.append(
                f"held out, the predictions cannot be told from chance (SRCC {_spoken(srcc)}): nothing shows that "
                "these labels can be predicted"
            )
        if self.comparison and self.comparison.worse:
            found.append(f"{self._compared(self.comparison)}; {_needed(self.comparison)}")
        return tuple(found)

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
            "warnings": list(self.warnings),
            "independent_images": self.groups.unit_count,
            "groups": [
                {"reasons": list(group.reasons), "images": [self._row(i) for i in group.rows]}
                for group in self.groups.found
            ],
            "agreement": None if self.labels.agreement is None else vars(self.labels.agreement),
            "others_ratings_srcc": None if self.others_srcc is None else _finite(self.others_srcc),
            "compared_with_no_labels": None,
            "look_again": [
                self._row(i) | {"mos": float(self.labels.mos[i]), "predicted": float(self.left_out[i])}
                for i in self.suspicious
            ],
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
                self._row(i) | {"mos": float(self.labels.mos[i]), "predicted": float(v.predicted[i])}
                for i in self.worst
            ]
        if self.comparison:
            needed = self.comparison.needed
            result["compared_with_no_labels"] = {
                "what": "zero-shot" if self.others_srcc is None else "others' ratings",
                "worse": self.comparison.worse,
                "gain": vars(self.comparison.gain),
                "labels_needed": None if needed is None else vars(needed),
            }
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
            *self._groups_as_text(),
        ]
        if self.labels.agreement:
            a = self.labels.agreement
            lines.append(
                f"raters: on {a.images} images rated more than once, two halves of the ratings agree with PLCC "
                f"{a.halves:.3f}; with as many other raters, {a.reliability:.3f}; no prediction can be expected above "
                f"{a.ceiling:.3f}"
            )
        if not self.validation:
            lines.append(
                f"too few labels{' of different images' if self.groups.found else ''} to say how good the fit is: "
                f"{MIN_TO_VALIDATE} are needed"
            )
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
        if self.others_srcc is not None and np.isfinite(self.others_srcc):
            lines.append(
                f"  without any label, the opinion expected by others' ratings has SRCC {self.others_srcc:.3f}"
            )
        if self.comparison:
            lines.append(f"  {self._compared(self.comparison)}")
        if self.comparison and self.comparison.worse:
            lines.append(f"  {_needed(self.comparison)}")
        if self.curve and len(self.curve.labels) > 1:
            c = self.curve
            lines += ["", f"{'images' if self.groups.found else 'labels'}   SRCC   90 % of the draws"]
            for n, srcc, low, high in zip(c.labels, c.srcc, c.low, c.high, strict=True):
                lines.append(f"{n:6d}  {srcc:6.3f}  {low:.3f} to {high:.3f}")
            lines.append(f"twice the labels: at best SRCC +{c.gain_by_doubling:.3f}")
        if len(self.suspicious):
            lines += [
                "",
                "look again: labels that do not look like the others",
                *self._table(self.suspicious, self.left_out),
            ]
        lines += ["", "predicted worst while held out", *self._table(self.worst, v.predicted)]
        return "\n".join(lines) + "\n"

    def _groups_as_text(self) -> list[str]:
        if not self.groups.found:
            return []
        found = self.groups.found
        lines = [
            f"{self.groups.rows_shared} of them are in {len(found)} groups of images that are not independent, each "
            f"held out as a whole and counted once: {self.groups.unit_count} independent images"
        ]
        for group in found[:_NAMED]:
            names = ", ".join(printable(self.labels.paths[i]) for i in group.rows[:_NAMED])
            more = f" and {len(group.rows) - _NAMED} more" if len(group.rows) > _NAMED else ""
            lines.append(f"  {', '.join(group.reasons)}: {names}{more}")
        if len(found) > _NAMED:
            lines.append(f"  and {len(found) - _NAMED} more groups")
        return lines

    def _table(self, rows: NDArray[np.intp], predicted: Array) -> list[str]:
        lines = ["  line      given  predicted  image"]
        for i in rows:
            line, given = self.labels.lines[i], self.labels.mos[i]
            lines.append(f"{line:6d} {given:10.4g} {predicted[i]:10.4g}  {printable(self.labels.paths[i])}")
        return lines

    def _row(self, i: int) -> dict[str, Any]:
        return {"path": str(self.labels.paths[i]), "line": self.labels.lines[i]}

    def _compared(self, comparison: Comparison) -> str:
        gain = comparison.gain
        surely = "" if gain.low > 0 or gain.high < 0 else "perhaps "
        word = "worse" if comparison.worse else "better"
        what = "the zero-shot score, which needs" if self.others_srcc is None else "others' ratings do, which need"
        return f"the fit ranks held-out images {surely}{word} than {what} no labels: difference in SRCC {_spoken(gain)}"


def report_fit(
    regressor: MOSRegressor,
    features: ArrayLike,
    labels: Labels,
    scores: Sequence[float],
    *,
    groups: Groups | None = None,
    expected: ArrayLike | None = None,
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
        expected: opinions expected by others' ratings ``(n,)``, higher is better; None for a model without ratings.
        groups: rows that are not independent, as they were fitted on; None: every row stands for itself.
        without_prior: rows and unfitted regressor of the same fit without its head start, to compare with.
        prior: the head start, resolved.
        confidence: of the intervals.
        worst_count: how many of the worst-predicted images to name.
        seed: of the splits into folds.
    """
    n = len(labels)
    if groups is None:
        groups = Groups(np.arange(n), ())
    units = groups.units
    towards_quality = (-1 if labels.lower_is_better else 1) * labels.mos
    zero_shot_srcc = metrics.srcc(scores, towards_quality)
    validation = curve = comparison = plain = None
    farthest = suspicious = np.empty(0, dtype=np.intp)
    if groups.unit_count >= MIN_TO_VALIDATE:
        repeats = max(1, min(10, _LABELS_FITTED // n))
        shared: dict[str, Any] = {"groups": units, "weights": labels.weights, "seed": seed}
        validation = cross_validate(regressor, features, labels.mos, repeats=repeats, confidence=confidence, **shared)
        if without_prior is not None:
            rows, unfitted = without_prior
            plain = cross_validate(unfitted, rows, labels.mos, repeats=repeats, confidence=confidence, **shared).srcc
        curve = learning_curve(regressor, features, labels.mos, repeats=(repeats + 1) // 2, **shared)
        farthest = metrics.largest(np.abs(labels.mos - validation.predicted), worst_count)
        suspicious = outlying(regressor.loo_residuals_)
        said = np.asarray(scores if expected is None else expected, dtype=np.float64)
        if np.ptp(said):
            directed = said * (-1 if labels.lower_is_better else 1)
            comparison = compare(validation, curve, directed, labels.mos, units, seed=seed)
    return FitReport(
        labels=labels,
        alpha=regressor.alpha_,
        zero_shot_srcc=zero_shot_srcc,
        validation=validation,
        curve=curve,
        worst=farthest,
        groups=groups,
        comparison=comparison,
        suspicious=suspicious,
        left_out=regressor.loo_predictions_,
        prior=prior,
        without_prior=plain,
        others_srcc=None if expected is None else metrics.srcc(expected, towards_quality),
    )


def _needed(comparison: Comparison) -> str:
    needed = comparison.needed
    if needed is None:
        return (
            "how many labels would do is not to be told from these, whose learning curve is too flat or too noisy; of "
            "everyday photographs, 50 to 80 mostly did"
        )
    high = "no upper end" if needed.high is None else needed.high
    return f"some {needed.labels} labels would probably do (90 % range {needed.low} to {high})"


def _spoken(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}, 90 % range {estimate.low:.3f} to {estimate.high:.3f}"


def _range(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}  ({estimate.low:.3f} to {estimate.high:.3f})"


def _width(validation: CrossValidation) -> str:
    width = validation.high - validation.low
    if not np.isfinite(width).all():
        return "; too few labels for finite ones"
    return f" and are {np.median(width):.3g} wide"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
