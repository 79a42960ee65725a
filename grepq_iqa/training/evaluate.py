"""Agreement of a model directory with human scores in a labelled folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from grepq_iqa.benchmark.protocol import few_labels, random_splits, srcc
from grepq_iqa.calibration.regressor import MOSRegressor
from grepq_iqa.data.labels import read_labels
from grepq_iqa.model import GRepQ
from grepq_iqa.training.parallel_scoring import Analysis, analyse_photographs


def evaluate(
    directory: Path,
    csv: Path,
    *,
    labels: tuple[int, ...] = (50, 100, 200),
    splits: int = 10,
    images: Path | None = None,
    on_done: Callable[[int], None] | None = None,
) -> tuple[dict[str, Any], Analysis]:
    """Zero-shot SRCC of Q, Q_L and Q_H, and the median SRCC after fitting on ``labels`` images, over seeded splits."""
    table = read_labels(csv, images=images)
    analysis = analyse_photographs(directory, [Path(path) for path in table.paths], on_done=on_done)
    return measure(directory, analysis, np.asarray(table.mos), labels, splits), analysis


def measure(
    directory: Path, analysis: Analysis, mos: np.ndarray, labels: tuple[int, ...], splits: int
) -> dict[str, Any]:
    """The same from an analysis that exists."""
    model = GRepQ.from_pretrained(directory, device="cpu")
    found: dict[str, Any] = {
        "images": len(mos),
        "zero_shot_srcc": {
            "score": round(srcc(analysis.total, mos), 4),
            "low_level": round(srcc(analysis.low, mos), 4),
            "high_level": round(srcc(analysis.high, mos), 4),
        },
        "few_labels_srcc_median": {},
    }

    def regressor() -> MOSRegressor:
        return MOSRegressor(feature_mean=model.feature_mean, feature_scale=model.feature_scale)

    divisions = random_splits(len(mos), splits)
    for result in few_labels(analysis.features, mos, regressor, labels, divisions):
        found["few_labels_srcc_median"][str(result.labels)] = round(result.median_srcc, 4)
    return found
