"""What a benchmark found: every number, as plain frozen values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grepq_iqa.benchmark.correlation import CorrelationMetrics
from grepq_iqa.benchmark.few_labels import FewLabels
from grepq_iqa.metrics import largest


@dataclass(frozen=True)
class ImageScores:
    """One image: human score, and the score of every method, all higher is better."""

    path: str
    mos: float
    scores: dict[str, float]


@dataclass(frozen=True)
class BenchmarkResult:
    """Everything that was measured; `to_json` makes plain values of it.

    Attributes:
        dataset: name of the data set.
        scale: units of the MOS.
        model: name, hash and settings of ours.
        protocol: how labels and test part were split, in words.
        images: how many images count.
        contents: how many contents they show; None where each is its own.
        zero_shot: method to its correlation metrics over all images: ``Q``, ``Q_L``, ``Q_H`` and the baselines.
        test_parts: method to its zero-shot SRCC on the test part of every split, to compare with `few_labels`.
        few_labels: by number of labels; empty where none were asked for. The paper's protocol: no head start.
        head_start: likewise, with the head start of `prior`; empty where it is "none".
        prior: head start of `head_start`.
        seconds: method to median seconds for one picture, decoding included (our three share one pass); NaN where all
            came from the cache of another command.
        per_image: in the order of the data set.
        missing: names without a file.
        failed: path, method and reason for every image that was left out.
        notes: what a reader of the numbers should know.
        versions: of this package and of the baselines'.
    """

    dataset: str
    scale: str
    model: dict[str, Any]
    protocol: str
    images: int
    contents: int | None
    zero_shot: dict[str, CorrelationMetrics]
    test_parts: dict[str, tuple[float, ...]]
    few_labels: tuple[FewLabels, ...]
    seconds: dict[str, float]
    per_image: tuple[ImageScores, ...]
    missing: tuple[str, ...] = ()
    failed: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    head_start: tuple[FewLabels, ...] = ()
    prior: str = "none"

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and strings; what is not finite is null. Medians over splits are written out."""
        content = asdict(self)
        rows = [*content["few_labels"], *content["head_start"]]
        for row, found in zip(rows, (*self.few_labels, *self.head_start), strict=True):
            row |= {"median_srcc": found.median_srcc, "median_plcc": found.median_plcc}
        content["test_parts_median"] = {name: float(np.median(v)) for name, v in self.test_parts.items()}
        result: dict[str, Any] = _plain(content)
        return result


def rank_disagreements(result: BenchmarkResult, method: str = "Q", k: int = 10) -> tuple[list[int], list[int]]:
    """Positions in ``result.per_image`` where ranks part most: scored too high, and too low, ``k`` each at most.

    Compared are places in the order by score and by MOS, which needs no common scale.
    """
    scores = np.array([row.scores[method] for row in result.per_image])
    mos = np.array([row.mos for row in result.per_image])
    gap = _places(scores) - _places(mos)
    too_high = [int(i) for i in largest(gap, k) if gap[i] > 0]
    too_low = [int(i) for i in largest(-gap, k) if gap[i] < 0]
    return too_high, too_low


def iter_failures(result: BenchmarkResult) -> Iterator[str]:
    """One line for every image that was left out, and one for those that are missing."""
    for path, method, reason in result.failed:
        yield f"{path}: {reason} [{method}]"
    if result.missing:
        shown = ", ".join(result.missing[:5]) + (", ..." if len(result.missing) > 5 else "")
        yield f"{len(result.missing)} images of the label file are not there: {shown}"


def _places(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the others below each value, in [0, 1]."""
    from scipy.stats import rankdata

    places: NDArray[np.float64] = (rankdata(values) - 1) / max(1, len(values) - 1)
    return places


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
