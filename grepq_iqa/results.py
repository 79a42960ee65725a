"""What the model answers: plain, frozen values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """Zero-shot quality of one image; higher is better.

    Attributes:
        value: ``Q = Q_L + Q_H``, in (0, 1.5); also ``float(score)``.
        low_level: ``Q_L``, in (0, 0.5].
        high_level: ``Q_H``, in (0, 1).
        percentile: the share of ordinary photographs that score lower, 0 to 100; None where the model has no table.
        warnings: why to trust this score less, one sentence each.
    """

    value: float
    low_level: float
    high_level: float
    percentile: float | None = None
    warnings: tuple[str, ...] = ()

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Prediction:
    """Predicted MOS on the scale of the labels; arrays for several images, floats for one.

    Attributes:
        mos: predicted mean opinion score.
        low, high: ends of the interval that holds the true MOS with probability ``confidence``.
        confidence: as asked for, in (0, 1).
    """

    mos: NDArray[np.float64] | float
    low: NDArray[np.float64] | float
    high: NDArray[np.float64] | float
    confidence: float
