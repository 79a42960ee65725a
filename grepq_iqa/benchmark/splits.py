"""Pools to draw labels from, and test parts.

The data-efficient protocol (Srinath et al., WACV 2024, section 4.2) holds out 20 % of the contents for every seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grepq_iqa.errors import UsageError

Indices = NDArray[np.intp]
Split = tuple[Indices, Indices]
"""Pool and test part."""

TEST_FRACTION = 0.2


CHOICE_SEED = 0
"""Of the half of a labeled set on which settings are chosen; figures are reported on the other."""


def choice_half(n: int) -> Indices:
    """Positions of the half, rounded down, of ``n`` images by name on which every setting is chosen, rising."""
    return np.sort(np.random.default_rng(CHOICE_SEED).permutation(n)[: n // 2])


def random_splits(
    n: int,
    splits: int = 10,
    *,
    groups: ArrayLike | None = None,
    test_fraction: float = TEST_FRACTION,
    seed: int = 0,
) -> Iterator[Split]:
    """Pool and test part for seeds ``seed``, ``seed + 1`` and so on, each in random order.

    Without groups: shuffle, the first ``round(test_fraction * n)`` are the test part. With groups, the same of the
    groups: no content stands on both sides.

    Raises:
        UsageError: one part would be empty.
    """
    contents, member = (np.arange(n), np.arange(n)) if groups is None else np.unique(groups, return_inverse=True)
    tests = max(1, round(test_fraction * len(contents)))
    if len(contents) <= tests:
        raise UsageError(f"{n} images of {len(contents)} contents cannot be divided into labels and test part")
    for offset in range(splits):
        rng = np.random.default_rng(seed + offset)
        order = rng.permutation(len(contents))
        if groups is None:
            yield order[tests:], order[:tests]
            continue
        held_out = np.isin(member, order[:tests])
        yield rng.permutation(np.flatnonzero(~held_out)), rng.permutation(np.flatnonzero(held_out))


def official_splits(split: ArrayLike, splits: int = 10, *, seed: int = 0) -> Iterator[Split]:
    """The authors' test part every time, against a pool of all else in random order.

    Raises:
        UsageError: there is no test part, or nothing else.
    """
    parts = np.asarray(split)
    test, rest = np.flatnonzero(parts == "test"), np.flatnonzero(parts != "test")
    if not len(test) or not len(rest):
        raise UsageError(
            "the official split has no test part" if not len(test) else "the official split is all test part"
        )
    for offset in range(splits):
        yield np.random.default_rng(seed + offset).permutation(rest), test
