"""Stars: from a percentile, or from a prediction on a scale from 1 to 5.

Without labels of yours, fifths of in-the-wild photographs: below the 20th percentile one star, from the 80th on five.
After a fit on a scale from 1 to 5, the prediction rounded to whole stars: the labels were stars in all but name. After
a fit on another scale, fifths of the labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from grepq_iqa.errors import UsageError

LIMITS = (20.0, 40.0, 60.0, 80.0)
"""Percentiles from which 2, 3, 4 and 5 stars are given: even shares of in-the-wild photographs."""

REJECTED, UNRATED, MOST = -1, 0, 5
"""As ``xmp:Rating`` has it (XMP specification, part 1, section 8.4): -1 rejected, 0 unrated, 1 to 5."""


def checked_limits(limits: Sequence[float]) -> tuple[float, ...]:
    """Limits that rise within 0 to 100.

    Raises:
        UsageError: they do not.
    """
    found = tuple(float(limit) for limit in limits)
    if len(found) != len(LIMITS) or any(b <= a for a, b in zip((-1.0, *found), (*found, 100.1), strict=True)):
        raise UsageError(f"limits of stars are 4 rising percentiles such as {' '.join(f'{x:g}' for x in LIMITS)}")
    return found


def stars_of_percentile(percentile: float, limits: Sequence[float] = LIMITS, reject_below: float = 0.0) -> int:
    """1 to 5 stars for a percentile in 0..100; -1 below ``reject_below``."""
    if percentile < reject_below:
        return REJECTED
    return 1 + sum(percentile >= limit for limit in limits)


def stars_of_mos(mos: float) -> int:
    """1 to 5 stars for a prediction on a scale from 1 to 5, halves upwards."""
    return min(MOST, max(1, math.floor(mos + 0.5)))


def is_star_scale(lowest: float, highest: float, *, lower_is_better: bool = False) -> bool:
    """Whether labels between these are on a scale from 1 to 5: within it, and not all in a corner of it."""
    return not lower_is_better and lowest >= 1 and highest <= MOST and highest > 2
