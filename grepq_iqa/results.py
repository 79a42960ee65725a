"""What the model answers: plain, frozen values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, SupportsFloat

import numpy as np
from numpy.typing import NDArray


class _AsNumber:
    """What speaks of one number: it is ordered, rounded and formatted by it."""

    def _number(self) -> float:
        raise NotImplementedError

    def __float__(self) -> float:
        return self._number()

    def __round__(self, digits: int | None = None) -> float:
        return round(self._number(), digits)

    def __format__(self, spec: str) -> str:
        return format(self._number(), spec) if spec else str(self)

    def __lt__(self, other: SupportsFloat) -> bool:
        return self._number() < float(other) if _is_number(other) else NotImplemented

    def __le__(self, other: SupportsFloat) -> bool:
        return self._number() <= float(other) if _is_number(other) else NotImplemented

    def __gt__(self, other: SupportsFloat) -> bool:
        return self._number() > float(other) if _is_number(other) else NotImplemented

    def __ge__(self, other: SupportsFloat) -> bool:
        return self._number() >= float(other) if _is_number(other) else NotImplemented


def _is_number(other: object) -> bool:
    """Not an array, which compares its own elements."""
    return isinstance(other, SupportsFloat) and not isinstance(other, np.ndarray)


@dataclass(frozen=True)
class Score(_AsNumber):
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

    def _number(self) -> float:
        return self.score


@dataclass(frozen=True, eq=False)
class Prediction(_AsNumber):
    """Predicted MOS; arrays for several images, floats for one.

    After a fit it is on the scale of the labels. Before any fit it is what people would be expected to say on a scale
    from 0, the worst, to 100, learned from others' ratings of other photographs; ``source`` tells which.

    A prediction of one image is ordered by its MOS, and ``float(p)``, ``round(p, 1)`` and ``f"{p:.1f}"`` speak of it.
    One of several has a ``len``, and ``p[0]`` or a loop gives those of single images, a slice those of several.

    Attributes:
        mos: predicted mean opinion score.
        low, high: ends of the interval that holds the true MOS with probability ``confidence``.
        confidence: as asked for, in (0, 1).
        source: "labels" of a fit, "ratings" of others, or "pairs" of a fit without any labels: then on the scale of
            log-odds of being preferred to an ordinary photograph, and with a range for that strength, not for a label.
    """

    mos: NDArray[np.float64] | float
    low: NDArray[np.float64] | float
    high: NDArray[np.float64] | float
    confidence: float
    source: Literal["labels", "ratings", "pairs"] = "labels"

    def __len__(self) -> int:
        return np.size(self.mos)

    def __getitem__(self, index: int | slice) -> Prediction:
        ends = [np.atleast_1d(values)[index] for values in (self.mos, self.low, self.high)]
        mos, low, high = (values if np.ndim(values) else float(values) for values in ends)
        return replace(self, mos=mos, low=low, high=high)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        ends = ((self.mos, other.mos), (self.low, other.low), (self.high, other.high))
        same = all(np.array_equal(one, another) for one, another in ends)
        return same and (self.confidence, self.source) == (other.confidence, other.source)

    def __hash__(self) -> int:
        return hash((self._number(), float(self.low), float(self.high), self.confidence, self.source))

    def _number(self) -> float:
        if np.ndim(self.mos):
            raise TypeError(f"a prediction of {len(self)} images is no single number: use .mos, or p[0] for the first")
        return float(self.mos)


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
