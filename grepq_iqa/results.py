"""What the model answers: plain, frozen values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """Zero-shot quality of one image; higher is better.

    Scores are ordered by Q, and ``float(s)``, ``round(s, 3)`` and ``f"{s:.3f}"`` speak of it.

    Attributes:
        score: ``Q = Q_L + Q_H``, in (0, 1.5).
        low_level: ``Q_L``, in (0, 0.5].
        high_level: ``Q_H``, in (0, 1).
        percentile: the share of unlabeled in-the-wild images that score lower, 0 to 100; None where the model has no
            table.
        warnings: why to trust this score less, one sentence each.
    """

    score: float
    low_level: float
    high_level: float
    percentile: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def value(self) -> float:
        """Q, as `score`: the name of earlier versions."""
        return self.score

    def with_warnings(self, warnings: tuple[str, ...]) -> Score:
        """The same with further warnings in front."""
        return replace(self, warnings=(*warnings, *self.warnings)) if warnings else self

    def __float__(self) -> float:
        return self.score

    def __round__(self, digits: int | None = None) -> float:
        return round(self.score, digits)

    def __format__(self, spec: str) -> str:
        return format(self.score, spec) if spec else str(self)

    def __lt__(self, other: Score | float) -> bool:
        return self.score < float(other)

    def __le__(self, other: Score | float) -> bool:
        return self.score <= float(other)

    def __gt__(self, other: Score | float) -> bool:
        return self.score > float(other)

    def __ge__(self, other: Score | float) -> bool:
        return self.score >= float(other)


@dataclass(frozen=True)
class Prediction:
    """Predicted MOS; arrays for several images, floats for one.

    After a fit it is on the scale of the labels. Before any fit it is what people would be expected to say on a scale
    from 0, the worst, to 100, learned from others' ratings of other photographs; ``source`` tells which.

    Attributes:
        mos: predicted mean opinion score.
        low, high: ends of the interval that holds the true MOS with probability ``confidence``.
        confidence: as asked for, in (0, 1).
        source: "labels" of a fit, or "ratings" of others.
    """

    mos: NDArray[np.float64] | float
    low: NDArray[np.float64] | float
    high: NDArray[np.float64] | float
    confidence: float
    source: Literal["labels", "ratings"] = "labels"


@dataclass(frozen=True)
class Reason:
    """One thing that can be wrong with a picture, and how much of it there is.

    Attributes:
        name: sharpness, noise, compression, dark, bright, contrast, color_cast, saturation, over_sharpening or
            upscaling.
        amount: on the scale of its name (docs/explain.md): a picture looks like a clean one with so much of it.
        percentile: the share of in-the-wild photographs in which it is less severe, 0 to 100.
        sentence: both in words, without a full stop.
    """

    name: str
    amount: float
    percentile: float
    sentence: str


@dataclass(frozen=True)
class Explanation:
    """Why a picture has the quality it has, and where.

    Attributes:
        reasons: what stands out, most serious first; empty for a clean picture.
        amounts: all ten, in fixed order.
        sentence: one line: the most serious reason, or that nothing stands out.
        map: ``(h, w)`` float32 in 0..1, 1 is worst, as large as the picture on a screen (at most 1,024 pixels a side);
            None where it was not asked for.
        score: the zero-shot score.
    """

    reasons: tuple[Reason, ...]
    amounts: tuple[Reason, ...]
    sentence: str
    map: NDArray[np.float32] | None
    score: Score
