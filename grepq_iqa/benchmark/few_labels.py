"""The data-efficient protocol: what a regressor learns from few labels (Srinath et al., WACV 2024, section 4.2).

For every split, labels are drawn from the pool; a regressor fitted on them predicts the test part; the median over
splits is what papers report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from grepq_iqa import metrics
from grepq_iqa.benchmark.splits import Split
from grepq_iqa.errors import UsageError


@dataclass(frozen=True)
class FewLabels:
    """What a regressor learnt from ``labels`` labeled images, over the splits.

    Attributes:
        labels: how many.
        test: images of the test part, one number a split.
        srcc, plcc, rmse: on the test part, one number a split. PLCC and RMSE are of the predictions as they are.
    """

    labels: int
    test: tuple[int, ...]
    srcc: tuple[float, ...]
    plcc: tuple[float, ...]
    rmse: tuple[float, ...]

    @property
    def median_srcc(self) -> float:
        """Median over splits, the number that papers print."""
        return float(np.median(self.srcc))

    @property
    def median_plcc(self) -> float:
        """Median over splits."""
        return float(np.median(self.plcc))

    @property
    def range_srcc(self) -> tuple[float, float]:
        """Worst and best split."""
        return min(self.srcc), max(self.srcc)


def few_labels(
    features: ArrayLike,
    mos: ArrayLike,
    make_regressor: Callable[[], Any],
    counts: Sequence[int],
    splits: Iterable[Split],
) -> list[FewLabels]:
    """The data-efficient protocol.

    Args:
        features: ``(n, d)``.
        mos: ``(n,)``.
        make_regressor: returns a fresh regressor with scikit-learn's ``fit`` and ``predict``.
        counts: how many labels to draw; the first of the pool, so that fewer labels are a part of more.
        splits: pool and test part of every split, from `grepq_iqa.benchmark.splits`.

    Raises:
        UsageError: a pool holds fewer images than labels asked for.
    """
    X = np.asarray(features)
    m = np.asarray(mos, dtype=np.float64)
    if X.ndim != 2 or len(X) != len(m):
        raise UsageError(f"features of shape {X.shape} do not fit {len(m)} MOS")
    splits = list(splits)
    room = min((len(pool) for pool, _ in splits), default=0)
    if too_many := [count for count in counts if not 0 < count <= room]:
        raise UsageError(f"{', '.join(map(str, too_many))} labels asked for, but the pool holds {room} images")
    results = []
    for count in counts:
        found: dict[str, list[float]] = {"srcc": [], "plcc": [], "rmse": []}
        for pool, test in splits:
            chosen = pool[:count]
            predicted = np.asarray(make_regressor().fit(X[chosen], m[chosen]).predict(X[test]), dtype=np.float64)
            found["srcc"].append(metrics.srcc(predicted, m[test]))
            found["plcc"].append(metrics.plcc(predicted, m[test]))
            found["rmse"].append(metrics.rmse(predicted, m[test]))
        results.append(
            FewLabels(
                labels=count,
                test=tuple(len(test) for _, test in splits),
                **{name: tuple(values) for name, values in found.items()},
            )
        )
    return results
