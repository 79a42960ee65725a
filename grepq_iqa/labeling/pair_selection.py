"""Which pairs of photographs to compare: pictures worth labeling, the lower half by expected quality beside the upper.

Pictures are chosen as for single ratings (`grepq_iqa.labeling.selection`), which makes them different from each other,
sorted by their expected quality, and paired over half of that order. As long as there are enough pictures each is shown
once, which tells more than a known picture against another.

Answers about neighbors in expected quality are the hardest to foresee and should tell most; they do harm. Where the
known difference has been taken away, what remains is where the expectation errs, and a fit on such pairs alone learns
to turn it round. ``studies/pairs.py`` measures the steps between; docs/report.md has the figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.errors import UsageError
from grepq_iqa.labeling.selection import select

STEP = 0.5
"""Distance of two paired pictures in the order by expected quality, as a share of all chosen ones."""


def select_pairs(
    features: ArrayLike,
    expected: ArrayLike,
    n: int,
    *,
    feature_mean: ArrayLike | None = None,
    feature_scale: ArrayLike | None = None,
    step: float = STEP,
    seed: int = 0,
) -> NDArray[np.intp]:
    """Rows of features that shall be compared, ``(n, 2)``; which one is on the left is drawn.

    Args:
        features: ``(images, d)``.
        expected: what is thought of their quality before anyone is asked, on any scale, ``(images,)``.
        n: how many pairs.
        feature_mean, feature_scale: ``(d,)``, to standardize with.
        step: of the order; 0 pairs neighbors, 0.5 the upper with the lower half.
        seed: of sides and order.

    Raises:
        UsageError: fewer than two images, or more pairs than there are.
    """
    X, quality = np.asarray(features), np.asarray(expected, dtype=np.float64)
    most = len(X) * (len(X) - 1) // 2
    if not 1 <= n <= most:
        raise UsageError(f"cannot select {n} pairs: {len(X)} images make {most}")
    rng = np.random.default_rng(seed)
    images = min(2 * n, len(X))
    chosen = select(X, quality, images, feature_mean=feature_mean, feature_scale=feature_scale, seed=seed)
    order = chosen[np.argsort(quality[chosen], kind="stable")]
    pairs = _paired(order, n, max(1, round(step * len(order))))
    rng.shuffle(pairs)
    flip = rng.random(n) < 0.5
    pairs[flip] = pairs[flip, ::-1]
    return pairs


def _paired(order: NDArray[np.intp], n: int, step: int) -> NDArray[np.intp]:
    """``n`` different pairs of a rising order: every picture once over ``step``, then over others, near ones first.

    Pictures of one block of twice the step are paired first with second half; a last, shorter block over what it has.
    """
    found: list[tuple[int, int]] = []
    for start in range(0, len(order), 2 * step):
        block = order[start : start + 2 * step]
        half = len(block) // 2
        found += zip(block[:half].tolist(), block[-half:].tolist() if half else [], strict=True)
    if len(found) > n:
        # Every part of the order stays represented.
        found = [found[int(i)] for i in np.linspace(0, len(found) - 1, n).round()]
    seen = {frozenset(pair) for pair in found}
    for further in sorted(range(1, len(order)), key=lambda k: abs(k - step)):
        for i in range(len(order) - further):
            if len(found) == n:
                return np.array(found, dtype=np.intp)
            pair = (int(order[i]), int(order[i + further]))
            if frozenset(pair) not in seen:
                seen.add(frozenset(pair))
                found.append(pair)
    return np.array(found, dtype=np.intp)
