"""How good a fit on comparisons is: foreseen answers among held-out pairs, beside what needs no answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from grepq_iqa.calibration.pairs import PairwiseRegressor

_CONFIDENCE = 0.9
_FEW = 30  # pairs with a winner below which a share of them says little


@dataclass(frozen=True)
class Share:
    """Right answers among so many, with the Wilson interval at 90 %.

    Attributes:
        value: in 0..1.
        low, high: ends of the interval; pairs that share pictures make it somewhat too narrow.
        of: how many pairs with a winner.
    """

    value: float
    low: float
    high: float
    of: int

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} % [{100 * self.low:.0f}, {100 * self.high:.0f}]"


@dataclass(frozen=True)
class PairReport:
    """What was fitted on and what it foresees.

    Attributes:
        pairs, photographs, ties, stars: counts.
        repeated: pairs of the same two pictures that were answered more than once.
        contradicted: of those, how many with different winners.
        held_out: winners foreseen by what had seen neither photograph; None where no pair could be held out.
        zero_shot: winners with the higher zero-shot score, of the same pairs.
        alpha: penalty chosen.
        scale: of predictions, in words.
        warnings: reasons to trust the fit less.
    """

    pairs: int
    photographs: int
    ties: int
    stars: int
    repeated: int
    contradicted: int
    held_out: Share | None
    zero_shot: Share | None
    alpha: float
    scale: str
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """For people."""
        anchors = f", {self.stars} labels" if self.stars else ""
        lines = [
            f"{self.pairs} pairs of {self.photographs} photographs, {self.ties} ties{anchors}; alpha {self.alpha:g}"
        ]
        if self.repeated:
            lines.append(f"{self.repeated} pairs were asked again, {self.contradicted} with another winner")
        if self.held_out is not None and self.zero_shot is not None:
            lines.append(
                f"winners foreseen when their photographs were held out: {self.held_out} of {self.held_out.of}"
            )
            lines.append(f"by the zero-shot score alone: {self.zero_shot}")
        lines.append(f"predictions are {self.scale}")
        return "\n".join(lines) + "\n"


def _foreseen(difference: NDArray[np.float64], left_won: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the sign of left less right told the winner; who says that both are equal has foreseen nothing."""
    told: NDArray[np.bool_] = np.where(left_won, difference > 0, difference < 0)
    return told


def report_pairs(regressor: PairwiseRegressor, ends: ArrayLike, outcomes: ArrayLike, scores: ArrayLike) -> PairReport:
    """Report on a fitted regressor.

    Args:
        regressor: fitted.
        ends: ``(m, 2)``, as it was fitted on.
        outcomes: ``(m,)``, likewise.
        scores: ``(n,)``, zero-shot scores of the photographs.
    """
    pairs, answers = np.asarray(ends), np.asarray(outcomes, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    decided = (answers != 0.5) & np.isfinite(regressor.held_out_)
    held_out = zero_shot = None
    if decided.any():
        left_won = answers[decided] == 1
        held_out = _share(_foreseen(regressor.held_out_[decided], left_won))
        zero_shot = _share(_foreseen(values[pairs[decided, 0]] - values[pairs[decided, 1]], left_won))
    winners: dict[tuple[int, int], set[int]] = {}
    times: dict[tuple[int, int], int] = {}
    for (left, right), answer in zip(pairs.tolist(), answers.tolist(), strict=True):
        key = (min(left, right), max(left, right))
        times[key] = times.get(key, 0) + 1
        if answer != 0.5:
            winners.setdefault(key, set()).add(left if answer == 1 else right)
    again = [key for key, count in times.items() if count > 1]
    warnings = []
    if held_out is None or held_out.of < _FEW:
        warnings.append("too few pairs with a winner to tell how good the fit is; some 50 are a start")
    elif zero_shot is not None and held_out.value < zero_shot.value:
        warnings.append(
            "held-out winners are foreseen no better than by the zero-shot score: the answers may be of another kind "
            "than quality, or too few"
        )
    return PairReport(
        pairs=len(pairs),
        photographs=len(np.unique(pairs)),
        ties=int((answers == 0.5).sum()),
        stars=regressor.stars_,
        repeated=len(again),
        contradicted=sum(len(winners.get(key, ())) > 1 for key in again),
        held_out=held_out,
        zero_shot=zero_shot,
        alpha=regressor.alpha_,
        scale="on the scale of the labels"
        if regressor.stars_
        else "log-odds of being preferred to an ordinary photograph: 0 is even, 1 is 73 of 100, -1 is 27",
        warnings=tuple(warnings),
    )


def _share(right: Any) -> Share:
    found = binomtest(int(right.sum()), len(right)).proportion_ci(_CONFIDENCE, method="wilson")
    return Share(float(right.mean()), float(found.low), float(found.high), len(right))
